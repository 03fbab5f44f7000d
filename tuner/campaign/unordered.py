"""A server that takes its waiting requests in random order: recovered, simulated, and tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.evidence import Failures, segments, steady_failures
from tuner.campaign.held import STEPS, WARM, demand_gate
from tuner.campaign.model_based import lean
from tuner.campaign.server import CLUMPED_LIMIT, EFFECT_LIMIT, LEAST_WAITED
from tuner.campaign.types import StageResult
from tuner.fleet.unordered import unordered_latencies
from tuner.queueing.capacity import Gate
from tuner.queueing.recovery import Segment, in_system
from tuner.queueing.unordered import UnorderedWork, recover_unordered
from tuner.stats.requests import FloatArray

IntArray = NDArray[np.int64]

Unordered = tuple[FloatArray, float]
"""Demands and network floor."""

_IMBALANCE_Z = 4.0
_JUMP_T = 5.0
_CHECK_LANES = 60
_SPELL_S = 10.0
_QUANTILES = np.array([0.25, 0.5, 0.75, 0.9])
_TOLERANCE = 0.02
"""A share of waiting requests may stray this much with the demands that were recovered."""


@dataclass(frozen=True, slots=True, eq=False)
class UnorderedFit:
    """The recovered server; ``gate`` says whether its demands are what they should be."""

    method: ClassVar[str] = "unordered_recovery"
    lanes: ClassVar[tuple[int, int]] = (720, 80)
    work: UnorderedWork
    failures: Failures
    gate: Gate
    segments: tuple[Segment, ...]

    def likeliest(self) -> Unordered:
        """The server itself."""
        return self.work.demand_s, self.work.floor_s

    def drawn(self, rng: np.random.Generator) -> Unordered:
        """The server had other blocks of time come."""
        return self.work.drawn(rng)

    @property
    def lean(self) -> float:
        """Correction of the interval for skewness."""
        return lean(self.work.demand_s)

    def alone_late(self, threshold_s: float) -> float:
        """Share of requests that take longer than this when nothing else is there."""
        return float(np.mean(self.work.demand_s > threshold_s - self.work.floor_s))

    def late(
        self,
        servers: Sequence[Unordered],
        rates_per_s: FloatArray,
        threshold_s: float,
        rng: np.random.Generator,
        lanes: int,
    ) -> FloatArray:
        """Share of late requests of each server at its load, shape (servers, lanes)."""
        _, latency = self._simulated(servers, rates_per_s, rng, lanes)
        floor = np.repeat([f for _, f in servers], lanes)
        late = (latency[WARM:] > threshold_s - floor).mean(axis=0)
        return np.asarray(late.reshape(len(servers), lanes))

    def _simulated(
        self,
        servers: Sequence[Unordered],
        rates_per_s: FloatArray,
        rng: np.random.Generator,
        lanes: int,
    ) -> tuple[FloatArray, FloatArray]:
        """Gaps and latencies within the server, shape (WARM + STEPS, servers * lanes)."""
        shape = (WARM + STEPS, lanes)
        gap, draw, choice = rng.standard_exponential(shape), rng.random(shape), rng.random(shape)
        demand = [np.sort(d)[(draw * len(d)).astype(np.int64)] for d, _ in servers]
        gaps = np.concatenate([gap / rate for rate in rates_per_s], axis=1)
        latency = unordered_latencies(
            gaps,
            np.concatenate(demand, axis=1),
            np.concatenate([choice] * len(servers), axis=1),
            self.work.workers,
        )
        return gaps, latency

    def checks(
        self, near: Sequence[StageResult], most: float, rng: np.random.Generator
    ) -> tuple[Gate, ...]:
        """Whether those that waited took as long as in random order.

        Requests late for the SLO are few; all that waited tell last come first served, and
        classes of priority, by how long they took.
        """
        rates = {r.spec.index: r.rate_per_instance_per_s for r in near}
        held = [s for s in self.segments if s.stage in rates]
        if not held:
            return ()
        seen = [_Crowd.of(s, self.work.workers) for s in held]
        worst = _strangest(seen, self._crowds(np.array([rates[s.stage] for s in held]), rng))
        passed = abs(worst.z) <= most
        return (
            Gate(
                "random_order",
                bool(passed),
                worst.z,
                f"shares of those that waited within {most:g} standard deviations",
                f"of the requests that had to wait {worst.share:.1%} took longer than "
                f"{worst.than_s * 1e3:.0f} ms, and "
                f"{worst.expected:.1%} do when a free worker takes any of those waiting",
                None if passed else "hold load around the limit: local regression needs no order",
            ),
        )

    def _crowds(self, rates_per_s: FloatArray, rng: np.random.Generator) -> list[_Crowd]:
        """Requests that had to wait, by simulation, at each load."""
        servers = [self.likeliest()] * len(rates_per_s)
        gap, latency = self._simulated(servers, rates_per_s, rng, _CHECK_LANES)
        sent = np.cumsum(gap, axis=0)
        done = sent + latency + self.work.floor_s
        kinds = np.zeros(len(sent), np.uint16)
        lanes = [
            _Crowd.of(
                Segment(sent[:, i], done[:, i], kinds, float(sent[WARM, i])), self.work.workers
            )
            for i in range(sent.shape[1])
        ]
        size = _CHECK_LANES
        return [_Crowd.joined(lanes[i : i + size]) for i in range(0, len(lanes), size)]


@dataclass(frozen=True, slots=True)
class _Compared:
    """How many of those that waited took longer, what the model expects, and the distance."""

    than_s: float
    share: float
    expected: float
    z: float


@dataclass(frozen=True, slots=True, eq=False)
class _Crowd:
    """Stays of the requests that had to wait, and the spells of time they were sent in."""

    stay_s: FloatArray
    spell: IntArray

    @classmethod
    def of(cls, segment: Segment, workers: int) -> _Crowd:
        sent, done = segment.sent_s, segment.done_s
        waits = (sent >= segment.from_s) & (in_system(sent, done) >= workers)
        spell = np.floor((sent - sent[0]) / _SPELL_S).astype(np.int64)
        return cls((done - sent)[waits], spell[waits])

    @classmethod
    def joined(cls, crowds: Sequence[_Crowd]) -> _Crowd:
        step = 1 + max(int(c.spell.max(initial=0)) for c in crowds)
        return cls(
            np.concatenate([c.stay_s for c in crowds]),
            np.concatenate([c.spell + i * step for i, c in enumerate(crowds)]),
        )


def _strangest(seen: Sequence[_Crowd], expected: Sequence[_Crowd]) -> _Compared:
    """The quantile of the model, weighted by load as seen, that is missed most clearly."""
    stay = np.concatenate([c.stay_s for c in expected])
    pairs = zip(seen, expected, strict=True)
    weight = np.concatenate(
        [np.full(len(e.stay_s), len(s.stay_s) / max(len(e.stay_s), 1)) for s, e in pairs]
    )
    every = _Crowd.joined(seen)
    worst = _Compared(0.0, 0.0, 0.0, 0.0)
    if not len(stay) or not len(every.stay_s):
        return worst
    order = np.argsort(stay)
    cumulative = np.cumsum(weight[order]) / weight.sum()
    for q in _QUANTILES:
        at = float(stay[order][min(np.searchsorted(cumulative, q), len(stay) - 1)])
        over = (every.stay_s > at).astype(np.float64)
        share, wanted = float(over.mean()), float(1.0 - q)
        away = np.bincount(every.spell, weights=over - share)
        error = math.sqrt(float(away @ away)) / len(over)
        z = (share - wanted) / math.hypot(error, _TOLERANCE)
        if abs(z) >= abs(worst.z):
            worst = _Compared(at, share, wanted, z)
    return worst


def fit_unordered(results: Sequence[StageResult]) -> UnorderedFit | None:
    """Recover such a server from every sound stage on one instance."""
    parts = segments(results)
    work = recover_unordered(parts)
    if work is None:
        return None
    return UnorderedFit(work, steady_failures(results), _gate(work), parts)


def _gate(work: UnorderedWork) -> Gate:
    against = []
    share, z = work.imbalance
    if abs(z) > _IMBALANCE_Z and abs(share) > EFFECT_LIMIT:
        against.append("whether a request waits")
    if work.clumped_share > CLUMPED_LIMIT:
        against.append("whose answers are given together")
    if work.waited_share < LEAST_WAITED or work.jump < _JUMP_T:
        against.append("a crowd that is too rare to see")
    server = (
        f"with {work.workers} requests in service at once that take any of those waiting next, "
    )
    return demand_gate("unordered", server, work, against)
