"""Policies on the user's traffic: from simulated minutes to what to expect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.interval import Interval
from tuner.queueing.capacity import ViolationTable
from tuner.recommend.choose import Budgets, Met, Scores, bootstrap_interval
from tuner.recommend.prices import Price
from tuner.recommend.rates import scaled_table
from tuner.recommend.types import Candidate, Expected, Resilience
from tuner.simulator.inputs import LaunchLag, MetricCurve, PolicyGrid, SimulationOptions
from tuner.simulator.simulate import SimulationResult, simulate_ensemble, timeline
from tuner.simulator.timeline import Timeline
from tuner.units import HOURS_PER_MONTH

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Choice = tuple[TargetTrackingPolicy | None, CapacityBounds]
"""A policy with its bounds; no policy is a fleet fixed at the minimum."""

HOURS_PER_DAY = 24.0
DAYS_PER_MONTH = HOURS_PER_MONTH / HOURS_PER_DAY
DAYS_BY_COUNTS = 16_000
"""Days times instance counts tabulated at once: about 15 MB per array of two hours."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything a policy meets in a simulation.

    Parameters
    ----------
    days
        Shape (d, minutes).
    table
        Capacity at the middle of its interval.
    low_factor, high_factor
        Ends of the capacity interval over the middle.
    level
        Of that interval.
    curves
        How metrics other than invocations answer to load.
    least_outstanding
        Whether requests go to the instance with the fewest outstanding, or to a random one.
    """

    days: FloatArray
    table: ViolationTable
    low_factor: float
    high_factor: float
    level: float
    launch: LaunchLag
    resilience: Resilience
    allowance: float
    dispersion: float
    price: Price | None
    seed: int
    curves: dict[ScalingMetric, MetricCurve]
    least_outstanding: bool = False

    def at(self, factor: float) -> World:
        """The world at ``factor`` times the middle capacity.

        A metric answers to a rate as it was measured, whatever the capacity turns out to be.
        """
        curves = {m: replace(c, utilization=c.utilization / factor) for m, c in self.curves.items()}
        return replace(self, table=scaled_table(self.table, factor), curves=curves)

    def options(self, metric: ScalingMetric) -> SimulationOptions:
        """The simulator's options for policies on this metric."""
        return SimulationOptions(
            allowance=self.allowance,
            zones=max(2, self.resilience.zones),
            dispersion=max(1.0, self.dispersion),
            metric_curve=self.curves.get(metric),
            least_outstanding=self.least_outstanding,
        )


def grid_of(choices: Sequence[Choice]) -> PolicyGrid:
    """Policies of one metric as a grid; fixed fleets become policies with equal bounds."""
    metric = next((p.metric for p, _ in choices if p), ScalingMetric.INVOCATIONS)
    pairs = []
    for policy, bounds in choices:
        if policy is None:
            fixed = CapacityBounds(bounds.min_capacity, bounds.min_capacity)
            pairs.append((TargetTrackingPolicy(metric, 1e12), fixed))
        else:
            pairs.append((policy, bounds))
    return PolicyGrid.of(pairs)


def score(
    world: World,
    grid: PolicyGrid,
    *,
    factor: float = 1.0,
    days: FloatArray | None = None,
    give_up_min: int | None = None,
) -> Scores:
    """Simulate policies at ``factor`` times the middle capacity."""
    return score_at(world, grid, (factor,), days=days, give_up_min=give_up_min)[0]


def score_at(
    world: World,
    grid: PolicyGrid,
    factors: Sequence[float],
    *,
    days: FloatArray | None = None,
    launch: Sequence[LaunchLag] | None = None,
    give_up_min: int | None = None,
    min_by_minute: IntArray | None = None,
) -> list[Scores]:
    """Simulate policies at several capacities: ``factors`` times the middle one.

    ``days``, shape (d, minutes), and ``launch``, one for each, stand for other assumptions
    about the world's own days, which they repeat in order: equal days draw equal chance.
    ``give_up_min`` as in the simulator's options. ``min_by_minute``, shape (minutes,), is a
    minimum that follows the clock.
    """
    if grid.metric in world.curves and any(f != 1.0 for f in factors):
        worlds = [world.at(f) for f in factors]
        return [
            score_at(w, grid, (1.0,), days=days, launch=launch, min_by_minute=min_by_minute)[0]
            for w in worlds
        ]
    traffic = world.days if days is None else days
    options = roomy(world.options(grid.metric), grid)
    options = replace(
        options,
        chance_repeats_after=len(world.days),
        give_up_min=give_up_min,
        min_capacity_by_minute=min_by_minute,
    )
    lose = world.resilience
    tables = [scaled_table(world.table, f) for f in factors]
    worse: list[ViolationTable] = []
    if lose.lose == "instance" and lose.count > 1:
        left = without(world.table, lose.count - 1)
        worse = [scaled_table(left, f) for f in factors]
    results = simulate_ensemble(
        grid, traffic, tables + worse, launch or world.launch, seed=world.seed, options=options
    )
    made = [scores_of(world, r) for r in results]
    if not worse:
        return made
    n = len(factors)
    return [replace(made[i], unsafe=1.0 - results[n + i].spare_safe_share) for i in range(n)]


