"""Capacity, cooldowns, several policies, updates: each rule as a story in made-up time."""

from __future__ import annotations

import numpy as np
import pytest
from autoscaling_world import World, tracking
from hypothesis import given
from hypothesis import strategies as st

from tuner.autoscaling import kernel
from tuner.autoscaling.activity import StatusCode, SuspendedState
from tuner.autoscaling.policy import (
    CapacityBounds,
    ScalingMetric,
    TargetTrackingPolicy,
)
from tuner.errors import InputError

CPU = ScalingMetric.CPU


def desired(activities: list[object]) -> list[int]:
    return [a.desired for a in activities]  # type: ignore[attr-defined]


# -- how far ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "requests", "wanted"), [(1, 1500.0, 2), (4, 6000.0, 6), (4, 6001.0, 7), (3, 9e9, 50)]
)
def test_scale_out_is_proportional_rounded_up_and_clamped(
    count: int, requests: float, wanted: int
) -> None:
    assert desired(World(tracking(), count=count).minutes(3, requests)) == [wanted]


def test_scale_in_stops_where_the_metric_would_pass_its_target() -> None:
    world = World(tracking(), count=3)
    assert world.minutes(40, 2600.0) == []  # 867 each is low, 1300 on two would be high
    assert set(world.reasons()) == {"AutoScalingAnticipatedFlapping"}


def test_scale_in_respects_the_minimum() -> None:
    assert desired(World(tracking(), count=9, bounds=(3, 50)).minutes(15, 100.0)) == [3]


def test_at_the_maximum_it_says_so() -> None:
    world = World(tracking(), count=4, bounds=(1, 4))
    assert world.minutes(5, 9000.0) == []
    assert world.reasons() == ["AlreadyAtMaxCapacity"] * 3


def test_a_stale_datapoint_does_not_order_the_same_surge_twice() -> None:
    world = World(tracking(), count=4)
    world.minutes(3, 20_000.0)
    assert world.desired == 20
    world.now_s += 60.0
    world.target.observe(world.now_s, ScalingMetric.INVOCATIONS, 5000.0, 4.0)
    assert world.target.evaluate(world.now_s, 20, updating=False) is None


@given(st.integers(1, 200), st.floats(1.0, 1e6), st.floats(0.1, 1e5))
def test_wanted_capacity_brings_the_metric_to_its_target_with_none_to_spare(
    count: int, metric: float, target: float
) -> None:
    wanted = float(kernel.wanted_capacity(count, metric, target))
    assert count * metric / wanted <= target * (1 + 1e-8)
    assert wanted == 1 or count * metric / (wanted - 1) > target * (1 - 1e-8)


# -- cooldowns -------------------------------------------------------------------------------


def after_first_scale_out(lag_s: float = 240.0, cooldown_s: int = 300) -> World:
    """4 -> 6 ordered at minute 3, in service at minute 7."""
    world = World(tracking(scale_out_cooldown_s=cooldown_s), count=4, lag_s=lag_s)
    assert desired(world.minutes(3, 6000.0)) == [6]
    return world


def test_the_scale_out_cooldown_starts_when_the_scale_out_completes() -> None:
    world = after_first_scale_out()
    assert world.minutes(3, 6000.0) == []  # starting: updating
    # Minute 7: in service. 7000 asks for 7, one more: no larger than the two before.
    begun = world.minutes(12, 7000.0)
    assert [(a.start_s / 60.0, a.desired) for a in begun] == [(12.0, 7)]  # 7 + 5 minutes


def test_without_a_cooldown_the_next_follows_as_soon_as_the_alarm_does() -> None:
    world = after_first_scale_out(cooldown_s=0)
    begun = world.minutes(12, 7000.0)
    # Nothing while updating; at minute 7 the alarm still stands and the order goes out.
    assert [(a.start_s / 60.0, a.desired) for a in begun] == [(7.0, 7)]


def test_a_larger_scale_out_goes_through_the_cooldown() -> None:
    world = after_first_scale_out()
    world.minutes(4, 6000.0)
    begun = world.minutes(3, 9000.0)  # three more, after two; the alarm never went back
    assert [(a.start_s / 60.0, a.desired) for a in begun] == [(8.0, 9)]


def test_an_equal_scale_out_waits_for_the_cooldown() -> None:
    world = after_first_scale_out()
    world.minutes(4, 6000.0)
    begun = world.minutes(10, 8000.0)  # two more, after two
    assert [(a.start_s / 60.0, a.desired) for a in begun] == [(12.0, 8)]


def test_the_scale_in_cooldown_blocks_the_next_scale_in() -> None:
    world = World(tracking(scale_in_cooldown_s=1200), count=8)
    assert desired(world.minutes(15, 4000.0)) == [4]
    begun = world.minutes(40, 1000.0)  # low again after 15 minutes, cooling for 20
    assert [(a.start_s / 60.0, a.desired) for a in begun] == [(35.0, 1)]


