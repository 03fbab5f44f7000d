"""Tables of the cost page: what each knob is worth, scheduled actions, data capture."""

from __future__ import annotations

import math

from tuner.interval import Interval
from tuner.recommend.costs import CostPart, Costs, costs_of
from tuner.recommend.data_capture import CaptureDecision, CaptureOption, CaptureStanding
from tuner.recommend.types import Recommendation
from tuner.report.data import Table
from tuner.report.names import said
from tuner.report.words import NONE, money, number

STANDINGS = {
    CaptureStanding.FITS: "fits",
    CaptureStanding.OVER_BUDGET: "over the budget",
    CaptureStanding.TOO_SLOW: "too slow",
    CaptureStanding.UNCLEAR: "not clear yet",
    CaptureStanding.NOT_MEASURED: "not measured",
}
PARTS = {
    "policy": "Policy: against today's",
    "target": "Target: against AWS's start value",
    "scaling": "Scaling: against a fixed fleet",
    "instance_type": "Instance type",
    "minimum:base": "Kept warm: base traffic",
    "minimum:burst": "Kept warm: burst until help arrives",
    "minimum:resilience": "Kept warm: resilience",
    "scheduled_minimum": "Kept warm: by the clock",
    "above_minimum": "Above the minimum",
    "instances": "Instances",
    "schedule": "Schedule",
    "off_hours": "Off-hours",
    "data_capture": "Data capture",
    "total": "Total",
}


def cost_tables(recommendation: Recommendation | None) -> tuple[Table, ...]:
    """Every table there is something to say in; none without a price and nothing asked for."""
    if recommendation is None:
        return ()
    tables = []
    costs = costs_of(recommendation)
    if costs is not None:
        tables += [t for t in (_bill(costs), _knobs(costs)) if t.rows]
    if recommendation.data_capture is not None:
        tables.append(_capture(recommendation.data_capture))
    actions = recommendation.scheduled_actions
    if not actions and recommendation.schedule is not None:
        actions = recommendation.schedule.actions
    if actions:
        tables.append(
            Table(
                "Scheduled actions" if recommendation.scheduled_actions else "A possible schedule",
                ("Name", "Schedule", "Time zone", "Minimum", "Maximum"),
                tuple(
                    (a.name, a.schedule, a.timezone, str(a.min_capacity), str(a.max_capacity))
                    for a in actions
                ),
            )
        )
    return tuple(tables)


def _bill(costs: Costs) -> Table:
    """The parts that add up to the month's bill."""
    rows = [_line(costs, p, p.usd_per_month) for p in costs.parts if p.in_total]
    total = CostPart("total", costs.total_per_month, "The sum of these rows.")
    return Table(
        "The recommended bill, part by part",
        ("Part", "USD per month", "USD per million", "What it is"),
        (*rows, _line(costs, total, costs.total_per_month)),
        prose=True,
    )


def _line(costs: Costs, part: CostPart, cost: Interval) -> tuple[str, ...]:
    million = costs.per_million(cost)
    each = NONE if million is None else f"{million.mid:.3f}"
    return _name(part), amount(cost), each, part.sentence


def _knobs(costs: Costs) -> Table:
    """What the recommendation saves or costs against doing otherwise."""
    return Table(
        "What each knob is worth, against doing otherwise",
        ("Knob", "USD per month", "What it is"),
        tuple(
            (_name(p), signed(p.usd_per_month), p.sentence) for p in costs.parts if not p.in_total
        ),
        prose=True,
    )


def _name(part: CostPart) -> str:
    return PARTS.get(part.name) or said(part.name)


def amount(value: Interval) -> str:
    """``$1,234.56 ($1,230 to $1,240)``: to the cent, so that a column can be added up."""
    text = ("−" if value.mid < 0.0 else "") + f"${abs(value.mid):,.2f}"
    if value.low == value.high:
        return text
    ends = signed(Interval(value.low, value.mid, value.high)).partition(" (")[2]
    return f"{text} ({ends.replace('+', '')}"


def signed(value: Interval) -> str:
    """``+$4.20 (+$4.00 to +$4.40)``: what is added, or saved with a minus."""

    def one(usd: float) -> str:
        if not math.isfinite(usd):
            return "unknown"
        return ("+" if usd > 0 else "−" if usd < 0 else "") + money(abs(usd))

    if value.low == value.high:
        return one(value.mid)
    return f"{one(value.mid)} ({one(value.low)} to {one(value.high)})"


def _capture(decision: CaptureDecision) -> Table:
    days = decision.rules.retention_days
    return Table(
        f"Data capture, kept {days:g} days",
        (
            "Sampling",
            "Verdict",
            "USD per month",
            "GB stored",
            "PUT requests per month",
            "p99 on over off",
            "Mean on over off",
            "Requests",
        ),
        tuple(_option(o) for o in decision.options),
    )


def _option(option: CaptureOption) -> tuple[str, ...]:
    cost, effect = option.cost, option.effect
    return (
        f"{option.sampling_percent} %",
        STANDINGS[option.standing],
        money(cost.usd_per_month) if cost else NONE,
        number(cost.stored_gb) if cost else NONE,
        number(cost.put_requests_per_month) if cost else NONE,
        _ratio(effect.p99_ratio) if effect else NONE,
        _ratio(effect.mean_ratio) if effect else NONE,
        f"{effect.requests:,}" if effect else NONE,
    )


def _ratio(value: Interval) -> str:
    return f"×{value.mid:.3f} ({value.low:.3f} to {value.high:.3f})"
