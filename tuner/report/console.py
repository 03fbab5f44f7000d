"""The answer in a few lines of plain text."""

from __future__ import annotations

import textwrap

from tuner.recommend.types import Candidate, Recommendation
from tuner.report.answer import (
    HEADLINES,
    attainment_words,
    binding_words,
    capacity_words,
    compared,
    cost_words,
    headroom_words,
    policy_words,
    sentence,
    settings,
)
from tuner.report.names import failings, others, reason, said
from tuner.report.words import money, percent, plain
from tuner.slo import Verdict

WIDTH = 96
MAX_ITEMS = 6
MAX_TRIED = 3
KNOBS = {"right_size": "type", "signal": "signal"}
"""Statements that say which of several things to take."""


def console_text(recommendation: Recommendation) -> str:
    """The verdict, what to set and why, at most `WIDTH` columns; no colours, no controls."""
    lines = [f"{recommendation.verdict.value}: {HEADLINES[recommendation.verdict]}", ""]
    if recommendation.chosen is not None:
        lines += _answer(recommendation, recommendation.chosen)
    else:
        lines += _no_answer(recommendation)
    lines += _listed("warning", recommendation.warnings)
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _answer(recommendation: Recommendation, chosen: Candidate) -> list[str]:
    lines = [*_wrapped(sentence(recommendation)), ""]
    names = settings(recommendation)
    width = max(len(name) for name, _ in names)
    lines += [f"  {name:<{width}} = {plain(value)}" for name, value in names]
    lines.append("")
    lines += _field("SLO", recommendation.slo.describe())
    lines += _field("limit", binding_words(recommendation.capacity))
    lines += _capacity(recommendation)
    headroom = headroom_words(recommendation)
    if headroom is not None:
        lines += _field("target is", headroom)
    lines += _field("traffic", recommendation.traffic_name)
    lines += _field("inside SLO", attainment_words(chosen))
    lines += _field("cost", cost_words(chosen))
    for statement in recommendation.statements:
        if statement.name in KNOBS:
            lines += _field(KNOBS[statement.name], statement.sentence)
    lines += _minimum(recommendation)
    lines += _knobs(recommendation)
    for other in others(recommendation)[:MAX_ITEMS]:
        lines += _field("against", f"{said(other.name)}: {beside(other, chosen)}")
    return lines


def _minimum(recommendation: Recommendation) -> list[str]:
    """The minimum capacity as a sum, and what it costs."""
    parts = recommendation.minimum
    if not parts:
        return []
    total = sum(p.instances for p in parts)
    addends = " + ".join(f"{p.instances} {p.role}" for p in parts)
    costs = [p.cost_per_month_usd for p in parts]
    known = [c for c in costs if c is not None]
    money_text = f", {money(sum(known))} per month" if len(known) == len(costs) else ""
    when = " in the quietest hours" if recommendation.adopted_schedule is not None else ""
    return _field("minimum", f"{total} = {addends}{money_text}{when}")


def _knobs(recommendation: Recommendation) -> list[str]:
    """Schedules, payload mix and data capture, where the plan asked or they are worth saying."""
    lines = []
    for statement in recommendation.statements:
        if statement.name in ("scheduled_minimum", "no_schedule", "off_hours"):
            lines += _field("schedule", statement.sentence)
        if statement.name.startswith("mix_") and (statement.value or 0.0) < 0.0:
            lines += _field("mix", statement.sentence)
    if recommendation.data_capture is not None:
        lines += _field("capture", recommendation.data_capture.sentence)
    return lines


def beside(other: Candidate, chosen: Candidate | None) -> str:
    """Another policy's cost against the chosen one's, its attainment, and whether it would do."""
    change = compared(other, chosen)
    inside = percent(other.expected.slo_attainment.mid)
    verdict = "would do" if other.meets else f"fails: {failings(other) or reason(other)}"
    return ", ".join(
        p
        for p in (
            change and change if change.startswith("same") else f"cost {change}",
            f"{inside} inside SLO",
            verdict,
        )
        if p
    )


def _no_answer(recommendation: Recommendation) -> list[str]:
    lines = _field("SLO", recommendation.slo.describe())
    if recommendation.capacity.verdict is Verdict.MET:
        lines += _capacity(recommendation)
    failed = [g for g in recommendation.capacity.gates if not g.passed]
    lines += _listed("reason", tuple(g.sentence for g in failed))
    for statement in recommendation.statements:
        lines += _field("next" if statement.name == "proposal" else "reason", statement.sentence)
    tried = [c for c in others(recommendation) if c is not recommendation.proposal]
    for other in [*tried, *recommendation.rejected][:MAX_TRIED]:
        lines += _field("tried", f"{policy_words(other)}: {beside(other, None)}")
    lines += _listed("next", tuple(dict.fromkeys(g.remedy for g in failed if g.remedy)))
    return lines


def _capacity(recommendation: Recommendation) -> list[str]:
    return [
        line
        for entry in recommendation.capacity.by_count[:1]
        for line in _field("capacity", capacity_words(entry))
    ]


def _listed(name: str, texts: tuple[str, ...]) -> list[str]:
    lines = [line for text in texts[:MAX_ITEMS] for line in _field(name, text)]
    if len(texts) > MAX_ITEMS:
        lines += _field(name, f"and {len(texts) - MAX_ITEMS} more in the report")
    return lines


def _field(name: str, text: str) -> list[str]:
    return _wrapped(text, f"  {name:<11}")


def _wrapped(text: str, head: str = "") -> list[str]:
    clean = plain(text)
    return textwrap.wrap(clean, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)) or [
        head
    ]
