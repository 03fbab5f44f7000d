"""Mergeable latency histograms with logarithmic bins.

A bin spans 1 % so the geometric middle is within 0.5 % of any value in it. Bins are kept
sparsely, so the range is not limited: nothing is dropped at either end. Merging adds
counts, so the merge of parts equals the histogram of the union exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.stats.requests import FloatArray, Outcome, RequestLog

BIN_RATIO = 1.01
_LOG_RATIO = math.log(BIN_RATIO)
_FLOOR_S = 1e-9
"""Values below one nanosecond (clock steps, negatives) are counted in the bin of 1 ns."""


@dataclass(frozen=True, slots=True, eq=False)
class LatencyHistogram:
    """Counts of latencies in log bins.

    Parameters
    ----------
    index
        Occupied bins, ascending, int32, shape (k,). Bin i covers
        [BIN_RATIO**i, BIN_RATIO**(i+1)) seconds.
    count
        Requests in each, int64, shape (k,).
    """

    index: NDArray[np.int32]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, latency_s: ArrayLike) -> LatencyHistogram:
        """Histogram of finite latencies in seconds, any shape.

        Raises
        ------
        ValueError
            If a value is NaN or infinite: failures are counted by outcome, not binned.
        """
        values = np.asarray(latency_s, dtype=np.float64).ravel()
        index, count = np.unique(_bins(values), return_counts=True)
        return cls(index.astype(np.int32), count.astype(np.int64))

    @classmethod
    def merge(cls, parts: Iterable[LatencyHistogram]) -> LatencyHistogram:
        """The histogram of the union of the parts' values, exactly."""
        items = list(parts)
        if not items:
            return cls.of([])
        index, inverse = np.unique(np.concatenate([p.index for p in items]), return_inverse=True)
        count = np.zeros(len(index), np.int64)
        np.add.at(count, inverse, np.concatenate([p.count for p in items]))
        return cls(index.astype(np.int32), count)

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.count.sum())

    def middles_s(self) -> FloatArray:
        """Geometric middle of each occupied bin in seconds, shape (k,)."""
        return np.exp((self.index.astype(np.float64) + 0.5) * _LOG_RATIO)

    def quantile_s(self, quantile: float, *, failures: int = 0) -> float:
        """The order statistic at rank ceil(N q) of values and ``failures`` infinite ones.

        Within 0.5 % of the exact order statistic. NaN when there is nothing at all,
        infinite when the rank falls among the failures.
        """
        total = self.total + failures
        if total == 0:
            return math.nan
        rank = max(1, math.ceil(round(total * quantile, 9)))
        position = int(np.searchsorted(np.cumsum(self.count), rank))
        return math.inf if position >= len(self.index) else float(self.middles_s()[position])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencyHistogram):
            return NotImplemented
        return np.array_equal(self.index, other.index) and np.array_equal(self.count, other.count)


@dataclass(frozen=True, slots=True)
class Window:
    """Requests whose intended start lies in [start_s, start_s + length_s), by outcome.

    Failures are kept with the time they took (finite), so that the live view can show it,
    and count as infinite in `quantile_s`.
    """

    start_s: float
    length_s: float
    by_outcome: tuple[tuple[Outcome, LatencyHistogram], ...]

    @property
    def total(self) -> int:
        """Requests in the window, whatever their end."""
        return sum(h.total for _, h in self.by_outcome)

    @property
    def ok(self) -> LatencyHistogram:
        """Latencies of the successes."""
        return LatencyHistogram.merge(h for o, h in self.by_outcome if o is Outcome.OK)

    @property
    def failures(self) -> int:
        """Requests that did not succeed."""
        return sum(h.total for o, h in self.by_outcome if o is not Outcome.OK)

    def quantile_s(self, quantile: float) -> float:
        """Quantile of latency with failures as infinite."""
        return self.ok.quantile_s(quantile, failures=self.failures)

    @classmethod
    def merge(cls, parts: Iterable[Window]) -> Window:
        """One window over the span of the parts, exactly the window of their union."""
        items = list(parts)
        if not items:
            raise ValueError("nothing to merge")
        start = min(w.start_s for w in items)
        end = max(w.start_s + w.length_s for w in items)
        return cls(
            start,
            end - start,
            tuple(
                (o, LatencyHistogram.merge(h for w in items for k, h in w.by_outcome if k is o))
                for o in Outcome
                if any(k is o for w in items for k, _ in w.by_outcome)
            ),
        )


def windows_of(log: RequestLog, length_s: float = 1.0) -> tuple[Window, ...]:
    """Cut a log into windows of ``length_s`` by intended start; empty windows are left out."""
    if not len(log):
        return ()
    number = np.floor(log.scheduled_s / length_s).astype(np.int64)
    took = np.where(log.outcome == Outcome.DROPPED, 0.0, log.done_s - log.scheduled_s)
    bins = _bins(took).astype(np.int64)
    # One sort over (window, outcome, bin) instead of a pass over the log for each window.
    lowest = int(bins.min())
    span = int(bins.max()) - lowest + 1
    part = (number - number[0]) * len(Outcome) + log.outcome
    cell, count = np.unique(part * span + (bins - lowest), return_counts=True)
    index = (cell % span + lowest).astype(np.int32)
    parts, first = np.unique(cell // span, return_index=True)
    ends = np.append(first[1:], len(cell))
    found: dict[int, list[tuple[Outcome, LatencyHistogram]]] = {}
    for which, lo, hi in zip(parts.tolist(), first.tolist(), ends.tolist(), strict=True):
        window, outcome = divmod(which, len(Outcome))
        histogram = LatencyHistogram(index[lo:hi], count[lo:hi])
        found.setdefault(window, []).append((Outcome(outcome), histogram))
    start = int(number[0])
    return tuple(
        Window(float(start + window) * length_s, length_s, tuple(by_outcome))
        for window, by_outcome in found.items()
    )


def _bins(values_s: FloatArray) -> NDArray[np.int32]:
    """Bin of each value, shape (n,).

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    if values_s.size and not np.isfinite(values_s).all():
        raise ValueError("a histogram takes finite latencies; count failures by outcome")
    return np.floor(np.log(np.maximum(values_s, _FLOOR_S)) / _LOG_RATIO).astype(np.int32)
