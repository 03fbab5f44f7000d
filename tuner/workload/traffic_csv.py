"""Reading and writing traffic as CSV text.

A file has a header line and a time column and a count column; further columns are ignored.

====================== ===========================================================
time column            ``timestamp`` (``time``, ``datetime``, ``date``, ...): ISO 8601
                       with or without UTC offset, or epoch seconds/ms/us/ns;
                       ``t_min`` (``minute``, ``index``, ...): minutes from the start;
                       ``t_s`` (``second``, ...): seconds from the start
count column           ``requests`` (``count``, ``invocations``, ``sum``, ...): whole
                       number per row; ``requests_5min``: per that period;
                       ``requests_per_min`` (``rpm``, ...); ``requests_per_s``
                       (``rps``, ``qps``, ...): converted, and said
====================== ===========================================================

A time column without a count column is a log: one row per request. A count column without a
time column is one row per minute. Without a header, two columns are minute index or timestamp
and count; one column is counts per minute, or times of requests. Missing rows and empty cells
are gaps, reported and never taken for zero.
"""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TrafficError
from tuner.units import per_s_to_per_min
from tuner.workload.profile import TrafficProfile
from tuner.workload.traffic_columns import (
    HEADER_HELP,
    Layout,
    Times,
    Unit,
    is_number,
    is_time,
    layout_of_header,
    read_count,
    read_times,
)
from tuner.workload.traffic_series import traffic_from_requests, traffic_from_series

FloatArray = NDArray[np.float64]
Row = tuple[int, list[str]]


def parse_traffic_csv(text: str, name: str) -> TrafficProfile:
    """Read traffic from CSV text; the module's docstring says what a file may look like.

    Parameters
    ----------
    text
        The whole file.
    name
        Stands in messages and in the profile.

    Raises
    ------
    TrafficError
        With the line, the value, what is allowed and the next step.
    """
    rows = _rows(text, name)
    first = [cell.strip() for cell in rows[0][1]]
    if any(is_number(c) or is_time(c) for c in first):
        layout = _layout_without_header(first, rows, name)
    else:
        layout = layout_of_header(first, name)
        rows = rows[1:]
    if not rows:
        raise TrafficError(f"{name}: there are no rows below the header", allowed=HEADER_HELP)
    _check_widths(rows, layout, name)
    try:
        if layout.count is None:
            return _log(rows, layout, name)
        return _counts(rows, layout, name)
    except TrafficError as error:
        if error.message.startswith(name):
            raise
        raise TrafficError(
            f"{name}: {error.message}", value=error.value, allowed=error.allowed, hint=error.hint
        ) from None


def format_traffic_csv(profile: TrafficProfile) -> str:
    """CSV text that ``parse_traffic_csv`` reads back to the same minutes; gaps are empty cells."""
    lines = ["timestamp,requests_per_min" if profile.start else "t_min,requests_per_min"]
    for i, value in enumerate(profile.requests_per_min.tolist()):
        when = (
            (profile.start + timedelta(minutes=i)).isoformat(timespec="minutes")
            if profile.start
            else str(i)
        )
        lines.append(f"{when},{'' if value != value else format(value, '.12g')}")
    return "\n".join(lines) + "\n"


def _rows(text: str, name: str) -> list[Row]:
    text = text.removeprefix("\ufeff")
    if "\x00" in text:
        raise TrafficError(f"{name}: this is not a text file", allowed="CSV text in UTF-8")
    content = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = max(",;\t", key=content[0].count) if content else ","
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        rows = [
            (reader.line_num, cells)
            for cells in reader
            if any(c.strip() for c in cells) and not cells[0].startswith("#")
        ]
    except csv.Error as error:
        raise TrafficError(
            f"{name}: line {reader.line_num} is not CSV: {error}", allowed=HEADER_HELP
        ) from None
    if not rows:
        raise TrafficError(f"{name}: the file is empty", allowed=HEADER_HELP)
    return rows


