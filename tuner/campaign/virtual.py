"""The load backend over simulated instances on a virtual clock: minutes in milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.types import (
    GeneratorHealth,
    ProgressCallback,
    ScaleEvent,
    StageResult,
    StageSpec,
)
from tuner.fleet.model import Completion, Fate, Fleet
from tuner.fleet.quick import simulate
from tuner.fleet.spec import FleetSpec
from tuner.stats.histogram import windows_of
from tuner.stats.requests import FloatArray, Outcome, RequestLog
from tuner.workload.arrivals import arrival_rng, arrival_times, payload_rng

KindArray = NDArray[np.uint16]
OutcomeArray = NDArray[np.uint8]

WINDOW_S = 1.0
_OUTCOME = {
    Fate.OK: Outcome.OK,
    Fate.QUEUE_FULL: Outcome.THROTTLED,
    Fate.TIMED_OUT: Outcome.TIMEOUT,
    Fate.INSTANCE_LOST: Outcome.CONNECTION,
    Fate.NO_CAPACITY: Outcome.OTHER,
}


@dataclass(frozen=True, slots=True, eq=False)
class _Ended:
    """How requests ended, in order of arrival; times from the start of the stage's load."""

    done_s: FloatArray
    outcome: OutcomeArray
    first_s: FloatArray
    gap_s: FloatArray


Slowdown = Callable[[float], float]
"""Factor on service time at a virtual time in seconds since the start of the campaign."""


@dataclass(frozen=True, slots=True)
class PayloadClass:
    """A share of the requests whose service takes ``factor`` times as long.

    ``request_bytes`` is the size of their bodies, for service that depends on it.
    """

    name: str
    share: float
    factor: float = 1.0
    request_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Streaming:
    """Answers come in ``chunks`` parts: the first after a share of the service, then evenly."""

    first_share: float
    chunks: int


@dataclass(frozen=True, slots=True)
class Network:
    """Time outside the fleet: a constant, and an exponential jitter on answers."""

    floor_s: float = 0.0
    jitter_s: float = 0.0


