"""Latency percentiles against the offered rate per instance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from tuner.autoscaling.policy import ScalingMetric
from tuner.interval import Interval
from tuner.report.answer import target_text
from tuner.report.data import StageRow, View
from tuner.report.figures.canvas import (
    LIGHT,
    MARKERS,
    SERIES,
    Drawing,
    finish,
    key,
    legend_rows,
    new_figure,
    plain_ticks,
    style,
)
from tuner.report.words import interval, number
from tuner.units import per_min_to_per_s, s_to_ms

EDGE = 8.0
"""The axis ends at this multiple of the slowest threshold."""


def draw(view: View, *, png: bool) -> list[Drawing]:
    """One figure per quantile, one line per instance count; none without measured stages."""
    rows = [r for r in view.rows if r.requests]
    if not rows:
        return []
    return [_panel(view, rows, q, png) for q in view.quantiles]


def _panel(view: View, rows: Sequence[StageRow], quantile: float, png: bool) -> Drawing:
    name = f"latency-p{quantile * 100:.10g}".replace(".", "_")
    threshold_s = view.data.threshold_s(quantile)
    with style(name):
        figure = new_figure(4.5, 3.6)
        axes = figure.add_axes((0.125, 0.135, 0.84, 0.6))
        counts = sorted({r.stage.spec.instance_count for r in rows})
        bottom_ms, top_ms = _limits(rows, quantile, threshold_s, view.data.slo.slowest_threshold_s)
        handles: list[Any] = []
        for i, count in enumerate(counts):
            colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
            here = [r for r in rows if r.stage.spec.instance_count == count]
            _line(axes, here, quantile, colour, marker, top_ms)
            plural = "s" if count != 1 else ""
            handles.append(
                Line2D([], [], color=colour, marker=marker, label=f"{count} instance{plural}")
            )
        handles += _standing_keys(rows)
        if threshold_s is not None:
            handles += _slo(view, axes, counts, quantile, s_to_ms(threshold_s))
        handles += _operating_point(view, axes)
        _scale(axes, bottom_ms, top_ms)
        axes.set_xlim(left=0.0)
        axes.set_xlabel("offered requests per second, per instance")
        lines = legend_rows(handles, 3)
        axes.set_position((0.125, 0.135, 0.84, 0.77 - 0.053 * lines))
        axes.set_title(f"p{quantile * 100:.10g} latency, ms", pad=7.0 + 13.2 * lines)
        key(axes, handles)
        caption = _caption(view, quantile)
        return finish(figure, name, caption, caption, png=png)


def _limits(
    rows: Sequence[StageRow], quantile: float, threshold_s: float | None, slowest_s: float
) -> tuple[float, float]:
    """Lower and upper end of the axis in ms.

    A stage past saturation may be a thousand times the SLO: its mark at the edge says enough.
    """
    steady = [r for r in rows if r.standing == "used"] or [r for r in rows if r.standing != "void"]
    known = [i for r in steady or rows if (i := r.at(quantile)) is not None]
    reach = EDGE * slowest_s
    mids = [i.mid for i in known if math.isfinite(i.mid) and i.mid > 0.0]
    highs = [min(v, reach) for i in known for v in (i.mid, i.high) if math.isfinite(v)]
    if threshold_s is not None:
        mids.append(threshold_s)
        # Room above the line for the capacity intervals that stand on it.
        highs.append(1.25 * threshold_s)
    if not mids:
        return s_to_ms(0.1 * slowest_s), s_to_ms(slowest_s)
    return s_to_ms(0.8 * min(mids)), s_to_ms(1.15 * max(highs))


def _line(
    axes: Axes, rows: Sequence[StageRow], quantile: float, colour: str, marker: str, top: float
) -> None:
    # by rate alone: two stages may share one, and intervals have no order
    points = sorted(
        (
            (r.stage.rate_per_instance_per_s, i, r.standing)
            for r in rows
            if (i := r.at(quantile)) is not None
        ),
        key=lambda point: point[0],
    )
    used = [(x, i) for x, i, standing in points if standing == "used"]
    axes.plot(
        [x for x, _ in used],
        [min(s_to_ms(i.mid), top) for _, i in used],
        color=colour,
        linewidth=1.2,
        alpha=0.75,
    )
    for standing in ("used", "unused", "void"):
        here = [(x, i) for x, i, s in points if s == standing]
        if here:
            _points(axes, here, standing, colour, marker, top)


def _points(
    axes: Axes,
    here: Sequence[tuple[float, Interval]],
    standing: str,
    colour: str,
    marker: str,
    top: float,
) -> None:
    """Marks with their intervals; a mark beyond the axis is a triangle at its edge."""
    x = np.array([x for x, _ in here])
    mid = np.array([s_to_ms(i.mid) for _, i in here])
    if standing != "void":
        low = np.minimum([s_to_ms(i.low) for _, i in here], np.minimum(mid, top))
        high = np.minimum([s_to_ms(i.high) for _, i in here], top)
        alpha = 1.0 if standing == "used" else 0.35
        axes.vlines(x, low, high, color=colour, linewidth=1.0, alpha=alpha)
    for beyond, shape in ((False, marker), (True, "^")):
        chosen = (mid > top) == beyond
        if chosen.any():
            axes.plot(
                x[chosen],
                np.minimum(mid[chosen], 0.97 * top),
                linestyle="none",
                marker="x" if standing == "void" else shape,
                markeredgecolor=colour,
                markerfacecolor=colour if standing == "used" else LIGHT["paper"],
                clip_on=False,
                zorder=3,
            )


def _standing_keys(rows: Sequence[StageRow]) -> list[Line2D]:
    ink = LIGHT["muted"]
    keys = []
    if any(r.standing == "unused" for r in rows):
        keys.append(
            Line2D([], [], ls="none", marker="o", mec=ink, mfc=LIGHT["paper"], label="not used")
        )
    if any(r.standing == "void" for r in rows):
        keys.append(Line2D([], [], ls="none", marker="x", mec=ink, label="void stage"))
    return keys


def _slo(
    view: View, axes: Axes, counts: Sequence[int], quantile: float, threshold_ms: float
) -> list[Line2D]:
    axes.axhline(threshold_ms, color=LIGHT["bad"], linewidth=1.3, linestyle=(0, (5, 3)))
    handles = [
        Line2D([], [], color=LIGHT["bad"], ls=(0, (5, 3)), label=f"SLO {number(threshold_ms)} ms")
    ]
    capacity = view.data.capacity
    if capacity is None or capacity.binding is None or capacity.binding.quantile != quantile:
        return handles
    for level, entry in enumerate(e for e in capacity.by_count if e.instance_count in counts):
        colour = SERIES[counts.index(entry.instance_count) % len(SERIES)]
        rate = entry.rate_per_s
        ends = (rate.low, rate.high if math.isfinite(rate.high) else rate.mid)
        # Stacked on the SLO line, so that equal capacities do not hide each other.
        up = ScaledTranslation(0.0, (5.0 + 7.0 * level) / 72.0, axes.figure.dpi_scale_trans)
        place = axes.transData + up
        level_ms = [threshold_ms, threshold_ms]
        axes.plot(ends, level_ms, color=colour, lw=4.5, alpha=0.45, transform=place)
        axes.plot([rate.mid], [threshold_ms], "|", ms=7, mew=2.0, color=colour, transform=place)
    handles.append(
        Line2D([], [], color=LIGHT["muted"], lw=4.5, alpha=0.45, label="capacity, interval")
    )
    return handles


def _operating_point(view: View, axes: Axes) -> list[Line2D]:
    recommendation = view.data.recommendation
    chosen = recommendation.chosen if recommendation is not None else None
    policy = chosen.policy if chosen is not None else None
    if policy is None or policy.metric is not ScalingMetric.INVOCATIONS:
        return []
    rate = per_min_to_per_s(policy.target_value)
    axes.axvline(rate, color=LIGHT["good"], linewidth=1.4, linestyle=(0, (1, 1.5)))
    text = f"target {target_text(policy.target_value)}/min"
    return [Line2D([], [], color=LIGHT["good"], ls=(0, (1, 1.5)), label=text)]


def _scale(axes: Axes, bottom: float, top: float) -> None:
    if top / bottom < 8.0:
        axes.set_ylim(0.0, top)
        return
    axes.set_yscale("log")
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_formatter(FuncFormatter(plain_ticks))
    if top / bottom > 40.0:
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_minor_formatter(
            FuncFormatter(lambda v, _: plain_ticks(v) if f"{v:e}"[0] in "25" else "")
        )
    axes.tick_params(axis="y", which="minor", labelsize=9.0)


def _caption(view: View, quantile: float) -> str:
    text = (
        f"p{quantile * 100:.10g} of latency from the intended start, with 95 % intervals, "
        "against the offered rate per instance; one line per instance count."
    )
    capacity = view.data.capacity
    binding = capacity.binding if capacity is not None else None
    if capacity and capacity.by_count and binding and binding.quantile == quantile:
        rate = capacity.by_count[0].rate_per_s
        text += f" Capacity where it meets the SLO: {interval(rate)} requests/s."
    return text
