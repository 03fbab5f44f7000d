"""Sentences about what follows the clock: scheduled minimums and off-hours."""

from __future__ import annotations

from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.recommend.actions import clock
from tuner.recommend.evaluate import Choice, World, describe, monthly_usd
from tuner.recommend.schedule import FORETOLD
from tuner.recommend.search import Found
from tuner.recommend.statements import WORTH_SAYING
from tuner.recommend.types import OffHours, Schedule, Statement, Window


def scheduled(
    schedule: Schedule | None, chosen: Choice, found: Found, world: World
) -> Statement | None:
    """What a minimum that follows the clock would cost instead of the policy ``chosen`` alone.

    None unless it meets the budgets and is cheaper by enough to be worth its scheduled actions.
    """
    if schedule is None or not schedule.meets or not keeps_to_the_clock(schedule):
        return None
    saved = saving(schedule, found)
    if saved < WORTH_SAYING:
        return None
    price = monthly_usd(schedule.instance_hours_per_day, world.price)
    cost = "" if price is None else f" ({price:.0f} USD a month)"
    steps = _steps(schedule.windows)
    if schedule.weekend_windows:
        steps = f"on weekdays {steps}; at weekends {_steps(schedule.weekend_windows)}"
    under = (
        ""
        if schedule.policy == chosen[0]
        else f" It goes with {_target(schedule.policy)}: what the clock foretells, idle instances "
        "need not be kept for."
    )
    known = (
        ""
        if schedule.repeats is None
        else f" In {schedule.repeats:.0%} of half hours the other days foretell a day's need."
    )
    apart = (
        " Days kept aside, what binds and what caution costs are said of the policy without one."
        if schedule.adopted
        else ""
    )
    return Statement(
        "scheduled_minimum",
        f"If the surges keep to the clock, a scheduled minimum holds the SLO for {saved:.0%} less"
        f"{cost} than the cheapest policy without one ({describe(chosen)}): {steps}. Each window "
        f"begins {schedule.lead_min} minutes before the need.{under}{known}{apart}",
        saved,
        "share of cost",
    )


def saving(schedule: Schedule, found: Found) -> float:
    """Share of the cost of the policy alone, both at the low end of the capacity."""
    return 1.0 - schedule.instance_hours_per_day / found.cost


def _target(policy: TargetTrackingPolicy) -> str:
    """``target 4350 per min``."""
    return (
        describe((policy, CapacityBounds(1, 1)))
        .partition(",")[0]
        .replace("target", "a target of", 1)
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
        saved = saving(schedule, found)
        if abs(saved) < 5e-4:
            why = "it would cost as much as the policy alone, which is simpler"
        elif saved > 0.0:
            why = (
                f"it would save {saved:.1%}, less than the {WORTH_SAYING:.0%} that make its "
                "scheduled actions worth keeping; the policy alone is simpler"
            )
        else:
            why = f"it would cost {-saved:+.1%} against the policy alone"
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
