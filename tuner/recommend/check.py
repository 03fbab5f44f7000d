"""The chosen policy once more, request by request, over the hardest stretch that is affordable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import ScalingMetric
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import RoutingStrategy
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.evaluate import Choice, World, grid_of, score
from tuner.recommend.types import Statement
from tuner.simulator.des import RequestModel, run_requests

FloatArray = NDArray[np.float64]
SHORTEST_MIN = 10
"""A surge, its alarm and a launch: less would show a fleet that cannot react."""


def stretch(minutes: FloatArray, worst: int, most_requests: int) -> slice | None:
    """The longest stretch around minute ``worst`` within ``most_requests``; None if too short.

    It grows by one minute on each side in turn, so that what led to the worst is in it.
    """
    first, last, total = worst, worst + 1, float(minutes[worst])
    while True:
        before = float(minutes[first - 1]) if first > 0 else np.inf
        after = float(minutes[last]) if last < minutes.size else np.inf
        if total + min(before, after) > most_requests:
            break
        if before <= most_requests - total and (worst - first <= last - worst or after == np.inf):
            first, total = first - 1, total + before
        elif after <= most_requests - total:
            last, total = last + 1, total + after
        else:
            first, total = first - 1, total + before
    return slice(first, last) if last - first >= SHORTEST_MIN else None


def check_by_requests(
    capacity: CapacityModel,
    world: World,
    choice: Choice,
    day: FloatArray,
    worst_minute: int,
    most_requests: int,
) -> Statement | None:
    """Compare both simulators on one stretch; None when there is nothing to check with.

    Only a policy on invocations can be replayed so, with a known service demand, and with a
    stretch of at least `SHORTEST_MIN` minutes within ``most_requests``.
    """
    policy, bounds = choice
    part = stretch(day, worst_minute, most_requests)
    known = capacity.demand_quantile_s.size > 0 and capacity.workers > 0
    if policy is None or policy.metric is not ScalingMetric.INVOCATIONS or not known:
        return None
    if part is None or capacity.binding is None:
        return None
    model = RequestModel(
        service=ServiceTime.empirical(capacity.demand_quantile_s),
        workers=capacity.workers,
        routing=RoutingStrategy(capacity.routing),
        threshold_s=capacity.binding.threshold_s,
        floor_s=capacity.floor_s,
    )
    rng = np.random.default_rng([world.seed, part.start])
    exact = run_requests(policy, bounds, day[part], model, world.launch, rng)
    fluid = score(world, grid_of([choice]), days=day[part][None])
    return Statement(
        "request_check",
        f"Replayed request by request over the hardest {part.stop - part.start} minutes "
        f"({int(exact.requests.sum())} requests): {exact.violating_share:.3%} slow and "
        f"{exact.bad_minute_share(world.allowance):.1%} of minutes bad; the search's simulator "
        f"says {float(fluid.violating_share[0]):.3%} and {float(fluid.bad[0, 0]):.1%}.",
        exact.violating_share,
        "share of requests",
    )
