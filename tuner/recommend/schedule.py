"""A minimum that follows the clock: for surges that come at known times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds
from tuner.recommend.actions import ScheduledAction, ScheduleRules, actions_of, week_of
from tuner.recommend.choose import (
    Budgets,
    Scores,
    cheapest,
    meets,
    plain_shares,
    upper_bounds,
)
from tuner.recommend.evaluate import Choice, World, grid_of, score_at
from tuner.recommend.search import Ground, targets_of
from tuner.recommend.types import Schedule, Window
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
SHARES = (0.5, 0.6, 0.7, 0.8)
"""Targets tried under a schedule, as shares of what an instance carries in the peak's fleet."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Days held out of the record, and the minimum that the other days of their kind foretell.

    Parameters
    ----------
    rows
        Which days of the record.
    by_minute
        Shape (1440,): the minimum at each minute of these days, in the record's columns.
    """

    rows: IntArray
    by_minute: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A schedule with what it was simulated on; ``low`` scores its policy on the record's days."""

    schedule: Schedule
    parts: tuple[Part, ...]
    low: Scores

    def minimum_on(self, day: int) -> IntArray:
        """The minimum at each minute of a day of the record."""
        return next(p.by_minute for p in self.parts if day in p.rows)


def schedule_for(
    world: World,
    ground: Ground,
    choice: Choice,
    budgets: Budgets,
    calendar: Calendar,
    rules: ScheduleRules | None = None,
) -> Planned | None:
    """The cheapest policy under a minimum that follows the clock; None for part days.

    A target that is to absorb surges may be low; where the clock does that, a higher one is
    cheaper, so `SHARES` are tried beside the policy chosen without a schedule. Windows come from
    all days. What is said of them is simulated on days they were not made from: each is held
    out in turn, with others, while windows are made from the rest. Without ``rules`` the
    schedule is a suggestion: nothing asked for it.
    """
    policy = choice[0]
    asked = rules or ScheduleRules()
    groups = calendar.groups()
    if policy is None or world.days.shape[1] != MINUTES_PER_DAY:
        return None
    if asked.max_actions < len(groups):
        return None
    lead_min = math.ceil(s_to_min(max(world.launch.seconds)) + 1.0)
    levels, parts = _windows(world.days, ground, calendar, lead_min, asked.max_actions)
    highest = max(int(x.max()) for x in [*levels, *(p.by_minute for p in parts)])
    tried = _tried(world, ground, choice, highest)
    (scores,) = scores_under(world, tried, parts, (world.low_factor,))
    met = meets(upper_bounds(scores, world.seed), budgets).all
    best = cheapest(scores, met)
    index = int(np.argmin(scores.violating_share)) if best is None else best
    taken, bounds = tried[index]
    assert taken is not None
    low = scores.policies(np.array([index]))
    shares = plain_shares(low)
    schedule = Schedule(
        windows=windows_of(levels[0]),
        policy=taken,
        bounds=bounds,
        instance_hours_per_day=float(low.cost[0]),
        violating_share=float(shares[0][0]),
        bad_minute_share=float(shares[1][0]),
        meets=best is not None,
        weekend_windows=windows_of(levels[-1]) if len(groups) > 1 else (),
        actions=_actions(levels, bounds.max_capacity, asked.timezone),
        lead_min=lead_min,
        repeats=repeats(np.roll(world.days, -calendar.midnight, axis=1), groups, ground),
        adopted=rules is not None,
    )
    return Planned(schedule, tuple(parts), low)


def _windows(
    record: FloatArray, ground: Ground, calendar: Calendar, lead_min: int, max_actions: int
) -> tuple[list[IntArray], list[Part]]:
    """The minimum by the minute from midnight on for each kind of day, and the days held out."""
    days = np.roll(record, -calendar.midnight, axis=1)
    groups = calendar.groups()
    levels: list[IntArray] = []
    parts: list[Part] = []
    left = max_actions
    for group in reversed(groups):
        # Weekends first: what they do not need of the actions is the weekdays'.
        most = min(MOST_WINDOWS, left - (len(groups) - 1 - len(levels)))
        most = most if len(groups) == 1 or levels else min(most, max_actions // 2)
        make = _Maker(ground, lead_min, most)
        levels.insert(0, make.level(days[group]))
        parts += _held_out(days, np.flatnonzero(group), make, calendar.midnight)
        left -= len(windows_of(levels[0]))
    return levels, parts


def _actions(levels: Sequence[IntArray], top: int, timezone: str) -> tuple[ScheduledAction, ...]:
    """The minimum of weekdays and weekends as scheduled actions, all with one maximum."""
    minimum = week_of(levels[0], levels[-1])
    return actions_of(minimum, np.full_like(minimum, top), timezone=timezone, prefix="need")


def _tried(world: World, ground: Ground, choice: Choice, highest: int) -> list[Choice]:
    """The policy chosen without a schedule and usual targets, all from the lowest minimum."""
    policy, own = choice
    assert policy is not None
    shares = np.array(SHARES)
    targets = targets_of(world, ground, policy.metric, shares).tolist()
    needed = ground.largest_needed(shares * ground.reference_per_min).tolist()
    low = ground.lowest_minimum
    tops = [own.max_capacity, *(min(n, ground.ceiling) for n in needed)]
    policies = [policy, *(replace(policy, target_value=t) for t in targets)]
    return [
        (p, CapacityBounds(low, max(top, highest))) for p, top in zip(policies, tops, strict=True)
    ]


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


def _held_out(days: FloatArray, rows: IntArray, make: _Maker, midnight: int) -> list[Part]:
    """Each day under windows made without it; a single day under its own."""
    fold = np.arange(rows.size) % FOLDS
    parts = []
    for number in range(min(FOLDS, rows.size)):
        out = fold == number
        level = make.level(days[rows[~out] if rows.size > 1 else rows])
        parts.append(Part(rows[out], np.roll(level, midnight)))
    return parts


def scores_under(
    world: World, choices: Sequence[Choice], parts: Sequence[Part], factors: Sequence[float]
) -> list[Scores]:
    """Policies of one metric under minimums that follow the clock, on the record's days.

    One for each of ``factors``, times the middle capacity.
    """
    grid = grid_of(choices)
    made = [
        score_at(world, grid, factors, days=world.days[p.rows], min_by_minute=p.by_minute)
        for p in parts
    ]
    back = np.argsort(np.concatenate([p.rows for p in parts]))
    return [joined(list(at)).days(back) for at in zip(*made, strict=True)]


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of the same policies on several groups of days as scores on all of them."""
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