def _layout_without_header(first: list[str], rows: list[Row], name: str) -> Layout:
    if len(first) > 2:
        raise TrafficError(
            f"{name}: there is no header line and more than two columns",
            value=first,
            allowed=HEADER_HELP,
        )
    times = is_time(first[0]) or (is_number(first[0]) and float(first[0]) >= 1e8)
    if len(first) == 1:
        if times:
            return Layout(0, "absolute", None, Unit.COUNT, None, "")
        return Layout(None, "", 0, Unit.COUNT, None, "the only column")
    unit = "absolute" if times else "minute"
    return Layout(0, unit, 1, Unit.COUNT, None, "the second column")


def _check_widths(rows: list[Row], layout: Layout, name: str) -> None:
    need = max(c for c in (layout.time, layout.count) if c is not None) + 1
    for line, cells in rows:
        if len(cells) < need:
            raise TrafficError(
                f"{name}: line {line} is cut short",
                value=cells,
                allowed=f"at least {need} columns",
            )


def _log(rows: list[Row], layout: Layout, name: str) -> TrafficProfile:
    assert layout.time is not None
    times = _times(rows, layout)
    steps = np.diff(times.time_s)
    if len(rows[0][1]) > 1 and steps.size >= 10 and np.unique(steps).size == 1:
        raise TrafficError(
            "the rows are evenly spaced, but no column is known as the count",
            value=f"{len(rows[0][1])} columns, one row each {steps[0]:g} s",
            allowed=HEADER_HELP,
            hint="name the count column requests, requests_per_min or requests_per_s",
        )
    return traffic_from_requests(times.time_s, name=name, start=times.start, notes=times.notes)


def _times(rows: list[Row], layout: Layout) -> Times:
    assert layout.time is not None
    column = layout.time
    return read_times(
        [cells[column] for _, cells in rows], [line for line, _ in rows], layout.time_unit
    )


def _counts(rows: list[Row], layout: Layout, name: str) -> TrafficProfile:
    column = layout.count
    assert column is not None
    values = np.array([read_count(cells[column], line) for line, cells in rows])
    notes: list[str] = []
    if layout.time is None:
        minutes = np.arange(values.size, dtype=np.float64) * 60.0
        times = Times(minutes, None, ("There is no time column: each row was taken for a minute.",))
    else:
        times = _times(rows, layout)
    if layout.unit is Unit.COUNT:
        _check_whole(values, rows, layout)
    if layout.unit is Unit.PER_SECOND:
        values = values * per_s_to_per_min(1.0)
        notes.append(
            f"Column {layout.count_name!r} is per second; it was multiplied by 60 to requests "
            "per minute."
        )
    profile = traffic_from_series(
        times.time_s,
        values,
        name=name,
        start=times.start,
        per_minute=layout.unit is not Unit.COUNT,
        notes=(*times.notes, *notes),
        where=lambda i: f"line {rows[i][0]}",
    )
    _check_period(times.time_s, layout)
    return profile


def _check_whole(values: FloatArray, rows: list[Row], layout: Layout) -> None:
    """Refuse fractions in a column of counts: rates per second are often exported that way."""
    fractions = np.flatnonzero((values != np.rint(values)) & ~np.isnan(values))
    if fractions.size:
        line, cells = rows[int(fractions[0])]
        assert layout.count is not None
        raise TrafficError(
            f"line {line}: a count of requests is not a whole number; "
            "this looks like a rate, perhaps per second",
            value=cells[layout.count].strip(),
            allowed="whole numbers in a column of counts",
            hint="name the column requests_per_min or requests_per_s, whichever it is",
        )


def _check_period(time_s: FloatArray, layout: Layout) -> None:
    step = float(np.diff(time_s).min())
    if layout.period_s is not None and step != layout.period_s:
        raise TrafficError(
            f"column {layout.count_name!r} and the times disagree about the period",
            value=f"times {step:g} s apart",
            allowed=f"{layout.period_s:g} s apart",
        )
