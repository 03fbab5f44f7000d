"""One policy over one stretch of traffic, request by request.

The fluid simulator answers for thousands of policies; this answers for the one that was
chosen, with another method: every request has its own arrival, service time, instance and
wait, and the control loop is `ScalableTarget`, the shell that the emulator runs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.autoscaling.kernel import wanted_capacity
from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.autoscaling.target import ScalableTarget
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import RoutingStrategy
from tuner.simulator.inputs import LaunchLag
from tuner.units import SECONDS_PER_HOUR, SECONDS_PER_MINUTE

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RequestModel:
    """What a request meets: independent workers per instance, first come first served.

    ``floor_s`` is added to every latency and occupies no worker.
    """

    service: ServiceTime
    workers: int
    routing: RoutingStrategy
    threshold_s: float
    floor_s: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1 or not self.threshold_s > 0.0 or self.floor_s < 0.0:
            raise ValueError("need workers >= 1, threshold > 0 and floor >= 0")


@dataclass(frozen=True, slots=True, eq=False)
class RequestResult:
    """What became of the requests.

    Parameters
    ----------
    requests, violating
        Shape (minutes,): by the minute of arrival, of the minutes replayed. Where only some
        instances were followed, ``violating`` is scaled up to all.
    in_service
        Shape (minutes,): mean instances taking traffic, of the whole record.
    instance_hours
        Instances from order to end, over the whole record.
    followed
        Requests that were really replayed.
    """

    requests: NDArray[np.int64]
    violating: NDArray[np.int64]
    in_service: FloatArray
    instance_hours: float
    followed: int

    @property
    def violating_share(self) -> float:
        """Share of all requests that miss the SLO."""
        total = int(self.requests.sum())
        return float(self.violating.sum()) / total if total else 0.0

    def bad_minute_share(self, allowance: float) -> float:
        """Share of minutes with more than ``allowance`` of their requests missing it."""
        return float(np.mean(self.violating > allowance * self.requests))


@dataclass(frozen=True, slots=True, eq=False)
class FleetPlan:
    """Counts in service over time: ``count[i]`` from ``start_s[i]`` on; ordered seconds."""

    start_s: FloatArray
    count: NDArray[np.int64]
    instance_seconds: float


def run_requests(
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    requests_per_min: ArrayLike,
    model: RequestModel,
    launch: LaunchLag,
    rng: np.random.Generator,
    *,
    publish_delay_s: float = 60.0,
    minutes: range | None = None,
    every: int = 1,
) -> RequestResult:
    """Replay a record of traffic under one policy on invocations per instance.

    Each minute's requests arrive at random moments of it, which is what a Poisson process
    does given its count.

    Parameters
    ----------
    policy, bounds
        The policy; only ``ScalingMetric.INVOCATIONS`` does not depend on the queue.
    requests_per_min
        Shape (minutes,), rounded to whole requests.
    model
        Service and routing.
    launch
        Launch lag of each instance.
    rng
        All chance.
    publish_delay_s
        From a minute's end until its datapoint is seen, in whole minutes.
    minutes
        Consecutive minutes whose requests are replayed, beginning with nothing waiting; None
        is all. The fleet follows the whole record either way.
    every
        Follow every so-manieth instance only, with the requests that come its way. Under
        RANDOM routing instances are independent given the fleet, so this thins the requests
        and changes no distribution; under LEAST_OUTSTANDING_REQUESTS it must be 1.

    Raises
    ------
    ValueError
        If traffic is empty or has gaps, the policy follows another metric, or instances that
        depend on each other are to be followed alone.
    """
    traffic = np.asarray(requests_per_min, np.float64)
    if traffic.ndim != 1 or not traffic.size or not np.isfinite(traffic).all():
        raise ValueError("traffic must be a non-empty row of minutes without gaps")
    if policy.metric is not ScalingMetric.INVOCATIONS:
        raise ValueError(f"request by request only invocations are followed, got {policy.metric}")
    if every < 1 or (every > 1 and model.routing is not RoutingStrategy.RANDOM):
        raise ValueError(f"cannot follow one instance in {every} under {model.routing}")
    requests = np.rint(traffic).astype(np.int64)
    control, service = rng.spawn(2)
    plan = plan_fleet(policy, bounds, requests, launch, control, publish_delay_s=publish_delay_s)
    part = range(len(requests)) if minutes is None else minutes
    if every > 1:
        violating, followed = _serve_some(plan, requests, part, model, service, every)
    else:
        violating = _serve(plan, requests, part, model, service)
        followed = int(requests[part.start : part.stop].sum())
    edges: FloatArray = np.arange(len(requests) + 1, dtype=np.float64) * SECONDS_PER_MINUTE
    in_service = np.diff(_integral(plan, edges)) / SECONDS_PER_MINUTE
    hours = plan.instance_seconds / SECONDS_PER_HOUR
    served = slice(part.start, part.stop)
    return RequestResult(requests[served], violating[served], in_service, hours, followed)


def plan_fleet(
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    requests: NDArray[np.int64],
    launch: LaunchLag,
    rng: np.random.Generator,
    *,
    publish_delay_s: float = 60.0,
) -> FleetPlan:
    """Counts over time that the policy orders for these requests per minute."""
    minute_s = SECONDS_PER_MINUTE
    end_s = len(requests) * minute_s
    first = int(wanted_capacity(1.0, float(requests[0]), policy.target_value))
    desired = min(max(first, bounds.min_capacity), bounds.max_capacity)
    target = ScalableTarget("endpoint/simulated/variant/AllTraffic", bounds)
    target.put_policy(0.0, "policy", policy)
    changes: list[tuple[float, int]] = [(0.0, desired)]
    arrivals: list[float] = []
    published: deque[tuple[float, float, float]] = deque()
    ordered_s = desired * end_s
    count = desired
    for minute, number in enumerate(requests.tolist()):
        now_s = (minute + 1) * minute_s
        share_s, at_s = 0.0, minute * minute_s
        while arrivals and arrivals[0] <= now_s:
            moment = max(heappop(arrivals), at_s)
            share_s += (moment - at_s) / max(count, 1)
            count, at_s = count + 1, moment
            changes.append((moment, count))
        share_s += (now_s - at_s) / max(count, 1)
        # Sum over the minute's requests of 1 / instances in service at their arrival.
        metric = number * share_s / minute_s
        published.append((now_s + publish_delay_s, metric, minute_s / share_s))
        activity = target.in_progress
        if activity is not None and not arrivals:
            target.finish(activity.activity_id, at_s)
        while published and published[0][0] <= now_s:
            _, value, measured = published.popleft()
            target.observe(now_s, ScalingMetric.INVOCATIONS, value, measured)
        activity = target.evaluate(now_s, desired, updating=count < desired)
        if activity is None:
            continue
        ordered_s += (activity.desired - desired) * (end_s - now_s)
        if activity.desired > desired:
            lags = rng.choice(np.array(launch.seconds), size=activity.desired - desired)
            arrivals = sorted((now_s + lags).tolist())
        else:
            count = activity.desired
            changes.append((now_s, count))
            target.finish(activity.activity_id, now_s)
        desired = activity.desired
    return FleetPlan(
        np.array([t for t, _ in changes]),
        np.array([c for _, c in changes], dtype=np.int64),
        ordered_s,
    )


def _integral(plan: FleetPlan, at_s: FloatArray) -> FloatArray:
    """Instance-seconds in service from 0 until each moment."""
    span = np.diff(plan.start_s)
    total = np.concatenate([[0.0], np.cumsum(span * plan.count[:-1])])
    here = np.searchsorted(plan.start_s, at_s, side="right") - 1
    result: FloatArray = total[here] + (at_s - plan.start_s[here]) * plan.count[here]
    return result


def _segments(plan: FleetPlan, minutes: range) -> Iterator[list[tuple[float, float, int]]]:
    """Of each minute: pieces of constant count, (start, end, instances in service)."""
    step = int(np.searchsorted(plan.start_s, minutes.start * SECONDS_PER_MINUTE, "right")) - 1
    for minute in minutes:
        at_s, end_s = minute * SECONDS_PER_MINUTE, (minute + 1) * SECONDS_PER_MINUTE
        pieces = []
        while step + 1 < len(plan.start_s) and plan.start_s[step + 1] < end_s:
            change_s = float(plan.start_s[step + 1])
            if change_s > at_s:
                pieces.append((at_s, change_s, int(plan.count[step])))
            at_s, step = change_s, step + 1
        pieces.append((at_s, end_s, int(plan.count[step])))
        yield pieces


def _serve(
    plan: FleetPlan,
    requests: NDArray[np.int64],
    minutes: range,
    model: RequestModel,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Requests of each minute that miss the SLO."""
    violating = np.zeros(len(requests), np.int64)
    fleet: _Fleet = (
        _RandomFleet(model.workers)
        if model.routing is RoutingStrategy.RANDOM
        else _LeastFleet(model.workers)
    )
    for minute, pieces in zip(minutes, _segments(plan, minutes), strict=True):
        number = int(requests[minute])
        at_s = (minute + np.sort(rng.random(number))) * SECONDS_PER_MINUTE
        work_s = model.service.sample(rng, number)
        room_s = model.threshold_s - model.floor_s - work_s
        done = 0
        for _, end_s, count in pieces:
            fleet.resize(count)
            end = int(np.searchsorted(at_s, end_s, side="left"))
            if end > done:
                wait_s = fleet.waits(at_s[done:end], work_s[done:end], rng)
                violating[minute] += np.count_nonzero(wait_s > room_s[done:end])
            done = end
    return violating


