"""What the scalable targets of the account are, and policies out of their wire form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tuner.autoscaling.policy import (
    CUSTOMIZED_METRICS,
    INSTANCE_NAMESPACE,
    ScalingMetric,
    TargetTrackingPolicy,
)
from tuner.autoscaling.step import AdjustmentType, StepAdjustment, StepScalingPolicy
from tuner.autoscaling.target import ScalableTarget
from tuner.emulator.errors import validation
from tuner.emulator.params import Params

Json = dict[str, Any]


@dataclass(slots=True)
class PolicyRecord:
    """A policy as it was put."""

    name: str
    arn: str
    kind: str
    config: Json
    created_unix_s: float
    metric: ScalingMetric | None = None


@dataclass(slots=True)
class Registered:
    """One scalable target and what the kernel does not keep."""

    resource_id: str
    endpoint: str
    variant: str
    arn: str
    role_arn: str
    created_unix_s: float
    target: ScalableTarget
    policies: dict[str, PolicyRecord] = field(default_factory=dict)
    actions: dict[str, Json] = field(default_factory=dict)
    seen: dict[ScalingMetric, int] = field(default_factory=dict)
    pending_count: int | None = None


def tracking_policy(config: Params) -> TargetTrackingPolicy:
    """TargetTrackingScalingPolicyConfiguration.

    Raises
    ------
    AwsError
        If it is not valid, or follows a metric that is not emulated.
    """
    predefined = config.structure("PredefinedMetricSpecification")
    customized = config.structure("CustomizedMetricSpecification")
    if (predefined is None) == (customized is None):
        raise validation(
            "Exactly one of PredefinedMetricSpecification or CustomizedMetricSpecification must "
            "be specified."
        )
    if predefined is not None:
        allowed = (ScalingMetric.INVOCATIONS.value, ScalingMetric.CONCURRENCY.value)
        metric = ScalingMetric(predefined.choice("PredefinedMetricType", allowed))
    else:
        assert customized is not None
        named = (customized.maybe_text("Namespace"), customized.maybe_text("MetricName"))
        if named not in [(INSTANCE_NAMESPACE, m.value) for m in CUSTOMIZED_METRICS]:
            raise validation(
                f"The emulator tracks these customized metrics: {', '.join(CUSTOMIZED_METRICS)} "
                f"in namespace {INSTANCE_NAMESPACE} with statistic Average."
            )
        customized.choice("Statistic", ("Average",), "Average")
        metric = ScalingMetric(named[1])
    return TargetTrackingPolicy(
        metric,
        config.number("TargetValue"),
        config.integer("ScaleOutCooldown", 300),
        config.integer("ScaleInCooldown", 300),
        config.flag("DisableScaleIn"),
    )


def step_policy(config: Params) -> StepScalingPolicy:
    """StepScalingPolicyConfiguration.

    Raises
    ------
    AwsError
        If a member is missing or of the wrong kind.
    """
    steps = tuple(
        StepAdjustment(
            s.integer("ScalingAdjustment", low=-(2**31)),
            s.number("MetricIntervalLowerBound") if s.has("MetricIntervalLowerBound") else None,
            s.number("MetricIntervalUpperBound") if s.has("MetricIntervalUpperBound") else None,
        )
        for s in config.structures("StepAdjustments", required=True)
    )
    return StepScalingPolicy(
        AdjustmentType(config.choice("AdjustmentType", tuple(AdjustmentType))),
        steps,
        config.integer("Cooldown", 300),
        config.integer("MinAdjustmentMagnitude", 0),
    )
