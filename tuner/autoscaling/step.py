"""Step scaling policies: a table from the size of a breach to a change of capacity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class AdjustmentType(StrEnum):
    """How a step's ``scaling_adjustment`` is read."""

    CHANGE_IN_CAPACITY = "ChangeInCapacity"
    EXACT_CAPACITY = "ExactCapacity"
    PERCENT_CHANGE_IN_CAPACITY = "PercentChangeInCapacity"


@dataclass(frozen=True, slots=True)
class StepAdjustment:
    """One step: bounds are distances from the alarm's threshold, None is unbounded.

    Above the threshold the lower bound is inclusive and the upper exclusive; below it the
    other way round.
    """

    scaling_adjustment: int
    lower_bound: float | None = None
    upper_bound: float | None = None

    def holds(self, breach: float) -> bool:
        """Whether a datapoint at ``threshold + breach`` falls into this step."""
        lower = -math.inf if self.lower_bound is None else self.lower_bound
        upper = math.inf if self.upper_bound is None else self.upper_bound
        if breach >= 0.0:
            return lower <= breach < upper
        return lower < breach <= upper


@dataclass(frozen=True, slots=True)
class StepScalingPolicy:
    """A step scaling policy; it is fired by an alarm that its owner made."""

    adjustment_type: AdjustmentType
    steps: tuple[StepAdjustment, ...]
    cooldown_s: int = 300
    min_adjustment_magnitude: int = 0

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a step scaling policy needs at least one step")
        if self.cooldown_s < 0:
            raise ValueError(f"cooldown must not be negative: {self.cooldown_s}")
        spans = sorted(
            (
                -math.inf if s.lower_bound is None else s.lower_bound,
                math.inf if s.upper_bound is None else s.upper_bound,
            )
            for s in self.steps
        )
        if any(low >= high for low, high in spans):
            raise ValueError("a step's lower bound must be below its upper bound")
        if any(a[1] > b[0] for a, b in pairwise(spans)):
            raise ValueError("steps must not overlap")

    def adjusted(self, capacity: int, breach: float) -> int | None:
        """The capacity this policy sets from ``capacity``; None when no step holds the breach.

        Percentages are rounded as AWS does: beyond 1 towards zero, below 1 to one instance,
        and at least ``min_adjustment_magnitude`` instances move.
        """
        step = next((s for s in self.steps if s.holds(breach)), None)
        if step is None:
            return None
        if self.adjustment_type is AdjustmentType.EXACT_CAPACITY:
            return step.scaling_adjustment
        if self.adjustment_type is AdjustmentType.CHANGE_IN_CAPACITY:
            return max(0, capacity + step.scaling_adjustment)
        if step.scaling_adjustment == 0:
            return capacity
        exact = capacity * step.scaling_adjustment / 100
        size = max(1, math.floor(abs(exact) + 1e-9), self.min_adjustment_magnitude)
        return max(0, capacity + (size if exact >= 0 else -size))
