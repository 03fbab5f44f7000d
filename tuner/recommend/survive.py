"""How steep a ramp and how high a jump a policy survives, by simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.recommend.evaluate import Choice, World, grid_of, score
from tuner.simulator.inputs import LaunchLag

FloatArray = NDArray[np.float64]

QUIET_MIN = 20
HOLD_MIN = 45
RAMP_TO = 2.0
RAMPS_PER_MIN = np.array([0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.5])
JUMPS = np.array([1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0])
_EDGE = 0.999


@dataclass(frozen=True, slots=True)
class Survived:
    """Largest growth without one bad minute; 0 growth or factor 1 when none is survived.

    Parameters
    ----------
    ramp_per_min
        Growth per minute as a share of the load at the start, up to twice that load.
    jump
        Sudden factor.
    start_instances
        Fleet at the start, loaded to just under the target: the worst moment.
    """

    ramp_per_min: float
    jump: float
    start_instances: int


def start_of(world: World, choice: Choice) -> tuple[int, float]:
    """Instances and load per minute at the start: the mean traffic's fleet, at its target."""
    policy, bounds = choice
    mean = float(world.days.mean())
    if policy is None:
        return bounds.min_capacity, mean
    wanted = math.ceil(mean / policy.target_value)
    n = min(max(wanted, bounds.min_capacity), bounds.max_capacity)
    return n, n * policy.target_value * _EDGE


def events(start_per_min: float) -> FloatArray:
    """Traffic of every ramp and then every jump, shape (events, minutes)."""
    longest = math.ceil((RAMP_TO - 1.0) / float(RAMPS_PER_MIN[0]))
    since = np.arange(QUIET_MIN + longest + HOLD_MIN, dtype=np.float64) - QUIET_MIN
    ramps = 1.0 + RAMPS_PER_MIN[:, None] * np.maximum(since + 1.0, 0.0)[None]
    jumps = np.where(since >= 0.0, JUMPS[:, None], 1.0)
    rows: FloatArray = np.concatenate([np.minimum(ramps, RAMP_TO), jumps]) * start_per_min
    return rows


def survived(world: World, choice: Choice) -> Survived:
    """Simulate ramps and jumps at the low end of the capacity with the slowest launch seen."""
    n, start = start_of(world, choice)
    slowest = LaunchLag.of(max(world.launch.seconds))
    steady = replace(world, dispersion=1.0)
    scores = score(
        steady, grid_of([choice]), factor=world.low_factor, days=events(start), launch=slowest
    )
    good = scores.bad[0] == 0.0
    ramp = _largest(RAMPS_PER_MIN, good[: RAMPS_PER_MIN.size])
    jump = _largest(JUMPS, good[RAMPS_PER_MIN.size :])
    return Survived(ramp, max(jump, 1.0), n)


def _largest(values: FloatArray, good: NDArray[np.bool_]) -> float:
    """The largest value up to which everything is good; 0 when not even the first is."""
    run = np.logical_and.accumulate(good)
    return float(values[run][-1]) if run.any() else 0.0
