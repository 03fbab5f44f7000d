"""Each request names its own model, whichever client sends it."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scripted import answer, read_request, scripted

from tuner.load.plan import SessionPlan
from tuner.load.target import InvokeTarget, sagemaker_target
from tuner.workload.models import ModelMix, spread
from tuner.workload.payloads import PayloadSet

MIX = ModelMix(("a/one.tar.gz", "two"), np.array([0.7, 0.3]))
PAYLOADS = spread(PayloadSet.inline(b"{}"), MIX, class_per_model=True)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def models_sent(heard: Any, client: str, *, signed: bool) -> tuple[Counter[str], Counter[str]]:
    """Models by the requests' headers, and by the payloads of the rows."""
    got: list[bytes] = []

    def keep(connection: socket.socket, number: int) -> None:
        while request := read_request(connection):
            got.append(request)
            connection.sendall(answer(b"{}", headers="Content-Type: application/json\r\n"))

    with scripted(keep) as port:
        target = sagemaker_target(
            "many", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", signed=signed,
            client=client, headers=(("X-Amzn-SageMaker-Target-Model", "of-the-plan"),),
        )  # fmt: skip
        ear = heard(target, PAYLOADS)
        ear.send([i * 0.005 for i in range(40)])
    headers: Counter[str] = Counter()
    for request in got:
        lines = request.split(b"\r\n\r\n")[0].split(b"\r\n")
        named = [
            line for line in lines if line.lower().startswith(b"x-amzn-sagemaker-target-model")
        ]
        assert len(named) == 1
        headers[named[0].partition(b": ")[2].decode()] += 1
    rows: Counter[str] = Counter(MIX.names[i] for i in ear.rows["payload"].tolist())
    return headers, rows


@pytest.mark.parametrize(("client", "signed"), [("fast", False), ("fast", True), ("boto3", True)])
def test_the_header_names_the_model_of_the_row(heard: Any, client: str, signed: bool) -> None:
    headers, rows = models_sent(heard, client, signed=signed)
    assert headers == rows
    assert rows.total() == 40
    assert set(rows) == set(MIX.names)


def test_a_session_plan_carries_the_models() -> None:
    target = InvokeTarget("http://127.0.0.1:1/invocations")
    plan = SessionPlan(target, PAYLOADS, 1, False, "127.0.0.1", 0, None)
    assert SessionPlan.decode(*plan.encode()) == plan
