"""What the columns of a traffic file mean: their names and their cells."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TrafficError

FloatArray = NDArray[np.float64]

ABSOLUTE_TIMES = frozenset(
    {"timestamp", "time", "datetime", "date", "start", "start_time", "window_start", "ts", "t"}
)
MINUTE_TIMES = frozenset({"minute", "minutes", "min", "t_min", "time_min", "minute_index", "index"})
SECOND_TIMES = frozenset({"second", "seconds", "sec", "t_s", "time_s", "t_sec", "offset_s"})
COUNTS = frozenset(
    {"requests", "request_count", "requestcount", "count", "counts", "invocations", "value", "sum"}
    | {"hits", "calls", "n"}
)
PER_MINUTE = frozenset(
    {"requests_per_min", "requests_per_minute", "invocations_per_min", "invocations_per_minute"}
    | {"rate_per_min", "rpm", "req_per_min"}
)
PER_SECOND = frozenset(
    {"rps", "qps", "rate_rps", "requests_per_s", "requests_per_sec", "requests_per_second"}
    | {"rate_per_s", "invocations_per_s", "invocations_per_second", "req_per_s", "req_s", "tps"}
)
PERIOD_COUNT = re.compile(r"^(?:requests|count|invocations|hits)_(\d+)_?(min|minutes|s|sec)$")
EPOCH_UNITS = ((1e8, 1e11, 1.0), (1e11, 1e14, 1e-3), (1e14, 1e17, 1e-6), (1e17, 1e20, 1e-9))
"""Ranges of epoch seconds, milliseconds, microseconds, nanoseconds: 1973 to 5138 in each."""
LARGEST_COUNT = 1e12

HEADER_HELP = (
    "a header line with a time column (timestamp, t_min or t_s) and a count column "
    "(requests, requests_per_min or requests_per_s); or only a column of times, one per request"
)


class Unit(StrEnum):
    """What one cell of the count column says."""

    COUNT = "count"
    PER_MINUTE = "per_minute"
    PER_SECOND = "per_second"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns are; ``time`` or ``count`` is None when there is no such column."""

    time: int | None
    time_unit: str
    count: int | None
    unit: Unit
    period_s: float | None
    count_name: str


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Seconds from the first row, and the local date and time of that row if it is known."""

    time_s: FloatArray
    start: datetime | None
    notes: tuple[str, ...]


def tidy(name: str) -> str:
    """A header cell in lower case with underscores: ``Requests per min`` -> the usual name."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().strip('"').lower()).strip("_")


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, NaN and infinities included; ``1_000`` is none."""
    if "_" in cell:
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_time(cell: str) -> bool:
    """Whether a cell reads as an ISO 8601 date and time."""
    try:
        datetime.fromisoformat(cell.strip())
    except ValueError:
        return False
    return not is_number(cell)


def layout_of_header(header: list[str], name: str) -> Layout:
    """Find the time and count columns by their names.

    Raises
    ------
    TrafficError
        When no column is known, or two columns could be the count.
    """
    names = [tidy(h) for h in header]
    times = [i for i, n in enumerate(names) if _time_unit(n)]
    counts = [(i, found) for i, n in enumerate(names) if (found := _count_unit(n))]
    if len(counts) > 1:
        raise TrafficError(
            f"{name}: more than one column could be the requests",
            value=[header[i] for i, _ in counts],
            allowed="one count column",
            hint="leave only the column to be used",
        )
    if not times and not counts:
        raise TrafficError(f"{name}: no column is known", value=header, allowed=HEADER_HELP)
    time = times[0] if times else None
    if not counts:
        return Layout(time, _time_unit(names[times[0]]), None, Unit.COUNT, None, "")
    column, (unit, period_s) = counts[0]
    time_unit = _time_unit(names[time]) if time is not None else ""
    return Layout(time, time_unit, column, unit, period_s, header[column].strip())


def _time_unit(name: str) -> str:
    if name in MINUTE_TIMES:
        return "minute"
    if name in SECOND_TIMES:
        return "second"
    return "absolute" if name in ABSOLUTE_TIMES else ""


def _count_unit(name: str) -> tuple[Unit, float | None] | None:
    if name in COUNTS:
        return Unit.COUNT, None
    if name in PER_MINUTE:
        return Unit.PER_MINUTE, None
    if name in PER_SECOND:
        return Unit.PER_SECOND, None
    found = PERIOD_COUNT.match(name)
    if found:
        return Unit.COUNT, float(found[1]) * (60.0 if found[2].startswith("min") else 1.0)
    return None


def read_count(cell: str, line: int) -> float:
    """One count: a number, or NaN for an empty cell (a minute without a record).

    Raises
    ------
    TrafficError
        For text, NaN written out, an infinity, or a negative number.
    """
    text = cell.strip()
    if not text:
        return math.nan
    if not is_number(text):
        raise TrafficError(
            f"line {line}: the count is not a number",
            value=text,
            allowed="a number without thousands separators, at least 0",
        )
    value = float(text)
    if not math.isfinite(value):
        raise TrafficError(
            f"line {line}: the count is {text}",
            value=text,
            allowed="a finite number, at least 0",
            hint="leave the cell empty if the minute was not recorded",
        )
    if not 0.0 <= value <= LARGEST_COUNT:
        what = "negative" if value < 0.0 else "beyond any service"
        raise TrafficError(
            f"line {line}: the count is {what}",
            value=text,
            allowed=f"0 to {LARGEST_COUNT:g}",
        )
    return value


def read_times(cells: list[str], lines: list[int], unit: str) -> Times:
    """Times of all rows in seconds from the first.

    Parameters
    ----------
    unit
        ``minute`` or ``second`` when the column's name says so, ``absolute`` otherwise.

    Raises
    ------
    TrafficError
        For a cell that is no time, or times of two kinds in one column.
    """
    if is_number(cells[0]):
        return _numbers(cells, lines, unit)
    stamps = [_stamp(cell, line) for cell, line in zip(cells, lines, strict=True)]
    first = stamps[0]
    for stamp, line in zip(stamps, lines, strict=True):
        if (stamp.tzinfo is None) != (first.tzinfo is None):
            raise TrafficError(
                f"line {line}: some times have a UTC offset and some have none",
                value=stamp.isoformat(),
                allowed="an offset in every time, or in none",
            )
    seconds = np.array([(s - first) / timedelta(seconds=1) for s in stamps], dtype=np.float64)
    notes: list[str] = []
    if first.tzinfo is not None:
        offsets = {s.utcoffset() for s in stamps}
        zone = "UTC" if first.utcoffset() == timedelta(0) else f"UTC{first:%z}"
        notes.append(f"Days and weekdays are those of {zone}, the offset of the first row.")
        if len(offsets) > 1:
            notes.append("The UTC offset changes inside the record; times were compared in UTC.")
    return Times(seconds, first.replace(tzinfo=None), tuple(notes))


def _stamp(cell: str, line: int) -> datetime:
    try:
        return datetime.fromisoformat(cell.strip())
    except ValueError:
        raise TrafficError(
            f"line {line}: the time cannot be read",
            value=cell.strip(),
            allowed="ISO 8601 (2026-11-22T14:05:00+01:00), epoch seconds, or a minute index",
        ) from None


def _numbers(cells: list[str], lines: list[int], unit: str) -> Times:
    values = np.empty(len(cells))
    for i, (cell, line) in enumerate(zip(cells, lines, strict=True)):
        if not is_number(cell) or not math.isfinite(float(cell)):
            raise TrafficError(
                f"line {line}: the time is not a number like the ones above",
                value=cell.strip(),
                allowed="one kind of time in the whole column",
            )
        values[i] = float(cell)
    if unit in ("minute", "second"):
        return Times(values * (60.0 if unit == "minute" else 1.0), None, (_NO_DATES,))
    for low, high, factor in EPOCH_UNITS:
        if low <= abs(values[0]) < high:
            start = datetime.fromtimestamp(values.min() * factor, tz=UTC).replace(tzinfo=None)
            seconds = np.round((values - values.min()) * factor, 6)
            return Times(seconds, start, ("Epoch times: days and weekdays are those of UTC.",))
    raise TrafficError(
        f"line {lines[0]}: small numbers as times could be minutes or seconds",
        value=cells[0].strip(),
        allowed="a column named t_min or t_s, epoch seconds, or ISO 8601",
        hint="rename the time column to t_min (minutes) or t_s (seconds)",
    )


_NO_DATES = "The record names no dates: weekdays and weekends cannot be told apart."
