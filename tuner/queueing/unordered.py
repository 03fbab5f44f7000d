"""Work recovery on a server that does not take its waiting requests in order of arrival.

With m workers that never interrupt a request, one that finds fewer than m in the server starts
at once, whatever the order of service: its stay, less the network floor, is its demand. Poisson
arrivals do not look at the server, so these requests are a fair sample of all. And whatever the
order, min(N, m) workers are busy while N requests are there, so the mean demand of all requests
is the time worked over the number of departures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.queueing.independence import (
    MIN_GROUP,
    GroupTest,
    centred,
    group_test,
    quantile_bins,
    trend,
)
from tuner.queueing.recovery import Segment, clumped_share, in_system

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_WORKERS = 128
_BLOCK_S = 5.0
_SPELLS = (1, 4, 12)
_LEAST_SHARE = 0.02
"""Demands below this share of the median are raised to it."""
_FASTEST = 0.002
"""The network floor is at most this quantile of the stays."""
_FLOOR_Z = 3.0
"""A network floor is believed when the times worked ask for it this surely."""
_HALVINGS = 12
_NEARBY = 2
_STEP = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class UnorderedWork:
    """Demands of the requests that did not wait, and how sure their mean is.

    Parameters
    ----------
    workers, floor_s
        The server, and the time a request spends outside it.
    demand_s, block
        Per request that started at once, shape (n,); ``block`` numbers stretches of five
        seconds. The demands have the mean of all requests, those that waited included.
    worked_s, departures
        Per block, shape (blocks,).
    waited_share
        Requests that had to wait.
    clumped_share
        Requests answered together with another: far more than chance where a server batches.
    jump
        How surely the stay is longer from ``workers`` requests on, as a t value.
    imbalance
        Mean demand of those that started at once over that of all, less 1, with its t value.
    state, future, time
        Demand against requests found on arrival, requests arriving afterwards, and time.
    trend
        Change of ln demand from the first to the last measured request, with its t value.
    slope
        Change of the difference of both means, and of the mean of all, with the floor.
    """

    workers: int
    floor_s: float
    demand_s: FloatArray
    block: IntArray
    worked_s: FloatArray
    departures: FloatArray
    waited_share: float
    clumped_share: float
    jump: float
    imbalance: tuple[float, float]
    state: GroupTest
    future: GroupTest
    time: GroupTest
    trend: tuple[float, float]
    slope: tuple[float, float]

    def drawn(self, rng: np.random.Generator) -> tuple[FloatArray, float]:
        """Demands and floor had other blocks of time come."""
        blocks = len(self.worked_s)
        times = np.bincount(rng.integers(blocks, size=blocks), minlength=blocks)
        every = float(times @ self.worked_s) / max(float(times @ self.departures), 1.0)
        demand = np.repeat(self.demand_s, times[self.block])
        floor = self.floor_s
        if floor > 0.0:
            # The balance of both means sets the floor: it moves with what was drawn.
            scale = 1.0 + self.imbalance[0]
            away = (float(demand.mean()) * scale - every) / -self.slope[0]
            floor = max(floor + away, 0.0)
            every += self.slope[1] * (floor - self.floor_s)
        return demand * (every / float(demand.mean())), floor


def recover_unordered(segments: Sequence[Segment]) -> UnorderedWork | None:
    """Demands of a server of equal workers, whatever its order of service.

    Parameters
    ----------
    segments
        Stretches served by single instances of the same kind.

    Returns
    -------
    UnorderedWork or None
        None with too few requests that did not wait; otherwise the likeliest server, whose
        tests may still reject it.

    References
    ----------
    Wolff (1982), Poisson arrivals see time averages, Oper. Res. 30; Little (1961), A proof
    for the queuing formula L = lambda W, Oper. Res. 9.
    """
    pool = _Pool.of(segments)
    if pool is None:
        return None
    workers = pool.likeliest_workers()
    alone = pool.found < workers
    if np.count_nonzero(alone) < 20 * MIN_GROUP:
        return None
    return pool.work(workers, alone)


@dataclass(frozen=True, slots=True, eq=False)
class _Busy:
    """Requests there over time in one segment: ``crowd`` from ``when_s`` on."""

    sent_s: FloatArray
    done_s: FloatArray
    edges_s: FloatArray

    def worked_s(self, workers: int, floor_s: float) -> FloatArray:
        """Time worked between the edges, shape (len(edges_s) - 1,)."""
        n = len(self.sent_s)
        when = np.concatenate([self.sent_s + floor_s, self.done_s])
        order = np.argsort(when, kind="stable")
        when = when[order]
        crowd = np.cumsum(np.repeat([1, -1], n)[order])
        busy = np.clip(crowd[:-1], 0, workers)
        total = np.concatenate([[0.0], np.cumsum(busy * np.diff(when))])
        return np.diff(np.interp(self.edges_s, when, total))

    def departures(self) -> FloatArray:
        """Ends between the edges, shape (len(edges_s) - 1,)."""
        return np.histogram(self.done_s, self.edges_s)[0].astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """The measured requests of all segments; ``block`` numbers their stretches of time."""

    stay_s: FloatArray
    done_s: FloatArray
    found: IntArray
    later: IntArray
    block: IntArray
    busy: tuple[_Busy, ...]

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> _Pool | None:
        columns: list[tuple[Any, ...]] = []
        busy, offset = [], 0
        for s in segments:
            kept = s.sent_s >= s.from_s
            if kept.sum() < MIN_GROUP or s.sent_s[-1] <= s.from_s:
                continue
            pieces = max(round(float(s.sent_s[-1] - s.from_s) / _BLOCK_S), 1)
            edges = np.linspace(s.from_s, float(s.sent_s[-1]), pieces + 1)
            at = np.searchsorted(edges, s.sent_s[kept], side="right") - 1
            stay = s.done_s - s.sent_s
            reach = s.sent_s + float(np.median(stay))
            later = np.searchsorted(s.sent_s, reach, side="right") - np.arange(1, len(stay) + 1)
            block = np.clip(at, 0, pieces - 1) + offset
            found = in_system(s.sent_s, s.done_s)
            columns.append((stay[kept], s.done_s[kept], found[kept], later[kept], block))
            busy.append(_Busy(s.sent_s, s.done_s, edges))
            offset += pieces
        if not columns:
            return None
        stay, done, found, later, block = (np.concatenate(c) for c in zip(*columns, strict=True))
        return cls(stay, done, found, later, block, tuple(busy))

    def likeliest_workers(self) -> int:
        """How many may be there before a stay gets longer, so that both means agree.

        Stays are alike below that number and free above it: what fewer free means save is
        weighed against the misfit (Schwarz 1978).
        """
        cost = self._cost_of_alike()
        rough = int(np.argmin(cost)) + 1
        tried = range(max(rough - _NEARBY, 1), min(rough + _NEARBY, len(cost)) + 1)
        return min(tried, key=lambda m: float(cost[m - 1]) + self._cost_of_balance(m))

    def _cost_of_alike(self) -> FloatArray:
        """Misfit of stays that are alike, less what it saves, by number of workers from 1."""
        log, most = np.log(np.maximum(self.stay_s, 1e-9)), MOST_WORKERS
        own = np.minimum(self.found, most)
        count = np.bincount(own, minlength=most + 1).astype(np.float64)
        total = np.bincount(own, weights=log, minlength=most + 1)
        square = np.bincount(own, weights=log * log, minlength=most + 1)
        mean = total / np.maximum(count, 1.0)
        within = float(np.sum(square - count * mean**2)) / max(len(log) - most, 1)
        seen = np.cumsum(count)
        alike = np.cumsum(count * mean**2) - np.cumsum(total) ** 2 / np.maximum(seen, 1.0)
        cost = alike / max(within, 1e-12) - np.cumsum(count > 0.0) * math.log(len(log))
        # No more workers than were ever needed.
        return np.asarray(cost[: min(int(self.found.max(initial=0)) + 1, most)])

    def _cost_of_balance(self, workers: int) -> float:
        """What the difference of both means costs, at its network floor, which costs, too."""
        alone = self.found < workers
        if not alone.any():
            return math.inf
        balance = _Balance.of(self, workers, alone)
        floor = balance.likeliest_floor_s()
        _, difference, spread = balance.at(floor)
        return (difference / spread) ** 2 + (math.log(len(self.stay_s)) if floor > 0.0 else 0.0)

    def worked_s(self, workers: int, floor_s: float) -> FloatArray:
        return np.concatenate([b.worked_s(workers, floor_s) for b in self.busy])

    def work(self, workers: int, alone: NDArray[np.bool_]) -> UnorderedWork:
        balance = _Balance.of(self, workers, alone)
        floor = balance.likeliest_floor_s()
        worked, difference, spread = balance.at(floor)
        every = float(worked.sum() / balance.departures.sum())
        slope = balance.slope(floor)
        raw = self.stay_s[alone] - floor
        demand = np.maximum(raw, _LEAST_SHARE * float(np.median(raw)))
        log, block = np.log(demand), self.block[alone]
        time = [group_test(log, block // spell) for spell in _SPELLS]
        return UnorderedWork(
            workers=workers,
            floor_s=floor,
            demand_s=demand * (every / float(demand.mean())),
            block=block,
            worked_s=worked,
            departures=balance.departures,
            waited_share=float(np.mean(~alone)),
            clumped_share=clumped_share(self.done_s, self.block),
            jump=_jump(self.stay_s, alone),
            imbalance=(difference / every, difference / spread),
            state=group_test(log, self.found[alone]),
            future=group_test(centred(log, block), quantile_bins(self.later[alone])),
            time=min(time, key=lambda t: t.p_value),
            trend=trend(log, block),
            slope=slope,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Balance:
    """Mean demand of those that started at once against the time worked per departure."""

    pool: _Pool
    workers: int
    count: FloatArray
    stay_s: FloatArray
    departures: FloatArray
    most_s: float

    @classmethod
    def of(cls, pool: _Pool, workers: int, alone: NDArray[np.bool_]) -> _Balance:
        departures = np.concatenate([b.departures() for b in pool.busy])
        own, blocks = pool.block[alone], len(departures)
        return cls(
            pool,
            workers,
            np.bincount(own, minlength=blocks).astype(np.float64),
            np.bincount(own, weights=pool.stay_s[alone], minlength=blocks).astype(np.float64),
            departures,
            float(np.quantile(pool.stay_s, _FASTEST)),
        )

    def at(self, floor_s: float) -> tuple[FloatArray, float, float]:
        """Time worked per block, the difference of both means, and its standard error."""
        worked = self.pool.worked_s(self.workers, floor_s)
        n, m = float(self.count.sum()), float(self.departures.sum())
        one, every = float(self.stay_s.sum()) / n, float(worked.sum()) / m
        own = (self.stay_s - one * self.count) / n - (worked - every * self.departures) / m
        return worked, one - floor_s - every, math.sqrt(float(own @ own)) or 1e-12

    def likeliest_floor_s(self) -> float:
        """The floor under which both means agree; none when in doubt."""
        _, difference, spread = self.at(0.0)
        if difference < _FLOOR_Z * spread:
            return 0.0
        low, high = 0.0, self.most_s
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            if self.at(middle)[1] > 0.0:
                low = middle
            else:
                high = middle
        return 0.5 * (low + high)

    def slope(self, floor_s: float) -> tuple[float, float]:
        """Change of the difference, and of the mean of all, per second of floor."""
        low, high = floor_s, floor_s + _STEP * self.most_s
        (w0, d0, _), (w1, d1, _) = self.at(low), self.at(high)
        step, m = max(high - low, 1e-12), float(self.departures.sum())
        return min((d1 - d0) / step, -0.05), float(w1.sum() - w0.sum()) / m / step


def _jump(stay_s: FloatArray, alone: NDArray[np.bool_]) -> float:
    """Rise of the stay of those that had to wait, as a t value; 0 without any."""
    waited, once = stay_s[~alone], stay_s[alone]
    if len(waited) < MIN_GROUP:
        return 0.0
    error = math.hypot(
        float(waited.std(ddof=1)) / len(waited) ** 0.5, float(once.std(ddof=1)) / len(once) ** 0.5
    )
    return float(waited.mean() - once.mean()) / max(error, 1e-12)
