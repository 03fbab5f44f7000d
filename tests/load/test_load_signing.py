"""What goes out signed is, byte for byte, what boto3 sends; and it survives bad credentials."""

from __future__ import annotations

import datetime
import re
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import gevent
import pytest
from botocore.config import Config
from scripted import answer, read_request, scripted

from tuner.errors import EndpointError
from tuner.load import signing
from tuner.load.target import InvokeTarget, Signing, sagemaker_target
from tuner.stats.requests import Outcome
from tuner.workload.payloads import Payload, PayloadSet

NOON = datetime.datetime(2026, 11, 22, 12, 0, 0)  # noqa: DTZ001 - botocore's own form
USED = re.compile(rb" m/[A-Za-z0-9,]+")
"""botocore's note of features used before, in the unsigned User-Agent: depends on history."""

ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a/token+with=signs")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOON)
    monkeypatch.setattr("botocore.handlers.uuid.uuid4", lambda: ID)


class Recorder:
    """Answers everything and keeps what it was sent."""

    def __init__(self, reply: bytes | None = None) -> None:
        self.got: list[bytes] = []
        self.reply = reply or answer(b"{}", headers="Content-Type: application/json\r\n")

    def __call__(self, connection: socket.socket, number: int) -> None:
        while request := read_request(connection):
            self.got.append(request)
            connection.sendall(self.reply)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("variant", [None, "blue"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "payload", [Payload(b'{"x": [1, 2]}'), Payload(bytes(range(256)) * 9, "application/x-npy")]
)
def test_the_bytes_are_boto3s(
    heard: Any, payload: Payload, streaming: bool, variant: str | None
) -> None:
    recorder = Recorder()
    with scripted(recorder) as port:
        url = f"http://127.0.0.1:{port}"
        ear = heard(
            sagemaker_target(
                "my-end.point", "eu-west-1", endpoint_url=url, variant=variant, streaming=streaming
            ),
            PayloadSet((payload,)),
        )
        ear.send([0.0])
        client = boto3.client(
            "sagemaker-runtime",
            region_name="eu-west-1",
            endpoint_url=url,
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
        )
        call = {"EndpointName": "my-end.point", "Body": payload.body}
        call |= {"ContentType": payload.content_type}
        call |= {"TargetVariant": variant} if variant else {}
        if streaming:
            client.invoke_endpoint_with_response_stream(**call)["Body"].close()
        else:
            client.invoke_endpoint(**call)["Body"].read()
        client.close()
    ours, theirs = (split(r) for r in recorder.got)
    assert ours[0] == theirs[0]
    assert sorted(ours[1]) == sorted(theirs[1])
    assert ours[2] == theirs[2]


def split(request: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = [line.partition(b": ") for line in lines]
    return first, [(name, USED.sub(b"", value)) for name, _, value in pairs], body


def test_a_signature_is_used_again_until_it_is_old(
    heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "SIGNATURE_LIFE_S", 0.3)
    recorder = Recorder()
    with scripted(recorder) as port:
        ear = heard(
            sagemaker_target("e", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}"),
        )
        ear.send([0.0, 0.01, 0.02])
        early = set(recorder.got)
        gevent.sleep(0.5)
        ear.send([0.0, 0.01])
    assert len(early) == 1
    assert len(set(recorder.got)) == 2


def test_refused_credentials_are_counted_and_renewed(
    heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = answer(
        b'{"message":"The security token included in the request is expired"}',
        "403 Forbidden",
        "x-amzn-ErrorType: ExpiredTokenException\r\n",
    )
    recorder = Recorder(expired)
    with scripted(recorder) as port:
        ear = heard(
            sagemaker_target("e", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}"),
        )
        ear.send([0.0])
        assert ear.outcomes == [Outcome.OTHER]
        assert ear.driver.engine.credentials_refused == 1
        assert "ExpiredTokenException" in ear.texts
        gevent.sleep(0.2)
        recorder.reply = answer(b"{}")
        ear.send([0.0])
    first, second = (dict(split(r)[1]) for r in recorder.got)
    assert first[b"amz-sdk-invocation-id"] != second[b"amz-sdk-invocation-id"], "signed anew"
    assert ear.outcomes[-1] is Outcome.OK


PROCESS = """
import datetime, json, pathlib, sys
count = pathlib.Path(sys.argv[1])
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
if pathlib.Path(sys.argv[2]).exists():
    sys.exit("the identity provider is down")
soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)
print(json.dumps({"Version": 1, "AccessKeyId": f"AKID{number}", "SecretAccessKey": "s",
                  "SessionToken": "t", "Expiration": soon.isoformat()}))
"""


@pytest.mark.parametrize("breaks", [False, True])
def test_credentials_are_refreshed_by_the_chain_or_the_fault_is_told(
    heard: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, breaks: bool
) -> None:
    monkeypatch.setattr(signing, "SIGNATURE_LIFE_S", 0.3)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    script, count, down = (tmp_path / name for name in ("chain.py", "count", "down"))
    script.write_text(PROCESS)
    command = f"{sys.executable} {script} {count} {down}"
    (tmp_path / "config").write_text(f"[profile role]\ncredential_process = {command}\n")
    recorder = Recorder()
    with scripted(recorder) as port:
        ear = heard(
            sagemaker_target(
                "e", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", profile="role"
            )
        )
        ear.send([0.0])
        if breaks:
            down.touch()
        gevent.sleep(1.0)
        ear.send([0.0])
    first, last = (dict(split(r)[1])[b"Authorization"].split(b"/")[0] for r in recorder.got)
    assert (first == last) == breaks
    assert ("could not be renewed" in ear.texts) == breaks
    assert ear.outcomes == [Outcome.OK] * 2


def test_no_credentials_is_told_before_any_load(
    heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(EndpointError, match="cannot be signed"):
        heard(sagemaker_target("e", "us-east-1", endpoint_url="http://127.0.0.1:9"))


def test_an_unknown_profile_is_told_before_any_load(heard: Any) -> None:
    with pytest.raises(EndpointError, match="no-such-profile"):
        heard(
            sagemaker_target(
                "e", "us-east-1", endpoint_url="http://127.0.0.1:9", profile="no-such-profile"
            )
        )


@pytest.mark.usefixtures("frozen")
def test_a_plain_url_is_signed_as_botocore_signs_it(heard: Any) -> None:
    recorder = Recorder()
    with scripted(recorder) as port:
        url = f"http://127.0.0.1:{port}/prod/predict?v=1"
        ear = heard(
            InvokeTarget(url, signing=Signing("us-east-1", "execute-api")), PayloadSet.inline("{}")
        )
        ear.send([0.0])
    import os

    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("POST", url, {"Content-Type": "application/json"}, b"{}")
    keys = Credentials(
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ["AWS_SECRET_ACCESS_KEY"],
        os.environ["AWS_SESSION_TOKEN"],
    )
    botocore.auth.SigV4Auth(keys, "execute-api", "us-east-1").add_auth(request)
    _, sent, _ = split(recorder.got[0])
    assert dict(sent)[b"Authorization"].decode() == request.headers["Authorization"]


def test_both_clients_see_the_same_answers(heard: Any) -> None:
    replies = {
        b"/endpoints/ok/": answer(b'{"y": 1}', headers="Content-Type: application/json\r\n"),
        b"/endpoints/slow/": answer(b'{"__type":"ThrottlingException"}', "400 Bad Request"),
        b"/endpoints/bad/": answer(
            b'{"OriginalStatusCode":500,"Message":"boom"}',
            "424 Failed",
            "x-amzn-ErrorType: ModelError\r\n",
        ),
        b"/endpoints/down/": answer(b"", "503 Down"),
    }

    def script(connection: socket.socket, number: int) -> None:
        while request := read_request(connection):
            path = request.split(b" ")[1]
            connection.sendall(next(r for key, r in replies.items() if path.startswith(key)))

    seen: dict[str, list[Any]] = {"fast": [], "boto3": []}
    with scripted(script) as port:
        for name in ("ok", "slow", "bad", "down"):
            for client, into in seen.items():
                ear = heard(
                    sagemaker_target(
                        name, "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", client=client
                    )
                )
                ear.send([0.0])
                bodies = [a[2] for a in ear.answers if a[0] == 200]
                into.append((ear.outcomes, bodies, list(ear.rows["body_bytes"])[: len(bodies)]))
    assert seen["fast"] == seen["boto3"]
    outcomes = [o for o, _, _ in seen["fast"]]
    assert outcomes == [
        [Outcome.OK], [Outcome.THROTTLED], [Outcome.MODEL_ERROR], [Outcome.THROTTLED],
    ]  # fmt: skip


def test_boto3_does_not_retry(heard: Any) -> None:
    recorder = Recorder(answer(b"{}", "503 Down"))
    with scripted(recorder) as port:
        ear = heard(
            sagemaker_target(
                "e", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", client="boto3"
            )
        )
        ear.send([0.0, 0.02])
    assert len(recorder.got) == 2
