"""State and sums of a block of lanes: the arrays that the control loop moves.

A lane is one policy on one day. Lanes are laid out (days, policies) so that traffic, which
depends on the day only, is broadcast along contiguous policies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling import kernel
from tuner.autoscaling.policy import ScalingMetric
from tuner.simulator.inputs import SUBSTEP_S, SUBSTEPS, PolicyGrid, SimulationOptions
from tuner.units import SECONDS_PER_MINUTE

EDGE = 2e-7
"""Single precision must not turn equality with a threshold into a breach."""
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What became of the requests over the scored minutes, shape (lanes,)."""

    violating: NDArray[np.float64]
    bad_minutes: NDArray[np.int64]
    spare_safe: NDArray[np.int64]
    zone_safe: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over the scored minutes, shape (days, policies)."""

    violating: NDArray[np.float64]
    bad_minutes: NDArray[np.int64]
    spare_safe: NDArray[np.int64]
    zone_safe: NDArray[np.int64]
    instance_minutes: NDArray[np.float64]
    peak: NDArray[np.int64]
    scale_outs: NDArray[np.int64]
    scale_ins: NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Record:
    """Minute by minute what a block did, shape (minutes, lanes)."""

    in_service: NDArray[np.float64]
    starting: NDArray[np.float64]
    metric: NDArray[np.float64]
    violation_share: NDArray[np.float64]
    delay_s: NDArray[np.float64]

    @classmethod
    def empty(cls, minutes: int, lanes: int) -> Record:
        """Room for a recording."""
        return cls(*(np.zeros((minutes, lanes)) for _ in range(5)))


class Lanes:
    """State of days x policies on a virtual clock.

    Parameters
    ----------
    grid
        Policies (p,).
    rates
        Shape (minutes, days, 6): offered rate per minute in every ten seconds.
    lags
        Shape (days, k): launch lags in sub-steps, drawn in order by every policy of a day.
    options
        The world around.
    """

    def __init__(
        self,
        grid: PolicyGrid,
        rates: NDArray[np.float64],
        lags: NDArray[np.int64],
        options: SimulationOptions,
    ) -> None:
        self.grid, self.rates, self.lags = grid, rates, lags
        self.options = options
        self.mean: NDArray[np.float64] = rates.mean(axis=-1)
        self.minutes, self.days = rates.shape[:2]
        self.policies = len(grid)
        self.shape = (self.days, self.policies)
        self.lanes = self.days * self.policies
        self.fast = grid.metric is ScalingMetric.CONCURRENCY
        self.curve = None if grid.metric is ScalingMetric.INVOCATIONS else options.metric_curve
        period_s = SUBSTEP_S if self.fast else int(SECONDS_PER_MINUTE)
        self.high_delay = -int(-options.publish_delay_s // period_s)
        self.low_delay = -int(-options.publish_delay_s // SECONDS_PER_MINUTE)
        self._make_policies()
        self._make_state()
        self._make_counters()

    # -- set-up --------------------------------------------------------------------------

    def _make_policies(self) -> None:
        grid, days = self.grid, self.days
        self.target = np.tile(grid.target_value, days)
        self.low_bound = np.tile(grid.min_capacity, days)
        self.high_bound = np.tile(grid.max_capacity, days)
        self.own_low, self.own_high = self.low_bound.copy(), self.high_bound.copy()
        self.out_cooldown_s = np.tile(grid.scale_out_cooldown_s, days).astype(np.float64)
        self.in_cooldown_s = np.tile(grid.scale_in_cooldown_s, days).astype(np.float64)
        self.no_scale_in = np.tile(grid.disable_scale_in, days)
        self.day = np.repeat(np.arange(self.days), self.policies)

    def _make_state(self) -> None:
        lanes = self.lanes
        self.count = np.zeros(lanes, np.int16)
        self.capacity = np.zeros(lanes, np.int64)
        self.high_limit, self.low_limit, self.in_limit = (
            np.zeros(lanes, np.float32) for _ in range(3)
        )
        self.below_max = np.zeros(lanes, np.bool_)
        self.above_min = np.zeros(lanes, np.bool_)
        self.high_run, self.low_run = (np.zeros(lanes, np.uint8) for _ in range(2))
        self.high_ring = np.zeros((self.high_delay + 1, lanes), np.bool_)
        self.low_ring = np.zeros((self.low_delay + 1, lanes), np.bool_)
        slow_metric = self.curve is not None
        self.need_ring = np.zeros((self.high_delay + 1, lanes if slow_metric else 0), np.float32)
        self.minute_metric = np.zeros(lanes if self.fast else 0, np.float32)
        self.updating_until = np.zeros(lanes, np.int64)
        self.out_until_s = np.full(lanes, -np.inf)
        self.out_added = np.zeros(lanes)
        self.in_until_s = np.full(lanes, -np.inf)
        self.launched = np.zeros(lanes, np.int64)
        self.span = int(self.lags.max()) // SUBSTEPS + 2
        self.arriving = np.zeros((self.span * SUBSTEPS, lanes), np.int16)
        self.arrives = np.zeros((self.span, lanes), np.bool_)
        self.any_arrives = np.zeros(self.span, np.bool_)

    def _make_counters(self) -> None:
        lanes = self.lanes
        self.instance_minutes = np.zeros(lanes)
        self.peak = np.zeros(lanes, np.int64)
        self.scale_outs, self.scale_ins = (np.zeros(lanes, np.int32) for _ in range(2))
        self.m = np.empty(lanes if self.curve is not None else 0, np.float32)
        self.ready, self.fits = (np.empty(lanes, np.bool_) for _ in range(2))

    def _begin_with(self, first: Index) -> None:
        """Begin with these instances, within the bounds."""
        if self.options.initial_capacity is not None:
            first = np.full(self.lanes, self.options.initial_capacity, np.int64)
        self.capacity[:] = np.clip(first, self.low_bound, self.high_bound)
        self.count[:] = self.capacity
        self.instance_minutes += self.capacity * float(self.minutes - self.options.lead_in_min)
        self._refresh(np.arange(self.lanes))

    def _refresh(self, lanes: Index) -> None:
        """Recompute what hangs on the counts of ``lanes``."""
        count = self.count[lanes].astype(np.int64)
        capacity, target = self.capacity[lanes], self.target[lanes]
        self.high_limit[lanes] = target * count * (1.0 + EDGE)
        self.low_limit[lanes] = target * count * (kernel.IN_THRESHOLD * (1.0 - EDGE))
        self.in_limit[lanes] = target * (capacity - 1) * (1.0 + EDGE)
        self.below_max[lanes] = capacity < self.high_bound[lanes]
        self.above_min[lanes] = (capacity > self.low_bound[lanes]) & ~self.no_scale_in[lanes]

    # -- sums ----------------------------------------------------------------------------

    def _reset_counters(self) -> None:
        self.scale_outs[:] = 0
        self.scale_ins[:] = 0
        self.peak[:] = self.capacity

    def tally(self, served: Served) -> Tally:
        """What the policies ordered, with what became of the requests."""
        shape = self.shape
        return Tally(
            served.violating.reshape(shape),
            served.bad_minutes.reshape(shape),
            served.spare_safe.reshape(shape),
            served.zone_safe.reshape(shape),
            self.instance_minutes.reshape(shape),
            self.peak.reshape(shape),
            self.scale_outs.reshape(shape).astype(np.int64),
            self.scale_ins.reshape(shape).astype(np.int64),
        )
