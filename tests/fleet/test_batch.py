"""The batch kernels against exact queueing results."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from tuner.fleet.batch import fifo_waits, least_outstanding_waits


def one_by_one(gap: np.ndarray, demand: np.ndarray, workers: int) -> np.ndarray:
    """Waits of one lane with a heap of free times."""
    free, now, waits = [0.0] * workers, 0.0, []
    for g, s in zip(gap.tolist(), demand.tolist(), strict=True):
        now += g
        start = max(now, free[0])
        waits.append(start - now)
        heapq.heapreplace(free, start + s)
    return np.array(waits)


@pytest.mark.parametrize("workers", [1, 3, 40])
def test_each_lane_is_a_queue_of_its_own(workers: int) -> None:
    rng = np.random.default_rng(workers)
    gap = rng.exponential(1.0 / (0.9 * workers), (400, 5))
    demand = rng.exponential(1.0, (400, 5))
    waits = fifo_waits(gap, demand, workers)
    for lane in range(5):
        expected = one_by_one(gap[:, lane], demand[:, lane], workers)
        np.testing.assert_allclose(waits[:, lane], expected, atol=1e-9)


def test_sojourn_quantiles_of_four_workers_are_the_closed_form() -> None:
    """M/M/4 at a = 3.2: p50 1.34620, p95 4.73802, p99 6.89320 (Erlang C)."""
    rng = np.random.default_rng(4)
    gap = rng.exponential(1.0 / 3.2, (2400, 500))
    demand = rng.exponential(1.0, (2400, 500))
    sojourn = (fifo_waits(gap, demand, 4) + demand)[600:]
    # 900,000 requests at variance inflation 29: sd of p99 is 1.3 %, of p50 0.5 %.
    found = np.quantile(sojourn, [0.5, 0.95, 0.99])
    np.testing.assert_allclose(found, [1.34620, 4.73802, 6.89320], rtol=0.04)


def test_join_the_shortest_queue_of_two_is_the_chain() -> None:
    """M/M JSQ n = 2 at rho .8: mean 2.95574, p50 2.11791, p95 8.61025 (its Markov chain)."""
    rng = np.random.default_rng(8)
    gap = rng.exponential(1.0 / 1.6, (2400, 300))
    demand = rng.exponential(1.0, (2400, 300))
    sojourn = (least_outstanding_waits(gap, demand, 1, 2, rng) + demand)[600:]
    assert sojourn.mean() == pytest.approx(2.95574, rel=0.04)
    np.testing.assert_allclose(np.quantile(sojourn, [0.5, 0.95]), [2.11791, 8.61025], rtol=0.05)


def test_one_instance_needs_no_router() -> None:
    rng = np.random.default_rng(1)
    gap, demand = rng.exponential(1.0, (50, 3)), rng.exponential(0.7, (50, 3))
    routed = least_outstanding_waits(gap, demand, 2, 1, rng)
    np.testing.assert_array_equal(routed, fifo_waits(gap, demand, 2))


def test_an_overloaded_fleet_outgrows_its_slots_and_is_still_right() -> None:
    """Two single workers at twice their capacity: the wait grows by half a gap per arrival."""
    gap, demand = np.full((200, 1), 0.25), np.ones((200, 1))
    waits = least_outstanding_waits(gap, demand, 1, 2, np.random.default_rng(2))
    assert waits[-1, 0] == pytest.approx(99 - 200 * 0.25, abs=1.0)


def test_an_overloaded_fleet_queues_hundreds_on_each_instance() -> None:
    """Four arrivals a second on two instances that serve one each: the fluid limit."""
    rng = np.random.default_rng(1)
    gap, demand = rng.exponential(0.25, (4000, 16)), rng.exponential(1.0, (4000, 16))
    waits = least_outstanding_waits(gap, demand, 1, 2, rng)
    assert waits[-1].mean() == pytest.approx(4000.0 / 2.0 - 4000.0 / 4.0, rel=0.03)


def test_shapes_and_counts_are_checked() -> None:
    square, flat = np.ones((3, 2)), np.ones(3)
    with pytest.raises(ValueError, match="shape"):
        fifo_waits(square, flat, 1)
    with pytest.raises(ValueError, match="at least 1"):
        fifo_waits(square, square, 0)
    with pytest.raises(ValueError, match="at least 1"):
        least_outstanding_waits(square, square, 1, 0, np.random.default_rng(1))
