"""Latency percentiles against the offered rate per instance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from tuner.autoscaling.policy import ScalingMetric
from tuner.interval import Interval
from tuner.report.answer import target_text
from tuner.report.data import View
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
from tuner.slo import Measure
from tuner.units import per_min_to_per_s, s_to_ms

NAMES = {
    Measure.LATENCY: "latency",
    Measure.TTFT: "time to first chunk",
    Measure.CHUNK_GAP: "longest gap between chunks",
}
FILES = {
    Measure.LATENCY: "latency",
    Measure.TTFT: "first-chunk",
    Measure.CHUNK_GAP: "chunk-gap",
}

EDGE = 8.0
"""The axis ends at this multiple of the slowest threshold."""


@dataclass(frozen=True, slots=True)
class Point:
    """One stage in a figure; ``standing`` as in `StageRow`."""

    count: int
    rate_per_s: float
    interval: Interval
    standing: str


def draw(view: View, *, png: bool) -> list[Drawing]:
    """One figure per measure and quantile, one line per instance count."""
    drawn = []
    for measure, quantile in view.shown:
        points = _points_of(view, measure, quantile)
        if points:
            drawn.append(_panel(view, points, measure, quantile, png))
    return drawn


def _points_of(view: View, measure: Measure, quantile: float) -> list[Point]:
    """The stages that have this quantile, by rate."""
    found = [
        Point(r.stage.spec.instance_count, r.stage.rate_per_instance_per_s, i, r.standing)
        for r in view.rows
        if (i := r.at(quantile, measure)) is not None
    ]
    return sorted(found, key=lambda point: point.rate_per_s)


def _panel(
    view: View, points: Sequence[Point], measure: Measure, quantile: float, png: bool
) -> Drawing:
    name = f"{FILES[measure]}-p{quantile * 100:.10g}".replace(".", "_")
    threshold_s = view.data.threshold_s(quantile, measure)
    with style(name):
        figure = new_figure(4.5, 3.6)
        axes = figure.add_axes((0.125, 0.135, 0.84, 0.6))
        counts = sorted({p.count for p in points})
        bottom_ms, top_ms = _limits(points, threshold_s, view.data.slo.slowest_threshold_s)
        handles: list[Any] = []
        for i, count in enumerate(counts):
            colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
            _line(axes, [p for p in points if p.count == count], colour, marker, top_ms)
            words = f"{count} instance{'s' if count != 1 else ''}"
            handles.append(Line2D([], [], color=colour, marker=marker, label=words))
        handles += _standing_keys(points)
        if threshold_s is not None:
            handles += _slo(axes, s_to_ms(threshold_s))
            handles += _capacities(view, axes, counts, measure, quantile)
        handles += _operating_point(view, axes)
        _scale(axes, bottom_ms, top_ms)
        axes.set_xlim(left=0.0)
        axes.set_xlabel("offered requests per second, per instance")
        lines = legend_rows(handles, 3)
        axes.set_position((0.125, 0.135, 0.84, 0.77 - 0.053 * lines))
        title = f"p{quantile * 100:.10g} {NAMES[measure]}, ms"
        axes.set_title(title, pad=7.0 + 13.2 * lines)
        key(axes, handles)
        caption = _caption(view, measure, quantile)
        return finish(figure, name, caption, caption, png=png)


def _limits(
    points: Sequence[Point], threshold_s: float | None, slowest_s: float
) -> tuple[float, float]:
    """Lower and upper end of the axis in ms.

    A stage past saturation may be a thousand times the SLO: its mark at the edge says enough.
    """
    steady = [p for p in points if p.standing == "used"]
    steady = steady or [p for p in points if p.standing != "void"] or list(points)
    known = [p.interval for p in steady]
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


def _line(axes: Axes, points: Sequence[Point], colour: str, marker: str, top: float) -> None:
    used = [p for p in points if p.standing == "used"]
    axes.plot(
        [p.rate_per_s for p in used],
        [min(s_to_ms(p.interval.mid), top) for p in used],
        color=colour,
        linewidth=1.2,
        alpha=0.75,
    )
    for standing in ("used", "unused", "void"):
        here = [p for p in points if p.standing == standing]
        if here:
            _points(axes, here, standing, colour, marker, top)


def _points(
    axes: Axes,
    here: Sequence[Point],
    standing: str,
    colour: str,
    marker: str,
    top: float,
) -> None:
    """Marks with their intervals; a mark beyond the axis is a triangle at its edge."""
    x = np.array([p.rate_per_s for p in here])
    mid = np.array([s_to_ms(p.interval.mid) for p in here])
    if standing != "void":
        low = np.minimum([s_to_ms(p.interval.low) for p in here], np.minimum(mid, top))
        high = np.minimum([s_to_ms(p.interval.high) for p in here], top)
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


def _standing_keys(points: Sequence[Point]) -> list[Line2D]:
    ink = LIGHT["muted"]
    keys = []
    if any(p.standing == "unused" for p in points):
        keys.append(
            Line2D([], [], ls="none", marker="o", mec=ink, mfc=LIGHT["paper"], label="not used")
        )
    if any(p.standing == "void" for p in points):
        keys.append(Line2D([], [], ls="none", marker="x", mec=ink, label="void stage"))
    return keys


def _slo(axes: Axes, threshold_ms: float) -> list[Line2D]:
    axes.axhline(threshold_ms, color=LIGHT["bad"], linewidth=1.3, linestyle=(0, (5, 3)))
    words = f"SLO {number(threshold_ms)} ms"
    return [Line2D([], [], color=LIGHT["bad"], ls=(0, (5, 3)), label=words)]


def _binds(view: View, measure: Measure, quantile: float) -> bool:
    capacity = view.data.capacity
    binding = capacity.binding if capacity is not None else None
    return binding is not None and (binding.measure, binding.quantile) == (measure, quantile)


def _capacities(
    view: View, axes: Axes, counts: Sequence[int], measure: Measure, quantile: float
) -> list[Line2D]:
    """The capacity of each count, where its objective binds."""
    capacity, threshold_s = view.data.capacity, view.data.threshold_s(quantile, measure)
    if capacity is None or threshold_s is None or not _binds(view, measure, quantile):
        return []
    threshold_ms = s_to_ms(threshold_s)
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
    return [Line2D([], [], color=LIGHT["muted"], lw=4.5, alpha=0.45, label="capacity, interval")]


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


def _caption(view: View, measure: Measure, quantile: float) -> str:
    origin = "" if measure is Measure.CHUNK_GAP else " from the intended start"
    text = (
        f"p{quantile * 100:.10g} of {NAMES[measure]}{origin}, with 95 % "
        "intervals, against the offered rate per instance; one line per instance count."
    )
    capacity = view.data.capacity
    if capacity is not None and capacity.by_count and _binds(view, measure, quantile):
        rate = capacity.by_count[0].rate_per_s
        text += f" Capacity where it meets the SLO: {interval(rate)} requests/s."
    return text
