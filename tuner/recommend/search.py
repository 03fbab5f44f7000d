"""Where to look: targets, minima, cooldowns; a coarse pass, then a fine one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.recommend.choose import Budgets, Scores, choose
from tuner.recommend.choose import Choice as Picked
from tuner.recommend.constraints import (
    Constraints,
    smallest_useful_minimum,
    static_fleet,
    survivors,
)
from tuner.recommend.evaluate import Choice, World, grid_of, score, stacked
from tuner.simulator.inputs import PolicyGrid
from tuner.units import per_min_to_per_s, per_s_to_per_min

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

COARSE_SHARES = np.concatenate(
    [
        [0.08, 0.1, 0.125, 0.16, 0.2, 0.25],
        np.arange(0.30, 0.80, 0.05),
        np.arange(0.80, 1.10, 0.03),
    ]
)
"""Targets as a share of what an instance carries at the peak's count, the lower bound.

Above 1 is possible: short excursions fit the budget of bad minutes. The low ones are for traffic
of rare, tall spikes, where idle instances are cheaper than a fleet of the peak's size."""
ALWAYS_TRIED = 0.5
USUAL_SHARE = 0.7
FINE_STEPS = np.array([-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75])
FINE_REACH = 1.34
"""The outermost fine step just meets the neighbouring coarse target."""
LOST_OVER_BUDGET = 4.0
SHORTEST_LOST_MIN = 240
"""Overload of so many times the whole record's budget of bad minutes, and this long, is lost."""
MINIMA = 8
ROOMIEST = 0.5
"""A maximum leaves at most this share of its instances busy at the largest peak."""
PEAK_LEVEL = 0.99
LEAST_PEAK = 2.0
SINGLE_DAY_PEAK = 2.0
PEAK_LIMIT = 4.0
"""A maximum costs nothing until traffic asks for it: rather too high than a ceiling in the
way of an unusual day."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Numbers the search stands on.

    Parameters
    ----------
    rates_low
        Shape (n,): rate per second and instance inside the SLO at 1 to n instances, the low
        end of the interval.
    peak_per_min, believable_peak_per_min
        Largest recorded minute, and the largest minute to be prepared for.
    lowest_minimum, highest_minimum
        Range of minima worth trying.
    ceiling
        The most instances allowed.
    reference_per_min
        What one instance carries in the fleet of the peak: targets are shares of it.
    """

    rates_low: FloatArray
    peak_per_min: float
    believable_peak_per_min: float
    lowest_minimum: int
    highest_minimum: int
    ceiling: int
    reference_per_min: float

    def needed(self, per_min: FloatArray) -> IntArray:
        """Instances that carry a load at the low end of the capacity, same shape."""
        counts = np.arange(1, self.rates_low.size + 1)
        carried = np.maximum.accumulate(self.rates_low * counts)
        index = np.searchsorted(carried, per_min_to_per_s(1.0) * per_min, side="left")
        need: IntArray = np.asarray(index, np.int64) + 1
        return need

    def largest_needed(self, target_per_min: FloatArray) -> IntArray:
        """Instances that target tracking asks for at the believable peak.

        A target far below the capacity is there for surges, not for twice the largest of them.
        """
        target = np.maximum(target_per_min, ROOMIEST * self.reference_per_min)
        return np.ceil(self.believable_peak_per_min / target).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Everything simulated at the low end of the capacity, and what was chosen of it.

    ``beside`` scores the policies that were simulated along and not chosen from.
    """

    grid: PolicyGrid
    scores: Scores
    choice: Picked
    beside: Scores

    @property
    def cost(self) -> float:
        """Hours a day of the choice; infinite without one."""
        index = self.choice.index
        return math.inf if index is None else float(self.scores.cost[index])


def believable_peak(daily_peaks: FloatArray) -> float:
    """Largest peak per minute to be prepared for on a coming day.

    The 99 % prediction bound for one more day under log-normal daily peaks (Student's t with
    d - 1 degrees of freedom), at least `LEAST_PEAK` and at most `PEAK_LIMIT` times the
    recorded peak; `SINGLE_DAY_PEAK` times the recorded one when there is a single day.

    Parameters
    ----------
    daily_peaks
        Shape (d,).
    """
    recorded = float(daily_peaks.max())
    d = daily_peaks.size
    if d < 2:
        return recorded * SINGLE_DAY_PEAK
    logs = np.log(np.maximum(daily_peaks, 1e-9) / recorded)
    spread = float(logs.std(ddof=1)) * math.sqrt(1.0 + 1.0 / d)
    bound = float(logs.mean()) + float(stdtrit(d - 1, PEAK_LEVEL)) * spread
    return recorded * math.exp(min(max(bound, math.log(LEAST_PEAK)), math.log(PEAK_LIMIT)))


def resilient_fleet(peak_per_s: float, rates: FloatArray, constraints: Constraints) -> int:
    """Fewest instances that carry a peak after the loss that the resilience rule names."""
    need = static_fleet(peak_per_s, rates)
    n = need
    while int(survivors(constraints.resilience, n)) < need:
        n += 1
    return n


def ground_of(days: FloatArray, rates_low: FloatArray, constraints: Constraints) -> Ground:
    """The search's numbers for a traffic and a capacity."""
    peak = float(days.max())
    peak_per_s = per_min_to_per_s(peak)
    lowest = max(constraints.min_capacity, smallest_useful_minimum(constraints.resilience))
    fleet = static_fleet(peak_per_s, rates_low)
    highest = max(resilient_fleet(peak_per_s, rates_low, constraints), lowest)
    at_peak = rates_low[min(fleet, rates_low.size) - 1]
    return Ground(
        rates_low=rates_low,
        peak_per_min=peak,
        believable_peak_per_min=believable_peak(days.max(axis=1)),
        lowest_minimum=lowest,
        highest_minimum=highest,
        ceiling=constraints.ceiling,
        reference_per_min=per_s_to_per_min(float(at_peak)),
    )


