"""One self-contained HTML page: no network, no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tuner import __version__
from tuner.interval import Interval
from tuner.recommend.types import Candidate, Recommendation, Statement
from tuner.report import answer, names, words
from tuner.report.costs import cost_tables
from tuner.report.data import Pairs, ReportData, StageRow, Table, View, quantile_name
from tuner.report.figures import draw_all
from tuner.report.figures.canvas import PALETTE, Drawing
from tuner.slo import Verdict

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: object) -> object:
    """Every text that reaches the page loses its control characters; markup is ours."""
    return (
        words.visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
    )


def render_html(data: ReportData, drawn: Sequence[Drawing] | None = None) -> str:
    """The page; the same data give the same bytes.

    ``drawn`` are figures of the same data where they were made already.
    """
    view = View.of(data)
    figures = tuple(drawn) if drawn is not None else draw_all(view)
    template = _environment().get_template("page.html.j2")
    return template.render(
        data=data,
        version=__version__,
        said=names.said,
        css=Markup((TEMPLATES / "page.css").read_text("utf-8")),  # noqa: S704 - our own file
        light=_variables(0),
        dark=_variables(1),
        headline=data.headline or answer.HEADLINES[data.verdict],
        lead=_lead(data),
        settings=answer.settings(data.recommendation) if data.recommendation else (),
        facts=data.facts or _facts(view),
        capacities=_capacities(data),
        minimum=_minimum(data.recommendation),
        statements=_said(data.recommendation.statements) if data.recommendation else (),
        sensitivities=_said(data.recommendation.sensitivities) if data.recommendation else (),
        gates=data.capacity.gates if data.capacity is not None else (),
        candidates=_candidates(data.recommendation),
        cost_tables=cost_tables(data.recommendation),
        stages=_stages(view),
        errors=_errors(view),
        scaling=_scale_events(data),
        figures=_figures(figures),
    )


def _variables(theme: int) -> Markup:
    return Markup(" ".join(f"--{name}: {pair[theme]};" for name, pair in PALETTE.items()))  # noqa: S704


def _figures(drawn: Sequence[Drawing]) -> dict[str, list[dict[str, Any]]]:
    """Group of the page to its figures; the drawings are our own SVG, already escaped."""
    groups: dict[str, list[dict[str, Any]]] = {"latency": [], "time": [], "day": [], "trade": []}
    place = {"over-time": "time", "hardest-day": "day", "front": "trade"}
    place |= {"sensitivity-misses": "trade", "sensitivity-cost": "trade", "density": "trade"}
    for figure in drawn:
        groups[place.get(figure.name, "latency")].append(
            {
                "svg": Markup(figure.inline),  # noqa: S704
                "caption": figure.caption,
                "alt": figure.alt,
                "wide": figure.wide,
            }
        )
    return groups


def _lead(data: ReportData) -> str:
    if data.recommendation is not None and data.recommendation.chosen is not None:
        return answer.sentence(data.recommendation)
    if data.problem is not None:
        return data.problem
    refused = names.refusal(data.recommendation) if data.recommendation is not None else None
    if refused is not None:
        return refused
    failed = [g for g in data.capacity.gates if not g.passed] if data.capacity is not None else []
    if failed:
        return failed[0].sentence
    if data.recommendation is not None and data.recommendation.rejected:
        return names.reason(data.recommendation.rejected[0])
    return "Nothing was measured that an answer could rest on." if not data.stages else ""


def _facts(view: View) -> Pairs:
    data = view.data
    facts: list[tuple[str, str]] = [("SLO", data.slo.describe())]
    if data.capacity is not None:
        if data.capacity.by_count:
            facts.append(("Capacity", answer.capacity_words(data.capacity.by_count[0])))
        if data.capacity.verdict is Verdict.MET:
            facts.append(("What limits it", answer.binding_words(data.capacity)))
    if data.recommendation is not None:
        headroom = answer.headroom_words(data.recommendation)
        if headroom is not None:
            facts.append(("The target is", headroom))
        chosen = data.recommendation.chosen
        if chosen is not None:
            facts.append(("Expected inside the SLO", answer.attainment_words(chosen)))
            facts.append(("Expected cost", answer.cost_words(chosen)))
        peak = words.number(data.recommendation.peak_per_min)
        facts.append(("Traffic", f"{data.recommendation.traffic_name}, peak {peak} per minute"))
        facts += _basis(data.recommendation)
    measured = f"{len(view.rows)} stages, {words.number(float(view.requests), 9)} requests"
    if data.duration_s is not None:
        measured += f" in {words.span(data.duration_s)}"
    if data.money_spent_usd is not None:
        measured += f", {words.money(data.money_spent_usd)} spent"
    facts.append(("Measured", measured))
    return tuple(facts)


def _basis(recommendation: Recommendation) -> Pairs:
    """What the answer rests on besides the measurements."""
    facts: list[tuple[str, str]] = []
    basis, price = recommendation.basis, recommendation.price
    if basis is not None:
        days = f"{len(basis.chosen_on_days)} of {basis.traffic_days} days"
        scored = f", scored on {len(basis.scored_on_days)} others" if basis.scored_on_days else ""
        facts.append(("Searched", f"{basis.policies:,} policies on {days}{scored}"))
        lags = sorted(basis.launch_lag_s)
        if lags:
            ends = dict.fromkeys(words.span(lag) for lag in (lags[0], lags[-1]))
            known = "measured" if basis.launch_lag_measured else "assumed, not measured"
            if basis.launch_lag_source == "given":
                known = "given, not measured here"
            facts.append(("Launch of an instance", f"{' to '.join(ends)} ({known})"))
    if price is not None:
        origin = ", ".join(p for p in (price.source, price.date) if p)
        hour = f"{words.money(price.usd_per_hour)} per instance-hour"
        facts.append(("Price", f"{hour} (grade {price.grade}: {origin})"))
    return tuple(facts)


def _minimum(recommendation: Recommendation | None) -> Table | None:
    """The minimum capacity as a sum."""
    if recommendation is None or not recommendation.minimum:
        return None
    rows = tuple(
        (m.role, str(m.instances), words.money(m.cost_per_month_usd), m.sentence)
        for m in recommendation.minimum
    )
    total = sum(m.instances for m in recommendation.minimum)
    header = ("Part", "Instances", "USD per month", "What it is for")
    when = " in the quietest hours" if recommendation.adopted_schedule is not None else ""
    return Table(f"Why the minimum is {total}{when}", header, rows, prose=True)


def _said(statements: Sequence[Statement]) -> Pairs:
    return tuple((names.said(s.name), s.sentence) for s in statements)


def _capacities(data: ReportData) -> Table | None:
    if data.capacity is None or not data.capacity.by_count:
        return None
    rows = tuple(
        (
            str(c.instance_count),
            words.interval(c.rate_per_s),
            words.interval(c.rate_per_s.scaled(60.0), 4),
            words.interval(c.rate_per_s.scaled(c.instance_count)),
            f"{c.requests:,}",
            c.source,
        )
        for c in data.capacity.by_count
    )
    level = data.capacity.by_count[0].rate_per_s.level
    header = (
        "Instances",
        f"Requests/s per instance ({words.percent(level)} interval)",
        "Per minute per instance",
        "Requests/s, whole endpoint",
        "Requests behind it",
        "How it is known",
    )
    return Table("What one instance carries inside the SLO", header, rows)


def _candidates(recommendation: Recommendation | None) -> list[dict[str, Any]]:
    if recommendation is None:
        return []
    chosen = recommendation.chosen
    listed: list[tuple[Candidate, str]] = [(chosen, "chosen")] if chosen is not None else []
    listed += [(c, "meets" if c.meets else "fails") for c in names.others(recommendation)]
    listed += [(c, "rejected") for c in recommendation.rejected]
    return [_candidate(c, role, chosen) for c, role in listed]


def _candidate(candidate: Candidate, role: str, chosen: Candidate | None) -> dict[str, Any]:
    expected = candidate.expected
    safe = expected.resilient_minute_share
    return {
        "name": names.said("chosen" if role == "chosen" else candidate.name),
        "role": role,
        "policy": answer.policy_words(candidate),
        "attainment": _two(expected.slo_attainment, words.percent),
        "minutes": words.percent(expected.bad_minute_share),
        "hours": _two(expected.instance_hours_per_day, words.number),
        "month": _two(expected.cost_per_month_usd, words.money),
        "million": _two(expected.cost_per_million_usd, words.money),
        "compared": answer.compared(candidate, chosen),
        "reason": names.reason(candidate),
        "failing": names.failings(candidate) or "misses the budget",
        "safe": "" if safe is None else f"survives the loss in {words.percent(safe)}",
    }


def _two(value: Interval | None, say: Callable[[float], str]) -> dict[str, str]:
    """The point above, the interval below."""
    if value is None:
        return {"mid": words.NONE, "range": ""}
    high = f"to {say(value.high)}" if math.isfinite(value.high) else "or more"
    around = "" if value.low == value.high else f"{say(value.low)} {high}"
    return {"mid": say(value.mid), "range": around}


def _stages(view: View) -> dict[str, Any]:
    heads = [quantile_name(measure, q) for measure, q in view.shown]
    return {"quantiles": heads, "rows": [_stage(view, r) for r in view.rows]}


def _stage(view: View, row: StageRow) -> dict[str, Any]:
    spec = row.stage.spec
    cells = []
    for measure, quantile in view.shown:
        value, threshold = row.at(quantile, measure), view.data.threshold_s(quantile, measure)
        cell: dict[str, Any] = dict(_two(value, words.milliseconds))
        cell["over"] = bool(value is not None and threshold is not None and value.mid > threshold)
        cells.append(cell)
    return {
        "index": spec.index,
        "kind": spec.kind.value.replace("_", "-"),
        "purpose": spec.purpose,
        "instances": spec.instance_count,
        "rate": words.number(spec.rate_per_s),
        "each": words.number(row.stage.rate_per_instance_per_s),
        "requests": f"{row.requests:,}",
        "cells": cells,
        "failures": row.failures,
        "errors": words.percent(row.error_share),
        "standing": row.standing,
        "note": row.note,
    }


def _errors(view: View) -> list[tuple[str, str, int]]:
    return [
        (f"stage {r.stage.spec.index}", text, count)
        for r in view.rows
        for text, count in r.stage.error_samples
    ]


def _scale_events(data: ReportData) -> Table | None:
    if not data.scale_events:
        return None
    rows = tuple((f"{e.from_count} → {e.to_count}", words.span(e.lag_s)) for e in data.scale_events)
    return Table("Changes of the instance count", ("Instances", "Order to settled"), rows)
