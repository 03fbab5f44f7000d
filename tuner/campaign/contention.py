"""A server whose requests slow each other down: recovered, simulated, and put to its gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tuner.campaign.evidence import Failures, segments, steady_failures
from tuner.campaign.held import STEPS, WARM, demand_gate
from tuner.campaign.types import StageResult
from tuner.fleet.shared import shared_latencies
from tuner.queueing.capacity import Gate
from tuner.queueing.contention import SharedWork, recover_shared
from tuner.queueing.sharing import contention_speed
from tuner.stats.requests import FloatArray

Shared = tuple[FloatArray, float, float]
"""Demands, contention and coherence."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedFit:
    """The recovered server; ``gate`` says whether its demands are what they should be."""

    method: ClassVar[str] = "contention_recovery"
    lanes: ClassVar[tuple[int, int]] = (360, 40)
    lean: ClassVar[float] = 0.0
    work: SharedWork
    failures: Failures
    gate: Gate

    def likeliest(self) -> Shared:
        """The server itself."""
        return self.work.demand_s, self.work.contention, self.work.coherence

    def drawn(self, rng: np.random.Generator) -> Shared:
        """The server had other blocks of time come."""
        return self.work.drawn(rng)

    def alone_late(self, threshold_s: float) -> float:
        """Share of requests that take longer than this when nothing else is there."""
        return float(np.mean(self.work.demand_s > threshold_s - self.work.floor_s))

    def late(
        self,
        servers: Sequence[Shared],
        rates_per_s: FloatArray,
        threshold_s: float,
        rng: np.random.Generator,
        lanes: int,
    ) -> FloatArray:
        """Share of late requests of each server at its load, shape (servers, lanes)."""
        shape = (WARM + STEPS, lanes)
        gap, draw = rng.standard_exponential(shape), rng.random(shape)
        demand = [np.sort(d)[(draw * len(d)).astype(np.int64)] for d, _, _ in servers]
        k = np.maximum(np.arange(self.work.places + 1), 1)
        speed = [
            np.repeat(contention_speed(k, a, b)[:, None], lanes, axis=1) for _, a, b in servers
        ]
        latency = shared_latencies(
            np.concatenate([gap / rate for rate in rates_per_s], axis=1),
            np.concatenate(demand, axis=1),
            np.concatenate(speed, axis=1),
        )
        late = (latency[WARM:] > threshold_s - self.work.floor_s).mean(axis=0)
        return np.asarray(late.reshape(len(servers), lanes))

    def checks(
        self, near: Sequence[StageResult], most: float, rng: np.random.Generator
    ) -> tuple[Gate, ...]:
        """Nothing beyond the late requests: who waits at all is part of the likelihood."""
        return ()


def fit_shared(results: Sequence[StageResult]) -> SharedFit | None:
    """Recover such a server from every sound stage on one instance."""
    work = recover_shared(segments(results))
    return None if work is None else SharedFit(work, steady_failures(results), _gate(work))


def _gate(work: SharedWork) -> Gate:
    server = (
        f"with {work.places} requests in service at once, each slowed by "
        f"{work.contention:.1%} per other one and {work.coherence:.2%} per pair, "
    )
    return demand_gate("contention", server, work)
