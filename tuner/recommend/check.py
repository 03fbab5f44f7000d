"""The chosen policy once more, request by request, over the hardest stretch that is affordable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import ScalingMetric
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import RoutingStrategy
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.evaluate import Choice, World
from tuner.recommend.types import Statement
from tuner.simulator.des import RequestModel, run_requests
from tuner.simulator.timeline import Timeline

FloatArray = NDArray[np.float64]
SHORTEST_MIN = 2
FOLLOWED = 4
"""Instances followed of a large fleet, where they do not depend on each other."""
CALM_BEFORE_MIN = 2
"""Quiet minutes that fill the queues before an overload begins."""


def stretch(minutes: FloatArray, delay_s: FloatArray, worst: int, most_requests: float) -> range:
    """The longest stretch around minute ``worst`` within ``most_requests``.

    It begins where nothing waits: before the overload that the worst minute is part of. From
    there it grows to the worst minute, then by one minute on each side in turn; where the
    requests do not last that far, it is the beginning of the overload.

    Parameters
    ----------
    minutes, delay_s
        Shape (m,): requests of each minute, and the wait that a backlog causes.
    """
    calm = np.flatnonzero(delay_s[: worst + 1] <= 0.0)
    first = max(0, (int(calm[-1]) if calm.size else 0) - CALM_BEFORE_MIN)
    last, left = first, float(most_requests)
    while last <= worst and minutes[last] <= left:
        left -= float(minutes[last])
        last += 1
    if last <= worst:
        return range(first, last)
    while True:
        before = float(minutes[first - 1]) if first > 0 and delay_s[first - 1] <= 0.0 else np.inf
        after = float(minutes[last]) if last < minutes.size else np.inf
        earlier = worst - first <= last - worst or after > left
        if earlier and before <= left:
            first, left = first - 1, left - before
        elif after <= left:
            last, left = last + 1, left - after
        elif before <= left:
            first, left = first - 1, left - before
        else:
            return range(first, last)


def check_by_requests(
    capacity: CapacityModel, world: World, choice: Choice, day: Timeline, most_requests: int
) -> Statement | None:
    """Compare both simulators on the hardest stretch of a day; None without a request model.

    Only a policy on invocations can be replayed so, with a known service demand. Under RANDOM
    routing a large fleet is thinned to a few instances and their requests; under
    LEAST_OUTSTANDING_REQUESTS all instances depend on each other, and the stretch is shorter.
    """
    policy, bounds = choice
    known = capacity.demand_quantile_s.size > 0 and capacity.workers > 0
    if policy is None or policy.metric is not ScalingMetric.INVOCATIONS or not known:
        return None
    if capacity.binding is None:
        return None
    model = RequestModel(
        service=ServiceTime.empirical(capacity.demand_quantile_s),
        workers=capacity.workers,
        routing=RoutingStrategy(capacity.routing),
        threshold_s=capacity.binding.threshold_s,
        floor_s=capacity.floor_s,
    )
    every = 1
    if model.routing is RoutingStrategy.RANDOM:
        every = max(1, int(day.in_service.max()) // FOLLOWED)
    late = day.violation_share * day.requests_per_min
    worst = int(np.argmax(late))
    part = stretch(day.requests_per_min, day.delay_s, worst, most_requests * every)
    if len(part) < SHORTEST_MIN:
        return Statement(
            "request_check",
            f"Not replayed request by request: {SHORTEST_MIN} minutes of the hardest day have "
            f"more than the {most_requests} requests that are affordable under this routing.",
        )
    rng = np.random.default_rng([world.seed, part.start])
    # What comes after the stretch changes nothing in it.
    until = day.requests_per_min[: part.stop]
    exact = run_requests(policy, bounds, until, model, world.launch, rng, minutes=part, every=every)
    here = slice(part.start, part.stop)
    offered, missed = day.requests_per_min[here], late[here]
    bad = float(np.mean(missed > world.allowance * offered))
    share = float(missed.sum() / max(float(offered.sum()), 1.0))
    sample = f", {exact.followed} of them on one instance in {every}" if every > 1 else ""
    return Statement(
        "request_check",
        f"Replayed request by request over the hardest {len(part)} minutes of the hardest day, "
        f"from minute {part.start} ({int(exact.requests.sum())} requests{sample}): "
        f"{exact.violating_share:.3%} slow and {exact.bad_minute_share(world.allowance):.1%} of "
        f"minutes bad; the search's simulator says {share:.3%} and {bad:.1%}.",
        exact.violating_share,
        "share of requests",
    )
