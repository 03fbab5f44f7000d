"""What the policy does with the hardest day, and how latency went through the campaign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from tuner.queueing.capacity import CapacityModel
from tuner.recommend.types import Recommendation
from tuner.report.data import StageRow, View
from tuner.report.figures.canvas import LIGHT, Drawing, finish, key, new_figure, plain_ticks, style
from tuner.report.words import number, percent
from tuner.simulator.timeline import Timeline
from tuner.stats.histogram import Window
from tuner.units import MINUTES_PER_DAY, SECONDS_PER_MINUTE, s_to_min, s_to_ms

STAGE_PARTS = 12
"""How many pieces of time a stage is shown in."""


def draw(view: View, *, png: bool) -> list[Drawing]:
    """The hardest day, and latency over time, as far as there are data."""
    return [d for d in (_hardest_day(view, png), _over_time(view, png)) if d is not None]


def _hardest_day(view: View, png: bool) -> Drawing | None:
    recommendation = view.data.recommendation
    day = recommendation.hardest_day if recommendation is not None else None
    if recommendation is None or day is None or not len(day.requests_per_min):
        return None
    minutes = len(day.requests_per_min)
    with style("hardest-day"):
        known = recommendation.capacity.table is not None and recommendation.capacity.binding
        inches = 6.2 if known else 4.9
        figure = new_figure(9.6, inches)

        def panel(bottom_in: float, height_in: float, **shared: Any) -> Any:
            place = (0.07, bottom_in / inches, 0.91, height_in / inches)
            return figure.add_axes(place, **shared)

        traffic = panel(inches - 1.64, 1.3)
        count = panel(inches - 3.28, 1.1, sharex=traffic)
        miss = panel(0.47, 0.64, sharex=traffic)
        hours = np.arange(minutes) / 60.0
        traffic.fill_between(hours, day.requests_per_min, color=LIGHT["area"], linewidth=0)
        traffic.plot(hours, day.requests_per_min, color=LIGHT["s0"], linewidth=1.0)
        traffic.set_title("requests per minute")
        traffic.set_ylim(bottom=0.0)
        traffic.yaxis.set_major_formatter(plain_ticks)
        _instances(count, recommendation, day)
        _misses(miss, day)
        miss.set_xlabel("hours of the simulated day")
        miss.set_xlim(0.0, minutes / 60.0)
        if minutes <= MINUTES_PER_DAY:
            miss.set_xticks(np.arange(0, minutes / 60.0 + 0.1, 2))
        traffic.tick_params(labelbottom=False)
        count.tick_params(labelbottom=False)
        if known:
            latency = panel(1.65, 0.72, sharex=traffic)
            _latency(latency, recommendation.capacity, day)
            latency.tick_params(labelbottom=False)
        caption = _day_caption(day)
        return finish(figure, "hardest-day", caption, caption, png=png, wide=True)


def _instances(axes: Any, recommendation: Recommendation, day: Timeline) -> None:
    """Instances in service, those still starting, and the bounds."""
    paid = day.in_service + day.starting
    most = max(1.0, float(np.nanmax(paid)))
    x, serving, everything = _steps(day.in_service, paid)
    axes.fill_between(x, serving, everything, color=LIGHT["wait"], linewidth=0)
    axes.plot(x, serving, color=LIGHT["s0"])
    handles: list[Any] = [Line2D([], [], color=LIGHT["s0"], label="in service")]
    handles.append(Patch(color=LIGHT["wait"], label="starting: paid, no traffic yet"))
    handles += _bounds(axes, recommendation, most)
    axes.set_ylim(0.0, most * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title("instances")
    key(axes, handles, columns=4, right=True)


def _latency(axes: Any, capacity: CapacityModel, day: Timeline) -> None:
    """The objective's quantile of latency in each minute, and the SLO."""
    assert capacity.binding is not None
    x, ms = _steps(s_to_ms(1.0) * latency_at(capacity, day))
    slo_ms = s_to_ms(capacity.binding.threshold_s)
    axes.plot(x, ms, color=LIGHT["s1"], linewidth=1.1)
    axes.axhline(slo_ms, color=LIGHT["bad"], linestyle=(0, (5, 3)), lw=1.2)
    known = ms[np.isfinite(ms)]
    most = max(slo_ms, float(known.max()) if known.size else 0.0)
    if most > 5.0 * slo_ms:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(top=2.0 * most)
    else:
        axes.set_ylim(0.0, 1.15 * most)
    axes.yaxis.set_major_formatter(plain_ticks)
    quantile = f"p{capacity.binding.quantile * 100:.10g}"
    axes.set_title(f"{quantile} of the latency expected in the minute, ms")
    handles = [
        Line2D([], [], color=LIGHT["s1"], label=f"{quantile}; over the SLO: at least"),
        Line2D([], [], color=LIGHT["bad"], ls=(0, (5, 3)), label="SLO"),
    ]
    key(axes, handles, columns=2, right=True)


