"""A minimum that follows the clock: for surges that come at known times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds
from tuner.recommend.actions import ScheduleRules, actions_of, week_of
from tuner.recommend.choose import Budgets, Scores, meets, plain_shares, upper_bounds
from tuner.recommend.evaluate import Choice, World, grid_of, scores_of
from tuner.recommend.search import Ground
from tuner.recommend.types import Schedule, Window
from tuner.simulator.simulate import simulate
from tuner.units import MINUTES_PER_DAY, s_to_min
from tuner.workload.days import DaySet

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FOLDS = 7
SLACK = 1.1
FORETOLD = 0.98
"""Below this share of foretold half hours (two surges in a hundred come at other times) the need
does not keep to the clock, however well the windows would have done so far."""
LEAST_OF_A_KIND = 2
MOST_WINDOWS = 6
SLOT_MIN = 30
"""Schedules change on the half hour: finer ones are not maintained by anybody."""


def slot_needs(days: FloatArray, ground: Ground) -> IntArray:
    """Largest need of each half hour of each day, shape (d, 48)."""
    slots: IntArray = ground.needed(days).reshape(days.shape[0], -1, SLOT_MIN).max(axis=2)
    return slots


def minimum_by_minute(
    days: FloatArray, ground: Ground, lead_min: int, lowest: int, most: int = MOST_WINDOWS
) -> IntArray:
    """Instances needed in each half hour of the day, brought forward by the lead, (1440,).

    In each slot the largest need of any day counts; at most ``most`` levels are left.
    """
    need = ground.needed(days.max(axis=0))
    reach = np.concatenate([need, need[: lead_min + 1]])
    ahead = np.lib.stride_tricks.sliding_window_view(reach, lead_min + 1).max(axis=1)[: need.size]
    slots = ahead.reshape(-1, SLOT_MIN).max(axis=1)
    calm = merged(np.maximum(slots, lowest).astype(np.int64), most)
    result: IntArray = np.repeat(calm, SLOT_MIN).astype(np.int64)
    return result


def merged(slots: IntArray, most: int = MOST_WINDOWS) -> IntArray:
    """At most ``most`` levels over the slots, never below what a slot needs.

    Neighbouring windows are joined at the higher level, the pair that wastes least first.
    """
    runs = [(int(level), 1) for level in slots]
    while True:
        pairs = list(itertools.pairwise(runs))
        waste = [(max(a, b) - a) * n + (max(a, b) - b) * m for (a, n), (b, m) in pairs]
        if not waste or (len(runs) <= most and min(waste) > 0):
            break
        i = waste.index(min(waste))
        (a, n), (b, m) = pairs[i]
        runs[i : i + 2] = [(max(a, b), n + m)]
    return np.repeat([level for level, _ in runs], [n for _, n in runs])


def windows_of(by_minute: IntArray) -> tuple[Window, ...]:
    """The changes of a minimum over the day; the first window starts at midnight."""
    starts = np.flatnonzero(np.diff(by_minute, prepend=-1))
    return tuple(Window(int(s), int(by_minute[s])) for s in starts)


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """What day a simulated day is.

    Parameters
    ----------
    weekend
        Shape (d,): whether a day of the record is a Saturday or Sunday.
    midnight
        Column of the days' minutes at which the local day begins.
    """

    weekend: BoolArray
    midnight: int

    @classmethod
    def of(cls, days: DaySet, start_minute_of_week: int) -> Calendar:
        """The calendar of days cut from a record."""
        begins = (start_minute_of_week + int(days.first_minute[0])) % MINUTES_PER_DAY
        return cls(days.weekend, -begins % MINUTES_PER_DAY)

    def groups(self) -> tuple[BoolArray, ...]:
        """Days that share their windows: weekdays and weekends if both were seen twice."""
        kinds = self.weekend
        if min(int(kinds.sum()), int((~kinds).sum())) >= LEAST_OF_A_KIND:
            return ~self.weekend, self.weekend
        return (np.ones(self.weekend.size, np.bool_),)


def schedule_for(
    world: World,
    ground: Ground,
    choice: Choice,
    budgets: Budgets,
    calendar: Calendar,
    rules: ScheduleRules | None = None,
) -> Schedule | None:
    """A schedule under a policy whose own minimum is the lowest allowed; None for part days.

    Windows come from all days. What is said of them is simulated on days they were not made
    from: each is held out in turn, with others, while windows are made from the rest. Without
    ``rules`` the schedule is a suggestion: nothing asked for it.
    """
    policy, bounds = choice
    asked = rules or ScheduleRules()
    groups = calendar.groups()
    if policy is None or world.days.shape[1] != MINUTES_PER_DAY:
        return None
    if asked.max_actions < len(groups):
        return None
    days = np.roll(world.days, -calendar.midnight, axis=1)
    lead_min = math.ceil(s_to_min(max(world.launch.seconds)) + 1.0)
    levels: list[IntArray] = []
    parts: list[Scores] = []
    left = asked.max_actions
    for group in reversed(groups):
        # Weekends first: what they do not need of the actions is the weekdays'.
        most = min(MOST_WINDOWS, left - (len(groups) - 1 - len(levels)))
        most = most if len(groups) == 1 or levels else min(most, asked.max_actions // 2)
        make = _Maker(ground, lead_min, most)
        levels.insert(0, make.level(days[group]))
        parts.insert(0, _held_out(world, choice, days[group], make, calendar.midnight))
        left -= len(windows_of(levels[0]))
    top = max(bounds.max_capacity, *(int(x.max()) for x in levels))
    scores = joined(parts)
    shares = plain_shares(scores)
    minimum = week_of(levels[0], levels[-1])
    return Schedule(
        windows=windows_of(levels[0]),
        policy=policy,
        bounds=CapacityBounds(ground.lowest_minimum, top),
        instance_hours_per_day=float(scores.cost[0]),
        violating_share=float(shares[0][0]),
        bad_minute_share=float(shares[1][0]),
        meets=bool(meets(upper_bounds(scores, world.seed), budgets).all[0]),
        weekend_windows=windows_of(levels[-1]) if len(groups) > 1 else (),
        actions=actions_of(
            minimum, np.full_like(minimum, top), timezone=asked.timezone, prefix="need"
        ),
        lead_min=lead_min,
        repeats=repeats(days, groups, ground),
        adopted=rules is not None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Maker:
    """How windows are made from days, shape (d, 1440) from midnight on."""

    ground: Ground
    lead_min: int
    most: int

    def level(self, days: FloatArray) -> IntArray:
        lowest = self.ground.lowest_minimum
        level = minimum_by_minute(days, self.ground, self.lead_min, lowest, self.most)
        return np.minimum(level, self.ground.ceiling)


def _held_out(
    world: World, choice: Choice, days: FloatArray, make: _Maker, midnight: int
) -> Scores:
    """Each day under windows made without it; a single day under its own."""
    policy, bounds = choice
    assert policy is not None
    count = days.shape[0]
    fold = np.arange(count) % FOLDS
    parts = []
    for number in range(min(FOLDS, count)):
        out = fold == number
        level = make.level(days[~out] if count > 1 else days)
        low = CapacityBounds(make.ground.lowest_minimum, max(bounds.max_capacity, int(level.max())))
        parts.append(
            _scores(
                world,
                (policy, low),
                np.roll(days[out], midnight, axis=1),
                np.roll(level, midnight),
            )
        )
    return joined(parts)


def _scores(world: World, choice: Choice, days: FloatArray, by_minute: IntArray) -> Scores:
    grid = grid_of([choice])
    table = replace(
        world.table, saturation_rate_per_s=world.table.saturation_rate_per_s * world.low_factor
    )
    options = replace(world.options(grid.metric), min_capacity_by_minute=by_minute)
    result = simulate(grid, days, table, world.launch, seed=world.seed, options=options)
    return scores_of(world, result)


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of one policy on several groups of days as scores on all of them."""
    return Scores(
        np.concatenate([p.requests for p in parts]),
        *(
            np.concatenate([getattr(p, name) for p in parts], axis=1)
            for name in ("violating", "bad", "unsafe", "instance_hours")
        ),
    )


def repeats(days: FloatArray, groups: Sequence[BoolArray], ground: Ground) -> float | None:
    """Share of half hours whose need the other days of the same kind foretell.

    A need up to `SLACK` above theirs counts as foretold: scaling makes up for it.
    """
    hits, total = 0, 0
    for group in groups:
        needs = slot_needs(days[group], ground)
        if needs.shape[0] < LEAST_OF_A_KIND:
            continue
        for i in range(needs.shape[0]):
            others = np.delete(needs, i, axis=0).max(axis=0)
            hits += int((needs[i] <= np.ceil(SLACK * others)).sum())
            total += needs.shape[1]
    return hits / total if total else None
