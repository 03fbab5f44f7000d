"""Tables of the report for the further knobs: instance types and scaling signals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuner.campaign.types import StageResult
from tuner.interval import Interval
from tuner.recommend.density_types import Density
from tuner.recommend.signals import NAMES
from tuner.recommend.types import Recommendation, RightSizing, SignalChoice, Standing, TypeCost
from tuner.report.answer import target_text
from tuner.report.data import Table
from tuner.report.words import (
    METRIC_UNITS,
    NONE,
    interval,
    milliseconds,
    money,
    money_interval,
    percent,
)
from tuner.units import s_to_ms

STANDINGS = {
    Standing.CHEAPEST: "take it",
    Standing.TIE: "tie",
    Standing.DOMINATED: "dominated",
    Standing.MISSES: "misses the SLO",
    Standing.UNKNOWN: "not known",
}


def knob_tables(recommendation: Recommendation | None) -> tuple[Table, ...]:
    """The tables there is something to say in."""
    if recommendation is None:
        return ()
    tables: list[Table] = []
    if recommendation.right_size is not None:
        tables += type_tables(recommendation.right_size)
    if recommendation.signals:
        tables.append(signal_table(recommendation.signals))
    if recommendation.models is not None:
        tables.append(model_table(recommendation.models))
    return tuple(tables)


def gap_tables(stages: Sequence[StageResult]) -> tuple[Table, ...]:
    """Times between the parts of streamed answers, stage by stage; none without any."""
    found = [(s, s.chunk_gaps) for s in stages if s.chunk_gaps is not None and s.chunk_gaps.total]
    if not found:
        return ()
    rows = tuple(
        (
            f"{s.spec.index} {s.spec.kind.value}",
            f"{s.spec.rate_per_s:.4g}/s on {s.spec.instance_count}",
            f"{gaps.total:,}",
            *(f"{s_to_ms(gaps.quantile_s(q)):.3g} ms" for q in (0.5, 0.95, 0.99)),
        )
        for s, gaps in found
    )
    header = ("stage", "load", "gaps", "p50", "p95", "p99")
    return (Table("Gaps between the chunks of streamed answers", header, rows),)


def model_table(density: Density) -> Table:
    """The price of density: what more models on an instance cost in latency and save in money."""
    return Table(
        f"Models per instance, at {density.rate_per_s:.4g} requests/s per instance",
        (
            "models on the instance",
            "verdict",
            "p99",
            "warm p99",
            "cold loads",
            "over the SLO",
            f"instances for {density.total_models} models",
            "$ per month",
        ),
        tuple(
            (
                f"{r.models}",
                r.verdict.value,
                _milliseconds(r.p99_s),
                NONE if r.warm_p99_s is None else f"{milliseconds(r.warm_p99_s)} ms",
                _share(r.cold),
                _share(r.late),
                f"{r.instances}",
                money(r.cost_per_month_usd),
            )
            for r in density.rows
        ),
    )


def _milliseconds(value: Interval) -> str:
    high = f"{milliseconds(value.high)} ms" if math.isfinite(value.high) else "failed"
    middle = f"{milliseconds(value.mid)} ms" if math.isfinite(value.mid) else "failed"
    return f"{middle} ({milliseconds(value.low)} to {high})"


def _share(value: Interval) -> str:
    return f"{percent(value.mid)} ({percent(value.low)} to {percent(value.high)})"


def type_tables(sized: RightSizing) -> tuple[Table, Table]:
    """The types compared, cheapest first, and why each stands where it does."""
    return (
        Table(
            "Instance types compared on this traffic",
            (
                "type",
                "verdict",
                "$ per hour",
                "requests/s per instance",
                "fixed fleet",
                "$ per month, fixed",
                "$ per month as recommended",
                "$ per month over its capacity's interval",
                "$ per million",
            ),
            tuple(_type_row(t) for t in sized.types),
        ),
        Table(
            "Why each type stands where it does",
            ("type", "why"),
            tuple((t.name, t.reason) for t in sized.types),
            prose=True,
        ),
    )


def _type_row(cost: TypeCost) -> tuple[str, ...]:
    month, million = cost.scaled_usd_per_month, cost.scaled_usd_per_million
    return (
        cost.name,
        STANDINGS[cost.standing],
        f"${cost.price.usd_per_hour:.4g}",
        interval(cost.capacity_per_s),
        NONE if cost.static_count is None else f"{cost.static_count} instances",
        money_interval(cost.static_usd_per_month),
        money(None if month is None else month.high),
        money_interval(month),
        money(None if million is None else million.high),
    )


def signal_table(signals: tuple[SignalChoice, ...]) -> Table:
    """The scaling metrics compared, each with its own best policy."""
    return Table(
        "Scaling signals compared on this traffic",
        ("signal", "target", "of the machine", "inside SLO", "$ per month", "scatter", "why"),
        tuple(_signal_row(s) for s in signals),
        prose=True,
    )


def _signal_row(signal: SignalChoice) -> tuple[str, ...]:
    policy = signal.candidate.policy if signal.candidate else None
    expected = signal.candidate.expected if signal.candidate else None
    return (
        NAMES[signal.metric],
        NONE
        if policy is None
        else f"{target_text(policy.target_value)} {METRIC_UNITS[signal.metric]}",
        percent(signal.machine_share),
        percent(expected.slo_attainment.mid) if expected else NONE,
        money_interval(expected.cost_per_month_usd) if expected else NONE,
        percent(signal.fit.scatter if signal.fit and not signal.fit.refused else None),
        signal.reason,
    )
