"""The price of density on a multi-model endpoint: latency and cost against models per instance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from tuner.recommend.density_types import Density, DensityRow
from tuner.report.data import View
from tuner.report.figures.canvas import (
    LIGHT,
    Drawing,
    finish,
    key,
    legend_rows,
    new_figure,
    plain_ticks,
    style,
)
from tuner.report.words import number
from tuner.slo import LatencyObjective, Measure, Slo, Verdict
from tuner.units import s_to_ms

LEAST_ROWS = 2
"""One measured number of models shows no price of more."""


def draw(view: View, *, png: bool) -> list[Drawing]:
    """The figure, where a sweep over the number of models was made."""
    recommendation = view.data.recommendation
    density = None if recommendation is None else recommendation.models
    if density is None or len(density.rows) < LEAST_ROWS:
        return []
    with style("density"):
        figure = new_figure(9.6, 3.7)
        left = figure.add_axes((0.062, 0.13, 0.42, 0.64))
        right = figure.add_axes((0.568, 0.13, 0.42, 0.64))
        _latency(left, density, view.data.slo)
        _cost(right, density)
        for axes in (left, right):
            axes.set_xlim(0.0, 1.06 * density.rows[-1].models)
            axes.set_xlabel("models on an instance")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        caption = _caption(density)
        return [finish(figure, "density", caption, caption, png=png, wide=True)]


def _objective(slo: Slo) -> LatencyObjective | None:
    """The objective at the 99th percentile, which is what is drawn."""
    whole = (o for o in slo.objectives if o.measure is Measure.LATENCY)
    return next((o for o in whole if o.quantile == 0.99), None)


def _latency(axes: Axes, density: Density, slo: Slo) -> None:
    handles: list[Any] = []
    answered = [r for r in density.rows if math.isfinite(r.p99_s.mid)]
    warm = [r for r in density.rows if r.warm_p99_s is not None]
    axes.plot([r.models for r in answered], [s_to_ms(r.p99_s.mid) for r in answered],
              color=LIGHT["muted"], linewidth=1.1)  # fmt: skip
    _points(axes, answered)
    handles += _standing_keys(answered)
    if warm:
        shown = axes.plot(
            [r.models for r in warm],
            [s_to_ms(r.warm_p99_s or 0.0) for r in warm],
            color=LIGHT["s3"],
            linestyle=(0, (2, 2)),
            marker=".",
            label="warm requests alone",
        )
        handles += shown
    objective = _objective(slo)
    if objective is not None:
        axes.axhline(s_to_ms(objective.threshold_s), color=LIGHT["bad"], ls=(0, (5, 3)), lw=1.2)
        text = f"SLO {number(s_to_ms(objective.threshold_s))} ms"
        handles.append(Line2D([], [], color=LIGHT["bad"], ls=(0, (5, 3)), label=text))
    handles += _limit(axes, density)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10.0, (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(plain_ticks)
    axes.yaxis.set_minor_locator(NullLocator())
    _titled(axes, "p99 of all requests, ms", handles)


def _points(axes: Axes, rows: Sequence[DensityRow]) -> None:
    for row in rows:
        low, mid, high = (s_to_ms(x) for x in (row.p99_s.low, row.p99_s.mid, row.p99_s.high))
        ends = [[mid - low], [high - mid if math.isfinite(high) else 0.0]]
        axes.errorbar([row.models], [mid], yerr=ends, **_look(row.verdict), capsize=2.5)


def _look(verdict: Verdict) -> dict[str, Any]:
    colour = LIGHT[{Verdict.MET: "good", Verdict.VIOLATED: "bad"}.get(verdict, "warn")]
    marker = {Verdict.MET: "o", Verdict.VIOLATED: "X"}.get(verdict, "D")
    return {"color": colour, "marker": marker, "markersize": 6.0, "linestyle": "none"}


def _standing_keys(rows: Sequence[DensityRow]) -> list[Line2D]:
    said = {
        Verdict.MET: "holds the SLO",
        Verdict.VIOLATED: "misses it",
        Verdict.INCONCLUSIVE: "not known",
    }
    seen = {r.verdict for r in rows}
    return [Line2D([], [], label=text, **_look(v)) for v, text in said.items() if v in seen]


def _limit(axes: Axes, density: Density) -> list[Any]:
    """The limit's interval as a band, and the number to plan with."""
    handles: list[Any] = []
    found = density.models_per_instance
    if found is not None and math.isfinite(found.high):
        axes.axvspan(found.low - 0.5, found.high + 0.5, color=LIGHT["area"], alpha=0.5, lw=0)
        text = f"limit, {found.level:.0%} interval"
        handles.append(Patch(color=LIGHT["area"], alpha=0.5, label=text))
    if density.recommended is not None:
        axes.axvline(density.recommended, color=LIGHT["ink"], linewidth=0.9, zorder=1)
        text = f"planned with: {density.recommended}"
        handles.append(Line2D([], [], color=LIGHT["ink"], linewidth=0.9, label=text))
    return handles


def _cost(axes: Axes, density: Density) -> None:
    priced = all(r.cost_per_month_usd is not None for r in density.rows)
    cost = [(r.cost_per_month_usd or 0.0) if priced else float(r.instances) for r in density.rows]
    axes.plot([r.models for r in density.rows], cost, color=LIGHT["muted"], linewidth=1.1)
    for row, value in zip(density.rows, cost, strict=True):
        axes.plot([row.models], [value], **_look(row.verdict))
    handles = _limit(axes, density)
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(plain_ticks)
    unit = "USD per month" if priced else "instances"
    _titled(axes, f"{unit} for {density.total_models} models and the peak", handles)


def _titled(axes: Axes, title: str, handles: list[Any]) -> None:
    axes.set_title(title, pad=8.0 + 13.2 * legend_rows(handles, 3))
    key(axes, handles)


def _caption(density: Density) -> str:
    rate = number(density.rate_per_s)
    text = (
        f"What more models on an instance cost in latency and save in money, at {rate} requests "
        "a second on each instance."
    )
    if density.recommended is None:
        return f"{text} No number was found to hold the SLO."
    return f"{text} {density.recommended} models were measured and hold the SLO."
