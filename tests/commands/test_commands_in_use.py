"""The policy that a campaign found on its endpoint stands beside the one recommended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.cli import main
from tuner.commands.in_use import policy_in_use
from tuner.commands.recorded import Question, read_run
from tuner.endpoints.records import Definition, RestoreRecord, ScalingState
from tuner.store.run import Run

EXAMPLE = Path(__file__).parents[2] / "reports" / "example"


def definition(name: str, metric: str, target: float) -> Definition:
    body = {
        "TargetValue": target,
        "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
        "ScaleOutCooldown": 60,
        "ScaleInCooldown": 600,
    }
    arguments = {"TargetTrackingScalingPolicyConfiguration": body}
    return Definition(name, "TargetTrackingScaling", json.dumps(arguments))


INVOCATIONS = definition("mine", "SageMakerVariantInvocationsPerInstance", 3000.0)
CONCURRENCY = definition("other", "SageMakerVariantConcurrentRequestsPerModelHighResolution", 5.0)


def run_that_found(path: Path, *policies: Definition) -> Path:
    shutil.copytree(EXAMPLE, path)
    scaling = ScalingState(True, 2, 9, policies=policies)
    record = RestoreRecord("tuner-demo", "AllTraffic", "us-east-1", None, 0.0, 2, scaling)
    with Run.open(path) as run:
        run.mark_restored(run.record_before_change(record.to_json()))
    return path


def test_what_was_found_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_that_found(tmp_path / "run", INVOCATIONS)
    found = policy_in_use(read_run(run))
    expected = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 3000.0, 60, 600)
    assert found == (expected, CapacityBounds(2, 9))
    assert main(["recommend", str(run), "--no-report", "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    policy = said["today"]["policy"]
    assert (policy["target_value"], policy["min_capacity"], policy["max_capacity"]) == (
        3000.0,
        2,
        9,
    )


def test_the_plan_goes_first_and_what_cannot_be_simulated_is_left_out(tmp_path: Path) -> None:
    run = run_that_found(tmp_path / "given", INVOCATIONS)
    asked = Question(overrides={"capacity.today_target_per_min": 1000.0})
    found = policy_in_use(read_run(run, asked))
    assert found is not None
    assert found[0].target_value == 1000.0
    assert (
        policy_in_use(read_run(run_that_found(tmp_path / "two", INVOCATIONS, CONCURRENCY))) is None
    )
    assert policy_in_use(read_run(run_that_found(tmp_path / "other", CONCURRENCY))) is None
    assert policy_in_use(read_run(run_that_found(tmp_path / "none"))) is None
    assert policy_in_use(read_run(EXAMPLE)) is None
