"""The AWS CLI and CloudFormation pieces, held against botocore's service model."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.validate import validate_parameters
from terraform_samples import recommendation_of

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric
from tuner.errors import SloUnreachableError
from tuner.recommend.actions import ScheduledAction
from tuner.recommend.types import Schedule, Window
from tuner.slo import Verdict
from tuner.terraform.snippets import aws_cli_text, cloudformation_text

METRICS = [ScalingMetric.INVOCATIONS, ScalingMetric.CONCURRENCY, ScalingMetric.CPU]


@pytest.fixture(scope="module")
def client() -> Any:
    """Never called: only its service model is read."""
    return boto3.client("application-autoscaling", region_name="eu-west-1")


def parse(commands: str) -> list[tuple[str, dict[str, str]]]:
    """What a real shell would hand to ``aws``, command by command."""
    script = "aws() { printf '%s\\0' \"$@\"; printf '\\n\\0'; }\n" + commands
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)
    calls = []
    for part in done.stdout.split("\n\0")[:-1]:
        words = part.split("\0")[:-1]
        assert words[0] == "application-autoscaling"
        calls.append((words[1], dict(zip(words[2::2], words[3::2], strict=True))))
    return calls


def camel(option: str) -> str:
    return "".join(part.capitalize() for part in option.removeprefix("--").split("-"))


def request_of(options: dict[str, str]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    for option, value in options.items():
        plain = value if not value.startswith("{") else json.loads(value)
        request[camel(option)] = int(value) if option.endswith("-capacity") else plain
    return request


@pytest.mark.parametrize("metric", METRICS)
def test_the_commands_are_requests_the_service_takes(client: Any, metric: ScalingMetric) -> None:
    text = aws_cli_text(
        recommendation_of(metric=metric), endpoint_name="demo", variant_name="AllTraffic"
    )
    calls = parse(text)
    assert [operation for operation, _ in calls] == [
        "register-scalable-target",
        "put-scaling-policy",
    ]
    for operation, options in calls:
        name = camel(operation)
        shape = client.meta.service_model.operation_model(name).input_shape
        validate_parameters(request_of(options), shape)
    assert request_of(calls[0][1])["MinCapacity"] == 3


@pytest.mark.parametrize("metric", METRICS)
def test_the_template_is_the_same_policy(client: Any, metric: ScalingMetric) -> None:
    text = cloudformation_text(
        recommendation_of(metric=metric), endpoint_name="demo", variant_name="AllTraffic"
    )
    resources = json.loads(text)["Resources"]
    target = resources["ScalableTarget"]["Properties"]
    model = client.meta.service_model
    validate_parameters(target, model.operation_model("RegisterScalableTarget").input_shape)
    policy = dict(resources["ScalingPolicy"]["Properties"])
    assert policy.pop("ScalingTargetId") == {"Ref": "ScalableTarget"}
    same = {k: target[k] for k in ("ServiceNamespace", "ScalableDimension", "ResourceId")}
    validate_parameters(policy | same, model.operation_model("PutScalingPolicy").input_shape)
    configuration = policy["TargetTrackingScalingPolicyConfiguration"]
    assert configuration["TargetValue"] == 1358
    assert (configuration["ScaleOutCooldown"], configuration["ScaleInCooldown"]) == (60, 600)


def test_scheduled_actions_are_in_the_commands_and_in_the_template(client: Any) -> None:
    made = (
        ScheduledAction("need-mon-fri-0750", "cron(50 7 ? * MON-FRI *)", "Europe/Berlin", 7, 12),
        ScheduledAction("need-daily-1800", "cron(0 18 * * ? *)", "Europe/Berlin", 2, 12),
    )
    base = recommendation_of()
    assert base.chosen is not None
    assert base.chosen.policy is not None
    schedule = Schedule(
        windows=(Window(0, 2), Window(470, 7), Window(1080, 2)),
        policy=base.chosen.policy,
        bounds=CapacityBounds(2, 12),
        instance_hours_per_day=70.0,
        violating_share=0.0001,
        bad_minute_share=0.0,
        meets=True,
        actions=made,
        adopted=True,
    )
    names = {"endpoint_name": "demo", "variant_name": "AllTraffic"}
    with_actions = replace(base, schedule=schedule)
    model = client.meta.service_model
    shape = model.operation_model("PutScheduledAction").input_shape
    calls = [o for name, o in parse(aws_cli_text(with_actions, **names)) if "scheduled" in name]
    for options, action in zip(calls, made, strict=True):
        request = request_of(options)
        validate_parameters(request, shape)
        assert request["Schedule"] == action.schedule
        assert request["Timezone"] == "Europe/Berlin"
        assert request["ScalableTargetAction"] == {
            "MinCapacity": action.min_capacity,
            "MaxCapacity": 12,
        }
    template = json.loads(cloudformation_text(with_actions, **names))
    target = template["Resources"]["ScalableTarget"]["Properties"]
    same = {k: target[k] for k in ("ServiceNamespace", "ScalableDimension", "ResourceId")}
    assert len(target["ScheduledActions"]) == 2
    for written in target["ScheduledActions"]:
        validate_parameters(written | same, shape)
    unasked = replace(base, schedule=replace(schedule, adopted=False))
    assert aws_cli_text(unasked, **names) == aws_cli_text(base, **names)


def test_names_cannot_leave_their_word() -> None:
    evil = "x'; rm -rf / #"
    text = aws_cli_text(recommendation_of(), endpoint_name=evil, variant_name="$(id)")
    _, options = parse(text)[0]
    assert options["--resource-id"] == f"endpoint/{evil}/variant/$(id)"


def test_a_fixed_fleet_has_no_policy_and_no_answer_has_no_text() -> None:
    names = {"endpoint_name": "demo", "variant_name": "AllTraffic"}
    assert aws_cli_text(recommendation_of(fixed=True), **names) == ""
    assert cloudformation_text(recommendation_of(fixed=True), **names) == ""
    with pytest.raises(SloUnreachableError):
        aws_cli_text(recommendation_of(verdict=Verdict.VIOLATED), **names)
