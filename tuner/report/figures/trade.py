"""Cost against misses, and what moves the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from tuner.recommend.types import Candidate, Recommendation
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

LEAST_MISS_PERCENT = 1e-4
"""Misses below one in a million are drawn there: the logarithm of none has no place."""


def draw(view: View, *, png: bool) -> list[Drawing]:
    """The front and the sensitivities, as far as the recommendation holds them."""
    recommendation = view.data.recommendation
    if recommendation is None:
        return []
    drawn = (_front(recommendation, png), _sensitivity(recommendation, png))
    return [d for d in drawn if d is not None]


def cost_of(candidate: Candidate, priced: bool) -> float:
    """USD per month when prices are known, else instance-hours per day."""
    cost = candidate.expected.cost_per_month_usd
    if priced and cost is not None:
        return cost.mid
    return candidate.expected.instance_hours_per_day.mid


def _miss_percent(candidate: Candidate) -> float:
    return max((1.0 - candidate.expected.slo_attainment.mid) * 100.0, LEAST_MISS_PERCENT)


def _front(recommendation: Recommendation, png: bool) -> Drawing | None:
    chosen, others = recommendation.chosen, recommendation.alternatives
    shown = [*recommendation.front, *others, *([chosen] if chosen is not None else [])]
    if len(shown) < 2:
        return None
    priced = all(c.expected.cost_per_month_usd is not None for c in shown)
    with style("front"):
        figure = new_figure(5.0, 3.9)
        rows = math.ceil((len(others) + 2) / 2)
        axes = figure.add_axes((0.145, 0.125, 0.835, 0.76 - 0.052 * rows))
        front = sorted(recommendation.front, key=lambda c: cost_of(c, priced))
        handles: list[Any] = []
        if front:
            axes.plot(
                [cost_of(c, priced) for c in front],
                [_miss_percent(c) for c in front],
                color=LIGHT["muted"],
                marker=".",
                linewidth=1.1,
            )
            handles.append(
                Line2D([], [], color=LIGHT["muted"], marker=".", label="searched policies")
            )
        for i, other in enumerate(others):
            colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
            face = colour if other.meets else LIGHT["paper"]
            look: dict[str, Any] = {"marker": marker, "markersize": 7, "markeredgecolor": colour}
            axes.plot(
                [cost_of(other, priced)],
                [_miss_percent(other)],
                linestyle="none",
                markerfacecolor=face,
                clip_on=False,
                **look,
            )
            handles.append(Line2D([], [], ls="none", mfc=face, label=label(other.name, 30), **look))
        if chosen is not None:
            star: dict[str, Any] = {"marker": "*", "markersize": 14, "color": LIGHT["good"]}
            axes.plot(
                [cost_of(chosen, priced)],
                [_miss_percent(chosen)],
                linestyle="none",
                clip_on=False,
                zorder=4,
                **star,
            )
            handles.insert(0, Line2D([], [], ls="none", label="recommended", **star))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain_ticks)
        axes.yaxis.set_minor_formatter(lambda v, _: "")
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


def _sensitivity(recommendation: Recommendation, png: bool) -> Drawing | None:
    bars = [(label(s.name, 34), s.value) for s in recommendation.sensitivities]
    known = [(n, v) for n, v in bars if v is not None and math.isfinite(v)]
    if not known:
        return None
    with style("sensitivity"):
        figure = new_figure(5.0, 1.25 + 0.33 * len(known))
        height = figure.get_figheight()
        axes = figure.add_axes((0.43, 0.5 / height, 0.53, 1.0 - 0.95 / height))
        values = np.array([v for _, v in known]) * 100.0
        y = np.arange(len(known))[::-1]
        colours = [LIGHT["bad"] if v > 0 else LIGHT["good"] for v in values]
        axes.barh(y, values, height=0.6, color=colours)
        axes.axvline(0.0, color=LIGHT["ink"], linewidth=0.9)
        axes.set_yticks(y, [n for n, _ in known])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        _bar_ends(axes, y, values)
        axes.set_xlabel("change of cost, %")
        axes.set_title("What moves the cost", x=-0.75, pad=8)
        caption = "Change of the recommended policy's cost when one assumption changes alone."
        return finish(figure, "sensitivity", caption, caption, png=png)


def _bar_ends(axes: Any, y: Sequence[int] | Any, values: Any) -> None:
    reach = max(float(np.abs(values).max()), 1e-9)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    room = 0.32 * max(high - low, reach)
    axes.set_xlim(low - (room if low < 0 else 0.0), high + room)
    for at, value in zip(y, values, strict=True):
        side = 1 if value >= 0 else -1
        axes.annotate(
            f"{value:+.3g} %",
            (value, at),
            xytext=(4 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
            fontsize=8.5,
        )
