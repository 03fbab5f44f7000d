"""Cutting a record into days without taking a gap for silence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TrafficError
from tuner.units import MINUTES_PER_DAY
from tuner.workload.profile import TrafficProfile

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MAX_MISSING_MINUTES = 72
"""A day with more than 5 % of its minutes missing is left out: what was filled in would
decide the answer."""
MIDNIGHT_DAYS = 4
"""Days are cut at midnight when that leaves at least this many; else from the first entry, so
that a short record is not cut away."""


@dataclass(frozen=True, slots=True, eq=False)
class DaySet:
    """Whole days of a record.

    Parameters
    ----------
    requests_per_min
        Shape (k, 1440), no NaN; (1, n) when the record is shorter than a day.
    weekend
        Shape (k,): whether the day is a Saturday or Sunday (False throughout when the record
        names no date).
    first_minute
        Shape (k,): index of each day's first minute in the record.
    filled_minutes
        Minutes of the kept days that had no record and were filled with the larger of the
        two neighbours: on the safe side, and never zero.
    left_out
        Days that had too many missing minutes.
    notes
        The same as sentences.
    """

    requests_per_min: FloatArray
    weekend: BoolArray
    first_minute: NDArray[np.int64]
    filled_minutes: int
    left_out: int
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of days kept."""
        return int(self.requests_per_min.shape[0])

    @property
    def is_part_day(self) -> bool:
        """Whether the record was too short for one whole day."""
        return int(self.requests_per_min.shape[1]) < MINUTES_PER_DAY


def fill_gaps(requests_per_min: FloatArray) -> FloatArray:
    """Replace each run of NaN by the larger of its two neighbours.

    Parameters
    ----------
    requests_per_min
        Shape (n,), at least one entry recorded.

    Returns
    -------
    Shape (n,), no NaN.

    Raises
    ------
    TrafficError
        When nothing at all was recorded.
    """
    missing = np.isnan(requests_per_min)
    if not missing.any():
        return requests_per_min
    if missing.all():
        raise TrafficError("the record holds no minute at all", allowed="at least one count")
    index = np.arange(requests_per_min.size)
    before = np.maximum.accumulate(np.where(missing, -1, index))
    after = np.minimum.accumulate(np.where(missing, index.size, index)[::-1])[::-1]
    left = np.where(before >= 0, requests_per_min[np.maximum(before, 0)], -np.inf)
    right = np.where(
        after < index.size, requests_per_min[np.minimum(after, index.size - 1)], -np.inf
    )
    return np.where(missing, np.maximum(left, right), requests_per_min)


def first_minutes(profile: TrafficProfile) -> NDArray[np.int64]:
    """Index of the first minute of each whole day of the record."""
    n = profile.requests_per_min.size
    to_midnight = -profile.start_minute_of_week % MINUTES_PER_DAY
    at_midnight = (n - to_midnight) // MINUTES_PER_DAY
    offset = to_midnight if profile.dated and at_midnight >= MIDNIGHT_DAYS else 0
    return np.arange(offset, n - MINUTES_PER_DAY + 1, MINUTES_PER_DAY, dtype=np.int64)


def split_days(profile: TrafficProfile) -> DaySet:
    """Cut a record into whole days.

    Raises
    ------
    TrafficError
        When every day has too many missing minutes.
    """
    record = profile.requests_per_min
    if record.size < MINUTES_PER_DAY:
        return _part_day(profile)
    starts = first_minutes(profile)
    rows = np.stack([record[s : s + MINUTES_PER_DAY] for s in starts])
    missing = np.isnan(rows).sum(axis=1)
    keep = missing <= MAX_MISSING_MINUTES
    if not keep.any():
        raise TrafficError(
            f"{profile.name}: every day misses more than {MAX_MISSING_MINUTES} minutes",
            value=f"{profile.gaps} of {record.size} minutes missing",
            allowed="at least one day with 95 % of its minutes",
            hint="give a longer or more complete record",
        )
    filled = np.stack([fill_gaps(row) for row in rows[keep]])
    weekday = (profile.start_minute_of_week + starts[keep]) // MINUTES_PER_DAY % 7
    weekend = (weekday >= 5) & profile.dated
    left_out = int((~keep).sum())
    filled_minutes = int(missing[keep].sum())
    notes = []
    if left_out:
        notes.append(
            f"{left_out} of {starts.size} days were left out: more than "
            f"{MAX_MISSING_MINUTES} minutes of each are missing from the record."
        )
    if filled_minutes:
        notes.append(
            f"{filled_minutes} missing minutes were filled with the larger neighbouring count."
        )
    unused = record.size - starts.size * MINUTES_PER_DAY
    if unused:
        notes.append(f"{unused} minutes outside whole days were not used.")
    return DaySet(filled, weekend, starts[keep], filled_minutes, left_out, tuple(notes))


def _part_day(profile: TrafficProfile) -> DaySet:
    record = profile.requests_per_min
    missing = profile.gaps
    if missing > record.size / 20:
        raise TrafficError(
            f"{profile.name}: the record is shorter than a day and has gaps",
            value=f"{missing} of {record.size} minutes missing",
            allowed="at most 5 % missing",
            hint="give a longer or more complete record",
        )
    note = f"The record covers {record.size} minutes, less than a day; it is simulated as it is."
    return DaySet(
        fill_gaps(record)[np.newaxis, :],
        np.zeros(1, dtype=np.bool_),
        np.zeros(1, dtype=np.int64),
        missing,
        0,
        (note,),
    )
