"""Cost against misses, and what moves the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from tuner.recommend.types import Candidate, Recommendation
from tuner.report import names
from tuner.report.data import View
from tuner.report.figures.canvas import (
    LIGHT,
    MARKERS,
    SERIES,
    Drawing,
    finish,
    key,
    label,
    new_figure,
    plain_ticks,
    style,
)
from tuner.report.words import number

MISSES, COST = "share of requests", "share of cost"
"""Units of the sensitivities that are drawn."""

LEAST_MISS_PERCENT = 1e-4
"""Misses below one in a million are drawn there: the logarithm of none has no place."""


def draw(view: View, *, png: bool) -> list[Drawing]:
    """The front and the sensitivities, as far as the recommendation holds them."""
    recommendation = view.data.recommendation
    if recommendation is None:
        return []
    front = _front(recommendation, png)
    return [*([front] if front is not None else []), *_sensitivities(recommendation, png)]


def cost_of(candidate: Candidate, priced: bool) -> float:
    """USD per month when prices are known, else instance-hours per day."""
    cost = candidate.expected.cost_per_month_usd
    if priced and cost is not None:
        return cost.mid
    return candidate.expected.instance_hours_per_day.mid


def _miss_percent(candidate: Candidate) -> float:
    return max((1.0 - candidate.expected.slo_attainment.mid) * 100.0, LEAST_MISS_PERCENT)


def _front(recommendation: Recommendation, png: bool) -> Drawing | None:
    chosen, others = recommendation.chosen, names.others(recommendation)
    shown = [*recommendation.front, *others, *([chosen] if chosen is not None else [])]
    if len(shown) < 2:
        return None
    priced = all(c.expected.cost_per_month_usd is not None for c in shown)
    with style("front"):
        figure = new_figure(5.0, 3.9)
        rows = math.ceil((len(others) + 2) / 2)
        axes = figure.add_axes((0.145, 0.125, 0.835, 0.76 - 0.052 * rows))
        marks = _marks(recommendation)
        handles = [_front_line(axes, recommendation, priced)] if recommendation.front else []
        for candidate, look in marks:
            place = ([cost_of(candidate, priced)], [_miss_percent(candidate)])
            axes.plot(*place, linestyle="none", clip_on=False, zorder=3, **look)
        handles += [Line2D([], [], linestyle="none", **look) for _, look in marks]
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain_ticks)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(0.08, 0.12)
        unit = "USD per month" if priced else "instance-hours per day"
        axes.set_xlabel(unit)
        axes.set_title("requests that miss the SLO, %", pad=8 + 14.5 * rows)
        key(axes, handles, columns=2)
        caption = (
            f"Misses against {unit}: further left is cheaper, further down is safer. "
            "Hollow marks do not meet the SLO budget."
        )
        return finish(figure, "front", caption, caption, png=png)


def _front_line(axes: Any, recommendation: Recommendation, priced: bool) -> Line2D:
    front = sorted(recommendation.front, key=lambda c: cost_of(c, priced))
    x, y = [cost_of(c, priced) for c in front], [_miss_percent(c) for c in front]
    axes.plot(x, y, color=LIGHT["muted"], marker=".", linewidth=1.1)
    return Line2D([], [], color=LIGHT["muted"], marker=".", label="searched policies")


def _marks(recommendation: Recommendation) -> list[tuple[Candidate, dict[str, Any]]]:
    """The chosen policy and its alternatives, each with its mark; hollow where it fails."""
    marks: list[tuple[Candidate, dict[str, Any]]] = []
    if recommendation.chosen is not None:
        star = {"marker": "*", "markersize": 14, "color": LIGHT["good"], "label": "recommended"}
        marks.append((recommendation.chosen, star))
    for i, other in enumerate(names.others(recommendation)):
        colour = SERIES[i % len(SERIES)]
        look = {
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 7,
            "markeredgecolor": colour,
            "markerfacecolor": colour if other.meets else LIGHT["paper"],
            "label": label(names.said(other.name), 26),
        }
        marks.append((other, look))
    return marks


def _sensitivities(recommendation: Recommendation, png: bool) -> list[Drawing]:
    """One figure for statements about misses, one for those about cost."""
    drawn = []
    for unit in (MISSES, COST):
        known = [
            (label(names.said(s.name), 24), 100.0 * s.value)
            for s in recommendation.sensitivities
            if s.unit == unit and s.value is not None and math.isfinite(s.value)
        ]
        if any(value for _, value in known):
            drawn.append(_bars(recommendation, unit, known, png))
    return drawn


def _bars(
    recommendation: Recommendation, unit: str, bars: Sequence[tuple[str, float]], png: bool
) -> Drawing:
    misses = unit == MISSES
    name = "sensitivity-misses" if misses else "sensitivity-cost"
    with style(name):
        height = 1.3 + 0.3 * len(bars)
        figure = new_figure(5.0, height)
        axes = figure.add_axes((0.36, 0.5 / height, 0.6, 1.0 - 1.12 / height))
        values = np.array([v for _, v in bars])
        y = np.arange(len(bars))[::-1]
        colours = [LIGHT["s0"] if misses else LIGHT["bad" if v > 0 else "good"] for v in values]
        axes.barh(y, values, height=0.6, color=colours)
        axes.axvline(0.0, color=LIGHT["ink"], linewidth=0.9)
        axes.set_yticks(y, [n for n, _ in bars])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(plain_ticks)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        handles = _reference_lines(axes, recommendation, values) if misses else []
        _bar_ends(axes, y, values, signed=not misses)
        title = "Requests that miss the SLO if" if misses else "Change of cost if"
        axes.set_xlabel("% of requests" if misses else "% of cost")
        axes.set_title(f"{title} one assumption changes", x=-0.6, pad=22 if handles else 8)
        if handles:
            key(axes, handles, columns=2)
        caption = (
            "Share of requests over the SLO when one assumption changes and the recommended "
            "policy stays."
            if misses
            else "What the cheapest policy would cost under other budgets."
        )
        return finish(figure, name, caption, caption, png=png)


def _reference_lines(axes: Any, recommendation: Recommendation, values: Any) -> list[Any]:
    handles = []
    budget = recommendation.basis.budget_requests * 100.0 if recommendation.basis else None
    if budget is not None and budget <= 3.0 * float(values.max()):
        axes.axvline(budget, color=LIGHT["bad"], linestyle=(0, (5, 3)), linewidth=1.2)
        words = f"budget {plain_ticks(budget)} %"
        handles.append(Line2D([], [], color=LIGHT["bad"], ls=(0, (5, 3)), label=words))
    if recommendation.chosen is not None:
        base = (1.0 - recommendation.chosen.expected.slo_attainment.mid) * 100.0
        axes.axvline(base, color=LIGHT["good"], linestyle=(0, (1, 1.5)), linewidth=1.4)
        handles.append(Line2D([], [], color=LIGHT["good"], ls=(0, (1, 1.5)), label="as expected"))
    return handles


def _bar_ends(axes: Any, y: Any, values: Any, *, signed: bool) -> None:
    low, high = axes.get_xlim()
    low, high = min(0.0, float(values.min())), max(high, float(values.max()), 1e-9)
    room = 0.32 * (high - low)
    axes.set_xlim(low - (room if low < 0 else 0.0), high + room)
    for at, value in zip(y, values, strict=True):
        side = 1 if value >= 0 else -1
        axes.annotate(
            f"{value:+.3g} %" if signed else f"{number(float(value), 2)} %",
            (value, at),
            xytext=(4 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
            fontsize=8.5,
            bbox={"facecolor": LIGHT["paper"], "edgecolor": "none", "pad": 0.8},
        )