class VirtualBackend:
    """Offers stages to a simulated fleet; implements `LoadBackend`.

    Parameters
    ----------
    fleet
        The endpoint; its initial instance count is replaced by `set_instance_count`.
    seed
        Of everything the endpoint does; arrivals come from the stage's own seed.
    slowdown
        Service gets slower or faster with time; None is a steady server.
    classes
        Payload classes; none is one class.
    network
        Floor and jitter between client and endpoint.
    streaming
        How answers are streamed; None sends each whole.
    """

    def __init__(
        self,
        fleet: FleetSpec,
        *,
        seed: int,
        slowdown: Slowdown | None = None,
        classes: tuple[PayloadClass, ...] = (),
        network: Network | None = None,
        streaming: Streaming | None = None,
    ) -> None:
        self._spec = fleet
        self._count = fleet.instance_count
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 17]))
        self._slowdown = slowdown
        self._classes = classes
        self._network = network or Network()
        self._streaming = streaming
        self._now_s = 0.0
        plain = fleet.instance.plain and fleet.instance.queue_limit is None
        steady = fleet.instance.cold_start is None and slowdown is None
        simple = plain and steady and not classes and streaming is None
        self._fleet = None if simple else Fleet(fleet, self._rng.spawn(1)[0])

    @property
    def now_s(self) -> float:
        """Virtual seconds since the start."""
        return self._now_s

    def set_instance_count(self, count: int) -> ScaleEvent:
        """Change the count; the clock moves on until the last instance takes traffic."""
        before, ordered = self._count, self._now_s
        if self._fleet is not None and count != before:
            self._fleet.set_instance_count(self._now_s, count)
            while len([i for i in self._fleet.instances() if i[2].value == "starting"]):
                self._now_s = self._fleet.next_event_s()
                self._fleet.advance(self._now_s)
        elif count > before:
            lags = self._spec.launch_lag.sample(self._rng, count - before)
            self._now_s += float(np.max(lags))
        self._count = count
        return ScaleEvent(before, count, ordered, self._now_s)

    def measure(self, stage: StageSpec, progress: ProgressCallback | None = None) -> StageResult:
        """Offer the stage and let the clock run until its last answer."""
        start, whole = self._now_s, stage.settle_s + stage.duration_s
        arrival = arrival_times(stage.arrivals, stage.rate_per_s, whole, arrival_rng(stage.seed))
        kind = self._payloads(stage, len(arrival))
        ended = self._simple(arrival) if self._fleet is None else self._by_events(arrival, kind)
        outside = np.full(len(arrival), self._network.floor_s)
        if self._network.jitter_s > 0.0:
            outside += self._rng.exponential(self._network.jitter_s, len(arrival))
        self._now_s = max(self._now_s, start + whole)
        log = RequestLog.from_times(
            arrival - stage.settle_s,
            ended.done_s + outside - stage.settle_s,
            first_chunk_s=ended.first_s + outside - stage.settle_s,
            outcome=ended.outcome,
            payload_class=kind,
            longest_gap_s=ended.gap_s,
        )
        return _result(stage, log, start + stage.settle_s)

    def _payloads(self, stage: StageSpec, n: int) -> KindArray:
        if not self._classes:
            return np.zeros(n, np.uint16)
        share = [c.share for c in self._classes]
        return payload_rng(stage.seed).choice(len(share), size=n, p=share).astype(np.uint16)

    def _simple(self, arrival_s: FloatArray) -> _Ended:
        spec = replace(self._spec, instance_count=self._count)
        run = simulate(spec, arrival_s, self._rng.spawn(1)[0])
        late = arrival_s + spec.timeout_s
        outcome = np.where(run.ok, int(Outcome.OK), int(Outcome.TIMEOUT)).astype(np.uint8)
        whole = np.full(len(arrival_s), np.nan)
        return _Ended(np.where(run.ok, run.done_s, late), outcome, whole, whole)

    def _by_events(self, arrival_s: FloatArray, kind: KindArray) -> _Ended:
        fleet = self._fleet
        assert fleet is not None
        start = self._now_s
        factor = [c.factor for c in self._classes] or [1.0]
        size = [c.request_bytes for c in self._classes] or [0]
        ended: list[Completion] = fleet.advance(start)
        ended.clear()
        for i, offset in enumerate(arrival_s.tolist()):
            now = start + offset
            slower = self._slowdown(now) if self._slowdown is not None else 1.0
            which = int(kind[i])
            fleet.submit(now, i, size[which], slowdown=factor[which] * slower)
            ended += fleet.advance(now)
        # What is still in flight is answered before the next stage begins.
        while (due := fleet.next_event_s()) != np.inf:
            ended += fleet.advance(due)
            self._now_s = due
        return self._told(ended, start)

    def _told(self, ended: list[Completion], start_s: float) -> _Ended:
        n, stream = len(ended), self._streaming
        found = _Ended(np.zeros(n), np.zeros(n, np.uint8), np.full(n, np.nan), np.full(n, np.nan))
        for end in ended:
            found.done_s[end.tag] = end.done_s - start_s
            found.outcome[end.tag] = _OUTCOME[end.fate]
            if stream is not None and end.fate is Fate.OK:
                served = end.done_s - end.started_s
                first = end.started_s + stream.first_share * served
                found.first_s[end.tag] = first - start_s
                found.gap_s[end.tag] = (end.done_s - first) / max(stream.chunks - 1, 1)
        return found


def _result(stage: StageSpec, whole: RequestLog, opened_s: float) -> StageResult:
    log = whole.between(0.0, math.inf)
    end = stage.duration_s
    settling = whole.scheduled_s < 0.0
    at_start = int(np.count_nonzero(settling & (whole.done_s > 0.0)))
    at_end = int(np.count_nonzero(whole.done_s > end))
    health = GeneratorHealth(
        asked_rate_per_s=stage.rate_per_s,
        achieved_rate_per_s=len(log) / stage.duration_s,
        send_lag_p99_s=0.0,
        loop_lag_p99_s=0.0,
        cpu_share_max=0.0,
        in_flight_max=0,
        in_flight_cap=0,
        workers=1,
        arrivals_ks_p_value=None,
        arrivals_dispersion=None,
    )
    return StageResult(
        spec=stage,
        started_at_unix_s=opened_s,
        log=log,
        windows=windows_of(log, WINDOW_S),
        health=health,
        in_flight_at_start=at_start,
        in_flight_at_end=at_end,
    )
