"""Which piece of the traffic tries a policy hardest, and what is expected of it there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.errors import InputError
from tuner.recommend.evaluate import World, grid_of, roomy
from tuner.recommend.rates import scaled_table
from tuner.simulator.inputs import LaunchLag, SimulationOptions
from tuner.simulator.simulate import simulate, timeline
from tuner.simulator.timeline import Timeline
from tuner.units import s_to_min

FloatArray = NDArray[np.float64]

CANDIDATES = 400
"""Stretches simulated: those whose load rises most."""
REACTION_MIN = 5
"""Three datapoints, the delay until the last is published, and the minute it is acted in."""
NEAR = 0.99
"""Stretches with this share of the most late requests are equally hard; the rise decides."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A stretch of one day. ``requests_per_min`` has shape (minutes,)."""

    day: int
    first_minute: int
    requests_per_min: FloatArray
    start_count: int
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What may be expected of a policy on a replay; arrays of shape (minutes,).

    Parameters
    ----------
    likely
        At the middle of the capacity.
    least_in_service
        Fewest instances over the ways in which the simulation may be slow: the longest launch
        lag, and minutes that begin up to one later than the endpoint's.
    worst_share
        Most late requests over the same ways, at the low end of the capacity.
    """

    likely: Timeline
    least_in_service: FloatArray
    worst_share: FloatArray


def replay_minutes(launch: LaunchLag) -> int:
    """Minutes that show a scale-out and what comes after: reaction, launch, and as much again."""
    return 2 * (REACTION_MIN + math.ceil(s_to_min(max(launch.seconds))))


def hardest_piece(
    world: World,
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    *,
    start_count: int,
    minutes: int,
    most_requests: float = math.inf,
) -> Piece:
    """The stretch with the most late requests expected of those that may begin as things are.

    A stretch may begin where ``start_count`` instances carry the first minute within the
    target, as they would have on the day itself; and its surge must come early enough for the
    scale-out that answers it to be seen.

    Raises
    ------
    InputError
        If no stretch of the traffic is that long, that small, or begins that low.
    """
    if world.days.shape[1] < minutes:
        raise InputError(
            "the traffic is shorter than the replay",
            value=f"{world.days.shape[1]} min",
            hint="replay fewer minutes: --minutes N",
        )
    if policy.metric is not ScalingMetric.INVOCATIONS:
        raise InputError(
            "a replay can be predicted for policies on invocations only",
            value=policy.metric.value,
            allowed=ScalingMetric.INVOCATIONS.value,
        )
    windows = sliding_window_view(world.days, minutes, axis=1).reshape(-1, minutes)
    at = np.arange(len(windows))
    fits = windows.sum(axis=1) <= most_requests
    if not fits.any():
        raise InputError(
            "every stretch of the traffic has more requests than may be sent",
            value=f"{windows.sum(axis=1).min():.0f} requests in {minutes} min",
            allowed=f"{most_requests:.0f}",
            hint="raise load.max_requests, or replay fewer minutes: --minutes N",
        )
    carried = policy.target_value * start_count
    fits &= (windows[:, 0] <= carried) & (windows[:, 0] > 0)
    if not fits.any():
        raise InputError(
            f"no stretch of the traffic begins with as little as {start_count} instances carry",
            value=f"{world.days.min():.0f} requests in the quietest minute",
            allowed=f"{carried:.0f} at target {policy.target_value:g}",
            hint="scale the endpoint out first, or raise the minimum",
        )
    at = at[fits]
    head = _head(minutes, world.launch)
    rise = windows[at, :head].max(axis=1) - windows[at, 0]
    at = at[np.argsort(-rise, kind="stable")[:CANDIDATES]]
    late = _late(world, policy, bounds, windows[at, :head], start_count)
    hard = at[late >= NEAR * late.max()]
    rise = windows[hard, :head].max(axis=1) - windows[hard, 0]
    chosen = int(hard[np.argmax(rise)])
    day, first = divmod(chosen, world.days.shape[1] - minutes + 1)
    load = windows[chosen].copy()
    return Piece(day, first, load, start_count, _sentence(day, first, load, start_count))


def _head(minutes: int, launch: LaunchLag) -> int:
    """Minutes in which the surge must come, so that the answer to it is still replayed."""
    answer = REACTION_MIN + math.ceil(s_to_min(max(launch.seconds)))
    return max(minutes - answer, minutes // 2, 1)


def _late(
    world: World,
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    windows: FloatArray,
    start_count: int,
) -> FloatArray:
    """Late requests expected in each stretch at the low end of the capacity."""
    grid = grid_of([(policy, bounds)])
    options = roomy(_options(world, policy, start_count), grid)
    table = scaled_table(world.table, world.low_factor)
    found = simulate(grid, windows, table, world.launch, seed=world.seed, options=options)
    late: FloatArray = found.violating_requests[0]
    return late


def _sentence(day: int, first: int, load: FloatArray, start_count: int) -> str:
    last, top = first + len(load), int(np.argmax(load))
    low = float(load[: top + 1].min())
    grown = f", {load[top] / low - 1.0:.0%} more" if low > 0.0 else ""
    return (
        f"day {day + 1}, {first // 60:02d}:{first % 60:02d} to {last // 60:02d}:{last % 60:02d}, "
        f"from {load[0]:.0f} requests per minute on {start_count} "
        f"instance{'' if start_count == 1 else 's'} to {load[top]:.0f} in minute {top + 1}{grown}"
    )


def forecast(
    world: World,
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    requests_per_min: FloatArray,
    start_count: int,
) -> Forecast:
    """Simulate the requests that were really sent, from the count that was really there."""
    grid = grid_of([(policy, bounds)])
    options = _options(world, policy, start_count)
    slowest = LaunchLag.of(max(world.launch.seconds))
    low = scaled_table(world.table, world.low_factor)
    later = np.concatenate([requests_per_min[:1], requests_per_min[:-1]])
    likely = timeline(
        grid, 0, requests_per_min, world.table, world.launch, seed=world.seed, options=options
    )
    slow = [
        timeline(grid, 0, load, low, slowest, seed=world.seed, options=options)
        for load in (requests_per_min, later)
    ]
    return Forecast(
        likely,
        np.minimum.reduce([likely.in_service, *(t.in_service for t in slow)]),
        np.maximum.reduce([likely.violation_share, *(t.violation_share for t in slow)]),
    )


def _options(world: World, policy: TargetTrackingPolicy, start_count: int) -> SimulationOptions:
    # The replay is Poisson inside a minute, whatever the recorded traffic was.
    return replace(world.options(policy.metric), dispersion=1.0, initial_capacity=start_count)
