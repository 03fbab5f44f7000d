"""Alarms: how many datapoints, which side of the threshold, what missing data does."""

from __future__ import annotations

import math

from autoscaling_world import RESOURCE, World, tracking

from tuner.autoscaling.activity import AlarmState
from tuner.autoscaling.policy import ScalingMetric


def states(world: World) -> tuple[AlarmState, AlarmState]:
    high, low = world.target.alarms()
    return high.state, low.state


def test_the_third_breaching_minute_fires_and_not_the_second() -> None:
    world = World(tracking(scale_out_cooldown_s=300))
    assert world.minutes(2, 6000.0) == []
    (activity,) = world.minutes(1, 6000.0)
    assert (activity.start_s, activity.capacity_before, activity.desired) == (180.0, 4, 6)


def test_one_good_minute_starts_the_count_again() -> None:
    world = World(tracking())
    world.minutes(2, 6000.0)
    world.minutes(1, 4000.0)
    assert world.minutes(2, 6000.0) == []
    assert [a.desired for a in world.minutes(1, 6000.0)] == [6]


def test_the_target_itself_is_not_a_breach() -> None:
    world = World(tracking())
    assert world.minutes(10, 4000.0) == []
    assert states(world)[0] is AlarmState.OK


def test_a_sum_of_thirds_that_equals_the_target_is_not_a_breach() -> None:
    world = World(tracking(1000.0), count=3)
    total = sum(1.0 / 3.0 for _ in range(3000)) + 1e-10
    assert total > 1000.0
    assert world.run(10, lambda _: total) == []


def test_scale_in_waits_for_fifteen_minutes_below_nine_tenths() -> None:
    world = World(tracking(), count=8)
    assert world.minutes(14, 4000.0) == []
    assert [(a.start_s, a.desired) for a in world.minutes(1, 4000.0)] == [(900.0, 4)]


def test_nine_tenths_of_the_target_do_not_scale_in() -> None:
    world = World(tracking(), count=10)
    assert world.minutes(40, 9000.0) == []
    assert states(world)[1] is AlarmState.OK
    assert [a.desired for a in world.minutes(15, 8999.0)] == [9]


def test_one_busier_minute_restarts_the_fifteen() -> None:
    world = World(tracking(), count=8)
    world.minutes(14, 4000.0)
    world.minutes(1, 7500.0)
    assert world.minutes(14, 4000.0) == []
    assert len(world.minutes(1, 4000.0)) == 1


def test_alarms_show_what_aws_shows() -> None:
    world = World(tracking(1500.0))
    high, low = world.target.alarms()
    assert high.name.startswith(f"TargetTracking-{RESOURCE}-AlarmHigh-")
    assert low.name.startswith(f"TargetTracking-{RESOURCE}-AlarmLow-")
    assert (high.comparison, high.threshold, high.period_s, high.evaluation_periods) == (
        "GreaterThanThreshold",
        1500.0,
        60,
        3,
    )
    assert (low.comparison, low.threshold, low.period_s, low.evaluation_periods) == (
        "LessThanThreshold",
        1350.0,
        60,
        15,
    )
    assert (high.metric, high.statistic) == ("InvocationsPerInstance", "Sum")
    assert states(world) == (AlarmState.INSUFFICIENT_DATA, AlarmState.INSUFFICIENT_DATA)
    assert world.target.alarms() == World(tracking(1500.0)).target.alarms()


def test_a_changed_policy_gets_fresh_alarms_and_an_equal_one_keeps_them() -> None:
    world = World(tracking())
    world.minutes(2, 6000.0)
    world.target.put_policy(world.now_s, "p0", tracking())
    assert len(world.minutes(1, 6000.0)) == 1
    world.minutes(1, 6000.0)
    assert world.minutes(2, 9000.0) == []
    world.target.put_policy(world.now_s, "p0", tracking(1100.0))
    assert world.minutes(2, 9000.0) == []
    assert len(world.minutes(1, 9000.0)) == 1


def test_missing_data_stops_scaling_until_data_return() -> None:
    world = World(tracking())
    world.minutes(2, 6000.0)
    assert world.minutes(30, None) == []
    assert states(world) == (AlarmState.INSUFFICIENT_DATA, AlarmState.INSUFFICIENT_DATA)
    assert world.minutes(2, 6000.0) == []
    assert len(world.minutes(1, 6000.0)) == 1


def test_nan_is_missing_too() -> None:
    world = World(tracking(), count=8)
    assert world.run(60, lambda _: math.nan) == []


def test_zero_traffic_is_data_and_scales_in_to_the_minimum() -> None:
    world = World(tracking(), count=8, bounds=(2, 50))
    assert [a.desired for a in world.minutes(15, 0.0)] == [2]
    world.minutes(30, 0.0)
    assert world.reasons()[-1] == "AlreadyAtMinCapacity"


CONCURRENCY = ScalingMetric.CONCURRENCY


def test_high_resolution_fires_after_three_datapoints_of_ten_seconds() -> None:
    world = World(tracking(5.0, metric=CONCURRENCY), count=2)
    assert world.run(2, lambda _: 12.0, metric=CONCURRENCY, period_s=10.0) == []
    (activity,) = world.run(1, lambda _: 12.0, metric=CONCURRENCY, period_s=10.0)
    assert (activity.start_s, activity.desired) == (30.0, 5)
    high, low = world.target.alarms()
    assert (high.period_s, high.evaluation_periods, high.statistic) == (10, 3, "Maximum")
    assert (low.period_s, low.evaluation_periods) == (60, 15)


def test_high_resolution_scales_in_no_faster_than_a_standard_metric() -> None:
    world = World(tracking(5.0, metric=CONCURRENCY), count=4)
    begun = world.run(6 * 15 + 1, lambda _: 1.0, metric=CONCURRENCY, period_s=10.0)
    assert [a.desired for a in begun] == [1]
    assert 900.0 <= begun[0].start_s <= 910.0


def test_one_ten_second_burst_keeps_the_minute_out_of_the_low_alarm() -> None:
    world = World(tracking(5.0, metric=CONCURRENCY), count=4)
    for _ in range(30):
        assert world.run(5, lambda _: 1.0, metric=CONCURRENCY, period_s=10.0) == []
        assert world.run(1, lambda _: 4.9, metric=CONCURRENCY, period_s=10.0) == []