def _serve_some(
    plan: FleetPlan,
    requests: NDArray[np.int64],
    minutes: range,
    model: RequestModel,
    rng: np.random.Generator,
    every: int,
) -> tuple[NDArray[np.int64], int]:
    """`_serve` of every so-manieth instance, scaled up; and how many requests they got."""
    violating = np.zeros(len(requests), np.int64)
    fleet = _RandomFleet(model.workers)
    followed = 0
    for minute, pieces in zip(minutes, _segments(plan, minutes), strict=True):
        lengths = np.array([end - start for start, end, _ in pieces])
        numbers = rng.multinomial(int(requests[minute]), lengths / lengths.sum())
        late = 0.0
        for (start_s, end_s, count), number in zip(pieces, numbers.tolist(), strict=True):
            fleet.resize(-(-count // every))
            own = len(fleet.free)
            if not own:
                late += number
                continue
            mine = int(rng.binomial(number, own / count))
            at_s = start_s + np.sort(rng.random(mine)) * (end_s - start_s)
            work_s = model.service.sample(rng, mine)
            wait_s = fleet.waits(at_s, work_s, rng)
            room_s = model.threshold_s - model.floor_s - work_s
            late += np.count_nonzero(wait_s > room_s) * count / own
            followed += mine
        violating[minute] = min(round(late), int(requests[minute]))
    return violating, followed


class _RandomFleet:
    """Each request goes to an instance drawn at random."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.free: list[list[float]] = []

    def resize(self, count: int) -> None:
        del self.free[count:]
        self.free.extend([-math.inf] * self.workers for _ in range(count - len(self.free)))

    def waits(self, at_s: FloatArray, work_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        count = len(self.free)
        if not count:
            return np.full(len(at_s), np.inf)
        chosen = rng.integers(0, count, len(at_s))
        order = np.argsort(chosen, kind="stable")
        ends = np.searchsorted(chosen[order], np.arange(count), side="right").tolist()
        arrive, work = at_s[order].tolist(), work_s[order].tolist()
        begun = []
        first = 0
        for free, last in zip(self.free, ends, strict=True):
            for t, s in zip(arrive[first:last], work[first:last], strict=True):
                soonest = free[0]
                start = t if t > soonest else soonest
                heapreplace(free, start + s)
                begun.append(start - t)
            first = last
        result = np.empty(len(at_s))
        result[order] = begun
        return result


class _Member:
    """An instance behind the least-outstanding router."""

    __slots__ = ("free", "place")

    def __init__(self, place: int, workers: int) -> None:
        self.place = place
        self.free = [-math.inf] * workers


class _LeastFleet:
    """Each request goes to an instance with the fewest in flight, ties at random."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.members: list[_Member] = []
        self.outstanding: list[int] = []
        self.done: list[tuple[float, int, _Member]] = []
        self.turn = 0

    def resize(self, count: int) -> None:
        for member in self.members[count:]:
            member.place = -1
        del self.members[count:], self.outstanding[count:]
        for place in range(len(self.members), count):
            self.members.append(_Member(place, self.workers))
            self.outstanding.append(0)

    def waits(self, at_s: FloatArray, work_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        if not self.members:
            return np.full(len(at_s), np.inf)
        done, outstanding, members = self.done, self.outstanding, self.members
        begun = []
        tie = rng.integers(0, len(members), len(at_s)).tolist()
        turn = self.turn
        for t, s, k in zip(at_s.tolist(), work_s.tolist(), tie, strict=True):
            while done and done[0][0] <= t:
                place = heappop(done)[2].place
                if place >= 0:
                    outstanding[place] -= 1
            least = min(outstanding)
            place = k if outstanding[k] == least else -1
            if place < 0:
                ties = outstanding.count(least)
                place = outstanding.index(least)
                for _ in range(k % ties):
                    place = outstanding.index(least, place + 1)
            member = members[place]
            outstanding[place] += 1
            soonest = member.free[0]
            start = t if t > soonest else soonest
            heapreplace(member.free, start + s)
            turn += 1
            heappush(done, (start + s, turn, member))
            begun.append(start - t)
        self.turn = turn
        return np.array(begun)


_Fleet = _RandomFleet | _LeastFleet
