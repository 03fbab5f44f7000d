"""Schedules of scheduled actions: ``at(...)``, ``rate(...)`` and ``cron(...)``.

Cron has six fields: minutes, hours, day of month, month, day of week (1 or SUN to 7 or SAT)
and year, with ``* ? , - /`` and ``L W #`` as in Amazon's own dialect.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tuner.errors import InputError

_MONTHS = {name.upper(): i for i, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: i + 1 for i, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_RATE_S = {"minute": 60, "minutes": 60, "hour": 3600, "hours": 3600, "day": 86400, "days": 86400}
_ALLOWED = "at(yyyy-mm-ddThh:mm:ss), rate(value unit) or cron(six fields)"
_YEARS = range(1970, 2200)
_HORIZON_DAYS = 4 * 366 + 1
"""29 February comes back within this; nothing that still fires is missed for longer."""


@dataclass(frozen=True, slots=True)
class _Cron:
    minutes: frozenset[int]
    hours: frozenset[int]
    day_of_month: str
    months: frozenset[int]
    day_of_week: str
    years: frozenset[int]

    def on(self, day: date) -> bool:
        """Whether the action fires at all on this local day."""
        return (
            day.month in self.months
            and day.year in self.years
            and _day_of_month_fits(self.day_of_month, day)
            and _day_of_week_fits(self.day_of_week, day)
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a scheduled action fires. Made by `parse_schedule`."""

    expression: str
    timezone: str
    at_s: float | None = None
    every_s: float | None = None
    anchor_s: float = 0.0
    cron: _Cron | None = None

    def next_after(self, now_s: float) -> float | None:
        """First firing strictly later than ``now_s`` (Unix seconds), None if there is none."""
        if self.at_s is not None:
            return self.at_s if self.at_s > now_s else None
        if self.every_s is not None:
            if now_s < self.anchor_s:
                return self.anchor_s
            return self.anchor_s + ((now_s - self.anchor_s) // self.every_s + 1) * self.every_s
        return self._next_cron(now_s)

    def _next_cron(self, now_s: float) -> float | None:
        cron = self.cron
        if cron is None:
            return None
        zone = ZoneInfo(self.timezone)
        day = datetime.fromtimestamp(now_s, zone).date() - timedelta(days=1)
        for _ in range(_HORIZON_DAYS):
            if cron.on(day):
                moments = (
                    datetime(day.year, day.month, day.day, h, m, tzinfo=zone)
                    for h in sorted(cron.hours)
                    for m in sorted(cron.minutes)
                )
                later = [t for moment in moments if (t := _epoch(moment)) is not None and t > now_s]
                if later:
                    return min(later)
            day += timedelta(days=1)
        return None


def _epoch(moment: datetime) -> float | None:
    """Unix seconds of a local time; None when the clocks skip it in spring."""
    stamp = moment.timestamp()
    back = datetime.fromtimestamp(stamp, moment.tzinfo)
    return stamp if (back.hour, back.minute) == (moment.hour, moment.minute) else None


def parse_schedule(expression: str, timezone: str = "UTC", *, anchor_s: float = 0.0) -> Schedule:
    """Read a schedule expression.

    Parameters
    ----------
    expression
        ``at(2026-12-01T08:00:00)``, ``rate(5 minutes)`` or ``cron(0 8 ? * MON-FRI *)``.
    timezone
        IANA name; rate expressions do not depend on it.
    anchor_s
        Where a rate counts from: its start time, or when the action was put.

    Raises
    ------
    InputError
        If the expression or the time zone is not understood.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InputError(
            "unknown time zone", value=timezone, allowed="an IANA name such as Europe/Berlin"
        ) from error
    match = re.fullmatch(r"\s*(at|rate|cron)\((.*)\)\s*", expression)
    if match is None:
        raise InputError("schedule not understood", value=expression, allowed=_ALLOWED)
    kind, body = match.groups()
    try:
        if kind == "at":
            moment = datetime.strptime(body.strip(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=zone)
            return Schedule(expression, timezone, at_s=moment.astimezone(UTC).timestamp())
        if kind == "rate":
            value, unit = body.split()
            if int(value) <= 0:
                raise ValueError(value)
            every_s = float(int(value) * _RATE_S[unit])
            return Schedule(expression, timezone, every_s=every_s, anchor_s=anchor_s)
        return Schedule(expression, timezone, cron=_parse_cron(body))
    except (ValueError, KeyError) as error:
        raise InputError("schedule not understood", value=expression, allowed=_ALLOWED) from error


def _parse_cron(body: str) -> _Cron:
    minutes, hours, day, month, weekday, year = body.upper().split()
    if (day == "?") == (weekday == "?") and not (day == "*" or weekday == "*"):
        raise ValueError("one of day of month and day of week must be ?")
    _check_day_of_month(day)
    _check_day_of_week(weekday)
    return _Cron(
        _values(minutes, range(60)),
        _values(hours, range(24)),
        day,
        _values(month, range(1, 13), _MONTHS),
        weekday,
        _values(year, _YEARS),
    )


def _values(text: str, span: range, names: dict[str, int] | None = None) -> frozenset[int]:
    """The numbers a field of lists, ranges and steps stands for."""

    def number(part: str) -> int:
        value = names[part] if names and part in names else int(part)
        if value not in span:
            raise ValueError(f"{value} outside {span}")
        return value

    found: set[int] = set()
    for item in text.split(","):
        base, _, step = item.partition("/")
        if base in ("*", "?"):
            low, high = span[0], span[-1]
        elif "-" in base:
            low, high = (number(p) for p in base.split("-"))
        else:
            low = number(base)
            high = span[-1] if step else low
        stride = int(step) if step else 1
        if stride <= 0:
            raise ValueError(f"step must be positive: {item}")
        if low <= high:
            found.update(range(low, high + 1, stride))
        else:  # FRI-MON wraps around
            found.update([*range(low, span[-1] + 1), *range(span[0], high + 1)][::stride])
    return frozenset(found)


def _check_day_of_month(text: str) -> None:
    if text in ("L", "LW"):
        return
    if text.endswith("W"):
        _values(text[:-1], range(1, 32))
    else:
        _values(text, range(1, 32))


def _check_day_of_week(text: str) -> None:
    span = range(1, 8)
    if "#" in text:
        day, _, nth = text.partition("#")
        _values(day, span, _DAYS)
        if int(nth) not in range(1, 6):
            raise ValueError(text)
    else:
        _values(text.removesuffix("L") or "7", span, _DAYS)


def _day_of_month_fits(text: str, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    if text == "L":
        return day.day == last
    if text.endswith("W"):
        nominal = last if text == "LW" else min(int(text[:-1]), last)
        return day == _nearest_weekday(day.replace(day=nominal), last)
    return day.day in _values(text, range(1, 32))


def _nearest_weekday(day: date, last: int) -> date:
    """The working day nearest to ``day`` inside its month."""
    if day.weekday() == 5:
        return day - timedelta(days=1) if day.day > 1 else day + timedelta(days=2)
    if day.weekday() == 6:
        return day + timedelta(days=1) if day.day < last else day - timedelta(days=2)
    return day


def _day_of_week_fits(text: str, day: date) -> bool:
    number = day.isoweekday() % 7 + 1
    span = range(1, 8)
    if "#" in text:
        name, _, nth = text.partition("#")
        return number in _values(name, span, _DAYS) and (day.day - 1) // 7 + 1 == int(nth)
    if text.endswith("L"):
        last = calendar.monthrange(day.year, day.month)[1]
        return number in _values(text[:-1] or "7", span, _DAYS) and day.day + 7 > last
    return number in _values(text, span, _DAYS)
