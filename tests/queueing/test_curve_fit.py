"""Fitting the curve to simulated windows of queues whose capacity is known."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.errors import InsufficientDataError
from tuner.queueing.curve_fit import CurveWindow, fit_curve
from tuner.queueing.latency_curve import capacity_interval
from tuner.slo import LatencyObjective

Column = NDArray[np.float64]
Law = Callable[[np.random.Generator, int], Column]
COUNTS = np.array([1, 2, 4, 8])


def exponential(rng: np.random.Generator, n: int) -> Column:
    return rng.exponential(0.05, n)


def bimodal(rng: np.random.Generator, n: int) -> Column:
    return np.where(rng.random(n) < 0.9, 0.025, 0.275)


def fleet(
    instances: int, workers: int, rate: float, seconds: float, law: Law, rng: np.random.Generator
) -> Column:
    """Latencies of least-outstanding routing over first-come-first-served instances."""
    n = int(rate * instances * seconds)
    arrival = np.cumsum(rng.exponential(1.0 / (rate * instances), n)).tolist()
    service = law(rng, n).tolist()
    free = [[0.0] * workers for _ in range(instances)]
    present: list[list[float]] = [[] for _ in range(instances)]
    latency = np.empty(n)
    for i, now in enumerate(arrival):
        for ends in present:
            while ends and ends[0] <= now:
                heapq.heappop(ends)
        j = min(range(instances), key=lambda k: len(present[k]))
        done = max(now, free[j][0]) + service[i]
        heapq.heapreplace(free[j], done)
        heapq.heappush(present[j], done)
        latency[i] = done - now
    return latency[n // 20 :]


def batching(rate: float, seconds: float, rng: np.random.Generator) -> Column:
    """Latencies of a server that serves up to 8 waiting requests at once in 20 + 5b ms."""
    n = int(rate * seconds)
    arrival = np.cumsum(rng.exponential(1.0 / rate, n))
    latency = np.empty(n)
    first, now = 0, 0.0
    while first < n:
        now = max(now, float(arrival[first]))
        last = min(max(int(np.searchsorted(arrival, now, side="right")), first + 1), first + 8)
        now += 0.020 + 0.005 * (last - first)
        latency[first:last] = now - arrival[first:last]
        first = last
    return latency


@pytest.mark.parametrize(
    ("law", "slo_s", "alone"), [(exponential, 0.3, 59.96), (bimodal, 0.4, 57.2)]
)
def test_capacity_at_one_and_at_counts_that_were_not_measured(
    law: Law, slo_s: float, alone: float
) -> None:
    rng = np.random.default_rng(61)
    windows = [
        CurveWindow.of(fleet(n, 4, 80.0 * rho, 150.0 / n + 40.0, law, rng), n, 80.0 * rho)
        for n in (1, 2, 3)
        for rho in (0.45, 0.65, 0.8, 0.88)
    ]
    fit = fit_curve(windows, law(rng, 5000), rng)
    assert fit.residual_ok
    assert fit.pooling_ok
    assert fit.pooling is not None
    assert 0.7 <= fit.pooling.mid <= 1.0
    assert fit.max_measured_count == 3
    objective = LatencyObjective(0.99, slo_s)
    rates = fit.curve.capacity_per_s(objective, COUNTS)
    assert float(rates[0]) == pytest.approx(alone, rel=0.06)
    members = fit.capacities(objective, COUNTS)
    assert members.shape == (20, 4)
    interval = capacity_interval(members[:, 0], float(rates[0]))
    assert interval.low <= alone <= interval.high
    assert interval.relative_half_width < 0.25
    # Eight instances were not among the windows: hold them just inside and just outside.
    eight = float(rates[3])
    below = fleet(8, 4, 0.96 * eight, 60.0, law, rng)
    above = fleet(8, 4, 1.05 * eight, 60.0, law, rng)
    assert float(np.mean(below > slo_s)) < 0.01 < float(np.mean(above > slo_s))


def test_a_batching_server_is_not_described() -> None:
    rng = np.random.default_rng(62)
    rates = [45.0, 62.0, 79.0, 91.0, 100.0]
    windows = [CurveWindow.of(batching(r, 180.0, rng), 1, r) for r in rates]
    fit = fit_curve(windows, batching(5.0, 600.0, rng), rng, pooling=0.0)
    assert fit.pooling is None
    assert not fit.residual_ok


def test_the_same_seed_gives_the_same_fit() -> None:
    windows = [
        CurveWindow.of(fleet(1, 2, r, 60.0, exponential, np.random.default_rng(63)), 1, r)
        for r in (15.0, 30.0)
    ]
    demands = exponential(np.random.default_rng(64), 2000)
    fits = [
        fit_curve(windows, demands, np.random.default_rng(65), pooling=0.0, members=4)
        for _ in range(2)
    ]
    objective = LatencyObjective(0.95, 0.4)
    first, second = (f.capacities(objective, COUNTS) for f in fits)
    assert np.array_equal(first, second)
    assert np.ptp(first[:, 0]) > 0.0


def test_a_floor_is_not_taken_for_service() -> None:
    rng = np.random.default_rng(66)
    windows = [
        CurveWindow.of(0.02 + fleet(1, 4, 80.0 * rho, 240.0, exponential, rng), 1, 80.0 * rho)
        for rho in (0.45, 0.65, 0.8, 0.88)
    ]
    fit = fit_curve(windows, exponential(rng, 5000), rng, pooling=0.0, floor_s=0.02)
    rate = float(fit.curve.capacity_per_s(LatencyObjective(0.99, 0.32)))
    assert rate == pytest.approx(59.96, rel=0.06)


def test_what_is_missing_is_said() -> None:
    rng = np.random.default_rng(67)
    one = CurveWindow.of(rng.exponential(0.05, 500), 1, 5.0)
    other = CurveWindow.of(rng.exponential(0.06, 500), 1, 9.0)
    with pytest.raises(InsufficientDataError, match="two loads"):
        fit_curve([one], [0.05], rng, pooling=0.0)
    with pytest.raises(InsufficientDataError, match="two instance counts"):
        fit_curve([one, other], [0.05], rng)
    with pytest.raises(InsufficientDataError, match="200 requests"):
        CurveWindow.of(np.append(np.ones(150), np.full(100, math.inf)), 1, 5.0)


def test_failures_are_left_out_of_a_window() -> None:
    rng = np.random.default_rng(68)
    x = rng.exponential(0.05, 1000)
    with_failures = np.insert(x, [100, 500], math.inf)
    assert np.array_equal(
        CurveWindow.of(with_failures, 1, 5.0).quantile_s, CurveWindow.of(x, 1, 5.0).quantile_s
    )