def minima(ground: Ground) -> IntArray:
    """Minimum capacities to try: every small one, then wider steps up to the peak's fleet."""
    low, high = ground.lowest_minimum, min(ground.highest_minimum, ground.ceiling)
    if high - low < MINIMA:
        return np.arange(low, high + 1)
    wide = np.geomspace(low + 3, high, MINIMA - 3)
    return np.unique(np.concatenate([np.arange(low, low + 3), np.rint(wide).astype(np.int64)]))


def coarse_shares(days: FloatArray, ground: Ground) -> FloatArray:
    """The targets to try first, as shares: those that may be cheaper than a fleet of the peak.

    Under a share s at least mean load / (s x reference) instances run.
    """
    useful = float(days.mean()) / (ground.highest_minimum * ground.reference_per_min)
    return COARSE_SHARES[min(useful, ALWAYS_TRIED) * 0.9 < COARSE_SHARES]


def targets_of(
    world: World, ground: Ground, metric: ScalingMetric, shares: FloatArray
) -> FloatArray:
    """Target values at shares of the reference rate, in the metric's own unit."""
    rates = shares * ground.reference_per_min
    if metric is ScalingMetric.INVOCATIONS:
        return rates
    curve = world.curves[metric]
    busy = rates / per_s_to_per_min(world.table.saturation_rate_per_s)
    values: FloatArray = np.interp(busy, curve.utilization, curve.value)
    return np.maximum(values, 1e-6)


def roomy_target(world: World, ground: Ground, choice: Choice) -> bool:
    """Whether a target leaves so much room that idle instances stand ready for surges."""
    policy = choice[0]
    if policy is None:
        return False
    least = targets_of(world, ground, policy.metric, np.array([ROOMIEST]))[0]
    return bool(policy.target_value < least)


