"""``kill -9`` at random moments; a fresh process puts everything back from the record."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from fake_aws import NAME, FakeAws, Fault, serve

from tuner.emulator.process import EmulatorProcess
from tuner.endpoints.protocol import CampaignEstimate
from tuner.endpoints.records import RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("kill_worker.py")
SPEC = """
[endpoint]
name = "killed"
instance_type = "ml.m5.xlarge"
instance_count = 3
launch_lag_s = 0.1
drain_s = 0.1

[instance]
workers = 1
service = { shape = "deterministic", mean_ms = 1.0 }
"""


class Worker:
    """The process that forks campaigns."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def campaign(self, journal: Path, kill: Callable[[int], None]) -> None:
        """Start one, have it killed, and wait until it is gone."""
        self.say(str(journal))
        kill(int(self.hear()))
        self.say("reap")
        assert self.hear() == "ended"


@contextmanager
def worker(url: str, name: str) -> Iterator[Worker]:
    process = subprocess.Popen(
        [sys.executable, str(WORKER), url, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        forks = Worker(process)
        assert forks.hear() == "ready"
        yield forks
    finally:
        if process.stdin is not None:
            process.stdin.close()
        if process.stdout is not None:
            process.stdout.close()
        process.kill()
        process.wait()


def restore(url: str, name: str, journal: Path) -> None:
    """What `tuner restore` does, when there is a record."""
    if not journal.exists():
        return
    record = RestoreRecord.from_json(journal.read_text("utf-8"))
    fresh = SageMakerEndpoint(name, record.variant, endpoint_url=url, poll_interval_s=0.01)
    assert fresh.restore(record).complete
    assert fresh.restore(record).actions == ()


def test_killed_before_or_after_any_call(tmp_path: Path) -> None:
    rng = random.Random(20261122)
    fake = FakeAws(time.time, lag_s=0.04)
    child: list[int] = []
    phases: set[str] = set()
    with serve(fake) as url, worker(url, NAME) as forks:
        before = fake.snapshot()
        for trial in range(8):
            at = len(fake.calls) + rng.randrange(45)
            fault = Fault("reset", applied=rng.random() < 0.5)

            def at_this_call(
                index: int, operation: str, at: int = at, fault: Fault = fault
            ) -> Fault | None:
                if index != at or not child:
                    return None
                os.kill(child[0], signal.SIGKILL)
                phases.add(operation)
                return fault

            fake.fault = at_this_call
            journal = tmp_path / f"{trial}.json"
            forks.campaign(journal, child.append)
            fake.fault = lambda index, operation: None
            child.clear()
            restore(url, NAME, journal)
            assert fake.snapshot() == before
    assert len(phases) > 2


def emulated_snapshot(url: str, name: str) -> dict[str, Any]:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
    session = boto3.Session(**keys, region_name="us-east-1")
    endpoint = session.client("sagemaker", endpoint_url=url).describe_endpoint(EndpointName=name)
    scaling = session.client("application-autoscaling", endpoint_url=url)
    key = {"ServiceNamespace": "sagemaker"}
    targets = scaling.describe_scalable_targets(**key)["ScalableTargets"]
    policies = scaling.describe_scaling_policies(**key)["ScalingPolicies"]
    return {
        "status": endpoint["EndpointStatus"],
        "counts": [
            (v["CurrentInstanceCount"], v["DesiredInstanceCount"])
            for v in endpoint["ProductionVariants"]
        ],
        "targets": [{k: v for k, v in t.items() if k != "CreationTime"} for t in targets],
        "policies": policies,
    }


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    spec = tmp_path_factory.mktemp("spec") / "killed.toml"
    spec.write_text(SPEC)
    with EmulatorProcess(spec_path=spec) as process:
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
        client = boto3.client(
            "application-autoscaling",
            region_name="us-east-1",
            endpoint_url=process.url,
            **keys,
        )
        key: dict[str, Any] = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{process.endpoint_name}/variant/{process.variant_name}",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }
        # A minimum equal to the count, so that the idle variant is not scaled in meanwhile.
        client.register_scalable_target(**key, MinCapacity=3, MaxCapacity=6)
        client.put_scaling_policy(
            **key,
            PolicyName="today",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 600.0,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                },
            },
        )
        yield process


def test_freeze_set_restore_on_the_emulator(emulator: EmulatorProcess) -> None:
    before = emulated_snapshot(emulator.url, emulator.endpoint_name)
    endpoint = SageMakerEndpoint(emulator.endpoint_name, endpoint_url=emulator.url)
    records: list[RestoreRecord] = []
    endpoint.freeze(records.append)
    for count in (1, 4, 2):
        event = endpoint.set_instance_count(count)
        assert event.to_count == count
        assert endpoint.describe().settled
    assert endpoint.restore(records[-1]).complete
    assert emulated_snapshot(emulator.url, emulator.endpoint_name) == before


def test_the_emulator_passes_the_preflight(emulator: EmulatorProcess) -> None:
    endpoint = SageMakerEndpoint(emulator.endpoint_name, endpoint_url=emulator.url)
    findings = {f.code: f for f in endpoint.preflight(CampaignEstimate(max_instance_count=4))}
    assert {f.level for f in findings.values()} == {"ok"}
    assert "within 3 to 6" in findings["scaling"].sentence
    assert "4 of 1000" in findings["quota"].sentence


def test_killed_at_random_moments_on_the_emulator(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    rng = random.Random(7)
    url, name = emulator.url, emulator.endpoint_name
    before = emulated_snapshot(url, name)
    with worker(url, name) as forks:
        for trial in range(8):
            delay_s = rng.uniform(0.0, 0.9)

            def later(pid: int, delay_s: float = delay_s) -> None:
                time.sleep(delay_s)
                # Not reaped yet, whether it runs or has ended: the id is its own.
                os.kill(pid, signal.SIGKILL)

            journal = tmp_path / f"{trial}.json"
            forks.campaign(journal, later)
            restore(url, name, journal)
            assert emulated_snapshot(url, name) == before
