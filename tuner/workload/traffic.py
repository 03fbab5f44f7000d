"""Requests per minute over days: the traffic a policy has to survive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    """

    requests_per_min: NDArray[np.float64]
    start_minute_of_week: int
    name: str
    dispersion: float = 1.0

    @property
    def gaps(self) -> int:
        """Minutes without a record."""
        return int(np.count_nonzero(np.isnan(self.requests_per_min)))

    @property
    def peak_per_min(self) -> float:
        """Largest recorded minute."""
        return float(np.nanmax(self.requests_per_min))
