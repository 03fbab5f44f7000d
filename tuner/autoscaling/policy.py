"""Scaling policies and bounds, in AWS's own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ScalingMetric(StrEnum):
    """What a target-tracking policy follows on a real-time variant.

    The values of the first two are AWS's ``PredefinedMetricType``; CPU is a customised
    metric (namespace ``/aws/sagemaker/Endpoints``, 0 to 100 x vCPU).
    """

    INVOCATIONS = "SageMakerVariantInvocationsPerInstance"
    CONCURRENCY = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    CPU = "CPUUtilization"


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