def roomy(options: SimulationOptions, grid: PolicyGrid) -> SimulationOptions:
    """Options that keep the simulator's tables (days x instance counts) inside the memory.

    Many days of a large fleet are simulated in several blocks instead of one. Policies on
    invocations need no such tables.
    """
    if grid.metric is ScalingMetric.INVOCATIONS:
        return options
    days = max(1, DAYS_BY_COUNTS // int(grid.max_capacity.max()))
    return replace(options, lanes_per_block=min(options.lanes_per_block, days * len(grid)))


def scores_of(world: World, result: SimulationResult) -> Scores:
    """A simulation as scores; safe minutes are those that survive one instance, or one zone."""
    zone = world.resilience.lose == "zone"
    full_day = HOURS_PER_DAY * 60.0 / result.scored_minutes
    return Scores(
        requests=result.requests,
        violating=result.violating_requests,
        bad=result.bad_minute_share,
        unsafe=1.0 - (result.zone_safe_share if zone else result.spare_safe_share),
        instance_hours=result.instance_hours * full_day,
    )


def without(table: ViolationTable, lost: int) -> ViolationTable:
    """The table of a fleet whose last ``lost`` instances do not work.

    n instances at utilisation u behave like n - lost at u n / (n - lost); a fleet of which
    nothing is left misses every request.
    """
    probability = np.ones_like(table.probability)
    for i, n in enumerate(table.instance_count.tolist()):
        left = n - lost
        if left < 1:
            continue
        busier = table.utilization * n / left
        inside = busier <= 1.0
        for k in range(table.delay_s.size):
            row = np.interp(busier, table.utilization, table.probability[left - 1, :, k])
            probability[i, :, k] = np.where(inside, row, 1.0)
    return replace(table, probability=probability)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """The same policies at the low end, the middle and the high end of the capacity."""

    choices: tuple[Choice, ...]
    low: Scores
    mid: Scores
    high: Scores


def evaluate(world: World, choices: Sequence[Choice], *, low: Scores | None = None) -> Evaluated:
    """Simulate policies, of any metrics, at the middle and the ends of the capacity interval.

    Parameters
    ----------
    low
        Scores of all choices at the low end where the search knows them; None simulates them.
    """
    mid, high = by_metric(world, choices, (1.0, world.high_factor))
    if low is None:
        (low,) = by_metric(world, choices, (world.low_factor,))
    return Evaluated(tuple(choices), low, mid, high)


def by_metric(world: World, choices: Sequence[Choice], factors: Sequence[float]) -> list[Scores]:
    """Simulate policies of any metrics at ``factors`` times the middle capacity."""
    metrics = [p.metric if p else ScalingMetric.INVOCATIONS for p, _ in choices]
    parts, order = [], []
    for metric in sorted(set(metrics)):
        members = [i for i, m in enumerate(metrics) if m is metric]
        parts.append(score_at(world, grid_of([choices[i] for i in members]), factors))
        order += members
    back = np.argsort(np.array(order))
    return [stacked(list(ends)).policies(back) for ends in zip(*parts, strict=True)]


def stacked(parts: Sequence[Scores]) -> Scores:
    """Scores of several grids on the same days as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Scores(
        first.requests,
        np.concatenate([s.violating for s in parts]),
        np.concatenate([s.bad for s in parts]),
        np.concatenate([s.unsafe for s in parts]),
        np.concatenate([s.instance_hours for s in parts]),
    )


def expected(world: World, at: Evaluated, i: int, scored_on: IntArray) -> Expected:
    """What to expect of policy ``i``.

    Misses come from the days that only score or from all days, whichever have more of them;
    hours and cost from all days. The attainment's interval joins both ends of the capacity with
    the bootstrap over days; the hours' is the bootstrap alone.
    """
    days = np.arange(at.mid.requests.size)
    mid = at.mid
    if scored_on.size:
        scored = at.mid.days(scored_on)
        if scored.violating_share[i] > mid.violating_share[i]:
            days, mid = scored_on, scored
    ends = []
    for scores, side in ((at.low, 0), (at.high, 1)):
        part = scores.days(days)
        missed = bootstrap_interval(part.violating[i], part.requests, world.seed, world.level)
        ends.append(1.0 - missed[1 - side])
    attained = 1.0 - float(mid.violating_share[i])
    hours = at.mid.instance_hours[i]
    low, high = bootstrap_interval(hours, np.ones(hours.size), world.seed, world.level)
    per_day = _around(low, float(hours.mean()), high, world.level)
    price = world.price.usd_per_hour if world.price else None
    requests = float(at.mid.requests.mean()) * _full_day(world)
    return Expected(
        slo_attainment=_around(max(0.0, ends[0]), attained, min(1.0, ends[1]), world.level),
        bad_minute_share=float(mid.bad[i].mean()),
        instance_hours_per_day=per_day,
        cost_per_month_usd=per_day.scaled(price * DAYS_PER_MONTH) if price else None,
        cost_per_million_usd=per_day.scaled(price / requests * 1e6) if price else None,
        resilient_minute_share=None
        if world.resilience.lose == "none"
        else 1.0 - float(mid.unsafe[i].mean()),
    )


def _full_day(world: World) -> float:
    return HOURS_PER_DAY * 60.0 / float(world.days.shape[1])


def _around(low: float, mid: float, high: float, level: float) -> Interval:
    return Interval(min(low, mid), mid, max(high, mid), level)


def describe(choice: Choice) -> str:
    """``target 4350 per min, 3 to 12 instances, cooldowns 0/300 s``."""
    policy, bounds = choice
    if policy is None:
        return f"fixed fleet of {bounds.min_capacity}"
    metric = policy.metric
    unit = " per min" if metric is ScalingMetric.INVOCATIONS else " %" if metric.customized else ""
    digits = 6 if metric is ScalingMetric.INVOCATIONS else 4
    return (
        f"target {policy.target_value:.{digits}g}{unit}, "
        f"{bounds.min_capacity} to {bounds.max_capacity} instances, "
        f"cooldowns {policy.scale_out_cooldown_s}/{policy.scale_in_cooldown_s} s"
    )


def candidate(
    world: World, at: Evaluated, i: int, scored_on: IntArray, met: Met, *, name: str, reason: str
) -> Candidate:
    """Policy ``i`` as a candidate; ``met`` says what it holds."""
    policy, bounds = at.choices[i]
    return Candidate(
        name=name,
        policy=policy,
        bounds=bounds,
        expected=expected(world, at, i, scored_on),
        reason=reason,
        meets=bool(met.all[i]),
        failing=met.failing(i),
    )


def budgets_of(
    requests: float, minutes: float, resilient_minutes: float, resilience: Resilience
) -> Budgets:
    """The budgets; unsafe minutes count only when something may be lost."""
    unsafe = None if resilience.lose == "none" else 1.0 - resilient_minutes
    return Budgets(requests, minutes, unsafe)


def hardest_day(scores: Scores, i: int) -> int:
    """The day with the most missed requests under policy ``i``; the busiest among equals."""
    order = np.lexsort((scores.requests, scores.violating[i]))
    return int(order[-1])


def day_of(
    world: World, choice: Choice, day: int, min_by_minute: IntArray | None = None
) -> Timeline:
    """One day under one policy, minute by minute, at the middle of the capacity.

    ``min_by_minute``, shape (minutes,), is a minimum that follows the clock.
    """
    grid = grid_of([choice])
    options = replace(world.options(grid.metric), min_capacity_by_minute=min_by_minute)
    return timeline(
        grid, 0, world.days, world.table, world.launch, day=day, seed=world.seed, options=options
    )


def monthly_usd(hours_per_day: float, price: Price | None) -> float | None:
    """Cost of a month of 30 days."""
    if price is None or not math.isfinite(hours_per_day):
        return None
    return hours_per_day * DAYS_PER_MONTH * price.usd_per_hour
