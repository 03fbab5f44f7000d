"""Request by request: the queues against closed forms, the day against the fluid model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from simulator_tables import (
    LAM_STAR_PER_MIN,
    MEAN_S,
    SLO_S,
    WORKERS,
    diurnal,
    mmc_late,
    mmc_table,
    one,
)

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.fleet.model import Fleet
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, RoutingStrategy
from tuner.queueing.jsq import shortest_queue
from tuner.simulator.des import RequestModel, run_requests
from tuner.simulator.inputs import LaunchLag, SimulationOptions
from tuner.simulator.simulate import simulate

RANDOM, LEAST = RoutingStrategy.RANDOM, RoutingStrategy.LEAST_OUTSTANDING_REQUESTS


def fixed(count: int) -> tuple[TargetTrackingPolicy, CapacityBounds]:
    policy = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 1.0)
    return policy, CapacityBounds(count, count)


def steady_share(model: RequestModel, count: int, rate_per_s: float, minutes: int) -> float:
    rng = np.random.default_rng(11)
    load = rng.poisson(60.0 * rate_per_s, minutes)
    result = run_requests(*fixed(count), load, model, LaunchLag.of(300.0), rng)
    late = result.violating[5:].sum() / result.requests[5:].sum()
    return float(late)


@pytest.mark.parametrize("count", [1, 3])
def test_random_routing_is_independent_queues(count: int) -> None:
    model = RequestModel(ServiceTime.exponential(MEAN_S), WORKERS, RANDOM, SLO_S)
    share = steady_share(model, count, 60.0 * count, 360 // count)
    exact = mmc_late(np.array([SLO_S]), WORKERS, 60.0 / 80.0, MEAN_S)[0]
    assert share == pytest.approx(exact, rel=0.12)


def test_least_outstanding_is_join_the_shortest_queue() -> None:
    model = RequestModel(ServiceTime.exponential(MEAN_S), 1, LEAST, 0.25)
    share = steady_share(model, 2, 2 * 0.8 / MEAN_S, 120)
    exact = shortest_queue(2, 0.8, MEAN_S).sojourn_survival(0.25)
    assert share == pytest.approx(float(exact), rel=0.06)


def test_the_floor_counts_and_occupies_nobody() -> None:
    service = ServiceTime.deterministic(0.01)
    without = RequestModel(service, 1, RANDOM, 0.1)
    beyond = RequestModel(service, 1, RANDOM, 0.1, floor_s=0.0901)
    assert steady_share(without, 1, 1.0, 10) == 0.0
    assert steady_share(beyond, 1, 1.0, 10) == 1.0


@pytest.mark.parametrize("routing", [RANDOM, LEAST])
def test_the_queues_are_those_of_the_fleet_model(routing: RoutingStrategy) -> None:
    """The fleet behind the emulator, under the same load, misses the same share."""
    rate, minutes, count = 3 * 68.0, 12, 3
    model = RequestModel(ServiceTime.exponential(MEAN_S), WORKERS, routing, 0.2)
    share = steady_share(model, count, rate, minutes)
    spec = FleetSpec(InstanceSpec(ServiceTime.exponential(MEAN_S), WORKERS), count, routing)
    rng = np.random.default_rng(4)
    fleet = Fleet(spec, rng)
    now, late, total = 0.0, 0, 0
    for gap in rng.exponential(1.0 / rate, int(rate * 60 * (minutes - 5))).tolist():
        now += gap
        fleet.submit(now)
        for done in fleet.advance(now):
            late += done.done_s - done.arrived_s > 0.2
            total += 1
    assert share == pytest.approx(late / total, rel=0.15)


def test_without_instances_every_request_is_late() -> None:
    model = RequestModel(ServiceTime.deterministic(0.01), 1, RANDOM, 0.1)
    rng = np.random.default_rng(0)
    empty = run_requests(*fixed(0), np.full(3, 10.0), model, LaunchLag.of(60.0), rng)
    assert_array_equal(empty.violating, empty.requests)
    assert empty.violating_share == 1.0


@pytest.mark.parametrize("share", [0.7, 0.97])
def test_a_day_agrees_with_the_fluid_model(share: float) -> None:
    """Misses within 0.1 points, instance-hours within 0.5 %."""
    load = diurnal(40.0, 200.0, seed=8, minutes=360)[0]
    launch = LaunchLag.of([180.0, 240.0, 300.0])
    grid = one(share * LAM_STAR_PER_MIN)
    fluid = simulate(grid, load, mmc_table(), launch)
    model = RequestModel(ServiceTime.exponential(MEAN_S), WORKERS, RANDOM, SLO_S)
    exact = run_requests(*grid.policy(0), load, model, launch, np.random.default_rng(9))
    assert fluid.violating_share[0, 0] == pytest.approx(exact.violating_share, abs=1e-3)
    assert_allclose(fluid.instance_hours[0, 0], exact.instance_hours, rtol=5e-3)
    assert 0.0 < exact.violating_share < 0.02


@pytest.mark.parametrize("routing", [RANDOM, LEAST])
def test_a_violent_spike_agrees_with_the_fluid_model(routing: RoutingStrategy) -> None:
    """Deep overload: the misses hang on whose backlog it is when new instances come."""
    mean = np.full(70, 150.0)
    mean[20:50] *= 2.5
    load = np.random.default_rng(2).poisson(60.0 * mean).astype(np.float64)
    grid = one(0.8 * LAM_STAR_PER_MIN)
    launch = LaunchLag.of(280.0)
    options = SimulationOptions(least_outstanding=routing is LEAST)
    fluid = simulate(grid, load, mmc_table(), launch, options=options)
    model = RequestModel(ServiceTime.exponential(MEAN_S), WORKERS, routing, SLO_S)
    exact = run_requests(*grid.policy(0), load, model, launch, np.random.default_rng(9))
    assert exact.violating_share > 0.2
    assert fluid.violating_share[0, 0] == pytest.approx(exact.violating_share, abs=5e-3)


def test_following_every_fourth_instance_changes_no_distribution() -> None:
    """Nine to twelve M/M/4 under a load that scales out once."""
    load = np.concatenate([np.full(20, 8.0), np.full(20, 11.0)]) * LAM_STAR_PER_MIN
    grid = one(0.95 * LAM_STAR_PER_MIN, 8, 24)
    model = RequestModel(ServiceTime.exponential(MEAN_S), WORKERS, RoutingStrategy.RANDOM, SLO_S)
    whole, some = (
        run_requests(
            *grid.policy(0),
            load,
            model,
            LaunchLag.of(240.0),
            np.random.default_rng(4),
            minutes=range(5, 35),
            every=every,
        )
        for every in (1, 4)
    )
    assert whole.followed == int(whole.requests.sum())
    assert whole.followed / 5 < some.followed < whole.followed / 2.5
    assert some.instance_hours == whole.instance_hours
    assert len(some.requests) == len(some.violating) == 30
    assert some.violating_share == pytest.approx(whole.violating_share, rel=0.2)
    least = replace(model, routing=RoutingStrategy.LEAST_OUTSTANDING_REQUESTS)
    with pytest.raises(ValueError, match="one instance in 4"):
        run_requests(
            *grid.policy(0), load, least, LaunchLag.of(1.0), np.random.default_rng(1), every=4
        )


def test_what_it_cannot_replay_is_refused() -> None:
    model = RequestModel(ServiceTime.deterministic(0.01), 1, RANDOM, 0.1)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="gaps"):
        run_requests(*fixed(1), [1.0, np.nan], model, LaunchLag.of(60.0), rng)
    cpu = TargetTrackingPolicy(ScalingMetric.CPU, 50.0)
    with pytest.raises(ValueError, match="invocations"):
        run_requests(cpu, CapacityBounds(1, 2), [1.0], model, LaunchLag.of(60.0), rng)
    with pytest.raises(ValueError, match="workers"):
        RequestModel(ServiceTime.deterministic(0.01), 0, RANDOM, 0.1)
