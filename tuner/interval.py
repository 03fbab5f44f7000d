"""An estimate with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate ``mid`` inside a two-sided interval of confidence ``level``.

    ``high`` may be infinite and ``low`` may be 0 (or minus infinity) when the data do not
    bound that side: an unknown end is said, never guessed.
    """

    low: float
    mid: float
    high: float
    level: float = 0.95

    def __post_init__(self) -> None:
        if any(math.isnan(v) for v in (self.low, self.mid, self.high)):
            raise ValueError(f"an interval cannot hold NaN: {self.low}, {self.mid}, {self.high}")
        if not self.low <= self.mid <= self.high:
            raise ValueError(f"interval out of order: {self.low} <= {self.mid} <= {self.high}")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must be inside (0, 1): {self.level}")

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def relative_half_width(self) -> float:
        """Half the width over the point; infinite when an end is unknown or the point is 0."""
        if not self.bounded or self.mid == 0.0:
            return math.inf
        return (self.high - self.low) / (2.0 * abs(self.mid))

    def scaled(self, factor: float) -> Interval:
        """The interval of ``factor`` times the quantity (``factor`` >= 0)."""
        if factor < 0.0:
            raise ValueError(f"factor must not be negative: {factor}")
        return Interval(self.low * factor, self.mid * factor, self.high * factor, self.level)
