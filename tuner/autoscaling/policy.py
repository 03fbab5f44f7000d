"""Scaling policies and bounds, in AWS's own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

INSTANCE_NAMESPACE = "/aws/sagemaker/Endpoints"
"""Where CloudWatch keeps what the instances of a variant use."""


@dataclass(frozen=True, slots=True)
class AlarmMetric:
    """The CloudWatch metric, statistic and period that a policy's AlarmHigh reads."""

    name: str
    statistic: str
    period_s: int


class ScalingMetric(StrEnum):
    """What a target-tracking policy follows on a real-time variant.

    The values of the first two are AWS's ``PredefinedMetricType``; the others are customised
    metrics in ``INSTANCE_NAMESPACE``: CPU runs from 0 to 100 x vCPU, both of GPU from 0 to
    100 x GPUs, memory from 0 to 100.
    """

    INVOCATIONS = "SageMakerVariantInvocationsPerInstance"
    CONCURRENCY = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    CPU = "CPUUtilization"
    GPU = "GPUUtilization"
    GPU_MEMORY = "GPUMemoryUtilization"
    MEMORY = "MemoryUtilization"

    @property
    def customized(self) -> bool:
        """Whether a policy names it by a ``CustomizedMetricSpecification``."""
        return self not in (ScalingMetric.INVOCATIONS, ScalingMetric.CONCURRENCY)

    @property
    def alarm(self) -> AlarmMetric:
        """What its alarms read."""
        if self is ScalingMetric.INVOCATIONS:
            return AlarmMetric("InvocationsPerInstance", "Sum", 60)
        if self is ScalingMetric.CONCURRENCY:
            return AlarmMetric("ConcurrentRequestsPerModel", "Maximum", 10)
        return AlarmMetric(self.value, "Average", 60)


CUSTOMIZED_METRICS = tuple(m for m in ScalingMetric if m.customized)


@dataclass(frozen=True, slots=True)
class TargetTrackingPolicy:
    """One target-tracking policy. Cooldowns are whole seconds; 0 means none."""

    metric: ScalingMetric
    target_value: float
    scale_out_cooldown_s: int = 300
    scale_in_cooldown_s: int = 300
    disable_scale_in: bool = False

    def __post_init__(self) -> None:
        if not self.target_value > 0.0:
            raise ValueError(f"target_value must be positive: {self.target_value}")
        if self.scale_out_cooldown_s < 0 or self.scale_in_cooldown_s < 0:
            raise ValueError("cooldowns must not be negative")


@dataclass(frozen=True, slots=True)
class CapacityBounds:
    """``MinCapacity`` and ``MaxCapacity`` of a scalable target."""

    min_capacity: int
    max_capacity: int

    def __post_init__(self) -> None:
        if not 0 <= self.min_capacity <= self.max_capacity:
            raise ValueError(
                f"need 0 <= min_capacity <= max_capacity: {self.min_capacity}, {self.max_capacity}"
            )
