"""A fixed fleet under a given stream of arrivals, as fast as plain Python allows.

For plain instances (independent workers, first come first served, no queue limit) a request's
end follows from a few comparisons; anything else is handed to the full model.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace

import numpy as np
from numpy.typing import NDArray

from tuner.fleet.model import Fate, Fleet
from tuner.fleet.router import LeastOutstandingRouter
from tuner.fleet.service import FloatArray, endless_uniform
from tuner.fleet.spec import FleetSpec, RoutingStrategy


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What became of each arrival; all arrays have shape (n,), in order of arrival.

    ``done_s`` is infinite where ``ok`` is False.
    """

    done_s: FloatArray
    ok: NDArray[np.bool_]


class _Member:
    __slots__ = ("free_s", "outstanding", "slot")

    def __init__(self, workers: int) -> None:
        self.free_s = [-np.inf] * workers
        self.outstanding = 0
        self.slot = -1


def lindley(arrival_s: FloatArray, service_s: FloatArray) -> FloatArray:
    """Ends of service of one FIFO worker, shape (n,).

    References
    ----------
    Lindley (1952), "The theory of queues with a single server": the recursion
    D_i = max(A_i, D_{i-1}) + S_i, solved by a running maximum over the partial sums.
    """
    work = np.cumsum(service_s)
    ends: FloatArray = work + np.maximum.accumulate(arrival_s - (work - service_s))
    return ends


def _fifo(arrival_s: FloatArray, service_s: FloatArray, workers: int) -> FloatArray:
    """Ends of service of ``workers`` FIFO workers (Kiefer and Wolfowitz 1955)."""
    if workers == 1:
        return lindley(arrival_s, service_s)
    free = [-np.inf] * workers
    ends = []
    for arrival, service in zip(arrival_s.tolist(), service_s.tolist(), strict=True):
        start = free[0]
        end = (arrival if arrival > start else start) + service
        heapreplace(free, end)
        ends.append(end)
    return np.array(ends, dtype=np.float64)


def _random(
    spec: FleetSpec, arrival_s: FloatArray, service_s: FloatArray, rng: np.random.Generator
) -> FloatArray:
    if spec.instance_count == 1:
        return _fifo(arrival_s, service_s, spec.instance.workers)
    chosen = rng.integers(0, spec.instance_count, len(arrival_s))
    done = np.empty(len(arrival_s))
    for index in range(spec.instance_count):
        mine = chosen == index
        done[mine] = _fifo(arrival_s[mine], service_s[mine], spec.instance.workers)
    return done


def _least_outstanding(
    spec: FleetSpec, arrival_s: FloatArray, service_s: FloatArray, rng: np.random.Generator
) -> FloatArray:
    router = LeastOutstandingRouter[_Member](endless_uniform(rng))
    for _ in range(spec.instance_count):
        router.add(_Member(spec.instance.workers))
    events: list[tuple[float, int, _Member]] = []
    pick, release = router.pick, router.release
    done = []
    pairs = zip(arrival_s.tolist(), service_s.tolist(), strict=True)
    for number, (arrival, service) in enumerate(pairs):
        while events and events[0][0] <= arrival:
            release(heappop(events)[2])
        member = pick()
        assert member is not None
        start = member.free_s[0]
        end = (arrival if arrival > start else start) + service
        heapreplace(member.free_s, end)
        heappush(events, (end, number, member))
        done.append(end)
    return np.array(done, dtype=np.float64)


def _by_events(
    spec: FleetSpec,
    arrival_s: FloatArray,
    rng: np.random.Generator,
    request_bytes: NDArray[np.int64] | None,
) -> Simulated:
    fleet = Fleet(spec, rng, now=float(arrival_s[0]) if len(arrival_s) else 0.0)
    done = np.full(len(arrival_s), np.inf)
    ok = np.zeros(len(arrival_s), dtype=np.bool_)
    sizes = [0] * len(arrival_s) if request_bytes is None else request_bytes.tolist()
    ended = []
    for index, (arrival, size) in enumerate(zip(arrival_s.tolist(), sizes, strict=True)):
        fleet.submit(arrival, index, size)
        ended += fleet.advance(arrival)
    while (due := fleet.next_event_s()) != np.inf:
        ended += fleet.advance(due)
    for end in ended:
        if end.fate is Fate.OK:
            done[end.tag] = end.done_s
            ok[end.tag] = True
    return Simulated(done, ok)


def simulate(
    spec: FleetSpec,
    arrival_s: FloatArray,
    rng: np.random.Generator,
    *,
    request_bytes: NDArray[np.int64] | None = None,
) -> Simulated:
    """Offer ``arrival_s`` to a fleet of fixed size and say when each request is done.

    Parameters
    ----------
    spec
        The fleet; its initial instances are in service throughout.
    arrival_s
        Ascending arrival times in seconds, shape (n,).
    rng
        Source of service times and routing.
    request_bytes
        Body sizes, shape (n,), for payload-dependent service.

    Raises
    ------
    ValueError
        If the arrivals are not ascending and finite.
    """
    if len(arrival_s) and (not np.all(np.isfinite(arrival_s)) or np.any(np.diff(arrival_s) < 0)):
        raise ValueError("arrivals must be finite and ascending")
    instance = spec.instance
    if not instance.plain or instance.queue_limit is not None or spec.instance_count == 0:
        return _by_events(spec, arrival_s, rng, request_bytes)
    service, routing, overhead = rng.spawn(3)
    service_s = instance.service.sample(service, len(arrival_s))
    if request_bytes is not None:
        service_s = service_s + instance.per_byte_s * request_bytes
    least = spec.routing is RoutingStrategy.LEAST_OUTSTANDING_REQUESTS and spec.instance_count > 1
    done = (_least_outstanding if least else _random)(spec, arrival_s, service_s, routing)
    done = done + instance.overhead.sample(overhead, len(arrival_s))
    ok = done - arrival_s <= spec.timeout_s
    return Simulated(np.where(ok, done, np.inf), ok)
