"""Headroom rules against arithmetic, published figures and the simulator."""

from __future__ import annotations

import pytest
from simulator_tables import LAM_STAR_PER_MIN, mmc_table

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.simulator.headroom import (
    best_zone_count,
    largest_jump,
    largest_ramp,
    lost_with_zone,
    ramp_for_share,
    reaction_min,
    share_for_jump,
    share_for_ramp,
    share_for_zone_loss,
    share_without,
)
from tuner.simulator.inputs import LaunchLag

BOUNDS = CapacityBounds(1, 48)


def policy(share: float) -> TargetTrackingPolicy:
    return TargetTrackingPolicy(ScalingMetric.INVOCATIONS, share * LAM_STAR_PER_MIN, 0, 300)


def test_reaction_is_datapoints_delay_half_a_minute_and_the_launch() -> None:
    assert reaction_min(300.0) == 9.5
    assert reaction_min(300.0, publish_delay_s=0.0) == 8.5


@pytest.mark.parametrize(
    ("growth", "lag_min", "share"),
    [(0.01, 2, 0.94), (0.01, 8, 0.89), (0.05, 2, 0.75), (0.05, 5, 0.68), (0.10, 5, 0.51)],
)
def test_ramp_rule_of_one_over_one_plus_growth_times_reaction(
    growth: float, lag_min: float, share: float
) -> None:
    rule = share_for_ramp(growth, 60.0 * lag_min, serialised=False)
    assert rule == pytest.approx(share, abs=0.006)
    assert ramp_for_share(rule, 60.0 * lag_min) == pytest.approx(growth)


def test_a_ramp_never_needs_more_than_its_end() -> None:
    assert share_for_ramp(10.0, 900.0, up_to=2.0) == 0.5
    assert share_for_ramp(0.0, 900.0) == 1.0
    assert share_for_jump(2.0) == 0.5
    assert ramp_for_share(1.2, 300.0) == 0.0


@pytest.mark.parametrize(
    ("count", "share"), [(2, 0.5), (3, 2 / 3), (4, 0.5), (6, 2 / 3), (9, 2 / 3), (12, 2 / 3)]
)
def test_zone_loss(count: int, share: float) -> None:
    assert share_for_zone_loss(count) == pytest.approx(share)


def test_losing_instances() -> None:
    assert share_without(5, 1) == 0.8
    assert [lost_with_zone(n) for n in (1, 3, 4, 6, 7)] == [1, 1, 2, 2, 3]
    assert [best_zone_count(n) for n in (1, 3, 4, 12, 13)] == [3, 3, 6, 12, 15]
    with pytest.raises(ValueError, match="lost"):
        share_without(2, 3)


@pytest.mark.parametrize("bad", [(-0.1, 2.0), (0.1, 0.9)])
def test_bad_questions_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="growth"):
        share_for_ramp(bad[0], 300.0, up_to=bad[1])
    with pytest.raises(ValueError, match="factor"):
        share_for_jump(0.5)
    with pytest.raises(ValueError, match="share"):
        ramp_for_share(0.0, 300.0)


@pytest.mark.parametrize(("growth", "lag_min"), [(0.03, 2), (0.03, 8), (0.05, 5), (0.10, 2)])
def test_the_ramp_rule_is_safe_in_simulation_and_not_by_much(growth: float, lag_min: float) -> None:
    rule = share_for_ramp(growth, 60.0 * lag_min)

    def survives(share: float) -> bool:
        found = largest_ramp(
            policy(share),
            BOUNDS,
            mmc_table(),
            LaunchLag.of([60.0, 60.0 * lag_min]),
            12 * share * LAM_STAR_PER_MIN,
        )
        return found.value >= growth

    assert survives(rule - 0.02)
    assert not survives(rule + 0.12)


def test_half_of_the_maximum_carries_a_doubling_and_no_more() -> None:
    found = largest_jump(
        policy(0.5), BOUNDS, mmc_table(), LaunchLag.of(300.0), 10 * 0.5 * LAM_STAR_PER_MIN
    )
    assert found.value == pytest.approx(2.0, abs=0.03)
    assert not found.beyond


def test_a_fleet_far_too_large_survives_all_that_is_tried() -> None:
    wide = CapacityBounds(40, 48)
    found = largest_jump(policy(0.5), wide, mmc_table(), LaunchLag.of(300.0), LAM_STAR_PER_MIN)
    assert found.beyond
    assert found.value == 6.0