def latency_at(capacity: CapacityModel, day: Timeline) -> Any:
    """The binding objective's quantile of latency in each minute, shape (minutes,), seconds.

    The table knows P(latency > x) up to the threshold: a quantile beyond it is given as the
    threshold plus the wait behind a backlog, which it exceeds. NaN without requests or fleet.
    """
    table, binding = capacity.table, capacity.binding
    assert table is not None
    assert binding is not None
    fleet = np.maximum(day.in_service, 1.0)
    busy = day.requests_per_min / (fleet * table.saturation_rate_per_s * SECONDS_PER_MINUTE)
    row = np.clip(np.rint(fleet), 1, table.instance_count.size).astype(np.int64) - 1
    at = np.searchsorted(table.utilization, np.clip(busy, 0.0, 1.0))
    inside = table.probability[row, at] <= binding.allowance
    room_s = table.delay_s[np.maximum(inside.sum(axis=1) - 1, 0)]
    latency_s = binding.threshold_s - room_s + day.delay_s
    return np.where((day.requests_per_min > 0.0) & (day.in_service > 0.0), latency_s, np.nan)


def _misses(axes: Any, day: Timeline) -> None:
    """Share of slow requests; a minute without traffic leaves a gap."""
    x, share = _steps(100.0 * day.violation_share)
    axes.fill_between(x, share, color=LIGHT["bad"], linewidth=0.8, edgecolor=LIGHT["bad"])
    axes.set_title("requests that miss the SLO, % of the minute")
    known = share[np.isfinite(share)]
    axes.set_ylim(0.0, max(1.0, 1.15 * float(known.max())) if known.size else 1.0)


def _day_caption(day: Timeline) -> str:
    text = "The day with most missed requests, simulated under the chosen policy: traffic, "
    text += "instances, latency, and the share of requests over the SLO"
    known = np.isfinite(day.requests_per_min) & np.isfinite(day.violation_share)
    total = float(day.requests_per_min[known].sum())
    if total <= 0.0:
        return f"{text}."
    missed = float((day.requests_per_min * day.violation_share)[known].sum())
    return f"{text} ({percent(missed / total)} of the day's {number(total)} requests)."


def _steps(*columns: Any) -> tuple[Any, ...]:
    """Hours and the corners of step lines, without the points between equal values."""
    stacked = np.vstack(columns)
    changed = np.any(np.diff(stacked, axis=1) != 0.0, axis=0)
    starts = np.concatenate([[0], np.flatnonzero(changed) + 1])
    ends = np.concatenate([starts[1:], [stacked.shape[1]]])
    hours = np.column_stack([starts, ends]).ravel() / 60.0
    return (hours, *(np.repeat(row[starts], 2) for row in stacked))


def _bounds(axes: Any, recommendation: Recommendation, most: float) -> list[Line2D]:
    if recommendation.chosen is None:
        return []
    schedule = recommendation.adopted_schedule
    bounds = recommendation.chosen.bounds if schedule is None else schedule.bounds
    dots: Any = (0, (1, 2))
    for limit in {bounds.min_capacity, bounds.max_capacity}:
        axes.axhline(limit, color=LIGHT["muted"], linewidth=0.9, linestyle=dots)
    off = "" if bounds.max_capacity <= 1.1 * most else " (off the scale)"
    text = f"min {bounds.min_capacity}, max {bounds.max_capacity}{off}"
    return [Line2D([], [], color=LIGHT["muted"], ls=dots, label=text)]


