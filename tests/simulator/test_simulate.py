"""The fluid simulator against arithmetic, and against itself cut differently."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from simulator_tables import LAM_STAR_PER_MIN, cliff_table, diurnal, mmc_table, one, steps

from tuner.autoscaling.policy import ScalingMetric
from tuner.simulator.des import plan_fleet
from tuner.simulator.inputs import (
    LaunchLag,
    Loss,
    MetricCurve,
    PolicyGrid,
    SimulationOptions,
)
from tuner.simulator.lookup import substep_rates
from tuner.simulator.simulate import (
    SimulationResult,
    simulate,
    simulate_ensemble,
    split_days,
    timeline,
)

FIVE_MIN = LaunchLag.of(300.0)
RAGGED = LaunchLag.of([200.0, 250.0, 330.0, 410.0])


def equal(a: SimulationResult, b: SimulationResult) -> None:
    for name in ("bad_minutes", "spare_safe_minutes", "zone_safe_minutes", "instance_hours"):
        assert_array_equal(getattr(a, name), getattr(b, name))
    assert_array_equal(a.peak_instances, b.peak_instances)
    assert_allclose(a.violating_requests, b.violating_requests, rtol=1e-5, atol=1e-6)


# -- the queue -------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [True, False])
def test_fluid_overload_and_recovery(least: bool) -> None:
    """4 instances of 80/s under 400/s for 300 s leave 24 000 waiting, 75 s; then there are 8.

    Least outstanding: the four new ones take all 400/s, 80 more than they serve, while the
    old ones lose 320/s: level after 60 s at 9600, which 240/s clear in 40 s more. Random: the
    old ones get 200/s and lose 120/s for 200 s, and every second request finds no queue.
    """
    options = SimulationOptions(
        initial_capacity=4,
        min_capacity_by_minute=np.full(12, 8, np.int64),
        least_outstanding=least,
    )
    line = timeline(
        one(1e9, 4, 8), 0, steps((12, 24_000.0)), cliff_table(80.0), FIVE_MIN, options=options
    )
    assert_array_equal(line.in_service, [4] * 5 + [8] * 7)
    assert_array_equal(line.starting, [4] * 5 + [0] * 7)
    assert_allclose(line.delay_s[:5], [15.0, 30.0, 45.0, 60.0, 75.0], rtol=1e-6)
    assert_allclose(line.violation_share[1:5], 1.0)
    if least:
        assert_allclose(line.delay_s[5:8], [15.0, 15.0, 0.0], atol=1e-6)
        assert_allclose(line.violation_share[6], (40 - 0.5 * 640 / 240) / 60, atol=0.005)
    else:
        assert_allclose(line.delay_s[5:9], [75.0, 52.5, 30.0, 7.5], atol=1e-6)
        last = 0.5 * (20 - 0.5 * 320 / 120) / 60  # no longer late half a second before empty
        assert_allclose(line.violation_share[5:9], [0.5] * 3 + [last], atol=0.002)
    assert_array_equal(line.violation_share[9:], 0.0)


@pytest.mark.parametrize("least", [False, True])
def test_giving_up_writes_off_the_rest_of_an_endless_overload_and_nothing_else(
    least: bool,
) -> None:
    """Three fixed instances: one day a flood that never ends, one day a burst of ten minutes."""
    flood, burst = np.full(600, 2.0), np.full(600, 2.0)
    flood[100:] = 4.0
    burst[100:110] = 4.0
    load = np.stack([flood, burst]) * LAM_STAR_PER_MIN
    grid = PolicyGrid.fixed([3, 6])
    table = mmc_table()
    options = SimulationOptions(least_outstanding=least)
    plain = simulate(grid, load, table, LaunchLag.of(300.0), options=options)
    short = replace(options, give_up_min=120)
    given_up = simulate(grid, load, table, LaunchLag.of(300.0), options=short)
    assert_array_equal(given_up.instance_hours, plain.instance_hours)
    assert_allclose(given_up.violating_requests[:, 1], plain.violating_requests[:, 1])
    assert_allclose(given_up.violating_requests[1], plain.violating_requests[1])
    # A queue that only grows makes everybody late anyway.
    assert_allclose(given_up.violating_requests[0, 0], plain.violating_requests[0, 0], rtol=1e-3)
    assert given_up.bad_minutes[0, 0] == plain.bad_minutes[0, 0] == 500


def test_a_steady_fleet_violates_as_the_table_says() -> None:
    result = simulate(
        PolicyGrid.fixed([10]), np.full(100, 10 * LAM_STAR_PER_MIN), mmc_table(), FIVE_MIN
    )
    assert_allclose(result.violating_share, [[0.01]], rtol=1e-2)
    assert_allclose(result.instance_hours, [[10 * 100 / 60]])


def test_the_bad_minute_begins_at_lam_star() -> None:
    rate = np.concatenate([np.full(50, 0.999), np.full(50, 1.001)]) * 10 * LAM_STAR_PER_MIN
    result = simulate(PolicyGrid.fixed([10]), rate, mmc_table(), FIVE_MIN)
    assert result.bad_minutes[0, 0] == 50


@pytest.mark.parametrize(("count", "spare", "zone"), [(2, 0, 0), (3, 1, 1), (4, 1, 0), (6, 1, 1)])
def test_resilience_is_counted_on_the_instances_left(count: int, spare: int, zone: int) -> None:
    rate = np.full(10, 0.66 * count * LAM_STAR_PER_MIN)
    result = simulate(PolicyGrid.fixed([count]), rate, mmc_table(), FIVE_MIN)
    assert result.spare_safe_share[0, 0] == spare
    assert result.zone_safe_share[0, 0] == zone


def test_no_requests_no_violations_and_the_minimum() -> None:
    result = simulate(one(1000.0, low=2), np.zeros(200), mmc_table(), FIVE_MIN)
    assert result.violating_share[0, 0] == 0.0
    assert_allclose(result.instance_hours, [[2 * 200 / 60]])


# -- the control loop ------------------------------------------------------------------------


def test_the_step_of_the_textbook() -> None:
    """Target 1000, 4 instances, 4 000 to 6 000 a minute: six after four minutes and a launch."""
    line = timeline(one(1000.0), 0, steps((10, 4000.0), (30, 6000.0)), mmc_table(), FIVE_MIN)
    # Minutes 10, 11, 12 breach; the last is published at the end of 13; in service at 19:00.
    assert_array_equal(line.in_service, [4] * 19 + [6] * 21)
    assert_array_equal(np.flatnonzero(line.starting), np.arange(13, 19))
    assert_allclose(line.metric[[9, 10, 18, 19]], [1000.0, 1500.0, 1500.0, 1000.0])


@pytest.mark.parametrize(("delay_s", "ordered"), [(0.0, 12), (60.0, 13), (120.0, 14)])
def test_publishing_delay_shifts_the_order(delay_s: float, ordered: int) -> None:
    line = timeline(
        one(1000.0),
        0,
        steps((10, 4000.0), (30, 6000.0)),
        mmc_table(),
        FIVE_MIN,
        options=SimulationOptions(publish_delay_s=delay_s),
    )
    assert np.flatnonzero(line.starting)[0] == ordered


def test_scale_in_after_fifteen_low_minutes() -> None:
    line = timeline(one(1000.0), 0, steps((10, 8000.0), (40, 4000.0)), mmc_table(), FIVE_MIN)
    assert_array_equal(line.in_service, [8] * 25 + [4] * 25)  # 15 breaches and the delay


def test_disabled_scale_in_stays() -> None:
    load = steps((10, 8000.0), (40, 4000.0))
    line = timeline(one(1000.0, disable_scale_in=True), 0, load, mmc_table(), FIVE_MIN)
    assert_array_equal(line.in_service, 8.0)


def test_scale_outs_are_serialised_unless_told_otherwise() -> None:
    load = steps((10, 4000.0), (2, 6000.0), (40, 12_000.0))
    slow = LaunchLag.of(600.0)
    apart = timeline(one(1000.0), 0, load, mmc_table(), slow)
    freely = SimulationOptions(serialised=False)
    together = timeline(one(1000.0), 0, load, mmc_table(), slow, options=freely)
    # First order at the end of minute 13 for the load of minute 12.
    assert (apart.starting[13], apart.in_service[24]) == (8.0, 12.0)
    load = steps((10, 4000.0), (3, 6000.0), (40, 12_000.0))
    apart = timeline(one(1000.0), 0, load, mmc_table(), slow)
    together = timeline(one(1000.0), 0, load, mmc_table(), slow, options=freely)
    assert np.argmax(apart.in_service == 12) == 34  # ordered when the first batch was in
    assert np.argmax(together.in_service == 12) == 25  # ordered a minute after it


def test_starting_instances_cost() -> None:
    load = steps((10, 4000.0), (30, 6000.0))
    result = simulate(one(1000.0), load, mmc_table(), FIVE_MIN)
    line = timeline(one(1000.0), 0, load, mmc_table(), FIVE_MIN)
    # Ordered at the end of minute 13: two more for the 26 minutes that follow.
    assert_allclose(result.instance_hours, (4 * 40 + 2 * 26) / 60)
    assert (line.in_service + line.starting).max() == result.peak_instances[0, 0] == 6


def test_every_instance_draws_its_own_lag() -> None:
    load = steps((10, 4000.0), (40, 40_000.0))
    line = timeline(one(1000.0), 0, load, mmc_table(), RAGGED)
    arrivals = np.unique(np.flatnonzero(np.diff(line.in_service)) + 1)
    assert len(arrivals) == 4
    assert arrivals[0] == 13 + 4  # 200 s after the end of minute 13
    assert arrivals[-1] == 13 + 7


def random_case(seed: int) -> tuple[PolicyGrid, np.ndarray, float]:
    rng = np.random.default_rng(seed)
    base = 4000.0 * np.exp(np.cumsum(rng.normal(0.0, 0.08, 400)))
    base *= np.where(rng.random(400) < 0.02, 3.0, 1.0)
    base *= 1.0 + 2.0 * np.sin(np.linspace(0.0, 7.0, 400)) ** 2
    low = int(rng.integers(1, 5))
    grid = one(
        float(rng.choice([700.0, 1000.0, 1300.0])),
        low,
        int(low + rng.integers(5, 60)),
        int(rng.choice([0, 120, 300, 900])),
        int(rng.choice([0, 300, 1200])),
        disable_scale_in=bool(rng.random() < 0.1),
    )
    return grid, np.rint(base), float(rng.choice([60.0, 150.0, 300.0, 640.0]))


@pytest.mark.parametrize("seed", range(12))
def test_it_scales_as_the_shell_that_the_emulator_runs(seed: int) -> None:
    """Same policy, traffic and launch lag: the same counts at the same moments."""
    grid, load, lag_s = random_case(seed)
    policy, bounds = grid.policy(0)
    plan = plan_fleet(
        policy, bounds, load.astype(np.int64), LaunchLag.of(lag_s), np.random.default_rng(0)
    )
    line = timeline(grid, 0, load, cliff_table(1e9, 80), LaunchLag.of(lag_s))
    ends = np.arange(1, len(load) + 1) * 60.0
    expected = plan.count[np.searchsorted(plan.start_s, ends, side="right") - 1]
    # An instance that arrives at the very end of a minute counts from the next on.
    early = plan.count[np.searchsorted(plan.start_s, ends - 1e-6, side="right") - 1]
    assert ((line.in_service == expected) | (line.in_service == early)).all()
    result = simulate(grid, load, cliff_table(1e9, 80), LaunchLag.of(lag_s))
    assert_allclose(result.instance_hours[0, 0] * 3600.0, plan.instance_seconds)
    assert len(np.unique(line.in_service)) > 1


# -- batches ---------------------------------------------------------------------------------


GRID = PolicyGrid.product(
    np.array([0.5, 0.8, 0.95, 1.1]) * LAM_STAR_PER_MIN, [1, 3], [6, 48], [0, 300], [300]
)
DAYS = diurnal(40.0, 500.0, days=3, minutes=480)


def test_blocks_of_any_size_give_the_same() -> None:
    grid, days = GRID.subset([0, 5, 10, 15]), DAYS[:, :300]
    whole = simulate(grid, days, mmc_table(), RAGGED, seed=3)
    for lanes in (1, 3, 8):
        cut = SimulationOptions(lanes_per_block=lanes)
        equal(whole, simulate(grid, days, mmc_table(), RAGGED, seed=3, options=cut))
    assert len(np.unique(whole.bad_minutes)) > 3


def test_one_policy_alone_is_what_it_is_in_a_batch_and_its_timeline_adds_up() -> None:
    options = SimulationOptions(lead_in_min=60, dispersion=3.0)
    whole = simulate(GRID, DAYS, mmc_table(), RAGGED, seed=3, options=options)
    for policy in (0, 9, 15):
        alone = simulate(GRID.subset([policy]), DAYS, mmc_table(), RAGGED, seed=3, options=options)
        assert_array_equal(alone.bad_minutes[0], whole.bad_minutes[policy])
        line = timeline(GRID, policy, DAYS, mmc_table(), RAGGED, day=1, seed=3, options=options)
        assert line.in_service.shape == (420,)
        late = (line.violation_share * line.requests_per_min).sum()
        assert_allclose(late, whole.violating_requests[policy, 1], rtol=1e-4)
        paid = (line.in_service + line.starting).sum() / 60.0
        assert_allclose(paid, whole.instance_hours[policy, 1], rtol=0.02)
        bad = line.violation_share > options.allowance
        assert abs(int(bad.sum()) - whole.bad_minutes[policy, 1]) <= 1


def test_the_seed_decides() -> None:
    first, again, other = (
        simulate(GRID, DAYS, mmc_table(), RAGGED, seed=s).violating_requests for s in (1, 1, 2)
    )
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_less_capacity_violates_more() -> None:
    tables = [replace(mmc_table(), saturation_rate_per_s=r) for r in (80.0, 70.0, 60.0)]
    results = simulate_ensemble(GRID, DAYS, tables, RAGGED)
    shares = np.array([r.overall_violating_share for r in results])
    assert (np.diff(shares, axis=0) > 0.0).all()
    # What is ordered follows from the requests alone.
    assert_array_equal(results[0].instance_hours, results[2].instance_hours)


def test_the_lead_in_is_simulated_and_not_scored() -> None:
    record = np.concatenate([np.full(480, 8000.0), np.full(480, 4000.0)])
    days = split_days(record, day_min=480, lead_in_min=30)
    assert days.shape == (2, 510)
    assert_array_equal(days[1, :30], 8000.0)
    options = SimulationOptions(lead_in_min=30)
    result = simulate(one(1000.0), days, mmc_table(), FIVE_MIN, options=options)
    assert result.scored_minutes == 480
    assert_allclose(result.requests, [480 * 8000.0, 480 * 4000.0])
    # The second day starts with yesterday's eight, which leave after 15 minutes and the delay.
    assert_allclose(result.instance_hours[0], [8 * 8.0, (480 * 4 + 16 * 4) / 60])


# -- the world around ------------------------------------------------------------------------


def test_a_lost_zone_is_replaced_after_a_launch() -> None:
    options = SimulationOptions(losses=(Loss(minute=20, zones=3),))
    load = np.full(60, 9 * 900.0)
    line = timeline(one(1000.0), 0, load, mmc_table(), FIVE_MIN, options=options)
    assert_array_equal(line.in_service, [9] * 20 + [6] * 5 + [9] * 35)
    assert_array_equal(line.starting, [0] * 20 + [3] * 5 + [0] * 35)


def test_a_lost_instance_is_not_ordered_twice() -> None:
    options = SimulationOptions(losses=(Loss(minute=20, instances=2),))
    load = np.full(90, 9 * 950.0)
    slow = LaunchLag.of(900.0)
    line = timeline(one(1000.0), 0, load, mmc_table(), slow, options=options)
    assert (line.in_service + line.starting == 9).all()


def test_losing_everything_violates_everything() -> None:
    options = SimulationOptions(losses=(Loss(minute=5, instances=99),))
    line = timeline(one(1000.0), 0, np.full(20, 2000.0), mmc_table(), FIVE_MIN, options=options)
    assert_allclose(line.violation_share[5:10], 1.0)
    assert line.in_service[9] == 0
    assert line.in_service[10] == 2


def test_a_scheduled_minimum_raises_and_lets_go() -> None:
    floor = np.zeros(120, np.int64)
    floor[30:60] = 10
    options = SimulationOptions(min_capacity_by_minute=floor)
    line = timeline(
        one(1000.0, 2, 8), 0, np.full(120, 4000.0), mmc_table(), FIVE_MIN, options=options
    )
    assert_array_equal(line.in_service[:35], 4)
    assert_array_equal(line.in_service[35:60], 10)
    assert line.in_service[-1] == 4


def test_cpu_is_invocations_in_other_words_below_saturation() -> None:
    curve = MetricCurve(np.array([0.0, 1.0]), np.array([0.0, 400.0]))
    load = diurnal(40.0, 300.0, minutes=600)
    options = SimulationOptions(metric_curve=curve)
    share = 0.6
    by_cpu = timeline(
        one(share * 400.0, metric=ScalingMetric.CPU),
        0,
        load,
        mmc_table(),
        FIVE_MIN,
        options=options,
    )
    by_count = timeline(one(share * 80.0 * 60.0), 0, load, mmc_table(), FIVE_MIN)
    assert by_cpu.violation_share.max() < 0.5
    assert np.mean(by_cpu.in_service == by_count.in_service) > 0.99
    still = np.flatnonzero(np.diff(by_cpu.in_service) == 0) + 1
    expected = load[0] / by_cpu.in_service / 4800.0 * 400.0
    assert_allclose(by_cpu.metric[still], expected[still], rtol=1e-5)


def test_concurrency_reacts_in_seconds_and_sees_the_queue() -> None:
    curve = MetricCurve(np.array([0.0, 1.0]), np.array([0.0, 4.0]), per_waiting=1.0)
    options = SimulationOptions(metric_curve=curve, publish_delay_s=10.0)
    load = steps((10, 0.5 * 4800.0 * 4), (40, 4800.0 * 6))
    line = timeline(
        one(2.5, 2, 48, metric=ScalingMetric.CONCURRENCY),
        0,
        load,
        mmc_table(),
        LaunchLag.of(120.0),
        options=options,
    )
    slow = timeline(one(3000.0, 2), 0, load, mmc_table(), LaunchLag.of(120.0))
    # Three datapoints of ten seconds and the delay: ordered inside the first minute.
    assert line.starting[10] > 0
    assert np.flatnonzero(slow.starting)[0] == 13
    assert line.metric.max() > 4.0
    assert line.violation_share.sum() < slow.violation_share.sum()


def test_a_backlog_is_seen_by_the_concurrency_metric_until_it_is_gone() -> None:
    curve = MetricCurve(np.array([0.0, 1.0]), np.array([0.0, 4.0]), per_waiting=1.0)
    options = SimulationOptions(metric_curve=curve, initial_capacity=2)
    grid = one(3.0, 2, 2, metric=ScalingMetric.CONCURRENCY)
    line = timeline(
        grid, 0, steps((5, 4800.0 * 3), (20, 0.0)), cliff_table(80.0), FIVE_MIN, options=options
    )
    # 80/s too many for 300 s on two instances: 12 000 each wait on top of the four in service.
    assert_allclose(line.metric[4], 4.0 + 12_000.0, rtol=1e-6)
    assert line.metric[-1] == 0.0


def test_dispersion_keeps_the_minutes_and_widens_the_seconds() -> None:
    rates = substep_rates(np.full((20_000, 1), 3000.0), 4.0, np.random.default_rng(0))
    assert_allclose(rates.mean(axis=-1), 3000.0, rtol=1e-9)
    counts = rates / 6.0
    # Extra variance (D - 1) x mean, less the part that fixing the minute's total takes.
    assert_allclose(counts.var(), 3.0 * 500.0 * 5.0 / 6.0, rtol=0.05)
    calm, wild = (
        simulate(
            one(0.9 * LAM_STAR_PER_MIN),
            DAYS,
            mmc_table(),
            FIVE_MIN,
            options=SimulationOptions(dispersion=d),
        )
        for d in (1.0, 40.0)
    )
    assert wild.overall_violating_share[0] > 1.2 * calm.overall_violating_share[0]
    assert_array_equal(wild.instance_hours, calm.instance_hours)


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "traffic", [[], [[]], [1.0, np.nan], [1.0, np.inf], [1.0, -1.0], np.zeros((1, 2, 3))]
)
def test_traffic_that_cannot_be_simulated_is_refused(traffic: object) -> None:
    with pytest.raises(ValueError, match="traffic"):
        simulate(one(1000.0), traffic, mmc_table(), FIVE_MIN)  # type: ignore[arg-type]


def test_what_makes_no_sense_is_refused() -> None:
    table = mmc_table()
    load = np.ones(10)
    with pytest.raises(ValueError, match="metric_curve"):
        simulate(one(50.0, metric=ScalingMetric.CPU), load, table, FIVE_MIN)
    with pytest.raises(ValueError, match="lead-in"):
        simulate(one(1.0), load, table, FIVE_MIN, options=SimulationOptions(lead_in_min=10))
    short = SimulationOptions(min_capacity_by_minute=np.ones(3, np.int64))
    with pytest.raises(ValueError, match="scheduled minimum"):
        simulate(one(1.0), load, table, FIVE_MIN, options=short)
    with pytest.raises(ValueError, match="min_capacity"):
        one(1.0, low=0)
    with pytest.raises(ValueError, match="one metric"):
        PolicyGrid.of([])
    with pytest.raises(ValueError, match="launch"):
        LaunchLag.of([])
    with pytest.raises(ValueError, match="without gaps"):
        simulate(one(1.0), load, replace(table, instance_count=table.instance_count + 1), FIVE_MIN)
    with pytest.raises(ValueError, match="probabilities"):
        simulate(one(1.0), load, replace(table, probability=table.probability * 2), FIVE_MIN)


def test_counts_beyond_the_table_are_told() -> None:
    small = mmc_table(3)
    within = simulate(PolicyGrid.fixed([3]), np.full(10, 1000.0), small, FIVE_MIN)
    beyond = simulate(PolicyGrid.fixed([9]), np.full(10, 9000.0), small, FIVE_MIN)
    assert (within.counts_beyond_table, beyond.counts_beyond_table) == (False, True)
