"""The emulator in a process of its own, its faults and its accuracy over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from emulator_harness import Start, ThreadedEmulator, wait_for

from tuner.emulator.presets import preset, preset_names
from tuner.emulator.process import EmulatorProcess
from tuner.emulator.specfile import parse_fault_script, parse_spec
from tuner.errors import InputError, PlanError, TunerError


def post(url: str, path: str, body: bytes = b"{}") -> tuple[int, bytes]:
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def admin(emulator: ThreadedEmulator, method: str, path: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(emulator.url + path, data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_process_serves_and_leaves_nothing_behind() -> None:
    with EmulatorProcess("null") as emulator:
        assert emulator.endpoint_name == "tuner-null"
        assert emulator.variant_name == "AllTraffic"
        path = f"/endpoints/{emulator.endpoint_name}/invocations"
        assert post(emulator.url, path) == (200, b'{"predictions": [0.5]}')
        child = psutil.Process(emulator.pid)
        assert emulator.error_text() == ""
    assert not child.is_running()
    emulator.stop()  # a second time is harmless


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_process_dies_with_its_parent(end: signal.Signals) -> None:
    program = textwrap.dedent(
        """
        import time
        from tuner.emulator.process import EmulatorProcess
        with EmulatorProcess("null") as emulator:
            print(emulator.pid, flush=True)
            time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, end)
    parent.wait(10)
    parent.stdout.close()
    child.wait(10)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"port": 99_999}, "not a port"), ({"minute_seconds": 0.0}, "control minute")],
)
def test_impossible_arguments_are_said_plainly(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TunerError) as caught:
        EmulatorProcess("null", **arguments).start()
    assert said in str(caught.value)


def test_a_taken_port_is_said_plainly() -> None:
    with EmulatorProcess("null") as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(TunerError, match="could not start") as caught:
            EmulatorProcess("null", port=port).start()
        assert f"127.0.0.1:{port}" in str(caught.value)


