"""From counts with times to a record on the minute, gaps kept as gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TrafficError
from tuner.units import MINUTES_PER_DAY, SECONDS_PER_MINUTE
from tuner.workload.profile import TrafficProfile

FloatArray = NDArray[np.float64]

LONGEST_RECORD_DAYS = 800
SLOTS_PER_MINUTE = 6
GAP_EVIDENCE = 20.0
"""Empty minutes in a log of single requests count as a gap when that many requests were due in
them at the median rate: at Poisson arrivals the chance of such a silence is below 1e-8."""

Where = Callable[[int], str]


def _row(index: int) -> str:
    return f"entry {index + 1}"


def minute_of_week(start: datetime) -> int:
    """Minute of the week, 0 = Monday 00:00."""
    return start.weekday() * MINUTES_PER_DAY + start.hour * 60 + start.minute


def traffic_from_series(
    time_s: FloatArray,
    requests: FloatArray,
    *,
    name: str,
    start: datetime | None,
    per_minute: bool = False,
    notes: Sequence[str] = (),
    where: Where = _row,
) -> TrafficProfile:
    """A profile from one value per period.

    Parameters
    ----------
    time_s
        Shape (n,): start of each period in seconds, strictly ascending, whole seconds.
    requests
        Shape (n,): requests in the period, or requests per minute during it; NaN = no record.
    start
        Local date and time of ``time_s[0]``; None if unknown.
    per_minute
        Whether ``requests`` are rates per minute and not counts of the period.
    where
        Names a row for an error message.

    Raises
    ------
    TrafficError
        For times out of order, twice or off the step, or a record without any traffic.
    """
    _check_order(time_s, where)
    days = float(time_s[-1] - time_s[0]) / 86400.0
    if days > LONGEST_RECORD_DAYS:
        raise TrafficError(
            f"{name}: the record is too long",
            value=f"{days:.6g} days",
            allowed=f"at most {LONGEST_RECORD_DAYS} days",
            hint="look for a wrong date in the first or last line",
        )
    step_s = _step(time_s, where)
    slots = np.rint((time_s - time_s[0]) / step_s).astype(np.int64)
    grid = np.full(slots[-1] + 1, np.nan)
    grid[slots] = requests
    said = list(notes)
    dispersion = 1.0
    if step_s < SECONDS_PER_MINUTE:
        per = round(SECONDS_PER_MINUTE / step_s)
        if 10 % step_s == 0 and not per_minute:
            dispersion = dispersion_of(_merge(grid, round(10 / step_s), np.sum))
        grid = _merge(grid, per, np.mean if per_minute else np.sum)
        said.append(f"Periods of {step_s:g} s were joined to minutes.")
        step_minutes = 1
    else:
        step_minutes = round(step_s / SECONDS_PER_MINUTE)
        grid = np.repeat(grid if per_minute else grid / step_minutes, step_minutes)
        if step_minutes > 1:
            said.append(
                f"Each record covers {step_minutes} minutes and was spread evenly over them: "
                "peaks shorter than that are not in the data."
            )
    if not np.any(grid > 0.0):
        raise TrafficError(
            f"{name}: there is no traffic in the record",
            value=f"{slots.size} rows, all zero or empty",
            allowed="at least one request",
        )
    return TrafficProfile(
        requests_per_min=grid,
        start_minute_of_week=minute_of_week(start) if start else 0,
        name=name,
        dispersion=dispersion,
        step_minutes=step_minutes,
        start=start,
        notes=(*said, *gap_notes(grid)),
    )


def traffic_from_requests(
    time_s: FloatArray, *, name: str, start: datetime | None, notes: Sequence[str] = ()
) -> TrafficProfile:
    """A profile from the time of every single request.

    Parameters
    ----------
    time_s
        Shape (n,): seconds, in any order, n >= 2. With ``start`` they are counted on the
        clock's minutes, else on minutes from zero.
    start
        Local date and time of the first (smallest) time; None if unknown.

    Raises
    ------
    TrafficError
        When the log covers less than two whole minutes, or is too long.
    """
    said = list(notes)
    time_s, out_of_order = np.sort(time_s), int(np.count_nonzero(np.diff(time_s) < 0))
    if out_of_order:
        said.append(f"{out_of_order} requests were not in order of time; they were put in order.")
    into_minute = start.second + start.microsecond / 1e6 if start else time_s[0] % 60.0
    time_s = time_s - time_s[0] + into_minute
    first = 1 if start and into_minute >= 1.0 else 0
    whole = float(time_s[-1] // SECONDS_PER_MINUTE)
    if not first + 2 <= whole <= LONGEST_RECORD_DAYS * MINUTES_PER_DAY:
        raise TrafficError(
            f"{name}: the log of requests covers too little or too much time",
            value=f"{time_s[-1] / 60.0:.6g} minutes",
            allowed=f"two whole minutes to {LONGEST_RECORD_DAYS} days",
        )
    edges = int(whole) * SLOTS_PER_MINUTE
    slot = (time_s / (SECONDS_PER_MINUTE / SLOTS_PER_MINUTE)).astype(np.int64)
    counts = np.bincount(slot[slot < edges], minlength=edges).astype(np.float64)
    counts = counts[first * SLOTS_PER_MINUTE :]
    per_min = counts.reshape(-1, SLOTS_PER_MINUTE).sum(axis=1)
    said.append(
        f"{time_s.size} request times were counted per minute; "
        f"the part minute{'s at both ends were' if first else ' at the end was'} left out."
    )
    per_min, silent = _silences(per_min)
    if silent:
        said.append(f"{silent} silent minutes are too many to be chance and count as gaps.")
    begin = start + timedelta(minutes=first) if start else None
    begin = begin.replace(second=0, microsecond=0) if begin else None
    return TrafficProfile(
        requests_per_min=per_min,
        start_minute_of_week=minute_of_week(begin) if begin else 0,
        name=name,
        dispersion=dispersion_of(counts),
        start=begin,
        notes=(*said, *gap_notes(per_min)),
    )


def dispersion_of(ten_second_counts: FloatArray) -> float:
    """Variance over mean of ten-second counts about their own minute's mean.

    Poisson arrivals give 1 on average. Pooled over minutes weighted by traffic, so that night
    minutes with a few requests do not blur it. 1.0 when no full minute was recorded.
    """
    rows = ten_second_counts[: ten_second_counts.size // SLOTS_PER_MINUTE * SLOTS_PER_MINUTE]
    minutes = rows.reshape(-1, SLOTS_PER_MINUTE)
    minutes = minutes[~np.isnan(minutes).any(axis=1)]
    means = minutes.mean(axis=1)
    total = float(means.sum())
    if total == 0.0:
        return 1.0
    return float(minutes.var(axis=1, ddof=1).sum()) / total


def gap_notes(requests_per_min: FloatArray) -> tuple[str, ...]:
    """A sentence about the minutes without a record; nothing when there are none."""
    missing = np.isnan(requests_per_min)
    if not missing.any():
        return ()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], missing, [False])).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    total = int(missing.sum())
    return (
        f"{total} of {missing.size} minutes ({total / missing.size:.1%}) have no record, in "
        f"{begins.size} gap{'s' if begins.size > 1 else ''}; the longest is "
        f"{ends[longest] - begins[longest]} minutes from minute {begins[longest]}. "
        "They are not taken for zero traffic.",
    )


def _check_order(time_s: FloatArray, where: Where) -> None:
    if time_s.size < 2:
        raise TrafficError(
            "a record needs at least two rows", value=time_s.size, allowed="2 or more"
        )
    steps = np.diff(time_s)
    bad = np.flatnonzero(steps <= 0.0)
    if bad.size:
        i = int(bad[0]) + 1
        twice = steps[i - 1] == 0.0
        raise TrafficError(
            f"{where(i)}: this time {'stands twice' if twice else 'is before the one above it'}",
            value=f"{steps[i - 1]:g} s after the row above",
            allowed="times that only go forward",
            hint="write the UTC offset into every time if the clock was set back"
            if twice or steps[i - 1] == -3600.0
            else "sort the file by time",
        )


def _step(time_s: FloatArray, where: Where) -> float:
    """The step of the record in seconds: its smallest distance."""
    steps = np.diff(time_s)
    step = float(steps.min())
    if not (step >= 1.0 and (60.0 % step == 0.0 or step % 60.0 == 0.0)):
        raise TrafficError(
            f"{where(int(np.argmin(steps)) + 1)}: the step of the record is not usable",
            value=f"{step:g} s",
            allowed="seconds that divide a minute, or whole minutes",
            hint="for a log of single requests give only the column of times",
        )
    off = np.flatnonzero(np.abs(steps / step - np.rint(steps / step)) > 1e-6)
    if off.size:
        i = int(off[0]) + 1
        raise TrafficError(
            f"{where(i)}: this time is off the step of the record",
            value=f"{steps[i - 1]:g} s after the row above",
            allowed=f"a multiple of {step:g} s",
        )
    return step


def _merge(grid: FloatArray, size: int, how: Callable[..., FloatArray]) -> FloatArray:
    """Join runs of ``size`` periods; one unrecorded period makes the whole run unrecorded."""
    whole = grid.size // size * size
    return np.asarray(how(grid[:whole].reshape(-1, size), axis=1), dtype=np.float64)


def _silences(per_min: FloatArray) -> tuple[FloatArray, int]:
    """Turn silences that chance cannot explain into gaps; also the number of minutes."""
    busy = float(np.median(per_min))
    empty = per_min == 0.0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], empty, [False])).astype(np.int8)))
    out = per_min.copy()
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if busy * (end - begin) > GAP_EVIDENCE:
            out[begin:end] = np.nan
    return out, int(np.count_nonzero(np.isnan(out)))
