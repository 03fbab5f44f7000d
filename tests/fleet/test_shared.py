"""Lanes of limited processor sharing against closed forms and the event-driven fleet."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.shared import shared_latencies
from tuner.fleet.spec import Contention, FleetSpec, InstanceSpec


def speeds(places: int, contention: Contention, lanes: int) -> np.ndarray:
    row = [1.0, *(contention.speed(k) for k in range(1, places + 1))]
    return np.repeat(np.array(row)[:, None], lanes, axis=1)


# Birth-death equations and Little's law for exponential demands of mean 1: 16 places,
# contention 0.15 and 0.004.
@pytest.mark.parametrize(("rate", "mean_s"), [(0.5, 1.08727), (2.0, 1.52728), (2.6, 1.90096)])
def test_mean_latency_is_that_of_the_birth_death_equations(rate: float, mean_s: float) -> None:
    rng = np.random.default_rng(7)
    gap = rng.exponential(1.0 / rate, (800, 500))
    latency = shared_latencies(
        gap, rng.exponential(1.0, gap.shape), speeds(16, Contention(0.15, 0.004), 500)
    )
    per_lane = latency[200:].mean(axis=0)
    error = float(per_lane.std(ddof=1)) / len(per_lane) ** 0.5
    assert abs(per_lane.mean() - mean_s) < 3.5 * error
    assert error < 0.01 * mean_s


@pytest.mark.parametrize(("places", "alpha", "beta"), [(1, 0.0, 0.0), (3, 0.2, 0.01), (8, 1.0, 0)])
def test_every_request_ends_as_in_the_event_driven_fleet(
    places: int, alpha: float, beta: float
) -> None:
    contention = Contention(alpha, beta)
    instance = InstanceSpec(ServiceTime.deterministic(0.05), places, contention=contention)
    gap = np.random.default_rng(3).exponential(1.0 / 19.0, (400, 2))
    latency = shared_latencies(gap, np.full(gap.shape, 0.05), speeds(places, contention, 2))
    for lane in range(2):
        arrival = np.cumsum(gap[:, lane])
        done = simulate(FleetSpec(instance), arrival, np.random.default_rng(1)).done_s
        assert latency[:, lane] == pytest.approx(done - arrival, abs=1e-9)


def test_lanes_may_differ_in_speed() -> None:
    gap, demand = np.full((2, 2), 1.0), np.full((2, 2), 2.0)
    speed = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.5]])
    # Independent in one lane; in the other both are served at half speed while together.
    assert shared_latencies(gap, demand, speed) == pytest.approx(np.array([[2, 3], [2, 3]]))


@pytest.mark.parametrize(
    ("gap", "demand", "speed"),
    [((3, 2), (3, 1), (2, 2)), ((3, 2), (3, 2), (2, 1)), ((3, 2), (3, 2), (1, 2))],
)
def test_shapes_that_differ_are_refused(
    gap: tuple[int, int], demand: tuple[int, int], speed: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"shapes differ|at least one place"):
        shared_latencies(np.ones(gap), np.ones(demand), np.ones(speed))
