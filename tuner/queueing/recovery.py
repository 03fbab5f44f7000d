"""Work recovery: what each request asked of the server, solved from its times.

The client knows when every request was sent and answered, so for a hypothesised server the
service demand of each can be solved for. The right hypothesis (number of workers, network
floor) makes demands positive, independent of how many requests were there on arrival, of
who comes later, and stable in time. Poisson arrivals do not look at the server, so the
state found is a fair instrument for the first of these tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tuner.queueing.hypotheses import Candidate, Hypothesis, least_misfit, weigh
from tuner.queueing.independence import (
    MIN_GROUP,
    STATE_BINS,
    GroupTest,
    centred,
    group_test,
    quantile_bins,
    tolerant_misfit,
    trend,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NEGATIVE_SHARE_LIMIT = 0.005
"""More than this share of demands below zero by more than jitter is a wrong model."""
JITTER = 0.1
"""Jitter of the network makes short demands negative, by no more than this share of the
median stay beyond the floor."""
NEGATIVE_COST = 0.25
"""Chi-squared of a demand more negative than that: not impossible, as jitter has its own tail."""
TRIM = 0.02
"""Demands below this share of the median are raised to it."""
TOLERATED = 0.005
"""Demands of a real server differ this much between states for reasons of their own: without
it, a wrong server whose demands are noisy would explain services that are all alike best."""
LOG_TRIM = 0.2
"""Before taking logarithms they are raised to this share: jitter is large in the logarithm of
a tiny demand, which says nothing about the server."""
MAX_WORKERS = 128
_EXTRA_WORKERS = 4
_FASTEST = 0.01
"""Jitter lets so many requests seem faster than the floor."""
_EXPLAINED = 1e-3
_NO_BETTER = 2
"""So many more workers are tried in vain, and twice as many where none explains the times."""
_BLOCK_S = 5.0
_SPELLS = (1, 4, 12)
"""Blocks joined for the test of time: a drift is slow, a noisy neighbour is not."""
_TOGETHER = 0.05
"""Answers closer than this share of their mean gap count as given together."""
_SCORED = 40_000
_DRAWN_BLOCKS = 24
"""A short record is cut finer than by the clock, so that its bootstrap has enough to draw."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A stretch of requests that one instance served, in order of sending.

    Parameters
    ----------
    sent_s, done_s
        Shape (n,), seconds on one clock, sent ascending.
    payload_class
        Shape (n,).
    from_s
        Requests sent before it are context only: what was in flight at the start is unknown.
    stage
        Stage index, for messages.
    """

    sent_s: FloatArray
    done_s: FloatArray
    payload_class: NDArray[np.uint16]
    from_s: float
    stage: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RecoveredWork:
    """Demands under the simplest server that explains the times.

    Parameters
    ----------
    workers, floor_s
        The server: requests at once, and time a request spends outside it.
    demand_s, payload_class, block
        Per request, shape (n,); ``block`` numbers stretches of about five seconds.
    negative_share
        Requests that left before the model lets them start.
    waited_share
        Requests that had to wait, under the model: without any, the workers are unknown.
    clumped_share
        Requests answered together with another: far more than chance where a server batches.
    state, future, time
        Demand against requests found on arrival, requests arriving afterwards, and time.
    state_within
        As ``state`` with the mean of each block taken out: what time does not explain.
    trend
        Change of ln demand from the first to the last measured request, with its t value.
    trend_within
        The same among requests that found as many on arrival and were followed by as many:
        what the load does not explain.
    stay_s
        Time in flight, shape (n,).
    hypotheses
        Plausible servers with their chances; this one is the likeliest number of workers
        with its mean floor, or without one when that is more likely than not.
    """

    workers: int
    floor_s: float
    demand_s: FloatArray
    payload_class: NDArray[np.uint16]
    block: IntArray
    negative_share: float
    waited_share: float
    clumped_share: float
    state: GroupTest
    state_within: GroupTest
    future: GroupTest
    time: GroupTest
    trend: tuple[float, float]
    trend_within: tuple[float, float]
    stay_s: FloatArray
    hypotheses: tuple[Hypothesis, ...]

    def resampled(self, rng: np.random.Generator) -> IntArray:
        """Rows of one bootstrap over blocks of time."""
        order = np.argsort(self.block, kind="stable")
        edges = np.searchsorted(self.block[order], np.arange(int(self.block.max()) + 2))
        if len(edges) - 1 < _DRAWN_BLOCKS:
            edges = np.linspace(0, len(order), _DRAWN_BLOCKS + 1).astype(np.int64)
        drawn = rng.integers(len(edges) - 1, size=len(edges) - 1)
        return np.concatenate([order[edges[b] : edges[b + 1]] for b in drawn])

    def demand_under(self, hypothesis: Hypothesis) -> FloatArray:
        """Demands if that server were the true one, shape (n,)."""
        demand = np.minimum(self.stay_s - hypothesis.floor_s, hypothesis.spare_s)
        return np.maximum(demand, _least(demand))


def running_departures(done_s: FloatArray) -> Iterator[FloatArray]:
    """The m-th latest departure among earlier requests, for m = 1, 2, ...

    With m workers serving in order of arrival, a request starts when it arrives or when
    all but m-1 of the requests before it have left, whichever is later.

    Parameters
    ----------
    done_s
        Departures in order of arrival, shape (n,).

    Yields
    ------
    Shape (n,), minus infinity where fewer than m requests came before.

    Notes
    -----
    What a running maximum displaces is the input of the next: O(n) per worker.
    """
    rest = np.asarray(done_s, dtype=np.float64)
    while True:
        before = np.concatenate([[-np.inf], np.maximum.accumulate(rest)[:-1]])
        yield before
        rest = np.minimum(rest, before)


def in_system(sent_s: FloatArray, done_s: FloatArray) -> IntArray:
    """Requests found on arrival, shape (n,), for sending times ascending."""
    gone = np.searchsorted(np.sort(done_s), sent_s, side="right")
    return np.asarray(np.maximum(np.arange(len(sent_s)) - gone, 0), dtype=np.int64)


def recover(segments: Sequence[Segment], *, max_workers: int = MAX_WORKERS) -> RecoveredWork | None:
    """Demands under the simplest first-come-first-served server that explains the times.

    Parameters
    ----------
    segments
        Stretches served by single instances of the same kind.
    max_workers
        Largest number of workers to try.

    Returns
    -------
    RecoveredWork or None
        None when no number of workers leaves few enough negative demands; otherwise the
        best, whose tests may still reject it: the caller decides.

    References
    ----------
    Asanjarani, Nazarathy, Taylor (2021), A survey of parameter and state estimation in
    queues, Queueing Systems 97 (arXiv 2012.14614); Wolff (1982), Poisson arrivals see time
    averages, Oper. Res. 30.
    """
    pool = _Pool.of(segments)
    if pool.size < 5 * MIN_GROUP:
        return None
    candidates: list[Candidate] = []
    rough: list[float] = []
    thresholds: dict[int, FloatArray] = {}
    for workers, threshold in enumerate(pool.thresholds(), start=1):
        if workers > max_workers or pool.will_do(candidates, rough):
            break
        if pool.negatives(threshold, 0.0) > NEGATIVE_SHARE_LIMIT:
            continue
        candidates.append(pool.candidate(workers, threshold))
        thresholds[workers] = threshold
        if not pool.anyone_waits(threshold):
            break
    if not candidates:
        return None
    hypotheses = weigh(candidates, pool.largest_floor_s())
    workers = hypotheses[0].workers
    same = [h for h in hypotheses if h.workers == workers]
    total = sum(h.weight for h in same)
    floor = sum(h.weight * h.floor_s for h in same) / total
    if sum(h.weight for h in same if h.floor_s == 0.0) >= 0.5 * total:
        floor = 0.0
    return pool.work(workers, floor, thresholds[workers], hypotheses)


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """The measured requests of all segments, with the instruments of the tests."""

    segments: tuple[Segment, ...]
    kept: tuple[NDArray[np.bool_], ...]
    sent_s: FloatArray
    done_s: FloatArray
    state: IntArray
    bins: IntArray
    later: IntArray
    block: IntArray
    payload_class: NDArray[np.uint16]
    jitter_s: float

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> _Pool:
        kept = tuple(s.sent_s >= s.from_s for s in segments)
        pairs = list(zip(segments, kept, strict=True))
        state = [in_system(s.sent_s, s.done_s)[k] for s, k in pairs]
        later = [_later_arrivals(s)[k] for s, k in pairs]
        blocks, offset = [], 0
        for s, k in pairs:
            number = np.floor((s.sent_s[k] - s.from_s) / _BLOCK_S).astype(np.int64)
            blocks.append(number + offset)
            offset += int(number.max(initial=0)) + 1
        empty = np.zeros(0)
        stay = np.concatenate([empty, *(s.done_s[k] - s.sent_s[k] for s, k in pairs)])
        found = np.concatenate([empty.astype(np.int64), *state])
        return cls(
            tuple(segments),
            kept,
            np.concatenate([empty, *(s.sent_s[k] for s, k in pairs)]),
            np.concatenate([empty, *(s.done_s[k] for s, k in pairs)]),
            found,
            quantile_bins(found),
            np.concatenate([empty.astype(np.int64), *later]),
            np.concatenate([empty.astype(np.int64), *blocks]),
            np.concatenate([empty.astype(np.uint16), *(s.payload_class[k] for s, k in pairs)]),
            JITTER * float(np.median(stay) - _fastest(stay)) if len(stay) else 0.0,
        )

    @property
    def size(self) -> int:
        return len(self.sent_s)

    def thresholds(self) -> Iterator[FloatArray]:
        chains = [running_departures(s.done_s) for s in self.segments]
        while True:
            yield np.concatenate([next(c)[k] for c, k in zip(chains, self.kept, strict=True)])

    def demand(self, threshold: FloatArray, floor_s: float) -> FloatArray:
        return np.asarray(self.done_s - np.maximum(self.sent_s + floor_s, threshold))

    def negatives(self, threshold: FloatArray, floor_s: float) -> float:
        """Share of demands that are negative by more than jitter makes them."""
        return float(np.mean(self.demand(threshold, floor_s) < -self.jitter_s))

    def will_do(self, candidates: Sequence[Candidate], rough: list[float]) -> bool:
        """Whether the workers tried so far will do; ``rough`` keeps their misfits.

        Services all alike never overtake, so too few workers need not make a demand negative:
        where no candidate explains the times, more workers are tried while that helps.
        """
        from scipy.special import chdtri

        if len(candidates) <= _EXTRA_WORKERS:
            return False
        top = self.largest_floor_s()
        rough.extend(least_misfit(c, top) for c in candidates[len(rough) :])
        best = int(np.argmin(rough))
        well = rough[best] < float(chdtri(max(int(self.bins.max()), 1), _EXPLAINED))
        return best < len(rough) - (_NO_BETTER if well else 2 * _NO_BETTER)

    def anyone_waits(self, threshold: FloatArray) -> bool:
        return bool((threshold > self.sent_s).any())

    def candidate(self, workers: int, threshold: FloatArray) -> Candidate:
        """A number of workers, with its misfit at any floor; each negative demand counts.

        The misfit is the chi-squared of demand against the state, on a thinned sample of a long
        record. Floors are tried by the hundred and many of them twice.
        """
        stay, spare = self.done_s - self.sent_s, self.done_s - threshold
        cost = NEGATIVE_COST * self.size
        impossible = spare < -self.jitter_s
        shortest = np.sort(stay[~impossible])
        always = int(np.count_nonzero(impossible))
        thin = slice(None, None, max(1, self.size // _SCORED))
        thin_stay, thin_spare = stay[thin].copy(), spare[thin].copy()
        bins = self.bins[thin].copy()

        @cache
        def misfit(floor_s: float) -> float:
            log = _log(np.minimum(thin_stay - floor_s, thin_spare))
            negative = always + int(np.searchsorted(shortest, floor_s - self.jitter_s))
            return tolerant_misfit(log, bins, TOLERATED) + cost * (negative / self.size)

        return Candidate(workers, misfit, spare, float(np.mean(threshold > self.sent_s)))

    def largest_floor_s(self) -> float:
        return max(_fastest(self.done_s - self.sent_s), 0.0)

    def work(
        self,
        workers: int,
        floor_s: float,
        threshold: FloatArray,
        hypotheses: tuple[Hypothesis, ...],
    ) -> RecoveredWork:
        raw = self.demand(threshold, floor_s)
        log = _log(raw)
        waits = threshold > self.sent_s + floor_s
        return RecoveredWork(
            workers=workers,
            floor_s=floor_s,
            demand_s=np.maximum(raw, _least(raw)),
            payload_class=self.payload_class,
            block=self.block,
            negative_share=float(np.mean(raw < 0.0)),
            waited_share=float(np.mean(waits)),
            clumped_share=clumped_share(self.done_s, self.block),
            state=group_test(log, self.bins),
            state_within=group_test(centred(log, self.block), self.bins),
            future=self._future(centred(log, self.block), waits),
            time=self._time(log),
            trend=trend(log, self.block),
            trend_within=trend(log, self.block, self.bins * STATE_BINS + quantile_bins(self.later)),
            stay_s=self.done_s - self.sent_s,
            hypotheses=hypotheses,
        )

    def _time(self, log: FloatArray) -> GroupTest:
        """Demand against blocks of five seconds, and of longer spells of them."""
        tests = [group_test(log, self.block // spell) for spell in _SPELLS]
        return min(tests, key=lambda t: t.p_value)

    def _future(self, log: FloatArray, waits: NDArray[np.bool_]) -> GroupTest:
        """Demand against later arrivals: of all requests, and of those that waited.

        Stages of higher load have more of both when the server drifts: the means of blocks
        are taken out before.
        """
        every = group_test(log, quantile_bins(self.later))
        waiting = group_test(log[waits], quantile_bins(self.later[waits]))
        return min(every, waiting, key=lambda t: t.p_value)


def _fastest(stay_s: FloatArray) -> float:
    """Time in flight that hardly a request is faster than."""
    return float(np.quantile(stay_s, _FASTEST))


def clumped_share(done_s: FloatArray, block: IntArray) -> float:
    """Share of answers that come together with the one before, inside blocks of time."""
    order = np.lexsort((done_s, block))
    gap, same = np.diff(done_s[order]), np.diff(block[order]) == 0
    gap = gap[same]
    return float(np.mean(gap < _TOGETHER * gap.mean())) if len(gap) else 0.0


def _later_arrivals(segment: Segment) -> IntArray:
    """Arrivals within one median latency after each request's own."""
    reach = float(np.median(segment.done_s - segment.sent_s)) if len(segment.sent_s) else 0.0
    end = np.searchsorted(segment.sent_s, segment.sent_s + reach, side="right")
    return np.asarray(end - np.arange(1, len(segment.sent_s) + 1), dtype=np.int64)


def _least(demand_s: FloatArray, share: float = TRIM) -> float:
    """The smallest demand taken at its word; a thinned median is as good and much faster."""
    return max(share * float(np.median(demand_s[:: max(1, len(demand_s) // 5000)])), 1e-9)


def _log(demand_s: FloatArray) -> FloatArray:
    least = _least(demand_s, LOG_TRIM)
    return np.asarray(np.log(np.maximum(demand_s, least)))
