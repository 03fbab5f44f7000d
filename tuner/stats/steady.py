"""Was it a steady state? Warm-up, overload and settling of one stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuner.stats.requests import FloatArray

BLOCKS = 10
TREND_Z_LIMIT = 2.33
BACKLOG_LIMIT = 2.0
HALF_T_LIMIT = 3.25
WARM_UP_SHARE_LIMIT = 0.30
"""A warm-up cut longer than this share of the window: extend the warm-up stage."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Where the initial transient of a warm-up stage ends.

    ``cut_share`` above `WARM_UP_SHARE_LIMIT` means that the window was too short to tell.
    """

    cut_s: float
    window_s: float

    @property
    def cut_share(self) -> float:
        """Cut over window; 1 for an empty window: nothing is warm yet."""
        return self.cut_s / self.window_s if self.window_s > 0 else 1.0

    @property
    def settled(self) -> bool:
        """Whether enough was seen after the cut."""
        return self.cut_share <= WARM_UP_SHARE_LIMIT


@dataclass(frozen=True, slots=True)
class OverloadTest:
    """Trend of block medians and growth of the requests in flight."""

    trend_z: float
    backlog_z: float
    blocks: int

    @property
    def overloaded(self) -> bool:
        """Both reject: the latency is not that of a steady state."""
        return self.trend_z > TREND_Z_LIMIT and self.backlog_z > BACKLOG_LIMIT


@dataclass(frozen=True, slots=True)
class SettleTest:
    """First half against second half of the stage, in ln latency."""

    t: float
    ratio: float
    blocks: int

    @property
    def settled(self) -> bool:
        """Whether the halves agree."""
        return abs(self.t) <= HALF_T_LIMIT


def mser5(scheduled_s: ArrayLike, latency_s: ArrayLike) -> WarmUp:
    """Warm-up cut by MSER-5 on one-second means of finite latencies.

    Only for a dedicated warm-up stage: in a congested steady stage it cuts real bursts
    and makes p99 look better than it is.

    Parameters
    ----------
    scheduled_s
        Intended starts from the opening of the window, ascending, shape (n,).
    latency_s
        Latencies, shape (n,); infinite ones count as the longest finite one.

    References
    ----------
    White, K. P., Cobb, M. J. and Spratt, S. C., Winter Simulation Conference 2000.
    """
    t = np.asarray(scheduled_s, dtype=np.float64)
    x = finite_latency(latency_s)
    if not len(t):
        return WarmUp(0.0, 0.0)
    seconds = np.maximum(np.floor(t), 0.0).astype(np.int64)
    length = float(seconds[-1] + 1)
    count = np.bincount(seconds)
    mean = np.bincount(seconds, x)[count > 0] / count[count > 0]
    starts = np.flatnonzero(count)
    m = len(mean) // 5
    if m < 4:
        return WarmUp(length, length)
    y = mean[: 5 * m].reshape(m, 5).mean(axis=1)
    left = np.arange(m, 0, -1, dtype=np.float64)
    total = np.cumsum(y[::-1])[::-1]
    squares = np.cumsum((y**2)[::-1])[::-1]
    # Beyond half of the batches the statistic rests on too few of them.
    score = ((squares - total**2 / left) / left**2)[: m // 2 + 1]
    return WarmUp(float(starts[5 * int(np.argmin(score))]), length)


def overload_test(
    latency_s: ArrayLike,
    *,
    in_flight_start: int,
    in_flight_end: int,
    blocks: int = BLOCKS,
) -> OverloadTest:
    """Does the stage offer more than the endpoint can carry?

    Parameters
    ----------
    latency_s
        In order of intended start, shape (n,); failures are infinite (the worst value).
    in_flight_start, in_flight_end
        Requests without an answer when the window opened and closed.
    blocks
        Consecutive blocks of equal count whose medians are tested for an upward trend.

    Returns
    -------
    OverloadTest
        With fewer than five requests a block the trend is 0: nothing was shown.

    References
    ----------
    Mann, H. B., Econometrica 13, 1945; Kendall, M. G., Rank Correlation Methods, 1975
    (variance with ties). The backlog is compared with the spread of a difference of two
    Poisson counts of n each.
    """
    x = np.asarray(latency_s, dtype=np.float64)
    n = len(x)
    backlog = (in_flight_end - in_flight_start) / math.sqrt(2.0 * n) if n else 0.0
    if n < 5 * blocks:
        return OverloadTest(0.0, backlog, blocks)
    medians = np.array([_median(b) for b in np.array_split(x, blocks)])
    return OverloadTest(mann_kendall_z(medians), backlog, blocks)


def mann_kendall_z(values: ArrayLike) -> float:
    """z of the Mann-Kendall trend test with continuity and tie corrections; up is positive.

    Parameters
    ----------
    values
        Shape (n,), in time order; infinite values are ties of one another.

    References
    ----------
    Kendall, M. G., Rank Correlation Methods, 4th ed., 1975.
    """
    _, rank, ties = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    n = len(rank)
    s = float(np.sign(rank[None, :] - rank[:, None])[np.triu_indices(n, 1)].sum())
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18.0
    if variance <= 0.0 or s == 0.0:
        return 0.0
    return (s - math.copysign(1.0, s)) / math.sqrt(variance)


def settle_test(latency_s: ArrayLike, *, blocks: int = BLOCKS) -> SettleTest:
    """Do the first and the second half of the stage have the same mean ln latency?

    Parameters
    ----------
    latency_s
        In order of intended start, shape (n,); infinite ones count as the longest finite.
    blocks
        Consecutive blocks of equal count, an even number; their means are the sample.

    Returns
    -------
    SettleTest
        ``ratio`` is second half over first in geometric mean. With fewer than five
        requests a block t is 0: nothing was shown.
    """
    x = finite_latency(latency_s)
    if len(x) < 5 * blocks:
        return SettleTest(0.0, 1.0, blocks)
    means = block_means(np.log(np.maximum(x, 1e-9)), blocks)
    first, last = means[: blocks // 2], means[blocks // 2 :]
    difference = float(last.mean() - first.mean())
    pooled = float(np.var(first, ddof=1) + np.var(last, ddof=1)) / (blocks // 2)
    if pooled <= 0.0:
        t = 0.0 if difference == 0.0 else math.copysign(math.inf, difference)
    else:
        t = difference / math.sqrt(pooled)
    return SettleTest(t, math.exp(difference), blocks)


def in_flight(scheduled_s: ArrayLike, done_s: ArrayLike, at_s: float) -> int:
    """Requests whose intended start is before ``at_s`` and whose end is not."""
    began = np.asarray(scheduled_s) < at_s
    return int(np.count_nonzero(began & ~(np.asarray(done_s) <= at_s)))


def finite_latency(latency_s: ArrayLike) -> FloatArray:
    """Latencies with infinite ones replaced by the longest finite one, shape (n,).

    For tests of shape only, never for a quantile: a failure is no faster than the
    slowest success.
    """
    x = np.asarray(latency_s, dtype=np.float64).ravel()
    good = np.isfinite(x)
    if good.all():
        return x
    return np.where(good, x, x[good].max() if good.any() else 1.0)


def block_means(values: ArrayLike, blocks: int) -> FloatArray:
    """Means of consecutive blocks of equal count (up to one), shape (blocks,)."""
    x = np.asarray(values, dtype=np.float64)
    edges = (np.arange(blocks) * len(x)) // blocks
    return np.asarray(np.add.reduceat(x, edges) / np.diff(np.append(edges, len(x))))


def _median(x: FloatArray) -> float:
    k = (len(x) - 1) // 2
    return float(np.partition(x, k)[k])
