"""Two request streams under the same arrivals, compared block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.stats.requests import FloatArray, RequestLog

IntArray = NDArray[np.int64]
LEAST_BLOCKS = 10
"""Fewer pairs than this say nothing of how much a pair varies."""


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """How much slower the second stream is than the first.

    Parameters
    ----------
    mean_ratio
        Ratio of geometric mean latencies, by the paired t interval over blocks.
    p_value
        Of no difference in the mean logarithm of latency, two-sided paired t test.
    quantile, quantile_ratio
        Ratio of that quantile, by resampling paired blocks.
    blocks
        Pairs of blocks.
    requests
        Of both streams together.
    """

    mean_ratio: Interval
    p_value: float
    quantile: float
    quantile_ratio: Interval
    blocks: int
    requests: int


def least_requests(quantile: float) -> int:
    """Requests of either side below which a quantile is not compared: ten beyond it."""
    return math.ceil(round(10.0 / (1.0 - quantile), 6))


def compare_paired(
    first: RequestLog,
    second: RequestLog,
    *,
    quantile: float,
    block_s: float,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> PairedRatio:
    """Compare two streams that ran at the same time.

    Parameters
    ----------
    first, second
        The base and what is compared with it; times count from the same moment.
    quantile
        Of latency, failures as infinite.
    block_s
        Length of a block. What disturbs both streams at once (a busy machine, a burst of
        arrivals) falls into the same pair and cancels.
    rng
        For the resampling.

    Raises
    ------
    InsufficientDataError
        With fewer than `LEAST_BLOCKS` blocks that hold answers of both, with fewer requests
        than the quantile needs, or with so many failures that the quantile is infinite.

    References
    ----------
    Efron, B. and Tibshirani, R. J., An Introduction to the Bootstrap, 1993, chapters 8 and 13
    (block resampling, percentile interval).
    """
    end = max(_last(first), _last(second))
    count = max(1, math.ceil((end + 1e-9) / block_s))
    logs = (first, second)
    block = [np.minimum((log.scheduled_s / block_s).astype(np.int64), count - 1) for log in logs]
    means = np.stack([_block_means(x, b, count) for x, b in zip(logs, block, strict=True)])
    differences = means[1] - means[0]
    differences = differences[np.isfinite(differences)]
    if differences.size < LEAST_BLOCKS:
        raise InsufficientDataError(
            "too few pairs of blocks to compare",
            value=int(differences.size),
            allowed=f"at least {LEAST_BLOCKS}",
            hint="measure for longer",
        )
    least = least_requests(quantile)
    if min(len(first), len(second)) < least:
        raise InsufficientDataError(
            f"too few requests for p{quantile * 100:g}",
            value=min(len(first), len(second)),
            allowed=f"at least {least} of each",
            hint="measure for longer, or at a higher rate",
        )
    mean, p_value = _paired_t(differences, level)
    ratio = _quantile_ratio(logs, block, count, quantile, rng, level, resamples)
    return PairedRatio(
        mean, p_value, quantile, ratio, int(differences.size), len(first) + len(second)
    )


def _last(log: RequestLog) -> float:
    return float(log.scheduled_s[-1]) if len(log) else 0.0


def _block_means(log: RequestLog, block: IntArray, count: int) -> FloatArray:
    """Mean logarithm of answered requests' latency in each block; NaN where none was."""
    ok = log.ok
    values = np.log(np.maximum(log.latency_s()[ok], 1e-6))
    n = np.bincount(block[ok], minlength=count)
    total = np.bincount(block[ok], weights=values, minlength=count)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _paired_t(differences: FloatArray, level: float) -> tuple[Interval, float]:
    n = differences.size
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    radius = float(stdtrit(n - 1, 0.5 + level / 2.0)) * error
    p_value = 1.0 if mean == 0.0 else 0.0
    if error > 0.0:
        p_value = float(2.0 * stdtr(n - 1, -abs(mean) / error))
    ends = (math.exp(mean - radius), math.exp(mean), math.exp(mean + radius))
    return Interval(*ends, level), p_value


def _quantile_ratio(
    logs: tuple[RequestLog, RequestLog],
    block: list[IntArray],
    count: int,
    quantile: float,
    rng: np.random.Generator,
    level: float,
    resamples: int,
) -> Interval:
    ordered = []
    for log, of in zip(logs, block, strict=True):
        latency = log.latency_s()
        order = np.argsort(latency, kind="stable")
        ordered.append((latency[order], of[order]))

    def at(weight: FloatArray) -> float:
        found = []
        for latency, of in ordered:
            total = np.cumsum(weight[of])
            place = int(np.searchsorted(total, quantile * total[-1], side="left"))
            found.append(float(latency[min(place, latency.size - 1)]))
        if not all(math.isfinite(v) for v in found):
            raise InsufficientDataError(
                f"too many requests fail for p{quantile * 100:g} to be compared",
                hint="compare at a load that both hold",
            )
        return found[1] / found[0]

    mid = at(np.ones(count))
    drawn = [
        at(np.bincount(rng.integers(count, size=count), minlength=count).astype(float))
        for _ in range(resamples)
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(min(float(low), mid), mid, max(float(high), mid), level)
