"""Sentences about what follows the clock: scheduled minimums and off-hours."""

from __future__ import annotations

from tuner.recommend.actions import clock
from tuner.recommend.evaluate import World, monthly_usd
from tuner.recommend.schedule import FORETOLD
from tuner.recommend.search import Found
from tuner.recommend.statements import WORTH_SAYING
from tuner.recommend.types import OffHours, Schedule, Statement, Window


def scheduled(schedule: Schedule | None, found: Found, world: World) -> Statement | None:
    """What a minimum that follows the clock would cost instead of one that always stands.

    None unless it meets the budgets and is either cheaper, or no dearer with half the misses.
    """
    if schedule is None or not schedule.meets or not keeps_to_the_clock(schedule):
        return None
    index = found.choice.index
    assert index is not None
    saved = 1.0 - schedule.instance_hours_per_day / found.cost
    misses = float(found.scores.violating_share[index])
    safer = saved >= 0.0 and schedule.violating_share <= misses / 2.0
    if saved < WORTH_SAYING and not safer:
        return None
    price = monthly_usd(schedule.instance_hours_per_day, world.price)
    cost = "" if price is None else f" ({price:.0f} USD a month)"
    steps = _steps(schedule.windows)
    if schedule.weekend_windows:
        steps = f"on weekdays {steps}; at weekends {_steps(schedule.weekend_windows)}"
    gain = (
        f"holds the SLO for {saved:.0%} less{cost}"
        if saved >= WORTH_SAYING
        else f"has {schedule.violating_share:.3%} of slow requests instead of {misses:.3%}, for "
        f"no more money{cost}"
    )
    known = (
        ""
        if schedule.repeats is None
        else f" In {schedule.repeats:.0%} of half hours the other days foretell a day's need."
    )
    return Statement(
        "scheduled_minimum",
        f"If the surges keep to the clock, a scheduled minimum {gain}: {steps}. Each window "
        f"begins {schedule.lead_min} minutes before the need.{known}",
        saved,
        "share of cost",
    )


def keeps_to_the_clock(schedule: Schedule) -> bool:
    """Whether other days foretell a day's need; a single day is given the benefit."""
    return schedule.repeats is None or schedule.repeats >= FORETOLD


def _steps(windows: tuple[Window, ...]) -> str:
    return ", ".join(f"{w.min_capacity} from {clock(w.start_minute)}" for w in windows)


def not_scheduled(schedule: Schedule | None, found: Found) -> Statement:
    """Why a schedule that was asked for is not proposed."""
    if schedule is None:
        why = "the traffic is shorter than a day, or the plan allows too few actions"
    elif not keeps_to_the_clock(schedule):
        why = (
            f"the need does not keep to the clock, other days foretell {schedule.repeats:.1%} of "
            f"its half hours ({FORETOLD:.0%} are asked for)"
        )
    elif not schedule.meets:
        why = (
            f"with the minimum following the clock {schedule.violating_share:.3%} of requests "
            f"are slow and {schedule.bad_minute_share:.3%} of minutes bad, which is over budget"
        )
    else:
        more = schedule.instance_hours_per_day / found.cost - 1.0
        why = (
            "its minimum would be the policy's own around the clock"
            if abs(more) < 5e-4
            else f"it would cost {more:+.1%} against the policy alone and miss no less"
        )
    return Statement("no_schedule", f"No schedule is proposed: {why}.")


def off_hours(found: OffHours | None) -> Statement:
    """What one instance in the off-hours saves."""
    if found is None:
        return Statement(
            "off_hours",
            "No off-hours were found in the traffic: give schedule.off_hours, as 20:00-07:00.",
        )
    value = None if found.saved_usd_per_month is None else found.saved_usd_per_month.mid
    return Statement("off_hours", found.sentence, value, "USD per month")