def make_grid(
    world: World,
    ground: Ground,
    metric: ScalingMetric,
    shares: FloatArray,
    lows: IntArray,
    cooldowns: tuple[tuple[int, ...], tuple[int, ...]],
    riding: PolicyGrid | None = None,
) -> PolicyGrid:
    """Every combination of targets, minima and cooldowns, each with the maximum it needs.

    The policies of ``riding`` stand at the end.
    """
    needed = ground.largest_needed(shares * ground.reference_per_min)
    targets = targets_of(world, ground, metric, shares)
    pairs = []
    for target, top in zip(targets.tolist(), needed.tolist(), strict=True):
        for low in lows.tolist():
            high = max(low, min(max(top, low + 1), ground.ceiling))
            for out_s in cooldowns[0]:
                pairs += [
                    (
                        TargetTrackingPolicy(metric, target, out_s, in_s),
                        CapacityBounds(low, high),
                    )
                    for in_s in cooldowns[1]
                ]
    if riding is not None:
        pairs += [riding.policy(i) for i in range(len(riding))]
    return PolicyGrid.of(pairs)


def search(
    world: World,
    ground: Ground,
    constraints: Constraints,
    metric: ScalingMetric,
    weekend: BoolArray,
    budgets: Budgets,
    beside: Sequence[Choice],
) -> Found:
    """Cheapest policy on one metric at the low end of the capacity.

    The fine pass looks between the neighbours of the best coarse target and minimum; both
    passes together are chosen from once more. Policies ``beside``, of the same metric, ride
    along in the fine pass.
    """
    lows = minima(ground)
    cooldowns = (constraints.scale_out_cooldowns_s, constraints.scale_in_cooldowns_s)
    first = (cooldowns[0][:1], cooldowns[1][:1])
    tried = coarse_shares(world.days, ground)
    lost = _hopeless_min(world, budgets)
    coarse = make_grid(world, ground, metric, tried, lows, first)
    scores = score(world, coarse, factor=world.low_factor, give_up_min=lost)
    choice = choose(scores, weekend, budgets, world.seed, _dislike(world, ground, coarse))
    best = choice.index if choice.index is not None else choice.refuted
    if best is None and not beside:
        return Found(coarse, scores, choice, scores.policies(np.arange(0)))
    shares, near = tried[:0], lows[:0]
    if best is not None:
        targets = targets_of(world, ground, metric, tried)
        at = int(np.argmin(np.abs(targets - coarse.target_value[best])))
        step = float(np.diff(tried)[min(at, tried.size - 2)])
        shares = tried[at] + FINE_STEPS * step * FINE_REACH
        low = int(coarse.min_capacity[best])
        near = np.unique(np.clip([low - 1, low, low + 1], lows[0], lows[-1])).astype(np.int64)
    riding = [grid_of(beside)] if beside else []
    fine = make_grid(world, ground, metric, shares[shares > 0.05], near, cooldowns, *riding)
    extra = score(world, fine, factor=world.low_factor, give_up_min=lost)
    own = np.arange(len(fine) - len(beside))
    beside_scores = extra.policies(np.arange(own.size, len(fine)))
    if not own.size:
        return Found(coarse, scores, choice, beside_scores)
    scores = stacked([scores, extra.policies(own)])
    grid = joined(coarse, fine.subset(own))
    choice = choose(scores, weekend, budgets, world.seed, _dislike(world, ground, grid))
    return Found(grid, scores, choice, beside_scores)


def _hopeless_min(world: World, budgets: Budgets) -> int:
    """Minutes of overload on end after which no budget of bad minutes can be held any more."""
    return math.ceil(LOST_OVER_BUDGET * budgets.minutes * world.days.size) + SHORTEST_LOST_MIN


def joined(a: PolicyGrid, b: PolicyGrid) -> PolicyGrid:
    """Two grids of one metric as one."""
    return PolicyGrid.of([g.policy(i) for g in (a, b) for i in range(len(g))])


def _dislike(world: World, ground: Ground, grid: PolicyGrid) -> FloatArray:
    """Distance of each target from the usual one, for records that do not determine it.

    A fleet that never has to grow costs the same under every target; then a usual one is
    better than the end of the range tried.
    """
    usual = targets_of(world, ground, grid.metric, np.array([USUAL_SHARE]))[0]
    distance: FloatArray = np.abs(grid.target_value / usual - 1.0)
    return distance
