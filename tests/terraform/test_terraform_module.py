"""The module against the real ``terraform`` binary, without any provider."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tuner.terraform.tfvars import MODULE, module_variables

Run = Callable[[Path, Sequence[str]], "CompletedProcess[str]"]
pytestmark = pytest.mark.terraform

GOOD: dict[str, object] = {
    "name": "demo",
    "sm_role_arn": "arn:aws:iam::123456789012:role/service/sm",
    "image_uri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/model:1.2",
    "model_data_s3": "s3://bucket/model.tar.gz",
}
SCALED: dict[str, object] = {"min_capacity": 2, "max_capacity": 8}
CAPTURE = {"destination_s3_uri": "s3://bucket/capture", "sampling_percentage": 20}
CANARY = {"strategy": "CANARY", "size": 10}
ALARM: dict[str, object] = {
    "name": "slow",
    "metric_name": "ModelLatency",
    "statistic": "p99.9",
    "threshold": 250000,
}


def action(**changes: object) -> list[dict[str, object]]:
    return [{"name": "up", "schedule": "cron(0 7 * * ? *)", "min_capacity": "4"} | changes]


ACCEPTED: list[dict[str, object]] = [
    {},
    {"instance_count": 1, "instance_type": "ml.g5.12xlarge", "env": {"MODEL_NAME": "a b"}},
    {"sm_role_arn": "arn:aws-us-gov:iam::123456789012:role/x", "name": "a" * 63},
    {"model_data_s3": "s3://bucket/models/", "multi_model": True},
    SCALED,
    SCALED | {"target_value": 0.5, "scale_in_cooldown": 0, "scale_out_cooldown": 0},
    {"min_capacity": 3, "max_capacity": 3, "target_value": 1358},
    SCALED | {"target_value": 240, "customized_metric": {"metric_name": "CPUUtilization"}},
    SCALED | {"scheduled_actions": action()},
    SCALED | {"scheduled_actions": action(max_capacity="4", timezone="Europe/Berlin")},
    {"data_capture": CAPTURE},
    {"data_capture": CAPTURE | {"enabled": False, "capture_modes": ["InputAndOutput"]}},
    {"deployment": CANARY},
    {"deployment": {"strategy": "LINEAR", "size": 3, "size_type": "INSTANCE_COUNT"}},
    {"deployment": {"strategy": "ALL_AT_ONCE", "rollback_alarm_names": ["p99"]}},
    {"deployment": CANARY, "deployment_alarms": [ALARM, ALARM | {"name": "b", "period": 300}]},
    {"deployment": CANARY, "deployment_alarms": [ALARM | {"datapoints_to_alarm": 2}]},
    {"routing_strategy": "LEAST_OUTSTANDING_REQUESTS"},
]

REFUSED: list[tuple[str, Any]] = [
    *(("name", {"name": v}) for v in ("", "-a", "a-", "a_b", "a.b", "a" * 64, "a b")),
    *(("sm_role_arn", {"sm_role_arn": v}) for v in ("role", "arn:aws:iam::12:role/x")),
    *(("image_uri", {"image_uri": v}) for v in ("", "a b", "a" * 256)),
    *(("model_data_s3", {"model_data_s3": v}) for v in ("", "bucket/key", "s3://", "file:///x")),
    *(("instance_type", {"instance_type": v}) for v in ("m5.xlarge", "ml.m5", "ml.M5.xlarge")),
    *(("instance_count", {"instance_count": v}) for v in (0, -1, 1.5)),
    ("env", {"env": {"1A": "x"}}),
    ("variant_name", {"variant_name": "All_Traffic"}),
    ("routing_strategy", {"routing_strategy": "ROUND_ROBIN"}),
    *(("min_capacity", {"min_capacity": v, "max_capacity": 5}) for v in (0, -2, 1.5)),
    *(("max_capacity", {"min_capacity": 1, "max_capacity": v}) for v in (1.5,)),
    ("max_capacity", {"min_capacity": 5, "max_capacity": 4}),
    ("max_capacity", {"min_capacity": 1}),
    ("max_capacity", {"max_capacity": 1}),
    *(("target_value", SCALED | {"target_value": v}) for v in (0, -5)),
    ("target_value", {"target_value": 100}),
    *(("scale_in_cooldown", {"scale_in_cooldown": v}) for v in (-1, 0.5)),
    *(("scale_out_cooldown", {"scale_out_cooldown": v}) for v in (-1, 0.5)),
    ("predefined_metric_type", {"predefined_metric_type": "ALBRequestCountPerTarget"}),
    ("customized_metric", {"customized_metric": {"metric_name": "x", "statistic": "p95"}}),
    ("customized_metric", {"customized_metric": {"metric_name": ""}}),
    ("scheduled_actions", {"scheduled_actions": action()}),
    *(
        ("scheduled_actions", SCALED | {"scheduled_actions": actions})
        for actions in (
            action() * 2,
            action(name="a:b"),
            action(name=""),
            action(schedule="every day"),
            action(min_capacity=None),
            action(min_capacity="0"),
            action(min_capacity="1.5"),
            action(min_capacity="5", max_capacity="4"),
            action(min_capacity="9", max_capacity="10") + action(name="b", max_capacity="x"),
        )
    ),
    *(
        ("data_capture", {"data_capture": CAPTURE | dict[str, object](change)})
        for change in (
            {"sampling_percentage": 101},
            {"sampling_percentage": -1},
            {"sampling_percentage": 2.5},
            {"destination_s3_uri": "bucket"},
            {"capture_modes": []},
            {"capture_modes": ["Both"]},
        )
    ),
    *(
        ("deployment", {"deployment": CANARY | change})
        for change in (
            {"strategy": "BLUE_GREEN"},
            {"size": 51},
            {"size": 0},
            {"size": 1.5},
            {"size": None},
            {"strategy": "LINEAR", "size": 9},
            {"strategy": "ALL_AT_ONCE"},
            {"size_type": "CAPACITY_PERCENTAGE"},
            {"wait_interval_in_seconds": 3601},
            {"termination_wait_in_seconds": -1},
            {"maximum_execution_timeout_in_seconds": 599},
            {"rollback_alarm_names": [f"alarm-{i}" for i in range(11)]},
        )
    ),
    ("deployment_alarms", {"deployment_alarms": [ALARM]}),
    ("deployment_alarms", {"deployment": CANARY, "deployment_alarms": [ALARM, ALARM]}),
    (
        "deployment_alarms",
        {
            "deployment": CANARY | {"rollback_alarm_names": [f"alarm-{i}" for i in range(10)]},
            "deployment_alarms": [ALARM],
        },
    ),
    *(
        ("deployment_alarms", {"deployment": CANARY, "deployment_alarms": [ALARM | change]})
        for change in (
            {"name": "a b"},
            {"metric_name": "Latency"},
            {"statistic": "mean"},
            {"statistic": "p100"},
            {"threshold": 0},
            {"period": 90},
            {"period": 30},
            {"evaluation_periods": 0},
            {"evaluation_periods": 1.5},
            {"period": 3600, "evaluation_periods": 25},
            {"datapoints_to_alarm": 4},
            {"datapoints_to_alarm": 0},
        )
    ),
]


def run_block(label: str, variables: dict[str, object], refused_by: str | None) -> str:
    lines = [f'run "{label}" {{', "  command = plan", "  variables {"]
    lines += [f"    {k} = {json.dumps(v)}" for k, v in (GOOD | variables).items()]
    lines.append("  }")
    if refused_by is not None:
        lines.append(f"  expect_failures = [var.{refused_by}]")
    return "\n".join([*lines, "}"])


@pytest.fixture
def without_provider(tmp_path: Path) -> Path:
    """The module's variables alone: everything that can be checked with no provider."""
    for source in MODULE.glob("variables*.tf"):
        shutil.copy(source, tmp_path)
    (tmp_path / "outputs.tf").write_text(
        "".join(f'output "{v}" {{\n  value = var.{v}\n}}\n' for v in sorted(module_variables()))
    )
    return tmp_path