def test_spec_file(tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text('[endpoint]\nname = "mine"\nvariant = "blue"\n')
    with EmulatorProcess(spec_path=good) as emulator:
        assert (emulator.endpoint_name, emulator.variant_name) == ("mine", "blue")
    bad = tmp_path / "bad.toml"
    bad.write_text("[instance]\nworkers = 0\nfancy = 1\n")
    with pytest.raises(TunerError) as caught:
        EmulatorProcess(spec_path=bad).start()
    assert "instance.workers" in str(caught.value)
    assert "instance.fancy" in str(caught.value)


def test_empirical_service_from_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text("ms,kind\n10,a\n30,b\n")
    text = '[instance]\nservice = { shape = "empirical", csv = "times.csv" }\n'
    spec = parse_spec(text, str(tmp_path / "spec.toml"))
    assert spec.variants[0].fleet.instance.service.values_s == (0.010, 0.030)
    (tmp_path / "times.csv").write_text("10\nnan\n")
    with pytest.raises(PlanError, match="value 2 is not a time"):
        parse_spec(text, str(tmp_path / "spec.toml"))
    with pytest.raises(PlanError, match="cannot be read"):
        parse_spec(text, "elsewhere/spec.toml")


def test_faults_from_a_script(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[faults]]\nkind = "error"\nstatus = 503\n')
    with EmulatorProcess("null", arguments=["--faults", str(script)]) as emulator:
        assert post(emulator.url, f"/endpoints/{emulator.endpoint_name}/invocations")[0] == 503
    with pytest.raises(PlanError) as caught:
        parse_fault_script("x = 1\n[[faults]]\nshare = 2\n", "f.toml")
    assert {p.key for p in caught.value.problems} == {"x", "faults[0].kind", "faults[0].share"}


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid(name: str) -> None:
    spec = preset(name)
    assert spec.name == name
    assert spec.description
    assert {"demo", "null", "gpu-batch", "cold-start", "contention", "least-outstanding"} <= set(
        preset_names()
    )


def test_every_problem_of_a_specification_is_reported() -> None:
    text = """
    surprise = 1
    minute_seconds = "fast"
    [endpoint]
    name = "under_score"
    routing = "ROUND_ROBIN"
    instance_count = -1
    [instance]
    workers = 2.5
    overhead = { mean_ms = inf }
    service = { shape = "lognormal", mean_ms = -3, cv = 0 }
    contention = { alpha = 1.0 }
    batching = { max_size = 0 }
    [[variants]]
    variant = "AllTraffic"
    [[faults]]
    kind = "gremlins"
    share = 2.0
    """
    with pytest.raises(PlanError) as caught:
        parse_spec(text, "x.toml")
    keys = {p.key for p in caught.value.problems}
    assert keys == {
        "surprise",
        "variants",
        "endpoint.name",
        "minute_seconds",
        "endpoint.routing",
        "endpoint.instance_count",
        "instance.overhead.mean_ms",
        "instance.workers",
        "instance.service.mean_ms",
        "instance.service.cv",
        "instance.batching",
        "instance.batching.max_size",
        "faults[0].kind",
        "faults[0].share",
    }
    with pytest.raises(PlanError, match="not valid TOML"):
        parse_spec("= nonsense", "y.toml")
    with pytest.raises(InputError, match="no such emulator preset"):
        preset("../demo")


QUICK = """
minute_seconds = 1.0
[endpoint]
name = "faulty"
instance_count = 3
launch_lag_s = 40.0
routing = "LEAST_OUTSTANDING_REQUESTS"
[instance]
workers = 2
service = { mean_ms = 2.0 }
"""


def test_reset_and_drip(start: Start) -> None:
    emulator = start(QUICK)
    client = emulator.client("sagemaker-runtime")
    admin(emulator, "POST", "/_tuner/faults", {"kind": "reset"})
    with pytest.raises(ConnectionClosedError):
        client.invoke_endpoint(EndpointName="faulty", Body=b"")
    admin(emulator, "DELETE", "/_tuner/faults")
    admin(emulator, "POST", "/_tuner/faults", {"kind": "drip", "drip_s": 1.0})
    began = time.monotonic()
    body = client.invoke_endpoint(EndpointName="faulty", Body=b"")["Body"]
    headed = time.monotonic() - began
    assert json.loads(body.read()) == {"predictions": [0.5]}
    assert time.monotonic() - began >= 0.99
    assert time.monotonic() - began - headed > 0.15
    assert admin(emulator, "DELETE", "/_tuner/faults") == {"faults": []}
    assert client.invoke_endpoint(EndpointName="faulty", Body=b"")["Body"].read()


def test_error_share_and_time_window(start: Start) -> None:
    emulator = start(QUICK + '[[faults]]\nkind = "error"\nshare = 0.3\nuntil_s = 1.5\n')
    path = f"/endpoints/{emulator.endpoint}/invocations"
    seen = Counter(post(emulator.url, path)[0] for _ in range(200))
    assert seen[500] == pytest.approx(60, abs=26)  # four standard deviations
    assert seen[200] + seen[500] == 200
    wait_for(lambda: not emulator.emulator.faults.live)
    assert {post(emulator.url, path)[0] for _ in range(30)} == {200}


def test_an_instance_dies_with_its_requests_and_comes_back(start: Start) -> None:
    emulator = start(QUICK.replace("mean_ms = 2.0", "mean_ms = 700.0"))
    outcomes: list[int] = []

    def invoke() -> None:
        try:
            emulator.client("sagemaker-runtime").invoke_endpoint(EndpointName="faulty", Body=b"")
            outcomes.append(200)
        except ClientError as caught:
            outcomes.append(caught.response["ResponseMetadata"]["HTTPStatusCode"])

    threads = [threading.Thread(target=invoke) for _ in range(6)]
    for thread in threads:
        thread.start()

    def variant() -> dict:
        return admin(emulator, "GET", "/_tuner/state")["endpoints"][0]["variants"][0]

    wait_for(lambda: variant()["outstanding"] == [2, 2, 2])
    admin(emulator, "POST", "/_tuner/faults", {"kind": "kill_instance", "count": 1})
    assert variant()["in_service"] == 2
    for thread in threads:
        thread.join()
    assert Counter(outcomes) == {200: 4, 424: 2}
    wait_for(lambda: variant()["in_service"] == 3)


def test_a_lost_zone_and_a_launch_without_capacity(start: Start) -> None:
    emulator = start(QUICK)
    client = emulator.client("sagemaker")

    def seen() -> tuple[str, int, int]:
        found = client.describe_endpoint(EndpointName="faulty")
        variant = found["ProductionVariants"][0]
        return (
            found["EndpointStatus"],
            variant["CurrentInstanceCount"],
            variant["DesiredInstanceCount"],
        )

    admin(emulator, "POST", "/_tuner/faults", {"kind": "lose_zone", "zone": 1, "until_s": 5})
    assert seen()[1:] == (2, 3)
    wait_for(lambda: seen() == ("InService", 3, 3))
    admin(emulator, "DELETE", "/_tuner/faults")
    admin(emulator, "POST", "/_tuner/faults", {"kind": "no_capacity"})
    client.update_endpoint_weights_and_capacities(
        EndpointName="faulty",
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 5}],
    )
    assert seen() == ("Updating", 3, 5)
    wait_for(lambda: seen()[0] in ("RollingBack", "InService"))
    wait_for(lambda: seen() == ("InService", 3, 3))
    reason = client.describe_endpoint(EndpointName="faulty")["FailureReason"]
    assert "InsufficientInstanceCapacity" in reason


def test_admin_refuses_nonsense(start: Start) -> None:
    emulator = start(QUICK)
    for body in (b"", b"[1]", b"{", b'{"kind": "gremlins"}', b'{"kind": "slow", "factor": "x"}'):
        status, text = post(emulator.url, "/_tuner/faults", body)
        assert status == 400
        assert json.loads(text)["message"]
    assert post(emulator.url, "/_tuner/nothing")[0] == 404


def test_latency_over_sockets_follows_the_model(tmp_path: Path) -> None:
    """An idle endpoint with constant service: the client sees it, within 1 ms."""
    text = '[endpoint]\nname = "exact"\n[instance]\nworkers = 4\nservice = { mean_ms = 10.0 }\n'
    path = tmp_path / "exact.toml"
    path.write_text(text)
    with EmulatorProcess(spec_path=path) as emulator:
        connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=10)
        times = []
        for _ in range(150):
            began = time.perf_counter()
            connection.request("POST", "/endpoints/exact/invocations", b"{}")
            connection.getresponse().read()
            times.append(time.perf_counter() - began)
        connection.close()
    # The fastest of many is what the emulator itself adds, however busy the machine.
    assert 0.010 <= min(times) < 0.011
