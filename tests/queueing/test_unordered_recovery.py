"""Demands recovered from servers without an order of service, simulated event by event."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import Contention, FleetSpec, InstanceSpec, QueueOrder
from tuner.queueing.recovery import Segment
from tuner.queueing.unordered import recover_unordered

LOGNORMAL = ServiceTime.lognormal(0.05, 1.0)
LOADS = ((18.0, 20.0), (54.0, 80.0), (58.0, 80.0), (61.0, 80.0))


def stages(
    instance: InstanceSpec, plan: tuple[tuple[float, float], ...], seed: int
) -> list[Segment]:
    rng = np.random.default_rng(seed)
    found = []
    for index, (rate, length_s) in enumerate(plan):
        arrival = np.cumsum(rng.exponential(1.0 / rate, int(rate * length_s)))
        done = simulate(FleetSpec(instance), arrival, rng).done_s
        kinds = np.zeros(len(arrival), np.uint16)
        found.append(Segment(arrival, done, kinds, float(arrival[30]), index))
    return found


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("service", "workers", "plan"),
    [
        (LOGNORMAL, 4, LOADS),
        (ServiceTime.gamma(0.05, 0.7), 8, ((40.0, 10.0), (130.0, 60.0), (140.0, 60.0))),
        (ServiceTime.exponential(0.03), 1, ((4.0, 30.0), (15.0, 200.0))),
        (ServiceTime.deterministic(0.05), 4, ((20.0, 20.0), (70.0, 60.0))),
    ],
)
def test_workers_and_demands_are_found(
    service: ServiceTime, workers: int, plan: tuple[tuple[float, float], ...], seed: int
) -> None:
    instance = InstanceSpec(service, workers, order=QueueOrder.RANDOM)
    work = recover_unordered(stages(instance, plan, seed))
    assert work is not None
    assert work.workers == workers
    assert work.floor_s == 0.0
    assert work.clumped_share < 0.15
    # Three standard errors of a mean of so many demands, queues included.
    assert work.demand_s.mean() == pytest.approx(service.mean_s, rel=0.05)
    assert min(t.p_value for t in (work.state, work.future, work.time)) > 1e-3
    assert abs(work.imbalance[1]) < 3.5
    assert work.jump > 10.0


def test_a_network_floor_is_told_from_the_demand() -> None:
    instance = InstanceSpec(
        LOGNORMAL, 4, order=QueueOrder.RANDOM, overhead=ServiceTime.deterministic(0.01)
    )
    work = recover_unordered(stages(instance, LOADS, 3))
    assert work is not None
    assert work.workers == 4
    assert work.floor_s == pytest.approx(0.01, abs=0.0025)
    assert work.demand_s.mean() == pytest.approx(0.05, rel=0.05)
    drawn = [work.drawn(np.random.default_rng(k)) for k in range(40)]
    assert 0.0003 < np.std([floor for _, floor in drawn]) < 0.0025


def test_the_draws_spread_about_as_the_estimates_do() -> None:
    instance = InstanceSpec(LOGNORMAL, 4, order=QueueOrder.RANDOM)
    estimates, spread = [], []
    for seed in range(12):
        work = recover_unordered(stages(instance, ((40.0, 20.0), (58.0, 60.0)), seed))
        assert work is not None
        estimates.append(work.demand_s.mean())
        rng = np.random.default_rng(seed)
        spread.append(np.std([work.drawn(rng)[0].mean() for _ in range(40)]))
    # Twelve estimates know their spread to a factor of about one and a half.
    assert 0.55 < np.mean(spread) / np.std(estimates, ddof=1) < 1.8


def test_requests_that_slow_each_other_down_are_out_of_balance() -> None:
    shared = InstanceSpec(ServiceTime.exponential(0.05), 16, contention=Contention(0.15, 0.004))
    work = recover_unordered(stages(shared, ((20.0, 30.0), (47.0, 120.0), (52.0, 120.0)), 1))
    assert work is not None
    share, z = work.imbalance
    assert work.state.p_value < 1e-4 or (share > 0.02 and z > 4.0)


def test_too_few_requests_say_nothing() -> None:
    instance = InstanceSpec(LOGNORMAL, 4, order=QueueOrder.RANDOM)
    assert recover_unordered(stages(instance, ((40.0, 5.0),), 1)) is None
    assert recover_unordered([]) is None
