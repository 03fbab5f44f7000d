"""Requests per minute over days: the traffic a policy has to survive."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TrafficError
from tuner.units import MINUTES_PER_DAY

if TYPE_CHECKING:
    from tuner.workload.days import DaySet

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrafficProfile:
    """Requests in each minute of a stretch of time.

    Parameters
    ----------
    requests_per_min
        Shape (n,). NaN where the record has a gap: a gap is never zero traffic.
    start_minute_of_week
        Minute of the week of the first entry, 0 = Monday 00:00 local time.
    name
        For people: the file's name or the shape's.
    dispersion
        Variance over mean of counts in ten-second slots against Poisson (1.0): how bursty
        the traffic is inside a minute.
    step_minutes
        Minutes that one record of the source covered. Above 1 the record was spread evenly,
        so peaks shorter than a step are not in the data.
    start
        Local date and time of the first entry; None when the source names no date, and then
        ``start_minute_of_week`` is an assumption.
    notes
        What was converted, assumed or missing, as sentences for people.
    """

    requests_per_min: FloatArray
    start_minute_of_week: int
    name: str
    dispersion: float = 1.0
    step_minutes: int = 1
    start: datetime | None = None
    notes: tuple[str, ...] = ()

    @property
    def gaps(self) -> int:
        """Minutes without a record."""
        return int(np.count_nonzero(np.isnan(self.requests_per_min)))

    @property
    def peak_per_min(self) -> float:
        """Largest recorded minute."""
        return float(np.nanmax(self.requests_per_min))

    @property
    def mean_per_min(self) -> float:
        """Mean over the recorded minutes."""
        return float(np.nanmean(self.requests_per_min))

    @property
    def dated(self) -> bool:
        """Whether the source says which days of the week these are."""
        return self.start is not None

    @property
    def length_days(self) -> float:
        """Length of the stretch, gaps included."""
        return self.requests_per_min.size / MINUTES_PER_DAY

    def scaled(self, factor: float) -> TrafficProfile:
        """The same traffic, ``factor`` times as much of it: a growth factor.

        Raises
        ------
        TrafficError
            When the factor is not a positive number.
        """
        if not (math.isfinite(factor) and factor > 0.0):
            raise TrafficError(
                "a growth factor must be a positive number", value=factor, allowed="> 0, finite"
            )
        if factor == 1.0:
            return self
        note = f"Every minute was multiplied by {factor:g}."
        return replace(
            self, requests_per_min=self.requests_per_min * factor, notes=(*self.notes, note)
        )

    def with_peak(self, peak_per_min: float) -> TrafficProfile:
        """The same shape, scaled so that its largest minute is ``peak_per_min``.

        Raises
        ------
        TrafficError
            When the peak is not a positive number.
        """
        if not (math.isfinite(peak_per_min) and peak_per_min > 0.0):
            raise TrafficError(
                "a peak must be a positive number of requests per minute",
                value=peak_per_min,
                allowed="> 0, finite",
            )
        return self.scaled(peak_per_min / self.peak_per_min)

    def day_set(self) -> DaySet:
        """The record cut into days, with what was left out and filled."""
        from tuner.workload.days import split_days

        return split_days(self)

    def days(self) -> FloatArray:
        """Usable days, shape (k, 1440); (1, n) when the record is shorter than a day."""
        return self.day_set().requests_per_min
