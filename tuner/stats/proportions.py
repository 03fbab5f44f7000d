"""Intervals for shares: of failures, or of requests slower than a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.slo import Verdict
from tuner.stats.quantiles import BATCHES, exceedance_inflation, rank_of

_CANDIDATES = 40


@dataclass(frozen=True, slots=True)
class ShareEstimate:
    """A share of requests with its interval.

    ``inflation`` is the variance of the share over that of independent requests, >= 1.
    """

    interval: Interval
    count: int
    n: int
    inflation: float

    @property
    def effective_count(self) -> float:
        """Independent events the count is worth (k_eff)."""
        return self.count / self.inflation

    def verdict(self, allowance: float) -> Verdict:
        """MET if the whole interval is at most the allowance, VIOLATED if it is above."""
        if self.interval.high <= allowance:
            return Verdict.MET
        if self.interval.low > allowance:
            return Verdict.VIOLATED
        return Verdict.INCONCLUSIVE


def clopper_pearson(count: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval; count and n may be fractional (effective samples).

    References
    ----------
    Clopper, C. J. and Pearson, E. S., Biometrika 26, 1934.
    """
    from scipy.special import betaincinv

    tail = (1.0 - level) / 2.0
    low = float(betaincinv(count, n - count + 1.0, tail)) if count > 0 else 0.0
    high = float(betaincinv(count + 1.0, n - count, 1.0 - tail)) if count < n else 1.0
    return low, high


def independent_share(count: int, n: int, *, level: float = 0.95) -> ShareEstimate:
    """Interval of a share of independent events.

    Raises
    ------
    InsufficientDataError
        If n is 0.
    """
    if n == 0:
        raise _nothing()
    low, high = clopper_pearson(count, n, level)
    return ShareEstimate(Interval(low, count / n, high, level), count, n, 1.0)


def share_interval(
    event: ArrayLike, *, level: float = 0.95, batches: int = BATCHES
) -> ShareEstimate:
    """Interval of the share of an event among requests that depend on each other.

    Parameters
    ----------
    event
        Indicator in time order, shape (n,).
    level
        Confidence.
    batches
        Batches for the variance.

    Returns
    -------
    ShareEstimate
        [0, 1] when there are fewer than two requests a batch.

    Raises
    ------
    InsufficientDataError
        If there are no requests.

    References
    ----------
    Korn, E. L. and Graubard, B. I., Survey Methodology 24, 1998: Clopper-Pearson at the
    effective sample size, reduced for the degrees of freedom of the variance.
    """
    x: NDArray[np.bool_] = np.asarray(event, dtype=np.bool_).ravel()
    n = len(x)
    if n == 0:
        raise _nothing()
    count = int(np.count_nonzero(x))
    if n < 2 * batches:
        return ShareEstimate(Interval(0.0, count / n, 1.0, level), count, n, math.inf)
    if count in (0, n):
        return independent_share(count, n, level=level)
    share = count / n
    inflation = exceedance_inflation(x, share, batches)
    return _korn_graubard(count, n, inflation, level, batches)


def exceedance_interval(
    latency_s: ArrayLike, threshold_s: float, *, level: float = 0.95, batches: int = BATCHES
) -> ShareEstimate:
    """Interval of the share slower than the threshold; failures (infinite) are slower.

    The few exceedances of a short stage come in one burst or not at all, so their own
    variance says nothing. The upper end is therefore the first share whose own quantile,
    judged by the variance of *its* exceedances, lies significantly below the threshold:
    the rank interval of `quantile_interval` inverted.

    Arguments as in `share_interval`; ``latency_s`` in order of intended start, shape (n,).

    References
    ----------
    Test inversion: Wilson, E. B., J. Am. Stat. Assoc. 22, 1927, with the variance of the
    hypothesis instead of that of the sample.
    """
    x = np.asarray(latency_s, dtype=np.float64).ravel()
    plain = share_interval(x > threshold_s, level=level, batches=batches)
    if math.isinf(plain.inflation) or plain.count == plain.n:
        return plain
    high, inflation = _first_excluded(x, plain.interval.mid, level, batches)
    old = plain.interval
    return ShareEstimate(
        Interval(old.low, old.mid, max(old.high, high), level),
        plain.count,
        plain.n,
        max(plain.inflation, inflation),
    )


def _first_excluded(
    x: NDArray[np.float64], share: float, level: float, batches: int
) -> tuple[float, float]:
    """Least share above the observed one that the data exclude, and its inflation."""
    from scipy.special import stdtrit

    n = len(x)
    t = float(stdtrit(batches - 1, 0.5 + level / 2.0))
    ranked = np.sort(x)
    before, gap_before = share, 0.0
    inflation = 1.0
    start = max(share, 1.0 / n) * 1.02
    if start >= 1.0:
        return 1.0, inflation
    for p in np.geomspace(start, 1.0, _CANDIDATES, endpoint=False):
        point = ranked[rank_of(n, 1.0 - p) - 1]
        inflation = exceedance_inflation(x > point, float(p), batches)
        gap = float(p) - share - t * math.sqrt(inflation * p * (1.0 - p) / n)
        if gap > 0.0:
            return float(np.interp(0.0, [gap_before, gap], [before, p])), inflation
        before, gap_before = float(p), gap
    return 1.0, inflation


def _korn_graubard(
    count: int, n: int, inflation: float, level: float, batches: int
) -> ShareEstimate:
    from scipy.special import stdtrit

    tail = 0.5 + level / 2.0
    wider = (
        float(stdtrit(n - 1, tail) / stdtrit(batches - 1, tail)) ** 2 if inflation > 1.0 else 1.0
    )
    effective = n / inflation * wider
    low, high = clopper_pearson(count / n * effective, effective, level)
    return ShareEstimate(Interval(low, count / n, high, level), count, n, inflation)


def _nothing() -> InsufficientDataError:
    return InsufficientDataError(
        "a share of no requests does not exist", hint="measure at least one stage"
    )
