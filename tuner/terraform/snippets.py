"""The same policy for those who do not use Terraform: AWS CLI and CloudFormation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from tuner.autoscaling.policy import INSTANCE_NAMESPACE, TargetTrackingPolicy
from tuner.recommend.actions import ScheduledAction
from tuner.recommend.types import Recommendation
from tuner.terraform.tfvars import decided, safe_target

SERVICE = "sagemaker"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"


def policy_configuration(
    policy: TargetTrackingPolicy, endpoint_name: str, variant_name: str
) -> dict[str, object]:
    """``TargetTrackingScalingPolicyConfiguration`` in the API's own names."""
    common: dict[str, object] = {
        "TargetValue": safe_target(policy.target_value),
        "ScaleOutCooldown": policy.scale_out_cooldown_s,
        "ScaleInCooldown": policy.scale_in_cooldown_s,
        "DisableScaleIn": policy.disable_scale_in,
    }
    if not policy.metric.customized:
        metric = {"PredefinedMetricType": policy.metric.value}
        return {**common, "PredefinedMetricSpecification": metric}
    dimensions = [
        {"Name": "EndpointName", "Value": endpoint_name},
        {"Name": "VariantName", "Value": variant_name},
    ]
    custom = {
        "MetricName": policy.metric.value,
        "Namespace": INSTANCE_NAMESPACE,
        "Dimensions": dimensions,
        "Statistic": "Average",
        "Unit": "Percent",
    }
    return {**common, "CustomizedMetricSpecification": custom}


def aws_cli_text(recommendation: Recommendation, *, endpoint_name: str, variant_name: str) -> str:
    """Shell commands that set bounds, policy and scheduled actions; empty for a fixed fleet.

    Raises
    ------
    SloUnreachableError, InsufficientDataError
        If the recommendation holds no policy.
    """
    chosen = decided(recommendation)
    if chosen.policy is None:
        return ""
    target = [
        ("--service-namespace", SERVICE),
        ("--scalable-dimension", DIMENSION),
        ("--resource-id", f"endpoint/{endpoint_name}/variant/{variant_name}"),
    ]
    bounds = [
        ("--min-capacity", str(chosen.bounds.min_capacity)),
        ("--max-capacity", str(chosen.bounds.max_capacity)),
    ]
    configuration = policy_configuration(chosen.policy, endpoint_name, variant_name)
    policy = [
        ("--policy-name", f"{endpoint_name}-target-tracking"),
        ("--policy-type", "TargetTrackingScaling"),
        ("--target-tracking-scaling-policy-configuration", json.dumps(configuration)),
    ]
    commands = [
        _command("register-scalable-target", target + bounds),
        _command("put-scaling-policy", target + policy),
    ]
    for action in recommendation.scheduled_actions:
        set_to = json.dumps(_capacity(action))
        options = [
            ("--scheduled-action-name", action.name),
            ("--schedule", action.schedule),
            ("--timezone", action.timezone),
            ("--scalable-target-action", set_to),
        ]
        commands.append(_command("put-scheduled-action", target + options))
    return "\n".join(commands)


def _capacity(action: ScheduledAction) -> dict[str, int]:
    """``ScalableTargetAction`` in the API's own names."""
    return {"MinCapacity": action.min_capacity, "MaxCapacity": action.max_capacity}


def _command(operation: str, options: list[tuple[str, str]]) -> str:
    lines = [f"aws application-autoscaling {operation}"]
    lines += [f"  {name} {shlex.quote(value)}" for name, value in options]
    return " \\\n".join(lines) + "\n"


def _scheduled(actions: Sequence[ScheduledAction]) -> dict[str, object]:
    """The template's own property for scheduled actions; nothing without them."""
    if not actions:
        return {}
    made = [
        {
            "ScheduledActionName": a.name,
            "Schedule": a.schedule,
            "Timezone": a.timezone,
            "ScalableTargetAction": _capacity(a),
        }
        for a in actions
    ]
    return {"ScheduledActions": made}


def cloudformation_text(
    recommendation: Recommendation, *, endpoint_name: str, variant_name: str
) -> str:
    """A template with scalable target, scheduled actions and policy; empty for a fixed fleet.

    Raises
    ------
    SloUnreachableError, InsufficientDataError
        If the recommendation holds no policy.
    """
    chosen = decided(recommendation)
    if chosen.policy is None:
        return ""
    target = {
        "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
        "Properties": {
            "ServiceNamespace": SERVICE,
            "ScalableDimension": DIMENSION,
            "ResourceId": f"endpoint/{endpoint_name}/variant/{variant_name}",
            "MinCapacity": chosen.bounds.min_capacity,
            "MaxCapacity": chosen.bounds.max_capacity,
            **_scheduled(recommendation.scheduled_actions),
        },
    }
    policy = {
        "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
        "Properties": {
            "PolicyName": f"{endpoint_name}-target-tracking",
            "PolicyType": "TargetTrackingScaling",
            "ScalingTargetId": {"Ref": "ScalableTarget"},
            "TargetTrackingScalingPolicyConfiguration": policy_configuration(
                chosen.policy, endpoint_name, variant_name
            ),
        },
    }
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": {"ScalableTarget": target, "ScalingPolicy": policy},
    }
    return json.dumps(template, indent=2) + "\n"
