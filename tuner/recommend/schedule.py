"""A minimum that follows the clock: for surges that come at known times."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds
from tuner.recommend.choose import Budgets, meets, plain_shares
from tuner.recommend.evaluate import Choice, World, grid_of, scores_of
from tuner.recommend.search import Ground
from tuner.recommend.types import Schedule, Window
from tuner.simulator.simulate import simulate
from tuner.units import MINUTES_PER_DAY, per_min_to_per_s, s_to_min

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

MOST_WINDOWS = 6
SLOT_MIN = 30
"""Schedules change on the half hour: finer ones are not maintained by anybody."""


def minimum_by_minute(days: FloatArray, ground: Ground, lead_min: int, lowest: int) -> IntArray:
    """Instances needed in each half hour of the day, brought forward by the lead, (1440,).

    In each slot the largest need of any day counts.
    """
    counts = np.arange(1, ground.rates_low.size + 1)
    carried = np.maximum.accumulate(ground.rates_low * counts)
    need = 1 + np.searchsorted(carried, per_min_to_per_s(1.0) * days.max(axis=0), side="left")
    reach = np.concatenate([need, need[: lead_min + 1]])
    ahead = np.lib.stride_tricks.sliding_window_view(reach, lead_min + 1).max(axis=1)[: need.size]
    slots = ahead.reshape(-1, SLOT_MIN).max(axis=1)
    calm = merged(np.maximum(slots, lowest).astype(np.int64))
    result: IntArray = np.repeat(calm, SLOT_MIN).astype(np.int64)
    return result


def merged(slots: IntArray) -> IntArray:
    """At most `MOST_WINDOWS` levels over the slots, never below what a slot needs.

    Neighbouring windows are joined at the higher level, the pair that wastes least first.
    """
    runs = [(int(level), 1) for level in slots]
    while True:
        pairs = list(itertools.pairwise(runs))
        waste = [(max(a, b) - a) * n + (max(a, b) - b) * m for (a, n), (b, m) in pairs]
        if not waste or (len(runs) <= MOST_WINDOWS and min(waste) > 0):
            break
        i = waste.index(min(waste))
        (a, n), (b, m) = pairs[i]
        runs[i : i + 2] = [(max(a, b), n + m)]
    return np.repeat([level for level, _ in runs], [n for _, n in runs])


def windows_of(by_minute: IntArray) -> tuple[Window, ...]:
    """The changes of a minimum over the day; the first window starts at midnight."""
    starts = np.flatnonzero(np.diff(by_minute, prepend=-1))
    return tuple(Window(int(s), int(by_minute[s])) for s in starts)


def schedule_for(
    world: World, ground: Ground, choice: Choice, budgets: Budgets, made_from: IntArray
) -> Schedule | None:
    """A schedule under a policy whose own minimum is the lowest allowed; None for part days.

    ``made_from`` are indices of the days whose needs make the windows.
    """
    policy, bounds = choice
    if policy is None or world.days.shape[1] != MINUTES_PER_DAY:
        return None
    days = world.days[made_from]
    lead_min = math.ceil(s_to_min(max(world.launch.seconds)) + 1.0)
    by_minute = minimum_by_minute(days, ground, lead_min, ground.lowest_minimum)
    by_minute = np.minimum(by_minute, ground.ceiling)
    low = CapacityBounds(ground.lowest_minimum, max(bounds.max_capacity, int(by_minute.max())))
    table = replace(
        world.table, saturation_rate_per_s=world.table.saturation_rate_per_s * world.low_factor
    )
    options = replace(world.options(policy.metric), min_capacity_by_minute=by_minute)
    grid = grid_of([(policy, low)])
    result = simulate(grid, world.days, table, world.launch, seed=world.seed, options=options)
    scores = scores_of(world, result)
    shares = plain_shares(scores)
    return Schedule(
        windows=windows_of(by_minute),
        policy=policy,
        bounds=low,
        instance_hours_per_day=float(scores.cost[0]),
        violating_share=float(shares[0][0]),
        bad_minute_share=float(shares[1][0]),
        meets=bool(meets(shares, budgets).all[0]),
    )
