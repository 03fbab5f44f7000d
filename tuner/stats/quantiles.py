"""Confidence intervals for quantiles of latencies that depend on each other.

Successive latencies share the same queue, so the binomial interval of independent
samples holds far less often than it says (half the time at half load). Here the spread of
the rank is inflated by batch means of the exceedance indicator, and an upper end that the
sample cannot show is infinite instead of guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.stats.histogram import LatencyHistogram, Window
from tuner.stats.requests import FloatArray

BATCHES = 10
"""Few long batches: each must outlast the correlation of the queue."""

ENOUGH_EXCEEDANCES = 20.0
"""Effective exceedances from which the interval holds about as often as it says."""


@dataclass(frozen=True, slots=True)
class QuantileEstimate:
    """A quantile with its interval and what the interval rests on.

    Parameters
    ----------
    quantile
        In (0, 1).
    interval
        In the unit of the data; ``high`` is infinite when the data do not bound it.
    n
        Sample size, failures included.
    inflation
        Variance of the exceedance share over that of independent samples, >= 1.
    """

    quantile: float
    interval: Interval
    n: int
    inflation: float

    @property
    def effective_exceedances(self) -> float:
        """Independent samples beyond the quantile that the data are worth (k_eff)."""
        return self.n * (1.0 - self.quantile) / self.inflation


def rank_of(n: int, quantile: float) -> int:
    """Rank of the quantile in n values, from 1: ceil(n q), free of binary dust."""
    return min(max(1, math.ceil(round(n * quantile, 9))), n)


def order_statistic(values: ArrayLike, quantile: float) -> float:
    """The value at rank ceil(n q): numpy's ``inverted_cdf``.

    Raises
    ------
    InsufficientDataError
        If there are no values.
    """
    x = _column(values)
    k = rank_of(len(x), quantile) - 1
    return float(np.partition(x, k)[k])


def independent_ranks(n: int, quantile: float, level: float = 0.95) -> tuple[int, int]:
    """Ranks, from 1, that enclose the quantile of n *independent* values.

    The upper rank is n + 1 when no order statistic bounds the quantile. For latencies of
    one queue use `quantile_interval`.

    References
    ----------
    David, H. A. and Nagaraja, H. N., Order Statistics, 3rd ed., 2003, section 7.1.
    """
    from scipy.special import betaincc

    tail = (1.0 - level) / 2.0
    sd = math.sqrt(n * quantile * (1.0 - quantile))
    reach = 12.0 * sd + 12.0
    lo = max(0, math.floor(n * quantile - reach))
    k = np.arange(lo, min(n - 1, math.ceil(n * quantile + reach)) + 1, dtype=np.float64)
    below = betaincc(k + 1.0, n - k, quantile)
    low = lo + int(np.searchsorted(below, tail))
    high = lo + int(np.searchsorted(below, 1.0 - tail)) + 1
    return low, min(high, n + 1)


def least_n_for_upper_bound(quantile: float, level: float = 0.95) -> int:
    """Fewest independent values whose maximum bounds the quantile with this confidence.

    References
    ----------
    Wilks, S. S., Ann. Math. Stat. 12, 1941: 1 - q**n >= level.
    """
    return math.ceil(math.log1p(-level) / math.log(quantile))


def exceedance_inflation(exceeds: NDArray[np.bool_], share: float, batches: int = BATCHES) -> float:
    """Variance of the mean of an indicator over that of independent draws, at least 1.

    Parameters
    ----------
    exceeds
        Indicator in time order, shape (n,).
    share
        Its expected mean.
    batches
        Number of consecutive batches; infinite inflation if there are fewer values.
    """
    n = len(exceeds)
    if n < 2 * batches:
        return math.inf
    edges = (np.arange(batches) * n) // batches
    counts = np.add.reduceat(exceeds, edges, dtype=np.int64)
    sizes = np.diff(np.append(edges, n))
    return _inflation(counts / sizes, n, share)


def quantile_interval(
    values: ArrayLike, quantile: float, *, level: float = 0.95, batches: int = BATCHES
) -> QuantileEstimate:
    """Two-sided interval of a quantile of one stage's latencies.

    Parameters
    ----------
    values
        Latencies in order of their intended start, shape (n,); failures are infinite.
    quantile
        In (0, 1).
    level
        Confidence.
    batches
        Batches for the variance of the exceedance indicator.

    Returns
    -------
    QuantileEstimate
        ``low`` is 0 and ``high`` infinite where the sample bounds nothing.

    Raises
    ------
    InsufficientDataError
        If there are no values.

    References
    ----------
    Variance of the exceedance share by batch means: Schmeiser, B., Oper. Res. 30, 1982.
    Quantiles of dependent sequences: Heidelberger, P. and Lewis, P. A. W., Oper. Res. 32,
    1984.
    """
    x = _column(values)
    n = len(x)
    k = rank_of(n, quantile)
    point = float(np.partition(x, k - 1)[k - 1])
    inflation = exceedance_inflation(x > point, 1.0 - quantile, batches)
    low, high = _ranks(n, quantile, inflation, level, batches)
    interval = Interval(_at(x, min(low, k)), point, _at(x, max(high, k)), level)
    return QuantileEstimate(quantile, interval, n, inflation)


def quantile_upper_bound(
    values: ArrayLike, quantile: float, *, level: float = 0.95, batches: int = BATCHES
) -> float:
    """One-sided upper bound of the quantile; infinite when the sample has none.

    Arguments as in `quantile_interval`.
    """
    return quantile_interval(
        values, quantile, level=2.0 * level - 1.0, batches=batches
    ).interval.high


def quantile_lower_bound(
    values: ArrayLike, quantile: float, *, level: float = 0.95, batches: int = BATCHES
) -> float:
    """One-sided lower bound of the quantile; 0 when the sample has none."""
    return quantile_interval(
        values, quantile, level=2.0 * level - 1.0, batches=batches
    ).interval.low


def quantile_interval_of_windows(
    windows: Sequence[Window], quantile: float, *, level: float = 0.95, batches: int = BATCHES
) -> QuantileEstimate:
    """`quantile_interval` from histograms, for a stage whose requests were not kept.

    Parameters
    ----------
    windows
        In time order, failures included; consecutive windows are joined into batches.

    Raises
    ------
    InsufficientDataError
        If the windows hold no requests.
    """
    whole = [(w.ok, w.failures) for w in windows if w.total]
    if not whole:
        raise _nothing()
    merged = LatencyHistogram.merge(h for h, _ in whole)
    failures = sum(f for _, f in whole)
    n = merged.total + failures
    point = merged.quantile_s(quantile, failures=failures)
    inflation = math.inf
    if len(whole) >= batches and n >= 2 * batches:
        beyond = np.array([_beyond(h, f, point) for h, f in whole], dtype=np.float64)
        totals = np.array([h.total + f for h, f in whole], dtype=np.float64)
        batch = np.minimum((np.cumsum(totals) - totals / 2) * batches // n, batches - 1).astype(int)
        sums = np.bincount(batch, beyond, batches)
        sizes = np.bincount(batch, totals, batches)
        if sizes.all():
            inflation = _inflation(sums / sizes, n, 1.0 - quantile)
    low, high = _ranks(n, quantile, inflation, level, batches)
    ends = (_in_bins(merged, failures, low), _in_bins(merged, failures, high))
    interval = Interval(min(ends[0], point), point, max(ends[1], point), level)
    return QuantileEstimate(quantile, interval, n, inflation)


def _column(values: ArrayLike) -> FloatArray:
    x = np.asarray(values, dtype=np.float64).ravel()
    if not x.size:
        raise _nothing()
    return x


def _nothing() -> InsufficientDataError:
    return InsufficientDataError(
        "a quantile of no requests does not exist", hint="measure at least one stage"
    )


def _inflation(batch_share: FloatArray, n: int, share: float) -> float:
    of_mean = float(np.var(batch_share, ddof=1)) / len(batch_share)
    return max(1.0, of_mean / (share * (1.0 - share) / n))


def _ranks(
    n: int, quantile: float, inflation: float, level: float, batches: int
) -> tuple[int, int]:
    """Lower rank (0: none) and upper rank (n + 1: none).

    Exceedances come in bursts, so their number is skewed to the right: the lower rank also
    allows for as many as the binomial law of the effective sample size does (Korn and
    Graubard, Survey Methodology 24, 1998). With the symmetric rank alone the interval lay
    above the truth in up to 12 % of simulated windows, with this one in at most 4 %.
    """
    from scipy.special import betaincinv, ndtri, stdtrit

    if math.isinf(inflation):
        return 0, n + 1
    tail = 0.5 + level / 2.0
    t = float(stdtrit(batches - 1, tail))
    half = t * math.sqrt(inflation * quantile * (1.0 - quantile) / n)
    high = math.ceil(round(n * (quantile + half), 9))
    effective = n / inflation * ((float(ndtri(tail)) / t) ** 2 if inflation > 1.0 else 1.0)
    beyond = effective * (1.0 - quantile)
    burst = float(betaincinv(beyond + 1.0, effective - beyond, tail))
    low = math.ceil(round(n * min(quantile - half, 1.0 - burst), 9))
    return max(low, 0), min(high, n + 1)


def _at(x: FloatArray, rank: int) -> float:
    if rank < 1:
        return 0.0
    if rank > len(x):
        return math.inf
    return float(np.partition(x, rank - 1)[rank - 1])


def _in_bins(merged: LatencyHistogram, failures: int, rank: int) -> float:
    n = merged.total + failures
    if rank < 1:
        return 0.0
    if rank > n:
        return math.inf
    return merged.quantile_s(rank / n, failures=failures)


def _beyond(histogram: LatencyHistogram, failures: int, point: float) -> int:
    if math.isinf(point):
        return failures
    return failures + int(histogram.count[histogram.middles_s() > point].sum())
