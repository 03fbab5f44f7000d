"""The live policy meets a piece of the traffic: run, apply, verify, and what a failure blocks."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from e2e_tools import QUICK_PLAN, Tuner, command, environment

from tuner.emulator.presets import preset_text
from tuner.emulator.process import EmulatorProcess
from tuner.store.run import Run

pytestmark = pytest.mark.timeout(300)
"""The campaign that these share is the longest part."""

MINUTE_S = 1.25
LAUNCH_LAG_S = 60.0

ENDPOINT = """\
[endpoint]
kind = "emulator"
name = "tuner-demo"
endpoint_url = "{url}"
minute_seconds = {minute}
"""
QUICK_ENDPOINT = QUICK_PLAN[: QUICK_PLAN.index("[slo]")]


def ramps() -> str:
    """A day of surges: from 4000 to 14000 requests per minute in a quarter of an hour, and back."""
    shape = [4000.0] * 60 + [4000 + 10_000 * i / 15 for i in range(15)]
    shape += [14_000.0] * 60 + [14_000 - 10_000 * i / 15 for i in range(15)] + [4000.0] * 90
    rows = (f"{m},{shape[m % len(shape)]:.0f}" for m in range(1440))
    return "minute,requests\n" + "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """The server of the quick run on a faster clock, with launches of a (control) minute."""
    spec = tmp_path_factory.mktemp("emulator") / "demo.toml"
    text = preset_text("demo").replace("launch_lag_s = 1.0", f"launch_lag_s = {LAUNCH_LAG_S}")
    assert str(LAUNCH_LAG_S) in text
    spec.write_text(text)
    with EmulatorProcess(spec_path=spec, minute_seconds=MINUTE_S) as process:
        yield process


@pytest.fixture(scope="module")
def applied(
    quick_run: Path, tuner: Tuner, emulator: EmulatorProcess, tmp_path_factory: Any
) -> Path:
    """The quick run as if made on that emulator, with a policy for surges registered there.

    One that may lose an instance: then latencies stay so far below the SLO that a busy machine
    does not take them there.
    """
    run = tmp_path_factory.mktemp("verify") / "run"
    shutil.copytree(quick_run, run)
    plan = ENDPOINT.format(url=emulator.url, minute=MINUTE_S)
    plan += QUICK_PLAN[len(QUICK_ENDPOINT) :]
    plan = plan.replace('shape = "sample_day"\n', "").replace("peak_per_min = 20000\n", "")
    plan = plan.replace("max_send_lag_ms = 40", "max_send_lag_ms = 500")
    plan = plan.replace("[traffic]\n", '[traffic]\ncsv = "surges.csv"\n')
    plan = plan.replace("launch_lag_s = 240", f'launch_lag_s = {LAUNCH_LAG_S}\nlose = "1 instance"')
    with Run.open(run) as journal:
        journal.set_meta("plan", plan)
        journal.set_meta("traffic_csv", ramps())
    assert tuner("recommend", run, "--no-report").returncode == 0
    before = tuner("verify", run)
    assert before.returncode == 2, before.stdout + before.stderr
    assert "not live" in before.stderr
    assert f"tuner apply {run} --yes" in before.stderr
    done = tuner("apply", run, "--yes")
    assert done.returncode == 0, done.stderr
    shutil.copytree(run, run.with_name("unverified"))
    return run


def client_of(service: str, emulator: EmulatorProcess) -> Any:
    """A stock boto3 client for the emulator."""
    return boto3.client(
        service,
        endpoint_url=emulator.url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )


def settle_at(emulator: EmulatorProcess, count: int) -> None:
    """Bring the endpoint to a count and wait until it stands there."""
    sagemaker = client_of("sagemaker", emulator)
    variant = {"VariantName": emulator.variant_name, "DesiredInstanceCount": count}
    deadline = time.monotonic() + 60
    while True:
        seen = sagemaker.describe_endpoint(EndpointName=emulator.endpoint_name)
        (now,) = seen["ProductionVariants"]
        if seen["EndpointStatus"] == "InService":
            if now["CurrentInstanceCount"] == now["DesiredInstanceCount"] == count:
                return
            sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=emulator.endpoint_name, DesiredWeightsAndCapacities=[variant]
            )
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)


def scaling(emulator: EmulatorProcess) -> dict[str, Any]:
    """What stock boto3 sees of the policy and the bounds."""
    client = client_of("application-autoscaling", emulator)
    (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    (policy,) = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    return {
        "bounds": (target["MinCapacity"], target["MaxCapacity"]),
        "policy": policy["TargetTrackingScalingPolicyConfiguration"],
    }


def test_a_sound_policy_passes_and_nothing_but_requests_is_sent(
    applied: Path, tuner: Tuner, emulator: EmulatorProcess
) -> None:
    before = scaling(emulator)
    done = tuner("verify", applied, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((applied / "verification.json").read_text())
    assert found["verdict"] == "MET"
    assert scaling(emulator) == before
    seen = [m["instances"] for m in found["minutes"]]
    assert seen[0] == found["start_count"]
    assert max(seen) > seen[0], "the hardest piece makes this policy scale out"
    assert any("Successful" in a for a in found["activities"])
    assert max(seen) == max(m["predicted_instances"] for m in found["minutes"])
    assert (applied / "terraform.tfvars").is_file()


def test_ctrl_c_ends_a_replay_and_leaves_everything_as_it_was(
    applied: Path, emulator: EmulatorProcess, no_process_left: None
) -> None:
    before = scaling(emulator)
    kept = (applied / "verification.json").read_bytes()
    process = subprocess.Popen(
        command("verify", applied, "--plain"), env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = iter(process.stderr.readline, "")
    assert any(line.startswith("replaying") for line in said), process.wait()
    assert any("minute" in line for line in said), "the replay has begun"
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 130, rest
    assert "were not changed" in rest
    assert "Traceback" not in rest
    assert scaling(emulator) == before
    assert (applied / "verification.json").read_bytes() == kept


def test_a_failed_verification_blocks_terraform_until_overridden(
    applied: Path, tuner: Tuner, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(applied.with_name("unverified"), run)
    file = run / "recommendation.json"
    document = json.loads(file.read_text())
    document["policy"] |= {"target_value": 20_000.0, "min_capacity": 1}
    file.write_text(json.dumps(document))
    assert tuner("apply", run, "--yes").returncode == 0
    tfvars = run / "terraform.tfvars"
    assert tfvars.is_file()
    settle_at(emulator, 1)

    done = tuner("verify", run, "--minutes", 6)
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stdout.startswith("FAIL")
    assert not tfvars.exists(), "what was written before must not be applied now"

    blocked = tuner("report", run)
    assert blocked.returncode == 3, blocked.stderr
    assert "--override-verification" in blocked.stderr
    assert not tfvars.exists()
    assert "FAILED" in json.loads(file.read_text())["warnings"][0]
    page = (run / "report.html").read_text()
    assert "Verification on the live endpoint" in page
    assert "put-scaling-policy" not in page

    accepted = tuner("recommend", run, "--no-report", "--override-verification", "--json")
    assert accepted.returncode == 0, accepted.stderr
    assert tfvars.is_file()
    said = json.loads(accepted.stdout)
    assert said["verification"]["overridden"] is True
    assert "accepted" in said["warnings"][0]
    nothing = tuner("verify", run, "--override")
    assert nothing.returncode == 2
    assert "no failed verification" in nothing.stderr