def _over_time(view: View, png: bool) -> Drawing | None:
    rows = [r for r in view.rows if r.stage.windows and r.requests]
    if not rows:
        return None
    quantile = max(view.quantiles)
    threshold_s = view.data.threshold_s(quantile)
    lengths = np.array([_length_s(r) for r in rows])
    edges_min = np.concatenate([[0.0], np.cumsum(lengths)]) * s_to_min(1.0)
    with style("over-time"):
        figure = new_figure(9.6, 4.1)
        load = figure.add_axes((0.07, 0.74, 0.925, 0.155))
        axes = figure.add_axes((0.07, 0.125, 0.925, 0.465), sharex=load)
        for panel in (load, axes):
            _bands(panel, edges_min)
        rates = [r.stage.rate_per_instance_per_s for r in rows]
        load.hlines(rates, edges_min[:-1], edges_min[1:], color=LIGHT["s0"], linewidth=2.2)
        _count_labels(load, rows, edges_min)
        load.set_title("offered requests/s per instance", pad=16)
        load.set_ylim(bottom=0.0)
        load.tick_params(labelbottom=False)
        handles = _latency_lines(axes, rows, edges_min, quantile)
        if threshold_s is not None:
            axes.axhline(s_to_ms(threshold_s), color=LIGHT["bad"], linestyle=(0, (5, 3)), lw=1.2)
            handles.append(Line2D([], [], color=LIGHT["bad"], ls=(0, (5, 3)), label="SLO"))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain_ticks)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title("latency, ms", pad=6)
        axes.set_xlabel("minutes of measuring, stage after stage")
        axes.set_xlim(0.0, edges_min[-1])
        key(axes, handles, columns=4, right=True)
        caption = (
            f"Median and p{quantile * 100:.10g} through the campaign, each stage cut into up to "
            f"{STAGE_PARTS} pieces: a stage that climbs from left to right was not steady."
        )
        return finish(figure, "over-time", caption, caption, png=png, wide=True)


def _bands(axes: Any, edges_min: Any) -> None:
    """A grey band behind every other stage."""
    starts, widths = edges_min[1:-1:2], np.diff(edges_min)[1::2]
    axes.broken_barh(
        list(zip(starts, widths, strict=True)),
        (0.0, 1.0),
        transform=axes.get_xaxis_transform(),
        facecolor=LIGHT["grid"],
        alpha=0.45,
        linewidth=0,
    )


def _latency_lines(
    axes: Any, rows: Sequence[StageRow], edges_min: Any, quantile: float
) -> list[Line2D]:
    """Median and tail, solid where the stage was used; a gap between stages."""
    gap = [np.array([np.nan])]
    handles = []
    pieces = [(row.standing == "used", _pieces(row, quantile)) for row in rows]
    for k, (colour, name) in enumerate(
        ((LIGHT["s0"], "p50"), (LIGHT["s1"], f"p{quantile * 100:.10g}"))
    ):
        dashes: tuple[tuple[bool, Any], ...] = ((True, "-"), (False, (0, (1, 1))))
        for wanted, dash in dashes:
            x, y = list(gap), list(gap)
            for start, (used, (middle_s, *values)) in zip(edges_min[:-1], pieces, strict=True):
                if used is wanted:
                    x += [start + middle_s * s_to_min(1.0), *gap]
                    shown = np.where(np.isfinite(values[k]), values[k], np.nan)
                    y += [shown * s_to_ms(1.0), *gap]
            axes.plot(np.concatenate(x), np.concatenate(y), color=colour, ls=dash, linewidth=1.3)
        handles.append(Line2D([], [], color=colour, label=name))
    if any(row.standing != "used" for row in rows):
        handles.append(
            Line2D([], [], color=LIGHT["muted"], ls=(0, (1, 1)), label="void or not used")
        )
    return handles


def _count_labels(axes: Any, rows: Sequence[StageRow], edges_min: Any) -> None:
    """The instance count over each run of stages that share it."""
    counts = np.array([r.stage.spec.instance_count for r in rows])
    starts = np.concatenate([[0], np.flatnonzero(np.diff(counts)) + 1])
    ends = np.concatenate([starts[1:], [len(rows)]])
    for first, last in zip(starts, ends, strict=True):
        begin, end, count = edges_min[first], edges_min[last], counts[first]
        if first:
            axes.axvline(begin, color=LIGHT["muted"], linewidth=0.8)
        share = (end - begin) / edges_min[-1]
        if share < 0.02:
            continue
        words = f"{count} instance{'s' if count != 1 else ''}"
        axes.annotate(
            words if share > 0.1 else f"×{count}",
            ((begin + end) / 2.0, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=LIGHT["muted"],
        )


def _length_s(row: StageRow) -> float:
    windows = row.stage.windows
    return max(row.stage.spec.duration_s, windows[-1].start_s + windows[-1].length_s)


def _pieces(row: StageRow, quantile: float) -> tuple[Any, Any, Any]:
    """Middle of each piece of time, its median and its tail, in seconds."""
    windows = row.stage.windows
    parts = max(1, min(STAGE_PARTS, len(windows), row.requests // 100))
    edge = _length_s(row) / parts
    grouped: dict[int, list[Window]] = {}
    for window in windows:
        if window.total:
            grouped.setdefault(min(int(window.start_s / edge), parts - 1), []).append(window)
    merged = {i: Window.merge(here) for i, here in sorted(grouped.items())}
    return (
        np.array([(i + 0.5) * edge for i in merged]),
        np.array([w.quantile_s(0.5) for w in merged.values()]),
        np.array([w.quantile_s(quantile) for w in merged.values()]),
    )
