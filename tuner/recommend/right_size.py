"""Which of several measured instance types serves the traffic at the least cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric
from tuner.errors import InputError
from tuner.interval import Interval
from tuner.recommend.constraints import Constraints
from tuner.recommend.evaluate import DAYS_PER_MONTH, Choice, grid_of, score
from tuner.recommend.prices import Price, PriceTable
from tuner.recommend.rates import safe_rates
from tuner.recommend.search import resilient_fleet
from tuner.recommend.setup import Setup, prepare
from tuner.recommend.types import Recommendation, RightSizing, Standing, TypeCost
from tuner.simulator.inputs import MetricCurve
from tuner.slo import Verdict
from tuner.units import HOURS_PER_MONTH, per_min_to_per_s, s_to_h
from tuner.workload.profile import TrafficProfile

ENDS = ("low", "mid", "high")
LARGEST_STATIC = 2000


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredType:
    """One instance type with its campaign's answer.

    ``recommendation`` None, or without a policy, needs a ``reason``; ``misses`` says that the
    SLO is known to be out of reach, and not merely unknown.
    """

    name: str
    price: Price
    constraints: Constraints
    recommendation: Recommendation | None
    reason: str = ""
    misses: bool = False
    launch_lag_s: Sequence[float] | float | None = None
    metric_curves: Mapping[ScalingMetric, MetricCurve] | None = None


def right_size(
    measured: Sequence[MeasuredType], traffic: TrafficProfile, *, seed: int = 0
) -> RightSizing:
    """Name the cheapest type that holds the SLO on the traffic.

    The one that costs least in the middle of its interval is taken: the high end, at which the
    policies are sized, says as much about how well a type was measured as about the type. Types
    whose interval overlaps its own are ties: the measurements cannot tell them apart. The days
    of traffic are the same for all types, so that only the capacities make the intervals.

    Parameters
    ----------
    traffic
        The one the recommendations were made for.

    Raises
    ------
    InputError
        If there is nothing to compare, or two types have one name.
    """
    names = [m.name for m in measured]
    if not names or len(set(names)) != len(names):
        raise InputError(
            "instance types cannot be compared", value=names, allowed="one or more, named once each"
        )
    costs = [_cost(m, traffic, seed) for m in measured]
    known = sorted((c for c in costs if c.scaled_usd_per_month is not None), key=_in_the_middle)
    rest = [c for c in costs if c.scaled_usd_per_month is None]
    if not known:
        return RightSizing(None, (), _none_sentence(rest), tuple(rest))
    best = known[0]
    ties = [c for c in known[1:] if _overlap(c, best)]
    placed = [
        _placed(best, Standing.CHEAPEST, _cheapest_reason(best, ties)),
        *(_placed(c, Standing.TIE, _tie_reason(c, best)) for c in ties),
        *(
            replace(_placed(c, Standing.DOMINATED, _why(c, best)), beaten_by=best.name)
            for c in known[1:]
            if c not in ties
        ),
    ]
    placed.sort(key=_in_the_middle)
    tied = tuple(c.name for c in ties)
    return RightSizing(best.name, tied, _sentence(best, ties, known, rest), (*placed, *rest))


def usd_per_million(usd_per_hour: float, requests_per_h: float) -> float:
    """Price of a million requests at a rate held for the whole hour.

    Raises
    ------
    ValueError
        If the rate is not positive.
    """
    if not requests_per_h > 0.0:
        raise ValueError(f"a rate must be positive: {requests_per_h}")
    return usd_per_hour / requests_per_h * 1e6


def _cost(measured: MeasuredType, traffic: TrafficProfile, seed: int) -> TypeCost:
    found, price = measured.recommendation, measured.price
    blank = TypeCost(
        measured.name,
        measured.constraints.instance_type,
        price,
        Standing.MISSES if measured.misses else Standing.UNKNOWN,
        measured.reason,
    )
    if found is None:
        return blank
    if found.chosen is None:
        standing = Standing.MISSES if found.verdict is Verdict.VIOLATED else blank.standing
        return replace(blank, standing=standing, reason=measured.reason or _no_policy(found))
    setup = prepare(
        found.capacity,
        traffic,
        slo=found.slo,
        constraints=measured.constraints,
        launch_lag_s=measured.launch_lag_s,
        prices=PriceTable(MappingProxyType({measured.constraints.instance_type: price})),
        seed=seed,
        metric_curves=measured.metric_curves,
    )
    rate = found.capacity.by_count[0].rate_per_s
    alone = found.without_schedule or found.chosen
    chosen = (alone.policy, alone.bounds)
    hours = [_hours(setup, chosen, end) for end in ENDS]
    scaled = _descending(hours, price.usd_per_hour * DAYS_PER_MONTH, rate.level)
    fleets = [_static(found, setup, measured.constraints, end) for end in ENDS]
    per_day = float(setup.world.days.sum(axis=1).mean())
    full_day = 24.0 * 60.0 / setup.world.days.shape[1]
    return replace(
        blank,
        capacity_per_s=rate,
        usd_per_million_at_capacity=_at_capacity(price.usd_per_hour, rate),
        static_count=fleets[0],
        static_usd_per_month=_descending(
            [float(f) for f in fleets], price.usd_per_hour * HOURS_PER_MONTH, rate.level
        ),
        scaled_usd_per_month=scaled,
        scaled_usd_per_million=scaled.scaled(1e6 / (per_day * full_day * DAYS_PER_MONTH)),
        policy=chosen[0],
        bounds=chosen[1],
    )


def _hours(setup: Setup, choice: Choice, end: str) -> float:
    """Instance-hours a day of the policy, were this end of the capacity known to be true.

    The minimum and the load that the target stands for grow or shrink with the capacity.
    """
    world, (policy, bounds) = setup.world, choice
    at = {"low": world.low_factor, "mid": 1.0, "high": world.high_factor}[end]
    more = at / world.low_factor
    lowest = min(setup.ground.lowest_minimum, bounds.min_capacity)
    low = max(lowest, math.ceil(bounds.min_capacity / more - 1e-9))
    if policy is not None:
        target = _target_at(policy.target_value, world.curves.get(policy.metric), more)
        policy = replace(policy, target_value=target)
    grid = grid_of([(policy, CapacityBounds(low, max(low, bounds.max_capacity)))])
    return float(score(world, grid, factor=at).instance_hours[0].mean())


def _target_at(target: float, curve: MetricCurve | None, more: float) -> float:
    """The target that stands for ``more`` times the load."""
    if curve is None:
        return target * more
    busy = float(np.interp(target, curve.value, curve.utilization))
    return max(float(np.interp(busy * more, curve.utilization, curve.value)), 1e-6)


def _static(found: Recommendation, setup: Setup, constraints: Constraints, end: str) -> int:
    """Instances that carry the recorded peak and survive the loss, at an end of the capacity."""
    peak_per_s = per_min_to_per_s(setup.ground.peak_per_min)
    mid = found.capacity.by_count[0].rate_per_s.mid
    size = min(LARGEST_STATIC, max(8, math.ceil(2.0 * peak_per_s / mid)))
    rates = safe_rates(found.capacity, setup.world.allowance, size, end)
    return max(resilient_fleet(peak_per_s, rates, constraints), setup.ground.lowest_minimum)


def _descending(values: Sequence[float], factor: float, level: float) -> Interval:
    """An interval of costs from values at the low end, the middle and the high end."""
    at_low, mid, at_high = (v * factor for v in values)
    low = min(at_low, mid, at_high)
    return Interval(low, min(max(mid, low), max(at_low, mid)), max(at_low, mid), level)


def _at_capacity(usd_per_hour: float, rate: Interval) -> Interval | None:
    if not rate.low > 0.0:
        return None
    high = rate.high if math.isfinite(rate.high) else rate.mid
    ends = [usd_per_million(usd_per_hour, r / s_to_h(1.0)) for r in (high, rate.mid, rate.low)]
    return Interval(ends[0], ends[1], ends[2], rate.level)


def _in_the_middle(cost: TypeCost) -> tuple[float, str]:
    month = cost.scaled_usd_per_month
    assert month is not None
    return month.mid, cost.name


def _overlap(cost: TypeCost, best: TypeCost) -> bool:
    own, other = cost.scaled_usd_per_month, best.scaled_usd_per_month
    assert own is not None
    assert other is not None
    return own.low <= other.high


def _placed(cost: TypeCost, standing: Standing, reason: str) -> TypeCost:
    return replace(cost, standing=standing, reason=reason)


def _more(cost: TypeCost, best: TypeCost) -> float:
    """What the recommended policy costs over that of the best, whose own may be the dearer."""
    own, other = cost.scaled_usd_per_month, best.scaled_usd_per_month
    assert own is not None
    assert other is not None
    return own.high / other.high - 1.0 if other.high > 0.0 else math.inf


def _cheapest_reason(best: TypeCost, ties: Sequence[TypeCost]) -> str:
    if ties:
        return "Costs least in the middle of its interval, but not by more than is known."
    return "Costs least, whichever ends of the intervals are true."


def _tie_reason(cost: TypeCost, best: TypeCost) -> str:
    return (
        f"Costs {_more(cost, best):+.0%} as recommended against {best.name}, and the intervals "
        "overlap: a longer campaign on both would tell."
    )


def _why(cost: TypeCost, best: TypeCost) -> str:
    """What makes a type dearer: its price for what it carries, or whole instances."""
    assert cost.capacity_per_s is not None
    assert best.capacity_per_s is not None
    carries = cost.capacity_per_s.mid / best.capacity_per_s.mid
    price = cost.price.usd_per_hour / best.price.usd_per_hour
    text = f"Costs {_more(cost, best):+.0%} against {best.name}"
    if price / carries > 1.03:
        text += f": an instance carries x{carries:.3g} at x{price:.3g} the price."
    else:
        least = cost.bounds.min_capacity if cost.bounds is not None else 1
        text += (
            f": a request costs no more on a busy instance, but at least {least} "
            f"{'instance runs' if least == 1 else 'instances run'} at all hours, and each is "
            f"x{price:.3g} the price."
        )
    own, other = cost.static_usd_per_month, best.static_usd_per_month
    if own is not None and other is not None and own.high < other.low:
        text += " Without scaling it would be the cheaper one."
    return text


def _no_policy(found: Recommendation) -> str:
    said = [s.sentence for s in found.statements if s.name.startswith("refused:")]
    said += [g.sentence for g in found.capacity.gates if not g.passed]
    said += [c.reason for c in found.rejected]
    return said[0] if said else "No policy holds the SLO on the traffic."


def _sentence(
    best: TypeCost, ties: Sequence[TypeCost], known: Sequence[TypeCost], rest: Sequence[TypeCost]
) -> str:
    assert best.scaled_usd_per_month is not None
    cost = f"{best.scaled_usd_per_month.high:,.0f} USD a month as recommended"
    compared = len(known) + len(rest)
    if compared == 1:
        return f"{best.name} is the only type measured: {cost}."
    if ties:
        others = ", ".join(c.name for c in ties)
        return (
            f"{best.name} costs least of {compared} types in the middle of its interval, {cost}, "
            f"but it is a tie with {others}: the intervals overlap."
        )
    if len(known) == 1:
        return f"{best.name} is the only one of {compared} types that holds the SLO: {cost}."
    second = known[1]
    return (
        f"{best.name} is the cheapest of {compared} types, {cost}; the next, {second.name}, costs "
        f"{_more(second, best):+.0%}, and the intervals do not overlap."
    )


def _none_sentence(rest: Sequence[TypeCost]) -> str:
    reasons = "; ".join(f"{c.name}: {c.reason}" for c in rest)
    return f"No type is known to hold the SLO on the traffic. {reasons}"
