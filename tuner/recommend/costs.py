"""The cost page: what is paid today, what is recommended, and what each knob is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tuner.interval import Interval
from tuner.recommend.types import Candidate, Recommendation, Schedule


@dataclass(frozen=True, slots=True)
class CostRow:
    """One way to run the endpoint, in USD; ``compared`` is its month over the recommended one."""

    name: str
    candidate: Candidate
    usd_per_month: Interval
    usd_per_million: Interval | None
    compared: float | None


@dataclass(frozen=True, slots=True)
class CostPart:
    """What one knob adds to a month (saves when negative), in USD.

    The parts with ``in_total`` add up to the total; the others hold the recommended policy
    against another way to run the endpoint.
    """

    name: str
    usd_per_month: Interval
    sentence: str
    in_total: bool = False


@dataclass(frozen=True, slots=True)
class Costs:
    """The page; ``million_per_month`` is how many million requests a month has."""

    rows: tuple[CostRow, ...]
    parts: tuple[CostPart, ...]
    total_per_month: Interval
    million_per_month: float | None = None

    @property
    def total_per_million(self) -> Interval | None:
        """The total over a month's requests."""
        return self.per_million(self.total_per_month)

    def per_million(self, usd_per_month: Interval) -> Interval | None:
        """A part of a month's bill over the month's requests."""
        if self.million_per_month is None:
            return None
        return usd_per_month.scaled(1.0 / self.million_per_month)


def costs_of(recommendation: Recommendation) -> Costs | None:
    """The page of a recommendation; None without a policy or a price."""
    chosen = recommendation.chosen
    if chosen is None or chosen.expected.cost_per_month_usd is None:
        return None
    base = chosen.expected.cost_per_month_usd
    beside = [recommendation.today, chosen, *recommendation.alternatives]
    rows = tuple(row for c in beside if c is not None and (row := _row(c, chosen)) is not None)
    parts = tuple(_parts(recommendation, base))
    total = _exact(0.0)
    for part in parts:
        if part.in_total:
            total = _plus(total, part.usd_per_month)
    total = replace(total, level=base.level)
    million = chosen.expected.cost_per_million_usd
    requests = base.mid / million.mid if million is not None and million.mid > 0.0 else None
    return Costs(rows, parts, total, requests)


def _row(candidate: Candidate, chosen: Candidate) -> CostRow | None:
    month = candidate.expected.cost_per_month_usd
    base = chosen.expected.cost_per_month_usd
    if month is None:
        return None
    compared = month.mid / base.mid - 1.0 if base is not None and base.mid > 0.0 else None
    name = "recommended" if candidate is chosen else candidate.name
    return CostRow(name, candidate, month, candidate.expected.cost_per_million_usd, compared)


def _parts(recommendation: Recommendation, base: Interval) -> Iterator[CostPart]:
    yield from _scaling(recommendation, base)
    yield from _type(recommendation)
    yield from _instances(recommendation, base)
    yield from _by_the_clock(recommendation, base)
    decision = recommendation.data_capture
    if decision is not None and decision.cost is not None:
        cost = decision.cost
        yield CostPart(
            "data_capture",
            _exact(cost.usd_per_month),
            f"{cost.sampling_percent:g} % of requests kept for "
            f"{decision.rules.retention_days:g} days: {cost.stored_gb:.3g} GB stored for "
            f"{cost.storage_usd_per_month:.2f} USD, {cost.put_requests_per_month:,.0f} PUT "
            f"requests for {cost.put_usd_per_month:.2f} USD.",
            in_total=cost.sampling_percent > 0.0,
        )


