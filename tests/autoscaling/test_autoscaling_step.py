"""Step scaling policies and scheduled actions."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from autoscaling_world import World, tracking

from tuner.autoscaling.activity import SuspendedState
from tuner.autoscaling.schedule import parse_schedule
from tuner.autoscaling.step import AdjustmentType, StepAdjustment, StepScalingPolicy
from tuner.errors import InputError

CHANGE = AdjustmentType.CHANGE_IN_CAPACITY
PERCENT = AdjustmentType.PERCENT_CHANGE_IN_CAPACITY
EXACT = AdjustmentType.EXACT_CAPACITY


def steps(kind: AdjustmentType, *rows: tuple[float | None, float | None, int]) -> StepScalingPolicy:
    made = tuple(StepAdjustment(change, low, high) for low, high, change in rows)
    return StepScalingPolicy(kind, made, cooldown_s=300)


TWO_STEPS = steps(CHANGE, (0.0, 20.0, 2), (20.0, None, 3))


@pytest.mark.parametrize(
    ("kind", "adjustment", "capacity", "result"),
    [
        (CHANGE, 3, 5, 8),
        (CHANGE, -9, 5, 0),
        (EXACT, 7, 5, 7),
        (PERCENT, 10, 127, 139),  # 12.7 -> 12
        (PERCENT, 1, 67, 68),  # .67 -> 1
        (PERCENT, -1, 58, 57),  # -.58 -> -1
        (PERCENT, -10, 67, 61),  # -6.7 -> -6
        (PERCENT, 0, 67, 67),
    ],
)
def test_adjustments(kind: AdjustmentType, adjustment: int, capacity: int, result: int) -> None:
    assert steps(kind, (None, None, adjustment)).adjusted(capacity, 5.0) == result


def test_at_least_the_minimum_magnitude_moves() -> None:
    policy = StepScalingPolicy(PERCENT, (StepAdjustment(25, 0.0),), min_adjustment_magnitude=2)
    assert policy.adjusted(4, 1.0) == 6


@pytest.mark.parametrize(("breach", "result"), [(0.0, 12), (19.9, 12), (20.0, 13), (-1.0, None)])
def test_the_breach_selects_the_step(breach: float, result: int | None) -> None:
    assert TWO_STEPS.adjusted(10, breach) == result


def test_below_the_threshold_the_upper_bound_belongs_to_the_step() -> None:
    policy = steps(CHANGE, (-10.0, 0.0, -1), (None, -10.0, -2))
    assert policy.adjusted(10, -10.0) == 8
    assert policy.adjusted(10, -9.0) == 9


def test_bad_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        steps(CHANGE, (0.0, 20.0, 1), (10.0, None, 2))
    with pytest.raises(ValueError, match="below"):
        steps(CHANGE, (20.0, 10.0, 1))
    with pytest.raises(ValueError, match="at least one"):
        StepScalingPolicy(CHANGE, ())


def fire(world: World, at_s: float, breach: float) -> int | None:
    world.now_s = at_s
    activity = world.target.trigger_step(at_s, "step", breach, world.desired, updating=False)
    if activity is None:
        return None
    world.order(activity.desired)
    return activity.desired


def test_added_capacity_counts_towards_a_larger_step_during_the_cooldown() -> None:
    world = World(count=4)
    world.target.put_policy(0.0, "step", TWO_STEPS)
    assert fire(world, 60.0, 5.0) == 6
    assert fire(world, 120.0, 5.0) is None
    assert fire(world, 180.0, 50.0) == 7  # three, of which two are there already
    assert fire(world, 900.0, 5.0) == 9


def test_step_scale_in_waits_for_its_cooldown_and_a_step_out_ends_it() -> None:
    world = World(count=9)
    both = steps(CHANGE, (None, 0.0, -2), (0.0, None, 1))
    world.target.put_policy(0.0, "step", both)
    assert fire(world, 60.0, -5.0) == 7
    assert fire(world, 120.0, -5.0) is None
    assert fire(world, 180.0, 5.0) == 8
    assert fire(world, 240.0, -5.0) == 6


def test_a_step_stays_inside_the_bounds_and_respects_suspension() -> None:
    world = World(count=4, bounds=(1, 5))
    world.target.put_policy(0.0, "step", TWO_STEPS)
    world.target.suspended = SuspendedState(dynamic_scaling_out=True)
    assert fire(world, 30.0, 5.0) is None
    world.target.suspended = SuspendedState()
    assert fire(world, 60.0, 50.0) == 5
    with pytest.raises(InputError):
        World(tracking()).target.trigger_step(0.0, "p0", 1.0, 4, updating=False)


# -- schedules -------------------------------------------------------------------------------


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def firings(expression: str, start: str, count: int, zone: str = "UTC") -> list[str]:
    schedule = parse_schedule(expression, zone, anchor_s=at(start, zone))
    now, found = at(start, zone) - 1.0, []
    for _ in range(count):
        following = schedule.next_after(now)
        if following is None:
            break
        now = following
        found.append(datetime.fromtimestamp(now, ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "expected"),
    [
        ("at(2026-12-01T08:30:00)", "UTC", ["Tue 2026-12-01 08:30"]),
        ("rate(12 hours)", "UTC", ["Sun 2026-11-22 00:00", "Sun 2026-11-22 12:00"]),
        ("rate(1 minute)", "UTC", ["Sun 2026-11-22 00:00", "Sun 2026-11-22 00:01"]),
        ("cron(30 6 ? * MON *)", "UTC", ["Mon 2026-11-23 06:30", "Mon 2026-11-30 06:30"]),
        ("cron(0 8 ? * 2-6 *)", "Asia/Tokyo", ["Mon 2026-11-23 08:00", "Tue 2026-11-24 08:00"]),
        ("cron(0/20 9 23 11 ? *)", "UTC", ["Mon 2026-11-23 09:00", "Mon 2026-11-23 09:20"]),
        ("cron(0 0 L * ? *)", "UTC", ["Mon 2026-11-30 00:00", "Thu 2026-12-31 00:00"]),
        ("cron(0 0 1W 8 ? 2027)", "UTC", ["Mon 2027-08-02 00:00"]),
        ("cron(0 0 LW * ? *)", "UTC", ["Mon 2026-11-30 00:00", "Thu 2026-12-31 00:00"]),
        ("cron(0 9 ? * 6#3 *)", "UTC", ["Fri 2026-12-18 09:00", "Fri 2027-01-15 09:00"]),
        ("cron(0 9 ? * FRIL *)", "UTC", ["Fri 2026-11-27 09:00", "Fri 2026-12-25 09:00"]),
        ("cron(0 0 29 2 ? *)", "UTC", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        ("cron(0 22 ? * FRI-MON *)", "UTC", ["Sun 2026-11-22 22:00", "Mon 2026-11-23 22:00"]),
        ("cron(0 0 1 1 ? 2020)", "UTC", []),
    ],
)
def test_schedules_fire_when_they_should(expression: str, zone: str, expected: list[str]) -> None:
    assert firings(expression, "2026-11-22T00:00:00", 2, zone) == expected


def test_local_time_moves_with_the_clocks_and_skips_the_missing_hour() -> None:
    assert firings("cron(30 2 * * ? *)", "2027-03-27T00:00:00", 3, "Europe/Berlin") == [
        "Sat 2027-03-27 02:30",
        "Mon 2027-03-29 02:30",
        "Tue 2027-03-30 02:30",
    ]
    summer = parse_schedule("cron(0 8 1 7 ? *)", "Europe/Berlin").next_after(at("2027-01-01"))
    winter = parse_schedule("cron(0 8 1 2 ? *)", "Europe/Berlin").next_after(at("2027-01-01"))
    assert (summer, winter) == (at("2027-07-01T06:00"), at("2027-02-01T07:00"))


@pytest.mark.parametrize(
    "expression",
    [
        "every day",
        "at(tomorrow)",
        "rate(0 minutes)",
        "rate(5 fortnights)",
        "cron(0 8 * *)",
        "cron(61 8 * * ? *)",
        "cron(0 8 1 1 2 *)",
        "cron(0 8 ? * ? *)",
        "cron(0 8 ? * MON#6 *)",
        "cron(0/0 8 * * ? *)",
    ],
)
def test_odd_schedules_are_refused(expression: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_schedule(expression)
    assert caught.value.value == expression


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(InputError, match="time zone"):
        parse_schedule("rate(1 day)", "Mars/Olympus")


def test_a_schedule_moves_the_bounds_and_the_capacity_whatever_the_cooldown() -> None:
    world = World(tracking(scale_out_cooldown_s=3600, scale_in_cooldown_s=3600), count=4)
    world.minutes(3, 6000.0)
    world.target.put_scheduled_action(180.0, "up", "at(1970-01-01T00:10:00)", min_capacity=10)
    world.target.put_scheduled_action(180.0, "down", "at(1970-01-01T00:30:00)", max_capacity=3)
    assert world.target.run_schedule(599.0, world.desired) == 6
    assert world.target.run_schedule(600.0, world.desired) == 10
    assert world.target.bounds.min_capacity == 10
    assert world.target.run_schedule(1800.0, 10) == 3
    assert (world.target.bounds.min_capacity, world.target.bounds.max_capacity) == (3, 3)
    assert [a.desired for a in world.target.activities()] == [3, 10, 6]
    assert world.target.run_schedule(9e9, 3) == 3


def test_a_suspended_schedule_lets_its_firings_pass() -> None:
    world = World(count=4)
    world.target.put_scheduled_action(0.0, "up", "rate(5 minutes)", min_capacity=9)
    world.target.suspended = SuspendedState(scheduled_scaling=True)
    assert world.target.run_schedule(310.0, 4) == 4
    world.target.suspended = SuspendedState()
    assert world.target.run_schedule(599.0, 4) == 4
    assert world.target.run_schedule(600.0, 4) == 9


def test_start_and_end_bound_a_schedule() -> None:
    world = World(count=4)
    world.target.put_scheduled_action(
        0.0, "up", "rate(10 minutes)", min_capacity=9, start_s=1200.0, end_s=1300.0
    )
    assert world.target.run_schedule(1199.0, 4) == 4
    assert world.target.run_schedule(1200.0, 4) == 9
    world.target.bounds = type(world.target.bounds)(1, 50)
    assert world.target.run_schedule(9000.0, 4) == 4
    world.target.delete_scheduled_action("up")
    assert world.target.scheduled_actions == ()
    with pytest.raises(InputError):
        world.target.put_scheduled_action(0.0, "none", "rate(1 day)")
