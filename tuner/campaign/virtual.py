"""The load backend over simulated instances on a virtual clock: minutes in milliseconds."""

from __future__ import annotations

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

Slowdown = Callable[[float], float]
"""Factor on service time at a virtual time in seconds since the start of the campaign."""


@dataclass(frozen=True, slots=True)
class PayloadClass:
    """A share of the requests whose service takes ``factor`` times as long."""

    name: str
    share: float
    factor: float = 1.0


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
    """

    def __init__(
        self,
        fleet: FleetSpec,
        *,
        seed: int,
        slowdown: Slowdown | None = None,
        classes: tuple[PayloadClass, ...] = (),
        network: Network | None = None,
    ) -> None:
        self._spec = fleet
        self._count = fleet.instance_count
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 17]))
        self._slowdown = slowdown
        self._classes = classes
        self._network = network or Network()
        self._now_s = 0.0
        plain = fleet.instance.plain and fleet.instance.queue_limit is None
        simple = plain and fleet.instance.cold_start is None and slowdown is None and not classes
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
        if self._fleet is None:
            done, outcome = self._simple(arrival)
        else:
            done, outcome = self._by_events(arrival, kind)
        done = done + self._network.floor_s
        if self._network.jitter_s > 0.0:
            done = done + self._rng.exponential(self._network.jitter_s, len(done))
        opened = start + stage.settle_s
        self._now_s = max(self._now_s, start + whole)
        arrival, done = arrival - stage.settle_s, done - stage.settle_s
        return _result(stage, arrival, done, outcome, kind, opened)

    def _payloads(self, stage: StageSpec, n: int) -> KindArray:
        if not self._classes:
            return np.zeros(n, np.uint16)
        share = [c.share for c in self._classes]
        return payload_rng(stage.seed).choice(len(share), size=n, p=share).astype(np.uint16)

    def _simple(self, arrival_s: FloatArray) -> tuple[FloatArray, OutcomeArray]:
        spec = replace(self._spec, instance_count=self._count)
        run = simulate(spec, arrival_s, self._rng.spawn(1)[0])
        late = arrival_s + spec.timeout_s
        outcome = np.where(run.ok, int(Outcome.OK), int(Outcome.TIMEOUT)).astype(np.uint8)
        return np.where(run.ok, run.done_s, late), outcome

    def _by_events(self, arrival_s: FloatArray, kind: KindArray) -> tuple[FloatArray, OutcomeArray]:
        fleet = self._fleet
        assert fleet is not None
        start = self._now_s
        factor = [c.factor for c in self._classes] or [1.0]
        done = np.zeros(len(arrival_s))
        outcome = np.zeros(len(arrival_s), np.uint8)
        ended: list[Completion] = fleet.advance(start)
        ended.clear()
        for i, offset in enumerate(arrival_s.tolist()):
            now = start + offset
            slower = self._slowdown(now) if self._slowdown is not None else 1.0
            fleet.submit(now, i, slowdown=factor[int(kind[i])] * slower)
            ended += fleet.advance(now)
        # What is still in flight is answered before the next stage begins.
        while (due := fleet.next_event_s()) != np.inf:
            ended += fleet.advance(due)
            self._now_s = due
        for end in ended:
            done[end.tag] = end.done_s - start
            outcome[end.tag] = _OUTCOME[end.fate]
        return done, outcome


def _result(
    stage: StageSpec,
    scheduled_s: FloatArray,
    done_s: FloatArray,
    outcome: OutcomeArray,
    kind: KindArray,
    opened_s: float,
) -> StageResult:
    inside = scheduled_s >= 0.0
    log = RequestLog.from_times(
        scheduled_s[inside], done_s[inside], outcome=outcome[inside], payload_class=kind[inside]
    )
    end = stage.duration_s
    at_start = int(np.count_nonzero(~inside & (done_s > 0.0)))
    at_end = int(np.count_nonzero(done_s > end))
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
