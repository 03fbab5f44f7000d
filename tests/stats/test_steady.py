"""Warm-up, overload and settling, on queues whose state is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.stats.steady import (
    in_flight,
    mann_kendall_z,
    mser5,
    overload_test,
    settle_test,
)

Column = NDArray[np.float64]


def single_server(
    rate: float, length: float, rng: np.random.Generator, slowdown: Column | None = None
) -> tuple[Column, Column]:
    """Arrivals and departures of M/M/1 with mean service 1 over [0, length)."""
    arrival = np.cumsum(rng.exponential(1.0 / rate, int(rate * length * 1.3) + 50))
    arrival = arrival[arrival < length]
    service = rng.exponential(1.0, len(arrival))
    if slowdown is not None:
        service = service * np.interp(arrival, np.arange(len(slowdown)), slowdown)
    served = np.cumsum(service)
    begun = np.concatenate([[0.0], served[:-1]])
    return arrival, served + np.maximum.accumulate(arrival - begun)


def overload_of(arrival: Column, done: Column, start: float, end: float) -> bool:
    inside = (arrival >= start) & (arrival < end)
    return overload_test(
        (done - arrival)[inside],
        in_flight_start=in_flight(arrival, done, start),
        in_flight_end=in_flight(arrival, done, end),
    ).overloaded


def test_overload_is_seen_and_a_busy_steady_state_is_not() -> None:
    rng = np.random.default_rng(31)
    seen = dict.fromkeys((0.8, 1.125), 0)
    for rate in seen:
        for _ in range(60):
            arrival, done = single_server(rate, 9000.0, rng)
            seen[rate] += overload_of(arrival, done, 2000.0, 9000.0)
    assert seen[0.8] == 0
    assert seen[1.125] >= 58


def test_a_drifting_half_is_not_settled() -> None:
    rng = np.random.default_rng(32)
    false = true = 0
    for _ in range(60):
        arrival, done = single_server(0.6, 6000.0, rng)
        false += not settle_test(done - arrival).settled
        slowdown = np.where(np.arange(6001) < 3000, 1.35, 1.0)
        arrival, done = single_server(0.6, 6000.0, rng, slowdown)
        true += not settle_test(done - arrival).settled
    assert false <= 4
    assert true >= 54


def test_mser_cuts_a_cold_start_and_little_of_a_quiet_stage() -> None:
    rng = np.random.default_rng(33)
    cuts, quiet = [], []
    for _ in range(40):
        start = np.sort(rng.uniform(0.0, 300.0, 6000))
        cold = 1.0 + 3.0 * np.maximum(0.0, 1.0 - start / 60.0)
        cuts.append(mser5(start, 0.05 * cold * rng.lognormal(0.0, 0.5, 6000)))
        quiet.append(mser5(start, 0.05 * rng.lognormal(0.0, 0.5, 6000)))
    assert 40.0 <= np.median([c.cut_s for c in cuts]) <= 75.0
    assert sum(c.settled for c in cuts) >= 38
    assert np.median([q.cut_share for q in quiet]) < 0.1


def test_a_warm_up_that_never_ends_is_not_settled() -> None:
    start = np.linspace(0.0, 120.0, 3000, endpoint=False)
    assert not mser5(start, np.linspace(1.0, 0.1, 3000)).settled
    assert not mser5(start[:20] / 10.0, np.ones(20)).settled
    assert not mser5([], []).settled


def test_mann_kendall_matches_the_textbook() -> None:
    # S = 45 of 10 increasing values, variance 10 * 9 * 25 / 18 = 125.
    assert mann_kendall_z(np.arange(10)) == pytest.approx(44 / math.sqrt(125))
    assert mann_kendall_z(-np.arange(10)) == pytest.approx(-44 / math.sqrt(125))
    assert mann_kendall_z(np.ones(10)) == 0.0
    # Two ties of two: the variance loses 2 * (2 * 1 * 9) / 18 = 2.
    assert mann_kendall_z([1, 1, 2, 2, 3]) == pytest.approx(7 / math.sqrt((5 * 4 * 15 - 36) / 18.0))
    assert mann_kendall_z([1.0, 2.0, math.inf, math.inf]) > 0.0


def test_timeouts_are_the_top_of_the_trend() -> None:
    rising = np.concatenate([np.linspace(0.1, 5.0, 700), np.full(300, np.inf)])
    assert overload_test(rising, in_flight_start=0, in_flight_end=300).overloaded
    assert not overload_test(rising, in_flight_start=0, in_flight_end=3).overloaded
    half = np.random.default_rng(34).lognormal(0.0, 0.3, (2, 500))
    half[1, ::2] = np.inf
    assert not settle_test(half.ravel()).settled


def test_a_few_requests_show_nothing() -> None:
    test = overload_test(np.arange(10.0), in_flight_start=0, in_flight_end=10)
    assert test.trend_z == 0.0
    assert not test.overloaded
    assert settle_test([0.1, 0.2]).settled
    assert overload_test([], in_flight_start=0, in_flight_end=0).backlog_z == 0.0


def test_in_flight_counts_started_and_not_ended() -> None:
    assert in_flight([0.0, 1.0, 2.0, 3.0], [5.0, 1.5, np.nan, 9.0], 3.0) == 2


def test_constant_halves_that_differ_are_not_settled() -> None:
    test = settle_test(np.concatenate([np.full(500, 0.1), np.full(500, 0.2)]))
    assert test.t > 1e6
    assert test.ratio == pytest.approx(2.0)
    assert settle_test(np.full(1000, 0.1)).t == 0.0