def test_a_scale_out_ignores_and_ends_the_scale_in_cooldown() -> None:
    world = World(tracking(scale_in_cooldown_s=3600), count=8)
    assert desired(world.minutes(15, 4000.0)) == [4]
    assert desired(world.minutes(3, 8000.0)) == [8]  # at once
    assert desired(world.minutes(15, 4000.0)) == [4]  # long before the hour is over


def test_the_default_cooldowns_are_five_minutes() -> None:
    policy = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 1000.0)
    assert (policy.scale_out_cooldown_s, policy.scale_in_cooldown_s) == (300, 300)


def test_a_failed_scale_out_starts_no_cooldown() -> None:
    world = World(tracking(scale_out_cooldown_s=3600), count=4, lag_s=1e9)
    (activity,) = world.minutes(3, 6000.0)
    world.target.finish(
        activity.activity_id, 200.0, status=StatusCode.FAILED, message="ResourceLimitExceeded"
    )
    world.set_by_hand(4)
    world.ready_s = None
    assert desired(world.minutes(1, 6000.0)) == [6]
    failed = world.target.activities()[1]
    assert (failed.status, failed.status_message) == (StatusCode.FAILED, "ResourceLimitExceeded")


def test_changes_by_hand_neither_start_nor_respect_cooldowns() -> None:
    world = World(tracking(scale_out_cooldown_s=3600, scale_in_cooldown_s=3600), count=4)
    world.minutes(3, 6000.0)
    assert world.target.register(world.now_s, CapacityBounds(8, 50), world.desired) == 8
    world.set_by_hand(8)
    world.target.register(world.now_s, CapacityBounds(1, 50), 8)
    # No scale-in cooldown was started and the last activity was a scale-out: in after 15.
    assert desired(world.minutes(15, 4000.0)) == [4]


# -- several policies -------------------------------------------------------------------------


def both(world: World, minutes: int, invocations: float, cpu: float | None) -> list[int]:
    """Feed both metrics every minute; counts ordered."""
    begun = []
    for _ in range(minutes):
        world.now_s += 60.0
        world.target.observe(world.now_s, ScalingMetric.INVOCATIONS, invocations, world.desired)
        world.target.observe(world.now_s, CPU, cpu, world.desired)
        activity = world.target.evaluate(world.now_s, world.desired, updating=False)
        if activity is not None:
            begun.append(activity.desired)
            world.order(activity.desired)
    return begun


def test_it_scales_out_if_any_policy_wants_to() -> None:
    world = World(tracking(), tracking(50.0, metric=CPU))
    assert both(world, 3, 100.0, 75.0) == [6]


def test_the_largest_wish_wins() -> None:
    world = World(tracking(), tracking(50.0, metric=CPU))
    assert both(world, 3, 2000.0, 75.0) == [8]


def test_it_scales_in_only_if_all_agree_and_to_the_largest() -> None:
    world = World(tracking(), tracking(50.0, metric=CPU), count=8)
    assert both(world, 30, 100.0, 48.0) == []
    assert both(world, 15, 100.0, 20.0) == [4]  # 8 x 20 / 50 = 3.2; invocations alone want 1


def test_a_policy_that_may_not_scale_in_has_no_vote_on_it() -> None:
    world = World(tracking(), tracking(50.0, metric=CPU, disable_scale_in=True), count=8)
    assert both(world, 15, 100.0, 49.0) == [1]


def test_alone_it_never_scales_in() -> None:
    assert World(tracking(disable_scale_in=True), count=8).minutes(60, 10.0) == []


def test_a_policy_without_data_holds_scale_in_back_but_not_scale_out() -> None:
    world = World(tracking(), tracking(50.0, metric=CPU), count=8)
    assert both(world, 30, 100.0, None) == []
    assert both(world, 3, 2000.0, None) == [16]


def test_two_policies_cannot_follow_one_metric() -> None:
    world = World(tracking())
    with pytest.raises(InputError, match="already tracks"):
        world.target.put_policy(0.0, "other", tracking(2000.0))


# -- updates, suspension, activities ----------------------------------------------------------


def test_nothing_is_ordered_while_the_endpoint_updates() -> None:
    world = World(tracking())
    world.updating = True
    assert world.minutes(10, 6000.0) == []
    assert set(world.reasons()) == {"TargetServicePutResourceAsUnscalable"}
    world.updating = False
    assert desired(world.minutes(1, 6000.0)) == [6]


def test_scale_outs_are_serialised_behind_launches() -> None:
    world = World(tracking(), count=4, lag_s=600.0)
    begun = world.minutes(3, 6000.0) + world.minutes(20, 12_000.0)
    assert [(a.start_s / 60.0, a.desired) for a in begun] == [(3.0, 6), (13.0, 12)]


