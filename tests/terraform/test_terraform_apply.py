"""The whole module, planned and applied by the real ``terraform`` against a stand-in provider."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tuner.terraform.tfvars import copy_module

pytestmark = [
    pytest.mark.terraform,
    pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform binary on PATH"),
    pytest.mark.skipif(
        find_spec("tf") is None, reason="the plugin host of the stand-in is missing"
    ),
]

TEMPLATE = {
    "name": "demo",
    "sm_role_arn": "arn:aws:iam::123456789012:role/sm",
    "image_uri": "image:1",
    "model_data_s3": "s3://bucket/model.tar.gz",
}
SCALED = {"min_capacity": 3, "max_capacity": 9, "target_value": 1358, "scale_out_cooldown": 0}
MODEL, CONFIG, ENDPOINT = (
    "aws_sagemaker_model",
    "aws_sagemaker_endpoint_configuration",
    "aws_sagemaker_endpoint",
)
ALARM = "aws_cloudwatch_metric_alarm"
TARGET, POLICY, SCHEDULE = (
    "aws_appautoscaling_target",
    "aws_appautoscaling_policy",
    "aws_appautoscaling_scheduled_action",
)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """One stand-in process for all commands: one for each would be most of the time."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(Path(__file__).with_name("stand_in_provider.py")), "--dev"],
        env=os.environ | {"STAND_IN_LOG": str(tmp_path / "log"), "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def address_of(provider: subprocess.Popen[str]) -> str:
    """What the plugin host says a command must know to find it."""
    assert provider.stdout is not None
    for line in provider.stdout:
        _, found, value = line.strip().partition("TF_REATTACH_PROVIDERS=")
        if found:
            return value.strip("'")
    raise AssertionError("the stand-in provider did not start")


class Account:
    """A directory with the module and a state; `apply` answers what the provider was told."""

    def __init__(self, where: Path, provider: subprocess.Popen[str]) -> None:
        self.module = copy_module(where / "module")
        self.log = where / "log"
        empty = where / "terraform.rc"
        empty.write_text("")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
        self.env = kept | {
            "TF_CLI_CONFIG_FILE": str(empty),
            "TF_REATTACH_PROVIDERS": address_of(provider),
            "CHECKPOINT_DISABLE": "1",
        }
        self._run("init", "-backend=false")

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            ["terraform", *arguments, "-no-color", "-input=false"],
            cwd=self.module,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr

    def apply(self, **values: object) -> list[tuple[str, str, dict[str, Any]]]:
        self.log.write_text("")
        (self.module / "terraform.tfvars.json").write_text(json.dumps(TEMPLATE | values))
        self._run("apply", "-auto-approve")
        events = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [(e["do"], e["kind"], e["value"]) for e in events]


@pytest.fixture
def account(tmp_path: Path, provider: subprocess.Popen[str]) -> Account:
    return Account(tmp_path, provider)


def steps(events: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[str, str]]:
    return [(do, kind) for do, kind, _ in events]


def value(events: list[tuple[str, str, dict[str, Any]]], do: str, kind: str) -> dict[str, Any]:
    return next(v for d, k, v in events if (d, k) == (do, kind))


def test_the_template_alone_is_a_fixed_fleet(account: Account) -> None:
    events = account.apply(env={"A": "1"})
    assert steps(events) == [("create", k) for k in (MODEL, CONFIG, ENDPOINT)]
    variant = value(events, "create", CONFIG)["production_variants"][0]
    assert variant["variant_name"] == "AllTraffic"
    assert variant["instance_type"] == "ml.m5.xlarge"
    assert variant["initial_instance_count"] == 2
    assert value(events, "create", ENDPOINT)["name"] == "demo"
    container = value(events, "create", MODEL)["primary_container"][0]
    assert container["environment"] == {"A": "1"}

    resized = account.apply(env={"A": "1"}, instance_count=3)
    assert steps(resized) == [("create", CONFIG), ("update", ENDPOINT), ("delete", CONFIG)]
    new = value(resized, "create", CONFIG)
    assert new["production_variants"][0]["initial_instance_count"] == 3
    assert new["name"] != value(events, "create", CONFIG)["name"]

    switched_on = account.apply(env={"A": "1"}, instance_count=3, **SCALED)
    assert steps(switched_on) == [("create", TARGET), ("create", POLICY)]


def test_tuning_touches_the_scaling_alone_and_a_release_takes_the_count(account: Account) -> None:
    first = account.apply(instance_count=3, **SCALED)
    target = value(first, "create", TARGET)
    assert target["resource_id"] == "endpoint/demo/variant/AllTraffic"
    assert target["scalable_dimension"] == "sagemaker:variant:DesiredInstanceCount"
    policy = value(first, "create", POLICY)
    assert policy["policy_type"] == "TargetTrackingScaling"
    tracking = policy["target_tracking_scaling_policy_configuration"][0]
    assert tracking["target_value"] == 1358
    assert (tracking["scale_out_cooldown"], tracking["scale_in_cooldown"]) == (0, 300)
    assert tracking["predefined_metric_specification"][0]["predefined_metric_type"] == (
        "SageMakerVariantInvocationsPerInstance"
    )

    tuned = SCALED | {"min_capacity": 5, "target_value": 1400.5}
    retuned = account.apply(instance_count=5, **tuned)
    assert steps(retuned) == [("update", TARGET), ("update", POLICY)]
    assert value(retuned, "update", TARGET)["min_capacity"] == 5

    release = account.apply(instance_count=5, image_uri="image:2", **tuned)
    assert steps(release) == [
        ("create", MODEL),
        ("create", CONFIG),
        ("update", ENDPOINT),
        ("delete", CONFIG),
        ("delete", MODEL),
    ]
    variant = value(release, "create", CONFIG)["production_variants"][0]
    assert variant["initial_instance_count"] == 5


def test_a_new_instance_type_takes_the_scaling_down_first_and_puts_it_back(
    account: Account,
) -> None:
    schedule = [{"name": "up", "schedule": "cron(0 7 * * ? *)", "min_capacity": "4"}]
    first = account.apply(**SCALED, scheduled_actions=schedule)
    assert value(first, "create", SCHEDULE)["scalable_target_action"] == [
        {"min_capacity": "4", "max_capacity": None}
    ]
    order = steps(account.apply(**SCALED, scheduled_actions=schedule, instance_type="ml.c5.xlarge"))
    updated = order.index(("update", ENDPOINT))
    for kind in (TARGET, POLICY, SCHEDULE):
        assert order.index(("delete", kind)) < updated < order.index(("create", kind))
    for kind in (POLICY, SCHEDULE):
        assert order.index(("delete", kind)) < order.index(("delete", TARGET))


def test_every_knob_reaches_its_block_and_a_second_apply_changes_nothing(account: Account) -> None:
    everything: dict[str, object] = SCALED | {
        "customized_metric": {"metric_name": "CPUUtilization"},
        "routing_strategy": "LEAST_OUTSTANDING_REQUESTS",
        "multi_model": True,
        "tags": {"team": "ml"},
        "data_capture": {
            "destination_s3_uri": "s3://bucket/capture",
            "sampling_percentage": 5,
            "json_content_types": ["application/json"],
        },
        "deployment": {"strategy": "CANARY", "size": 10, "rollback_alarm_names": ["p99", "errors"]},
    }
    events = account.apply(**everything)
    assert value(events, "create", MODEL)["primary_container"][0]["mode"] == "MultiModel"
    config = value(events, "create", CONFIG)
    assert config["production_variants"][0]["routing_config"] == [
        {"routing_strategy": "LEAST_OUTSTANDING_REQUESTS"}
    ]
    capture = config["data_capture_config"][0]
    assert capture["enable_capture"] is True
    assert [o["capture_mode"] for o in capture["capture_options"]] == ["Input", "Output"]
    deployment = value(events, "create", ENDPOINT)["deployment_config"][0]
    routing = deployment["blue_green_update_policy"][0]["traffic_routing_configuration"][0]
    assert routing["canary_size"] == [{"type": "CAPACITY_PERCENT", "value": 10}]
    assert routing["linear_step_size"] == []
    alarms = deployment["auto_rollback_configuration"][0]["alarms"]
    assert {a["alarm_name"] for a in alarms} == {"p99", "errors"}
    tracking = value(events, "create", POLICY)["target_tracking_scaling_policy_configuration"][0]
    assert tracking["predefined_metric_specification"] == []
    metric = tracking["customized_metric_specification"][0]
    assert (metric["metric_name"], metric["namespace"]) == (
        "CPUUtilization",
        "/aws/sagemaker/Endpoints",
    )
    assert {d["name"]: d["value"] for d in metric["dimensions"]} == {
        "EndpointName": "demo",
        "VariantName": "AllTraffic",
    }
    assert account.apply(**everything) == []


def test_rollback_alarms_watch_the_new_fleet_before_the_endpoint_moves_to_it(
    account: Account,
) -> None:
    alarms = [
        {"name": "slow", "metric_name": "ModelLatency", "statistic": "p50", "threshold": 25000},
        {"name": "errors", "metric_name": "Invocation5XXErrors", "threshold": 0.01, "period": 300},
    ]
    release: dict[str, object] = {
        "deployment": {"strategy": "CANARY", "size": 10, "rollback_alarm_names": ["own"]},
        "deployment_alarms": alarms,
    }
    first = account.apply(**release)
    made = {v["alarm_name"]: v for do, kind, v in first if (do, kind) == ("create", ALARM)}
    config = value(first, "create", CONFIG)["name"]
    slow, errors = made["demo-slow"], made["demo-errors"]
    assert (slow["statistic"], slow["extended_statistic"]) == (None, "p50")
    assert (errors["statistic"], errors["extended_statistic"]) == ("Average", None)
    assert (slow["threshold"], slow["period"], errors["period"]) == (25000, 60, 300)
    assert slow["treat_missing_data"] == "notBreaching"
    assert slow["dimensions"] == {
        "EndpointName": "demo",
        "VariantName": "AllTraffic",
        "EndpointConfigName": config,
    }
    rollback = value(first, "create", ENDPOINT)["deployment_config"][0]
    named = rollback["auto_rollback_configuration"][0]["alarms"]
    assert {a["alarm_name"] for a in named} == {"own", "demo-slow", "demo-errors"}

    second = account.apply(**release, image_uri="image:2")
    order = steps(second)
    moved = order.index(("update", ENDPOINT))
    watched = [i for i, step in enumerate(order) if step == ("update", ALARM)]
    assert len(watched) == 2
    assert order.index(("create", CONFIG)) < min(watched) < max(watched) < moved
    assert (
        value(second, "update", ALARM)["dimensions"]["EndpointConfigName"]
        == (value(second, "create", CONFIG)["name"])
    )
    assert account.apply(**release, image_uri="image:2") == []