def _instances(recommendation: Recommendation, base: Interval) -> Iterator[CostPart]:
    """The recommended policy's own cost: what is kept warm, and what scaling adds to it."""
    warm = 0.0
    for part in recommendation.minimum:
        if part.cost_per_month_usd is not None:
            warm += part.cost_per_month_usd
            cost = _exact(part.cost_per_month_usd)
            yield CostPart(f"minimum:{part.role}", cost, part.sentence, in_total=True)
    above = _plus(base, _exact(-warm))
    schedule = recommendation.adopted_schedule
    if schedule is not None and warm > 0.0:
        clock = _kept_by_the_clock(schedule, warm, base)
        said = "Instances that scheduled actions keep ready at the hours that need them."
        yield CostPart("scheduled_minimum", clock, said, in_total=True)
        above = Interval(
            above.low - clock.low, above.mid - clock.mid, above.high - clock.high, base.level
        )
    if warm > 0.0 and above.high > 1e-6 * base.high:
        said = "Instances beyond the minimum, while the traffic needs them."
        yield CostPart("above_minimum", above, said, in_total=True)
    elif not warm > 0.0:
        yield CostPart("instances", base, "The recommended policy's instances.", in_total=True)


def _kept_by_the_clock(schedule: Schedule, warm: float, base: Interval) -> Interval:
    """What the scheduled minimum costs above the lowest; never more than the bill leaves."""
    full = warm * (schedule.mean_minimum / schedule.lowest_minimum - 1.0)
    mid = max(0.0, min(full, base.mid - warm))
    return Interval(max(0.0, min(mid, base.low - warm)), mid, mid, base.level)


def _scaling(recommendation: Recommendation, base: Interval) -> Iterator[CostPart]:
    """What scaling is worth against what else could be run."""
    named = {c.name: c for c in recommendation.alternatives}
    if recommendation.today is not None:
        named["today"] = recommendation.today
    for name, knob, words in (
        ("today", "policy", "The recommended policy against today's."),
        ("aws_half_of_maximum", "target", "The target and minimum against AWS's start value."),
        ("fixed_peak_fleet", "scaling", "Scaling against a fixed fleet for the peak."),
    ):
        other = named.get(name)
        cost = other.expected.cost_per_month_usd if other is not None else None
        if other is not None and cost is not None:
            said = "" if other.meets else " That one does not hold the SLO."
            yield CostPart(knob, _minus(base, cost), words + said)


def _type(recommendation: Recommendation) -> Iterator[CostPart]:
    """The instance type against the next cheapest that would do."""
    sized = recommendation.right_size
    if sized is None:
        return
    known = [t for t in sized.types if t.scaled_usd_per_month is not None]
    own = next((t for t in known if t.name == sized.chosen), None)
    other = next((t for t in known if t.name != sized.chosen), None)
    if own is None or other is None:
        return
    assert own.scaled_usd_per_month is not None
    assert other.scaled_usd_per_month is not None
    yield CostPart(
        "instance_type",
        _minus(own.scaled_usd_per_month, other.scaled_usd_per_month),
        f"{own.name} against {other.name}, the next that would do.",
    )


def _by_the_clock(recommendation: Recommendation, base: Interval) -> Iterator[CostPart]:
    schedule, off = recommendation.schedule, recommendation.off_hours
    alone = recommendation.without_schedule
    if recommendation.adopted_schedule is not None and alone is not None:
        other = alone.expected.cost_per_month_usd
        if other is not None:
            said = "A minimum that follows the clock, against the cheapest policy without one."
            yield CostPart("schedule", _minus(base, other), said)
    elif schedule is not None:
        # Simulated on the same days: what makes a month dear makes it dear under both.
        yield CostPart(
            "schedule",
            _negative(base.scaled(schedule.saved_share)),
            "A minimum that follows the clock (a suggestion: add a [schedule] table).",
        )
    if off is not None and off.saved_usd_per_month is not None:
        yield CostPart("off_hours", _negative(off.saved_usd_per_month), off.sentence, in_total=True)


def _exact(usd: float) -> Interval:
    return Interval(usd, usd, usd)


def _negative(value: Interval) -> Interval:
    return Interval(-value.high, -value.mid, -value.low, value.level)


def _plus(a: Interval, b: Interval) -> Interval:
    """Ends added: as if both were off to the same side, so never too narrow."""
    return Interval(a.low + b.low, a.mid + b.mid, a.high + b.high, a.level)


def _minus(a: Interval, b: Interval) -> Interval:
    return _plus(a, _negative(b))
