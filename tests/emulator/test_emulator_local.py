"""Local mode: real Flask model servers behind the AWS wire."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError
from emulator_harness import Start, ThreadedEmulator, wait_for

from tuner.emulator import modelserver
from tuner.emulator.modelserver import ModelServer
from tuner.emulator.presets import preset
from tuner.emulator.process import EmulatorProcess
from tuner.errors import InputError, TunerError
from tuner.fleet.model import Phase

HERE = Path(__file__).parent
COMMAND = (
    f"{sys.executable} -m gunicorn --chdir {HERE} --bind 127.0.0.1:{{port}} --workers 1 "
    "--threads 4 --keep-alive 1 --log-level error local_model:app"
)


@pytest.fixture
def emulator(start: Start, monkeypatch: pytest.MonkeyPatch) -> ThreadedEmulator:
    monkeypatch.setattr(modelserver, "PING_EVERY_S", 0.2)
    return start(preset("demo").with_local_command(COMMAND))


def test_real_model_servers_are_invoked_scaled_and_replaced(emulator: ThreadedEmulator) -> None:
    runtime = emulator.client("sagemaker-runtime")
    control = emulator.client("sagemaker")

    def invoke(body: bytes = b"1,2,3", **more: str) -> dict:
        return runtime.invoke_endpoint(
            EndpointName=emulator.endpoint, Body=body, ContentType="text/csv", **more
        )

    answer = invoke(CustomAttributes="in")
    assert answer["Body"].read() == b"1,2,3"
    assert answer["ContentType"] == "text/csv"
    first = answer["CustomAttributes"]
    assert first.startswith("pid=")
    assert answer["InvokedProductionVariant"] == "AllTraffic"

    time.sleep(1.5)  # the server closes its idle connection after a second
    assert invoke()["Body"].read() == b"1,2,3"

    with pytest.raises(ClientError) as caught:
        invoke(b"fail")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 418
    assert caught.value.response["OriginalMessage"] == "the model is upset"

    streamed = runtime.invoke_endpoint_with_response_stream(
        EndpointName=emulator.endpoint, Body=b"stream"
    )
    assert b"".join(e["PayloadPart"]["Bytes"] for e in streamed["Body"]) == b"part-0 part-1 part-2 "
    assert streamed["ContentType"].startswith("text/plain")

    def scale(count: int) -> None:
        control.update_endpoint_weights_and_capacities(
            EndpointName=emulator.endpoint,
            DesiredWeightsAndCapacities=[
                {"VariantName": "AllTraffic", "DesiredInstanceCount": count}
            ],
        )

    def counts() -> tuple[str, int]:
        found = control.describe_endpoint(EndpointName=emulator.endpoint)
        return found["EndpointStatus"], found["ProductionVariants"][0]["CurrentInstanceCount"]

    scale(2)
    wait_for(lambda: counts() == ("InService", 2), timeout_s=30)
    seen = {invoke()["CustomAttributes"] for _ in range(40)}
    assert len(seen) == 2
    servers = [psutil.Process(int(s.removeprefix("pid="))) for s in seen]

    scale(1)
    wait_for(lambda: counts() == ("InService", 1), timeout_s=10)
    wait_for(lambda: sum(p.is_running() for p in servers) == 1, timeout_s=10)

    # A server that dies takes its request along and is replaced.
    outcome: list[str] = []

    def doomed() -> None:
        try:
            invoke(b"sleep 20")
        except ClientError as error:
            outcome.append(error.response["Error"]["Code"])

    thread = threading.Thread(target=doomed)
    thread.start()
    time.sleep(0.3)
    (alive,) = [p for p in servers if p.is_running()]
    for process in [*alive.children(recursive=True), alive]:
        process.kill()
    thread.join(10)
    assert outcome == ["ModelError"]

    def replaced() -> bool:
        try:
            now = invoke()["CustomAttributes"]
        except ClientError:
            return False
        new = now not in seen
        seen.add(now)
        return new

    wait_for(replaced, timeout_s=30)
    assert counts() == ("InService", 1)

    # One that runs and answers, but whose /ping does not pass any more, is replaced too.
    invoke(b"sicken")
    wait_for(replaced, timeout_s=30)
    assert counts() == ("InService", 1)


class PingedServer(ModelServer):
    """Its pings and answered requests are given."""

    def __init__(self, pings: list[bool | None], answers: list[int]) -> None:
        super().__init__(0, 0)
        self.phase = Phase.IN_SERVICE
        self.pings, self.answers = iter(pings), iter(answers)

    async def _ping(self) -> bool | None:
        return next(self.pings)

    async def _ended_within(self, seconds: float) -> bool:
        self.answered += next(self.answers)
        return False


@pytest.mark.parametrize(
    ("pings", "answers"),
    [
        ([True, False, False, False], [0] * 4),
        ([False, False, True, False, False, False], [0] * 6),
        ([False, None, False], [5, 0, 5]),  # refusing is no sign of being busy
        ([None] * 6, [3, 4, 5, 0, 0, 0]),  # but pings may wait behind requests that it answers
    ],
)
def test_three_pings_in_a_row_must_fail(pings: list[bool | None], answers: list[int]) -> None:
    server = PingedServer(pings, answers)
    asyncio.run(server.while_healthy())
    assert not [*server.pings, *server.answers]
    server.close()


def test_model_servers_die_with_the_emulator() -> None:
    with EmulatorProcess("demo", arguments=["--local", COMMAND]) as emulator:
        assert emulator.pid is not None
        family = psutil.Process(emulator.pid).children(recursive=True)
        assert len(family) >= 2
        psutil.Process(emulator.pid).kill()
        _, left = psutil.wait_procs(family, timeout=10)
        assert not left


def test_a_command_that_cannot_serve_is_said_plainly() -> None:
    with pytest.raises(InputError, match=r"\{port\}"):
        preset("demo").with_local_command("gunicorn app:app")
    command = f"{sys.executable} -c 'raise SystemExit(\"no weights for {{port}}\")'"
    with pytest.raises(TunerError) as caught:
        EmulatorProcess("demo", arguments=["--local", command]).start()
    assert "did not come up" in str(caught.value)
    assert "no weights" in str(caught.value)
