"""Lanes of service in random order against closed forms and the event-driven fleet."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, QueueOrder
from tuner.fleet.unordered import unordered_latencies


def test_hand_worked() -> None:
    # One worker, three that come while the first is served: the last start but one takes the
    # last of those waiting, the next the first of those left.
    gap = np.array([[1.0], [0.1], [0.1], [0.1]])
    demand = np.array([[1.0], [2.0], [3.0], [4.0]])
    choice = np.array([[0.5], [0.9], [0.2], [0.7]])
    # Started at 1, 2, 4 and 7: requests 0, 3, 1 and 2.
    ends = np.array([2.0, 7.0, 11.0, 4.0])
    found = unordered_latencies(gap, demand, choice, 1)[:, 0]
    assert found == pytest.approx(ends - np.array([1.0, 1.1, 1.2, 1.3]))


def test_the_mean_is_that_of_service_in_order_of_arrival() -> None:
    rng = np.random.default_rng(3)
    gap = rng.exponential(1.0 / 70.0, (3000, 2))
    latency = unordered_latencies(gap, np.full(gap.shape, 0.05), rng.random(gap.shape), 4)
    fifo = InstanceSpec(ServiceTime.deterministic(0.05), 4)
    for lane in range(2):
        arrival = np.cumsum(gap[:, lane])
        ordered = simulate(FleetSpec(fifo), arrival, rng).done_s - arrival
        assert latency[:, lane].mean() == pytest.approx(ordered.mean(), rel=1e-9)
        assert latency[:, lane].std() > 1.05 * ordered.std()


def test_the_spread_of_waits_is_the_closed_form() -> None:
    # Takacs (1963): the second moment of the wait is 2 / (2 - rho) times that in order of
    # arrival, which for M/M/1 is 2 rho / (1 - rho)**2 services squared.
    rng, rho = np.random.default_rng(5), 0.6
    gap, demand = rng.exponential(1.0 / rho, (3000, 400)), rng.exponential(1.0, (3000, 400))
    latency = unordered_latencies(gap, demand, rng.random(gap.shape), 1)[300:]
    # Latency is wait plus an independent service of second moment 2 and mean 1.
    mean_wait = rho / (1.0 - rho)
    square = 2.0 * rho / (1.0 - rho) ** 2 * 2.0 / (2.0 - rho) + 2.0 * mean_wait + 2.0
    per_lane = (latency**2).mean(axis=0)
    error = float(per_lane.std(ddof=1)) / len(per_lane) ** 0.5
    assert abs(per_lane.mean() - square) < 3.5 * error
    assert error < 0.03 * square


def test_late_requests_are_as_many_as_in_the_event_driven_fleet() -> None:
    rate, steps, lanes = 58.0, 2500, 60
    service = ServiceTime.lognormal(0.05, 1.0)
    rng = np.random.default_rng(7)
    gap = rng.exponential(1.0 / rate, (steps, lanes))
    demand = service.sample(rng, gap.size).reshape(gap.shape)
    latency = unordered_latencies(gap, demand, rng.random(gap.shape), 4)[300:]
    arrival = np.cumsum(rng.exponential(1.0 / rate, 60_000))
    fleet = FleetSpec(InstanceSpec(service, 4, order=QueueOrder.RANDOM))
    stay = simulate(fleet, arrival, rng).done_s - arrival
    for level in (0.1, 0.2):
        lane_share = (latency > level).mean(axis=0)
        pieces = np.array([np.mean(p > level) for p in np.array_split(stay[300:], 24)])
        error = np.hypot(lane_share.std() / lanes**0.5, pieces.std() / 24**0.5)
        assert abs(lane_share.mean() - pieces.mean()) < 3.5 * error
        assert error < 0.1 * pieces.mean()


@pytest.mark.parametrize(
    ("gap", "demand", "choice", "workers"),
    [((3, 2), (3, 1), (3, 2), 1), ((3, 2), (3, 2), (2, 2), 1), ((3, 2), (3, 2), (3, 2), 0)],
)
def test_shapes_that_differ_are_refused(
    gap: tuple[int, int], demand: tuple[int, int], choice: tuple[int, int], workers: int
) -> None:
    with pytest.raises(ValueError, match=r"shapes differ|at least one worker"):
        unordered_latencies(np.ones(gap), np.ones(demand), np.ones(choice), workers)
