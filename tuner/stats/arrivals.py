"""Did the generator send the Poisson arrivals it was asked for?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

P_LIMIT = 0.01


@dataclass(frozen=True, slots=True)
class ArrivalTest:
    """Kolmogorov-Smirnov test of the gaps and index of dispersion of counts.

    Parameters
    ----------
    ks_p_value
        Of exponential gaps at the asked rate; small for clock ticks and paced users.
    dispersion
        Variance over mean of counts in bins of ``bin_s``: 1 for Poisson, below for paced
        or saturated generators, above for a generator that pauses.
    dispersion_p_value
        Two-sided.
    """

    ks_p_value: float
    dispersion: float
    dispersion_p_value: float
    n: int
    bin_s: float

    @property
    def poisson(self) -> bool:
        """Whether neither test rejects at 1 %."""
        return min(self.ks_p_value, self.dispersion_p_value) >= P_LIMIT


def arrival_test(
    sent_s: ArrayLike, rate_per_s: float, length_s: float, *, bin_s: float = 0.1
) -> ArrivalTest | None:
    """Test the times at which requests were really sent.

    Parameters
    ----------
    sent_s
        Seconds from the opening of the window, shape (n,), any order; NaN (never sent) is
        left out.
    rate_per_s
        Asked rate.
    length_s
        Length of the window.
    bin_s
        Bin of the counts.

    Returns
    -------
    ArrivalTest or None
        None with fewer than 50 arrivals, 20 bins or nothing inside the window: nothing can be
        said.

    References
    ----------
    Stephens, M. A., J. R. Stat. Soc. B 32, 1970 (finite n). Cox, D. R. and Lewis, P. A. W.,
    The Statistical Analysis of Series of Events, 1966, section 6.3 (dispersion).
    """
    t = np.asarray(sent_s, dtype=np.float64)
    t = np.sort(t[np.isfinite(t)])
    bins = math.floor(length_s / bin_s + 1e-9)
    if len(t) < 50 or bins < 20:
        return None
    inside = t[(t >= 0.0) & (t < bins * bin_s)]
    counts = np.bincount(np.floor(inside / bin_s).astype(np.int64), minlength=bins)[:bins]
    if not len(inside):
        return None
    dispersion = float(counts.var(ddof=1) / counts.mean())
    return ArrivalTest(
        exponential_ks_p_value(np.diff(t), rate_per_s),
        dispersion,
        _dispersion_p_value(dispersion, bins),
        len(t),
        bin_s,
    )


def exponential_ks_p_value(gaps_s: ArrayLike, rate_per_s: float) -> float:
    """p-value of the Kolmogorov-Smirnov test of exponential gaps of known rate, shape (n,)."""
    from scipy.special import kolmogorov

    u = np.sort(-np.expm1(-rate_per_s * np.asarray(gaps_s, dtype=np.float64)))
    n = len(u)
    steps = np.arange(n + 1) / n
    d = max(float((steps[1:] - u).max()), float((u - steps[:-1]).max()))
    root = math.sqrt(n)
    return float(kolmogorov(d * (root + 0.12 + 0.11 / root)))


def _dispersion_p_value(dispersion: float, bins: int) -> float:
    from scipy.special import chdtrc

    above = float(chdtrc(bins - 1, dispersion * (bins - 1)))
    return 2.0 * min(above, 1.0 - above)
