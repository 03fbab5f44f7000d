"""Rank intervals: against tables, against numpy, and by how often they hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.errors import InsufficientDataError
from tuner.stats.histogram import windows_of
from tuner.stats.quantiles import (
    exceedance_inflation,
    independent_ranks,
    least_n_for_upper_bound,
    order_statistic,
    quantile_interval,
    quantile_interval_of_windows,
    quantile_lower_bound,
    quantile_upper_bound,
)
from tuner.stats.requests import Outcome, RequestLog


def mm1(n: int, rho: float, rng: np.random.Generator, skip: int = 2000) -> NDArray[np.float64]:
    """Sojourns of M/M/1 with mean service 1, the first ``skip`` left out."""
    arrival = np.cumsum(rng.exponential(1.0 / rho, n + skip))
    served = np.cumsum(rng.exponential(1.0, n + skip))
    begun = np.concatenate([[0.0], served[:-1]])
    return (served + np.maximum.accumulate(arrival - begun) - arrival)[skip:]


@pytest.mark.parametrize(
    ("n", "quantile", "ranks"),
    [
        (1000, 0.99, (983, 997)),
        (3000, 0.99, (2959, 2981)),
        (10000, 0.99, (9880, 9920)),
        (1000, 0.95, (936, 964)),
        (10000, 0.95, (9457, 9543)),
    ],
)
def test_independent_ranks_are_those_of_the_binomial_tables(
    n: int, quantile: float, ranks: tuple[int, int]
) -> None:
    assert independent_ranks(n, quantile) == ranks


@pytest.mark.parametrize(("n", "quantile"), [(37, 0.5), (200, 0.9), (2500, 0.99)])
def test_independent_ranks_enclose_95_percent_of_the_binomial_law(n: int, quantile: float) -> None:
    low, high = independent_ranks(n, quantile)
    inside = sum(
        math.comb(n, k) * quantile**k * (1.0 - quantile) ** (n - k) for k in range(low, high)
    )
    assert inside >= 0.95
    narrower = sum(
        math.comb(n, k) * quantile**k * (1.0 - quantile) ** (n - k)
        for k in range(low + 1, high - 1)
    )
    assert narrower < 0.95


@pytest.mark.parametrize(
    ("quantile", "level", "n"),
    [(0.9, 0.95, 29), (0.95, 0.95, 59), (0.99, 0.95, 299), (0.999, 0.95, 2995), (0.99, 0.99, 459)],
)
def test_least_n_for_an_upper_bound(quantile: float, level: float, n: int) -> None:
    assert least_n_for_upper_bound(quantile, level) == n


def test_point_is_numpys_inverted_cdf() -> None:
    rng = np.random.default_rng(5)
    for n in (1, 2, 99, 100, 101, 1000):
        x = rng.lognormal(size=n)
        for q in (0.01, 0.5, 0.9, 0.95, 0.99, 0.999):
            expected = float(np.quantile(x, q, method="inverted_cdf"))
            assert order_statistic(x, q) == expected
            assert quantile_interval(x, q).interval.mid == expected


def test_inflated_ranks_hold_about_as_often_as_they_say() -> None:
    truth = math.log(100.0) / 0.5
    rng = np.random.default_rng(2026)
    held = inside_iid = 0
    for _ in range(200):
        x = mm1(3000, 0.5, rng)
        interval = quantile_interval(x, 0.99).interval
        held += interval.low <= truth <= interval.high
        low, high = (np.sort(x)[r - 1] for r in independent_ranks(3000, 0.99))
        inside_iid += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.985
    assert inside_iid / 200 < 0.7


@pytest.mark.parametrize(("rho", "n"), [(0.8, 3000), (0.9, 3000), (0.9, 12_000)])
def test_short_congested_windows_are_covered_too(rho: float, n: int) -> None:
    truth = math.log(100.0) / (1.0 - rho)
    rng = np.random.default_rng(2027)
    above = below = 0
    for _ in range(200):
        interval = quantile_interval(mm1(n, rho, rng, skip=8000), 0.99).interval
        above += interval.low > truth
        below += interval.high < truth
    assert above / 200 <= 0.07
    assert below / 200 <= 0.08


def test_independent_samples_are_covered_and_hardly_inflated() -> None:
    rng = np.random.default_rng(7)
    truth = math.log(20.0)
    estimates = [quantile_interval(rng.exponential(size=2000), 0.95) for _ in range(200)]
    held = np.mean([e.interval.low <= truth <= e.interval.high for e in estimates])
    assert 0.93 <= held <= 1.0
    assert np.median([e.inflation for e in estimates]) < 1.5


def test_one_sided_bounds_hold_on_their_side() -> None:
    rng = np.random.default_rng(8)
    truth = math.log(100.0) / 0.5
    windows = [mm1(12000, 0.5, rng) for _ in range(100)]
    assert np.mean([quantile_upper_bound(x, 0.99) >= truth for x in windows]) >= 0.88
    assert np.mean([quantile_lower_bound(x, 0.99) <= truth for x in windows]) >= 0.9
    x = windows[0]
    two_sided = quantile_interval(x, 0.99).interval
    assert two_sided.mid < quantile_upper_bound(x, 0.99) < two_sided.high


def test_a_sample_that_cannot_show_the_upper_end_says_infinite() -> None:
    rng = np.random.default_rng(9)
    estimate = quantile_interval(rng.exponential(size=150), 0.99)
    assert math.isinf(estimate.interval.high)
    assert estimate.effective_exceedances < 1.6
    few = quantile_interval(rng.exponential(size=12), 0.5)
    assert (few.interval.low, few.interval.high) == (0.0, math.inf)
    assert few.effective_exceedances == 0.0


def test_failures_are_the_slowest_of_all() -> None:
    x = np.concatenate([np.full(950, 0.1), np.full(50, np.inf)])
    np.random.default_rng(1).shuffle(x)
    assert math.isinf(quantile_interval(x, 0.99).interval.mid)
    assert quantile_interval(x, 0.9).interval.mid == 0.1


def test_no_requests_have_no_quantile() -> None:
    with pytest.raises(InsufficientDataError):
        quantile_interval([], 0.99)
    with pytest.raises(InsufficientDataError):
        quantile_interval_of_windows([], 0.99)


def test_inflation_finds_the_correlation_of_an_autoregressive_indicator() -> None:
    # A chain of two states that stays with probability .95 has lag-one correlation r = .9,
    # so the variance of its mean is inflated by (1 + r) / (1 - r) = 19.
    rng = np.random.default_rng(3)
    flips = rng.random(400_000) < 0.05
    state = (np.cumsum(flips) % 2).astype(bool)
    found = [exceedance_inflation(part, 0.5) for part in np.split(state, 40)]
    assert np.mean(found) == pytest.approx(19.0, rel=0.25)


def test_windows_give_nearly_the_interval_of_the_requests() -> None:
    rng = np.random.default_rng(4)
    latency = mm1(60_000, 0.7, rng) * 0.01
    start = np.cumsum(rng.exponential(0.01 / 0.7, 60_000))
    outcome = np.where(rng.random(60_000) < 0.002, Outcome.TIMEOUT, Outcome.OK).astype(np.uint8)
    log = RequestLog.from_times(start, start + latency, outcome=outcome)
    exact = quantile_interval(log.latency_s(), 0.95)
    binned = quantile_interval_of_windows(windows_of(log, 1.0), 0.95)
    assert binned.n == exact.n
    assert binned.interval.mid == pytest.approx(exact.interval.mid, rel=0.01)
    assert binned.interval.low == pytest.approx(exact.interval.low, rel=0.03)
    assert binned.interval.high == pytest.approx(exact.interval.high, rel=0.03)
    assert binned.inflation == pytest.approx(exact.inflation, rel=0.35)