def test_the_module_is_formatted(terraform: Run) -> None:
    done = terraform(MODULE, ["fmt", "-check", "-recursive", "-diff"])
    assert done.returncode == 0, done.stdout


def test_every_validation_lets_good_values_in_and_keeps_bad_ones_out(
    terraform: Run, without_provider: Path
) -> None:
    blocks = [run_block(f"accepted_{i}", values, None) for i, values in enumerate(ACCEPTED)]
    blocks += [run_block(f"refused_{i}", values, by) for i, (by, values) in enumerate(REFUSED)]
    (without_provider / "all.tftest.hcl").write_text("\n".join(blocks))
    assert terraform(without_provider, ["init", "-input=false"]).returncode == 0
    done = terraform(without_provider, ["test", "-no-color"])
    failed = re.findall(r'run "(\w+)"\.\.\. (?:fail|skip)', done.stdout)
    assert not failed, done.stdout + done.stderr
    assert f"{len(ACCEPTED) + len(REFUSED)} passed" in done.stdout


@pytest.mark.parametrize(
    "values",
    [
        {"instance_count": "two"},
        {"env": {"A": {}}},
        {"name": None},
        {"target_value": "fast"},
        {"scheduled_actions": [{"name": "x"}]},
        {"data_capture": {"sampling_percentage": 5}},
    ],
    ids=lambda v: next(iter(v)),
)
def test_a_value_of_another_type_is_refused(
    terraform: Run, without_provider: Path, values: dict[str, object]
) -> None:
    (without_provider / "x.tfvars.json").write_text(json.dumps(GOOD | values))
    assert terraform(without_provider, ["init", "-input=false"]).returncode == 0
    done = terraform(
        without_provider, ["plan", "-input=false", "-no-color", "-var-file=x.tfvars.json"]
    )
    assert done.returncode == 1
    assert next(iter(values)) in done.stderr


def test_only_the_template_has_no_default(terraform: Run, without_provider: Path) -> None:
    (without_provider / "terraform.tfvars.json").write_text(json.dumps(GOOD))
    assert terraform(without_provider, ["init", "-input=false"]).returncode == 0
    done = terraform(without_provider, ["apply", "-input=false", "-no-color", "-auto-approve"])
    assert done.returncode == 0, done.stderr
    shown = json.loads(terraform(without_provider, ["output", "-json"]).stdout)
    values = {name: entry["value"] for name, entry in shown.items()}
    assert values["instance_type"] == "ml.m5.xlarge"
    assert values["instance_count"] == 2
    assert values["env"] == {}
    assert values["scale_in_cooldown"] == values["scale_out_cooldown"] == 300
    assert values["predefined_metric_type"] == "SageMakerVariantInvocationsPerInstance"