@pytest.mark.parametrize("side", ["in", "out"])
def test_a_suspended_side_does_not_scale_and_the_other_does(side: str) -> None:
    world = World(tracking(), count=4)
    world.target.suspended = SuspendedState(
        dynamic_scaling_in=side == "in", dynamic_scaling_out=side == "out"
    )
    out = desired(world.minutes(3, 8000.0))
    inward = desired(world.minutes(15, 1000.0))
    assert (out, inward) == (([], [1]) if side == "out" else ([8], []))


def test_activities_tell_the_story() -> None:
    world = World(tracking(), count=4, lag_s=300.0)
    world.minutes(3, 6000.0)
    (running,) = world.target.activities()
    assert running.status is StatusCode.IN_PROGRESS
    assert running.end_s is None
    assert running.description == "Setting desired instance count to 6."
    assert world.target.alarms()[0].name in running.cause
    world.minutes(6, 6000.0)
    (done,) = world.target.activities()
    assert (done.activity_id, done.status) == (running.activity_id, StatusCode.SUCCESSFUL)
    assert done.end_s == 480.0
    assert len(world.target.activities(include_not_scaled=True)) > 1


def test_an_unknown_activity_cannot_be_finished() -> None:
    with pytest.raises(InputError, match="no such activity"):
        World(tracking()).target.finish("nothing", 0.0)


def test_a_deleted_policy_takes_its_alarms_along() -> None:
    world = World(tracking())
    world.minutes(2, 6000.0)
    world.target.delete_policy("p0")
    assert world.target.alarms() == ()
    assert world.minutes(5, 6000.0) == []
    with pytest.raises(KeyError):
        world.target.delete_policy("p0")


def test_a_published_scale_out_is_reproduced_in_shape() -> None:
    """Alarm about three minutes above target, instances minutes later, no second order."""
    world = World(tracking(1500.0, scale_out_cooldown_s=10), count=2, bounds=(2, 14), lag_s=420.0)
    world.minutes(5, 2000.0)
    begun = world.minutes(30, 20_000.0)
    assert [(a.start_s / 60.0, a.desired) for a in begun] == [(8.0, 14)]
    assert world.target.activities()[0].end_s == 15 * 60.0


# -- the rules over many lanes ---------------------------------------------------------------


def test_lanes_decide_alone() -> None:
    """A batch gives each lane what the lane gets by itself."""
    rng = np.random.default_rng(5)
    lanes = 400
    high = rng.random((2, lanes)) < 0.4
    low = ~high & (rng.random((2, lanes)) < 0.6)
    wanted = np.where(rng.random((2, lanes)) < 0.1, np.nan, rng.integers(0, 30, (2, lanes)))
    capacity = rng.integers(1, 20, lanes)
    updating = rng.random(lanes) < 0.2
    cooldowns = kernel.Cooldowns(
        rng.choice([-np.inf, 500.0], lanes),
        rng.integers(0, 6, lanes) * 1.0,
        rng.choice([-np.inf, 500.0], lanes),
    )
    rules = kernel.Rules(
        np.full((2, lanes), 100.0),
        np.full((2, lanes), 300.0),
        np.full((2, lanes), 300.0),
        rng.random((2, lanes)) < 0.2,
        rng.integers(1, 4, lanes),
        rng.integers(15, 25, lanes),
        rng.random(lanes) < 0.1,
        rng.random(lanes) < 0.1,
    )
    together = kernel.decide(400.0, high, low, wanted, capacity, updating, cooldowns, rules)
    reasons = kernel.explain(together, high, low, capacity, updating, rules)
    assert len(np.unique(reasons)) >= 8
    for i in range(lanes):
        one = slice(i, i + 1)
        alone = kernel.decide(
            400.0,
            high[:, one],
            low[:, one],
            wanted[:, one],
            capacity[one],
            updating[one],
            kernel.Cooldowns(
                cooldowns.out_until_s[one], cooldowns.out_added[one], cooldowns.in_until_s[one]
            ),
            kernel.Rules(
                rules.target_value[:, one],
                rules.scale_out_cooldown_s[:, one],
                rules.scale_in_cooldown_s[:, one],
                rules.disable_scale_in[:, one],
                rules.min_capacity[one],
                rules.max_capacity[one],
                rules.out_suspended[one],
                rules.in_suspended[one],
            ),
        )
        assert alone.desired[0] == together.desired[i]
        assert not (together.out[i] and together.inward[i])
        if together.out[i]:
            assert capacity[i] < together.desired[i] <= rules.max_capacity[i]
        if together.inward[i]:
            assert max(rules.min_capacity[i], 1) <= together.desired[i] < capacity[i]
