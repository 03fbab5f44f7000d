"""Whether event times could come from a Poisson process."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PoissonCheck:
    """How far times are from a Poisson process.

    Parameters
    ----------
    n
        Gaps tested.
    step
        Gaps were summed over this many arrivals before the test.
    ks_p_value
        Kolmogorov-Smirnov against Erlang(step, rate).
    dispersion
        Variance over mean of the counts in slots of ``slot_s``; 1 for Poisson.
    dispersion_p_value
        Two-sided chi-square test of it.
    """

    n: int
    step: int
    ks_p_value: float
    dispersion: float
    dispersion_p_value: float
    slot_s: float


def check_poisson(
    times_s: FloatArray,
    rate_per_s: float,
    duration_s: float,
    *,
    quantisation_s: float = 1e-4,
) -> PoissonCheck | None:
    """Test event times in [0, duration_s) against a Poisson process of known rate.

    Real times carry the jitter of a timer and the width of a send, so gaps near
    ``quantisation_s`` say more about the machine than about the process. Gaps are therefore
    summed over ``step`` arrivals so that the mean of a sum is at least twenty quanta; the
    sums are Erlang(step) under the hypothesis. At rates below 1 / (20 quanta) that is the
    usual test of single gaps against the exponential.

    Returns
    -------
    PoissonCheck or None
        None when there are fewer than 50 sums: nothing could be rejected.

    Raises
    ------
    ValueError
        If the rate is not a positive finite number.

    References
    ----------
    Kolmogorov, A. (1933); asymptotic p-value with the correction of Stephens, M. A. (1970),
    J. R. Stat. Soc. B 32(1), 115-122. Index of dispersion: Cox & Lewis (1966), The
    Statistical Analysis of Series of Events, ch. 6.
    """
    rate = rate_per_s
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"rate_per_s must be a positive finite number, got {rate!r}")
    step = max(1, math.ceil(20 * quantisation_s * rate))
    ordered = np.sort(np.asarray(times_s, dtype=np.float64))
    sums = np.diff(ordered[::step])
    n = len(sums)
    if n < 50:
        return None
    u = np.sort(special.gammainc(step, sums * rate))
    grid = np.arange(1, n + 1) / n
    distance = float(max(np.max(grid - u), np.max(u - grid + 1 / n)))
    root = math.sqrt(n)
    ks = float(special.kolmogorov((root + 0.12 + 0.11 / root) * distance))
    # At least five arrivals in a slot, else the chi-square approximation is poor.
    slot = max(0.1, 5 / rate)
    slots = int(duration_s / slot)
    if slots < 10:
        return PoissonCheck(n, step, ks, math.nan, math.nan, slot)
    counts = np.bincount(np.minimum((ordered / slot).astype(np.int64), slots), minlength=slots + 1)
    counts = counts[:slots]
    mean = float(counts.mean())
    dispersion = float(counts.var(ddof=1) / mean)
    tail = float(special.chdtrc(slots - 1, (slots - 1) * dispersion))
    return PoissonCheck(n, step, ks, dispersion, 2 * min(tail, 1 - tail), slot)
