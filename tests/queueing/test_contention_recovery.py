"""Demands recovered from servers whose requests slow each other down, simulated event by event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import Contention, FleetSpec, InstanceSpec, QueueOrder
from tuner.queueing.contention import recover_shared
from tuner.queueing.recovery import Segment

SHARED = InstanceSpec(ServiceTime.exponential(0.05), 16, contention=Contention(0.15, 0.004))


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


def test_the_server_and_its_demands_are_found() -> None:
    work = recover_shared(stages(SHARED, ((20.0, 30.0), (47.0, 120.0), (52.0, 120.0)), 1))
    assert work is not None
    assert work.places == 16
    # Speeds are what capacity hangs on: within 6 % of the true ones wherever load was held.
    k = np.array([4.0, 8.0, 12.0])
    slowed = 1.0 + work.contention * (k - 1.0) + work.coherence * k * (k - 1.0)
    assert slowed == pytest.approx(1.0 + 0.15 * (k - 1.0) + 0.004 * k * (k - 1.0), rel=0.06)
    assert work.demand_s.mean() == pytest.approx(0.05, rel=0.05)
    assert np.median(work.demand_s) == pytest.approx(0.05 * np.log(2.0), rel=0.05)
    assert min(t.p_value for t in (work.state, work.future, work.time)) > 1e-3


def test_the_draws_spread_about_as_the_estimates_do() -> None:
    plan = ((20.0, 20.0), (50.0, 60.0))
    estimates, spread = [], []
    for seed in range(8):
        work = recover_shared(stages(SHARED, plan, seed))
        assert work is not None
        # The slowdown at the usual crowd: the two parameters trade against each other.
        estimates.append(5.0 * work.contention + 30.0 * work.coherence)
        rng = np.random.default_rng(seed)
        drawn = [work.drawn(rng) for _ in range(30)]
        spread.append(np.std([5.0 * a + 30.0 * b for _, a, b in drawn]))
        assert all(len(demand) > 0.5 * len(work.demand_s) for demand, _, _ in drawn)
    # Eight estimates know their spread to a factor of about two.
    assert 0.4 < np.mean(spread) / np.std(estimates, ddof=1) < 2.5


def test_alike_demands_on_few_places_are_seen_as_such() -> None:
    alike = InstanceSpec(ServiceTime.deterministic(0.05), 4, contention=Contention(0.1))
    work = recover_shared(stages(alike, ((30.0, 20.0), (52.0, 60.0)), 2))
    assert work is not None
    assert work.places == 4
    assert work.contention + 4.0 * work.coherence == pytest.approx(0.1, abs=0.01)
    assert work.demand_s == pytest.approx(np.full(len(work.demand_s), 0.05), rel=0.02)


def test_service_in_random_order_is_not_taken_for_it() -> None:
    instance = InstanceSpec(ServiceTime.lognormal(0.05, 1.0), 4, order=QueueOrder.RANDOM)
    work = recover_shared(stages(instance, ((30.0, 30.0), (58.0, 150.0)), 3))
    assert work is not None
    assert min(work.state.p_value, work.future.p_value) < 3e-4


def test_the_time_outside_the_server_is_told_from_work() -> None:
    overhead = ServiceTime.deterministic(0.005)
    outside = replace(SHARED, overhead=overhead)
    plan = ((20.0, 30.0), (50.0, 120.0))
    away, at_once = (
        recover_shared(stages(outside, plan, 4)),
        recover_shared(stages(SHARED, plan, 4)),
    )
    assert away is not None
    assert at_once is not None
    assert away.floor_s == pytest.approx(0.005, abs=0.0015)
    assert at_once.floor_s < 0.001


def test_too_few_requests_recover_nothing() -> None:
    assert recover_shared(stages(SHARED, ((20.0, 10.0),), 1)) is None
    assert recover_shared([]) is None
