"""Scheduled actions from minutes of the week: cron in local time, as AWS reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.errors import InputError
from tuner.units import MINUTES_PER_DAY

IntArray = NDArray[np.int64]

WEEK_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY


@dataclass(frozen=True, slots=True)
class ScheduledAction:
    """One change of the bounds, by Application Auto Scaling's own names."""

    name: str
    schedule: str
    timezone: str
    min_capacity: int
    max_capacity: int


@dataclass(frozen=True, slots=True)
class ScheduleRules:
    """What a schedule may be.

    Parameters
    ----------
    timezone
        IANA name of the clock the traffic was recorded by.
    max_actions
        Scheduled actions at most.
    non_production
        Whether capacity may go down to one instance in off-hours, whatever the traffic.
    off_hours
        First and last minute of the day of the off-hours (the last not included); None looks
        for them in the traffic.
    off_weekends
        Whether Saturday and Sunday are off-hours altogether.
    """

    timezone: str = "UTC"
    max_actions: int = 8
    non_production: bool = False
    off_hours: tuple[int, int] | None = None
    off_weekends: bool = True


def parse_off_hours(text: str) -> tuple[int, int]:
    """``20:00-07:00`` as minutes of the day.

    Raises
    ------
    InputError
        If it is not two different times of the day.
    """
    found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text.strip())
    numbers = [int(g) for g in found.groups()] if found else []
    if not numbers or max(numbers[::2]) > 23 or max(numbers[1::2]) > 59:
        numbers = []
    if not numbers or numbers[:2] == numbers[2:]:
        raise InputError("off-hours are not understood", value=text, allowed="20:00-07:00")
    return numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]


def clock(minute: int) -> str:
    """``07:30``."""
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def actions_of(
    minimum: IntArray, maximum: IntArray, *, timezone: str, prefix: str
) -> tuple[ScheduledAction, ...]:
    """The actions that make bounds follow the clock of a week; none for constant bounds.

    Parameters
    ----------
    minimum, maximum
        Shape (10080,): bounds at each minute of the week from Monday 00:00 local time. Changes
        of different days at the same time to the same bounds become one action.
    """
    changed = (minimum != np.roll(minimum, 1)) | (maximum != np.roll(maximum, 1))
    grouped: dict[tuple[int, int, int], list[int]] = {}
    for at in np.flatnonzero(changed).tolist():
        key = (at % MINUTES_PER_DAY, int(minimum[at]), int(maximum[at]))
        grouped.setdefault(key, []).append(at // MINUTES_PER_DAY)
    made = []
    for (minute, low, high), days in sorted(grouped.items(), key=lambda p: (p[1][0], p[0])):
        on = _days(days)
        name = f"{prefix}-{on.lower().replace(',', '-')}-{minute // 60:02d}{minute % 60:02d}"
        which = "* * ?" if on == "daily" else f"? * {on}"
        expression = f"cron({minute % 60} {minute // 60} {which} *)"
        made.append(ScheduledAction(name, expression, timezone, low, high))
    return tuple(made)


def _days(days: list[int]) -> str:
    if len(days) == 7:
        return "daily"
    if len(days) > 2 and days[-1] - days[0] == len(days) - 1:
        return f"{WEEK_DAYS[days[0]]}-{WEEK_DAYS[days[-1]]}"
    return ",".join(WEEK_DAYS[d] for d in days)


def week_of(weekday: IntArray, weekend: IntArray) -> IntArray:
    """A week, shape (10080,), of five like days and two others, each of shape (1440,)."""
    return np.concatenate([np.tile(weekday, 5), np.tile(weekend, 2)])
