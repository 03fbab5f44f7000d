"""What a scalable target shows to the outside: activities and alarms, in AWS's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class StatusCode(StrEnum):
    """``StatusCode`` of a scaling activity."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    OVERRIDDEN = "Overridden"
    UNFULFILLED = "Unfulfilled"
    FAILED = "Failed"


class NotScaledCode(StrEnum):
    """``NotScaledReasons[].Code``."""

    ANTICIPATED_FLAPPING = "AutoScalingAnticipatedFlapping"
    UNSCALABLE = "TargetServicePutResourceAsUnscalable"
    AT_MAX = "AlreadyAtMaxCapacity"
    AT_MIN = "AlreadyAtMinCapacity"
    AT_DESIRED = "AlreadyAtDesiredCapacity"


@dataclass(frozen=True, slots=True)
class NotScaledReason:
    """Why an evaluation changed nothing."""

    code: NotScaledCode
    current_capacity: int
    min_capacity: int | None = None
    max_capacity: int | None = None


@dataclass(frozen=True, slots=True)
class ScalingActivity:
    """One scaling activity, or one that did not happen (``not_scaled`` is not empty).

    ``desired`` is the instance count ordered; ``end_s`` is None while it is in progress.
    """

    activity_id: str
    description: str
    cause: str
    start_s: float
    desired: int
    capacity_before: int
    status: StatusCode
    status_message: str = ""
    end_s: float | None = None
    details: str = ""
    not_scaled: tuple[NotScaledReason, ...] = field(default=())


class AlarmState(StrEnum):
    """``StateValue`` of a CloudWatch alarm."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm that target tracking keeps, as ``DescribeAlarms`` shows it."""

    name: str
    policy_name: str
    metric: str
    statistic: str
    comparison: str
    threshold: float
    period_s: int
    evaluation_periods: int
    state: AlarmState
    state_reason: str
    updated_s: float


@dataclass(frozen=True, slots=True)
class SuspendedState:
    """``SuspendedState`` of a scalable target."""

    dynamic_scaling_in: bool = False
    dynamic_scaling_out: bool = False
    scheduled_scaling: bool = False
