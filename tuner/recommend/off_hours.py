"""Off-hours of endpoints that nobody needs at night: what they save, and the actions for them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tuner.interval import Interval
from tuner.recommend.actions import (
    ScheduledAction,
    ScheduleRules,
    actions_of,
    clock,
    week_of,
)
from tuner.recommend.choose import bootstrap_interval, plain_shares
from tuner.recommend.evaluate import DAYS_PER_MONTH, Choice, World, grid_of, score
from tuner.recommend.types import OffHours
from tuner.simulator.simulate import timeline
from tuner.units import MINUTES_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE, s_to_min

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

LEAST_INSTANCES = 1
"""A real-time variant without inference components has at least one instance."""
SLOT_MIN = 30
LOOKED_AT_DAYS = 14
QUIET_SHARE = 0.01
"""Half hours whose busiest minute on any day stays below this share of the peak are off-hours."""
MINUTES_PER_HOUR = SECONDS_PER_HOUR / SECONDS_PER_MINUTE


def quiet_hours(days: FloatArray) -> tuple[int, int] | None:
    """The longest stretch of the day in which there is next to no traffic on any day.

    ``days`` has shape (d, 1440) and begins at midnight. None when there is no such hour.
    """
    quiet = days.max(axis=0).reshape(-1, SLOT_MIN).max(axis=1) <= QUIET_SHARE * days.max()
    if quiet.all() or not quiet.any():
        return None
    slots = quiet.size
    best, length = 0, 0
    for start in range(slots):
        run = 0
        while run < slots and quiet[(start + run) % slots]:
            run += 1
        if run > length:
            best, length = start, run
    if length * SLOT_MIN < MINUTES_PER_HOUR:
        return None
    return best * SLOT_MIN, (best + length) % slots * SLOT_MIN


def off_mask(hours: tuple[int, int]) -> BoolArray:
    """Which minutes of a day are off, shape (1440,)."""
    start, end = hours
    minute = np.arange(MINUTES_PER_DAY)
    if start < end:
        return (minute >= start) & (minute < end)
    return (minute >= start) | (minute < end)


def off_hours_for(
    world: World, choice: Choice, rules: ScheduleRules, weekend: BoolArray, midnight: int
) -> OffHours | None:
    """Off-hours under the chosen policy; None for part days, fixed
    fleets, or when no hours are off.

    Parameters
    ----------
    weekend
        Shape (d,): whether a day of the record is a Saturday or Sunday.
    midnight
        Column of ``world.days`` at which the local day begins.
    """
    if choice[0] is None or world.days.shape[1] != MINUTES_PER_DAY:
        return None
    days = np.roll(world.days, -midnight, axis=1)
    hours = rules.off_hours or quiet_hours(days[~weekend] if (~weekend).any() else days)
    if hours is None:
        return None
    whole = np.ones(MINUTES_PER_DAY, np.bool_)
    asked_off = (off_mask(hours), whole if rules.off_weekends else off_mask(hours))
    lead_min = math.ceil(s_to_min(max(world.launch.seconds)) + 1.0)
    weekday_off, weekend_off = (~_with_lead(~mask, lead_min) for mask in asked_off)
    off = np.where(weekend[:, None], weekend_off, weekday_off)
    fleet = np.roll(_fleet(world, choice), -midnight, axis=1)
    looked = off[: fleet.shape[0]]
    saved = np.where(looked, np.maximum(fleet - LEAST_INSTANCES, 0.0), 0.0)
    per_day = _of_week(saved, weekend, weekday_off, weekend_off, fleet)
    interval = _interval(world, saved.sum(axis=1) / MINUTES_PER_HOUR, per_day)
    deleted = per_day + _week_mean(weekday_off, weekend_off) / MINUTES_PER_HOUR
    price = world.price.usd_per_hour if world.price else None
    month = None if price is None else interval.scaled(price * DAYS_PER_MONTH)
    gone = None if price is None else deleted * price * DAYS_PER_MONTH
    off_per_week = 7.0 * _week_mean(weekday_off, weekend_off) / MINUTES_PER_HOUR
    return OffHours(
        actions=_actions(choice, rules, lead_min, *asked_off),
        hours_per_week=off_per_week,
        saved_hours_per_day=interval,
        saved_usd_per_month=month,
        deleted_usd_per_month=gone,
        violating_share=_violating(
            world, choice, np.roll(np.where(weekend[:, None], *asked_off[::-1]), midnight, axis=1)
        ),
        sentence=_sentence(hours, rules, off_per_week, interval, month, gone),
    )


def _fleet(world: World, choice: Choice) -> FloatArray:
    """Instances in service and starting, shape (d, 1440), on the first days of the record."""
    count = min(LOOKED_AT_DAYS, world.days.shape[0])
    grid = grid_of([choice])
    options = world.options(grid.metric)
    lines = [
        timeline(grid, 0, world.days, world.table, world.launch, day=d, seed=world.seed,
                 options=options)
        for d in range(count)
    ]  # fmt: skip
    return np.stack([np.asarray(x.in_service + x.starting, np.float64) for x in lines])


def _week_mean(weekday_off: BoolArray, weekend_off: BoolArray) -> float:
    """Off minutes of a day, mean over the week."""
    return (5.0 * float(weekday_off.sum()) + 2.0 * float(weekend_off.sum())) / 7.0


def _of_week(
    saved: FloatArray,
    weekend: BoolArray,
    weekday_off: BoolArray,
    weekend_off: BoolArray,
    fleet: FloatArray,
) -> float:
    """Instance-hours saved a day, five weekdays and two weekend days.

    A record without weekend days (or without dates) lends its days to the weekend.
    """
    kinds = weekend[: saved.shape[0]]
    above = np.maximum(fleet - LEAST_INSTANCES, 0.0)
    work = saved[~kinds] if (~kinds).any() else above * weekday_off
    rest = saved[kinds] if kinds.any() else above * weekend_off
    total = 5.0 * work.sum(axis=1).mean() + 2.0 * rest.sum(axis=1).mean()
    return float(total) / 7.0 / MINUTES_PER_HOUR


def _interval(world: World, per_day: FloatArray, mid: float) -> Interval:
    low, high = bootstrap_interval(per_day, np.ones(per_day.size), world.seed, world.level)
    # The record's mix of days is not the week's: the spread is moved to the week's mean.
    middle = float(per_day.mean())
    return Interval(
        max(0.0, min(low - middle + mid, mid)), mid, max(high - middle + mid, mid), world.level
    )


def _violating(world: World, choice: Choice, off: BoolArray) -> float:
    asked = np.where(off, 0.0, world.days)
    if not asked.any():
        return 0.0
    scores = score(world, grid_of([choice]), factor=world.low_factor, days=asked)
    return float(plain_shares(scores)[0][0])


def _with_lead(wanted: BoolArray, lead_min: int) -> BoolArray:
    """Minutes from which instances are wanted within the lead, on the same clock."""
    early = wanted.copy()
    for shift in range(1, min(lead_min, wanted.size) + 1):
        early |= np.roll(wanted, -shift)
    return early


def _actions(
    choice: Choice,
    rules: ScheduleRules,
    lead_min: int,
    weekday_off: BoolArray,
    weekend_off: BoolArray,
) -> tuple[ScheduledAction, ...]:
    """Down to one instance when off, both bounds back so early that instances can start.

    The maximum goes down as well: lowering the minimum alone leaves it to the low alarm's
    fifteen minutes, and to there being any traffic data at all.
    """
    bounds = choice[1]
    off = week_of(weekday_off.astype(np.int64), weekend_off.astype(np.int64)) == 1
    wanted = _with_lead(~off, lead_min)
    low = np.where(wanted, bounds.min_capacity, LEAST_INSTANCES)
    high = np.where(wanted, bounds.max_capacity, LEAST_INSTANCES)
    return actions_of(low, high, timezone=rules.timezone, prefix="hours")


def _sentence(
    hours: tuple[int, int],
    rules: ScheduleRules,
    off_per_week: float,
    saved: Interval,
    month: Interval | None,
    deleted: float | None,
) -> str:
    when = f"{clock(hours[0])} to {clock(hours[1])}"
    when += " and at weekends" if rules.off_weekends else ""
    found = "" if rules.off_hours else " (found in the traffic)"
    text = (
        f"One instance from {when}, {rules.timezone}{found}, {off_per_week:.0f} hours a week, "
        f"saves {saved.mid:.1f} instance-hours a day"
    )
    if month is not None:
        text += f", {month.mid:.0f} USD a month ({month.low:.0f} to {month.high:.0f})"
    text += ". A real-time variant cannot go below one instance"
    if deleted is not None:
        text += (
            f"; deleting the endpoint in those hours and making it again would save "
            f"{deleted:.0f} USD a month, and is not done by tuner"
        )
    return text + "."
