"""What nobody meant to send: every request gets an answer or a closed connection, never a hang."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from emulator_harness import Start, ThreadedEmulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.emulator.presets import preset

SETTINGS = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def victim() -> Iterator[ThreadedEmulator]:
    """Its own emulator: fuzzing may create, change and delete things."""
    emulator = ThreadedEmulator(preset("null"))
    yield emulator
    emulator.stop()


def send(emulator: ThreadedEmulator, data: bytes, *, half_close: bool = True) -> bytes:
    """Send bytes, say that there are no more, and read to the end."""
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=5) as client:
        client.sendall(data)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := client.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


def alive(emulator: ThreadedEmulator) -> None:
    answer = send(
        emulator,
        b"POST /endpoints/tuner-null/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\n{}",
    )
    assert answer.startswith(b"HTTP/1.1 200 ") or b"ValidationError" in answer
    assert not emulator.errors, emulator.errors


@SETTINGS
@given(st.binary(max_size=400))
def test_random_bytes(victim: ThreadedEmulator, data: bytes) -> None:
    answer = send(victim, data)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    alive(victim)


token = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
    ),
    max_leaves=12,
)
MEMBERS = [
    "EndpointName",
    "EndpointConfigName",
    "ModelName",
    "VariantName",
    "ProductionVariants",
    "DesiredWeightsAndCapacities",
    "DesiredInstanceCount",
    "DesiredWeight",
    "InstanceType",
    "InitialInstanceCount",
    "NextToken",
    "MaxResults",
    "SortBy",
    "NameContains",
    "Tags",
    "ServiceNamespace",
    "ResourceId",
    "ScalableDimension",
    "MinCapacity",
    "MaxCapacity",
    "SuspendedState",
    "PolicyName",
    "PolicyType",
    "TargetTrackingScalingPolicyConfiguration",
    "StepScalingPolicyConfiguration",
    "Schedule",
    "ScheduledActionName",
    "StartTime",
    "EndTime",
    "Period",
    "Namespace",
    "MetricName",
    "Dimensions",
    "Statistics",
    "MetricDataQueries",
    "AlarmName",
    "Threshold",
    "EvaluationPeriods",
    "ComparisonOperator",
    "ServiceCode",
    "QuotaCode",
]
PLAUSIBLE = st.sampled_from(
    [
        "tuner-null",
        "tuner-null-config",
        "tuner-null-model",
        "AllTraffic",
        "ml.m5.xlarge",
        "sagemaker",
        "endpoint/tuner-null/variant/AllTraffic",
        "sagemaker:variant:DesiredInstanceCount",
        "TargetTrackingScaling",
        "rate(1 minute)",
        "at(2026-01-01T00:00:00)",
        "cron(* * * * ? *)",
        "AWS/SageMaker",
        "Invocations",
        "Sum",
        "GreaterThanThreshold",
        1,
        0,
        -1,
        1e308,
        10**400,
        60,
        {"TargetValue": 1e-300},
        [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}],
        [{"Name": "EndpointName", "Value": "tuner-null"}],
    ]
)


@pytest.fixture(scope="module")
def targets(victim: ThreadedEmulator) -> list[str]:
    services = victim.emulator.app._json
    return [
        f"{s}.{name}"
        for s, operations in services.items()
        for name in operations
        if name != "DeleteEndpoint"
    ]


@SETTINGS
@given(data=st.data())
def test_control_plane_with_wrong_members(
    victim: ThreadedEmulator, targets: list[str], data: st.DataObject
) -> None:
    target = data.draw(st.sampled_from(targets))
    body = data.draw(
        st.dictionaries(st.sampled_from(MEMBERS), PLAUSIBLE | json_values, max_size=8) | json_values
    )
    text = json.dumps(body).encode()
    answer = send(
        victim,
        b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: %b\r\n"
        b"Content-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%b" % (target.encode(), len(text), text),
    )
    head, _, payload = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status in (200, 400, 404)
    if status != 200:
        assert json.loads(payload)["__type"]
        assert b"x-amzn-ErrorType: " in head
    alive(victim)


@SETTINGS
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"]),
    path=st.sampled_from(["/", "/endpoints/", "/endpoints/tuner-null/invocations", "/_tuner/faults",
                          "/_tuner/state", "*", "/endpoints/%00/invocations"]) | token,
    headers=st.lists(
        st.tuples(
            st.sampled_from(["X-Amz-Target", "Content-Type", "Transfer-Encoding", "Expect",
                             "Connection", "Upgrade", "Content-Length",
                             "X-Amzn-SageMaker-Target-Variant", "Accept"]) | token,
            st.sampled_from(["chunked", "100-continue", "close", "websocket", "SageMaker.X", "5",
                             "application/x-www-form-urlencoded"]) | token,
        ),
        max_size=5,
    ),
    body=st.binary(max_size=60),
)  # fmt: skip
def test_odd_requests(
    victim: ThreadedEmulator,
    method: str,
    path: str,
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    answer = send(victim, head.encode() + b"\r\n" + body)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    alive(victim)


@SETTINGS
@given(
    st.dictionaries(
        st.sampled_from(["Action", "Version", "Namespace", "MetricName", "StartTime", "EndTime",
                         "Period", "Statistics.member.1", "Statistics.member", "Statistics",
                         "Dimensions.member.1.Name", "Dimensions.member.x.Name", "a.b.c.d"]),
        st.sampled_from(["GetMetricStatistics", "DescribeAlarms", "PutMetricAlarm", "AWS/SageMaker",
                         "Sum", "60", "x", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", ""]),
    )
)  # fmt: skip
def test_query_protocol(victim: ThreadedEmulator, form: dict[str, str]) -> None:
    text = "&".join(f"{k}={v}" for k, v in form.items()).encode()
    answer = send(
        victim,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(text), text),
    )
    assert answer.split()[1] in (b"200", b"400", b"404")
    assert b"Response" in answer
    alive(victim)


def test_not_http_gets_an_aws_error(victim: ThreadedEmulator) -> None:
    answer = send(victim, b"\x16\x03\x01\x02\x00 hello TLS\r\n\r\n", half_close=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"x-amzn-ErrorType: SerializationException" in head
    assert json.loads(body)["__type"] == "SerializationException"


def test_large_requests_are_refused_before_they_are_read(victim: ThreadedEmulator) -> None:
    answer = send(
        victim,
        b"POST /endpoints/tuner-null/invocations HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 99999999999\r\n\r\nxx",
        half_close=False,
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    answer = send(victim, b"GET / HTTP/1.1\r\nA: " + b"x" * 200_000, half_close=False)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_an_unfinished_request_is_given_up(victim: ThreadedEmulator) -> None:
    server = victim.emulator._http
    server.request_timeout_s = 0.2
    try:
        answer = send(victim, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n12", half_close=False)
    finally:
        server.request_timeout_s = 60.0
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"RequestTimeout" in answer


def test_pipelined_requests_are_answered_in_order(victim: ThreadedEmulator) -> None:
    one = (
        b"POST /endpoints/tuner-null/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"X-Amzn-SageMaker-Custom-Attributes: n%d\r\n%b\r\n{}"
    )
    data = b"".join(one % (n, b"Connection: close\r\n" if n == 199 else b"") for n in range(200))
    answer = send(victim, data, half_close=False)
    order = [
        int(line.rpartition(b"n")[2])
        for line in answer.split(b"\r\n")
        if line.startswith(b"X-Amzn-SageMaker-Custom-Attributes")
    ]
    assert order == list(range(200))


def test_a_broken_handler_answers_and_is_reported(start: Start) -> None:
    emulator = start("null")

    def broken(request: object) -> None:
        raise RuntimeError("broken on purpose")

    emulator.emulator.app.runtime = broken
    data = b"POST /endpoints/x/invocations HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    answer = send(emulator, data, half_close=False)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"InternalFailure" in answer
    reported = emulator.errors.pop()
    assert isinstance(reported["exception"], RuntimeError)


def test_unknown_operations(victim: ThreadedEmulator) -> None:
    for target in ("SageMaker.Nothing", "Nobody.Nothing", "", "SageMaker"):
        answer = send(
            victim,
            f"POST / HTTP/1.1\r\nX-Amz-Target: {target}\r\nContent-Length: 2\r\n"
            "Connection: close\r\n\r\n{}".encode(),
        )
        assert b"UnknownOperationException" in answer
