"""Shares: exact binomial intervals, and honest ones under dependence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuner.errors import InsufficientDataError
from tuner.slo import Verdict
from tuner.stats.proportions import (
    clopper_pearson,
    exceedance_interval,
    independent_share,
    share_interval,
)
from tuner.stats.quantiles import quantile_interval
from tuner.stats.samplesize import (
    requests_for_exceedances,
    requests_for_precision,
    requests_for_verdict,
    requests_independent,
)


def mm1(n: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    arrival = np.cumsum(rng.exponential(1.0 / rho, n + 2000))
    served = np.cumsum(rng.exponential(1.0, n + 2000))
    begun = np.concatenate([[0.0], served[:-1]])
    return (served + np.maximum.accumulate(arrival - begun) - arrival)[2000:]


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_clopper_pearson_ends_have_half_the_tail_each(count: int) -> None:
    n = 40
    low, high = clopper_pearson(count, n)

    def at_most(k: int, p: float) -> float:
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))

    if count > 0:
        assert 1.0 - at_most(count - 1, low) == pytest.approx(0.025)
    else:
        assert low == 0.0
    if count < n:
        assert at_most(count, high) == pytest.approx(0.025)
    else:
        assert high == 1.0


def test_no_failures_in_n_bound_the_rate_by_about_three_over_n() -> None:
    estimate = share_interval(np.zeros(3000, bool), level=0.9)
    assert estimate.interval.high == pytest.approx(3.0 / 3000, rel=0.01)
    assert estimate.interval.low == 0.0


def test_exceedance_share_of_a_queue_is_covered() -> None:
    rng = np.random.default_rng(21)
    threshold = math.log(100.0) / 0.5
    held = naive = 0
    for _ in range(200):
        estimate = exceedance_interval(mm1(3000, 0.5, rng), threshold)
        held += estimate.interval.low <= 0.01 <= estimate.interval.high
        low, high = clopper_pearson(estimate.count, estimate.n)
        naive += low <= 0.01 <= high
    assert 0.89 <= held / 200 <= 0.99
    assert naive / 200 < 0.75


@pytest.mark.parametrize(("rho", "n"), [(0.8, 1000), (0.8, 3000), (0.9, 3000)])
def test_a_short_window_without_a_burst_does_not_pass(rho: float, n: int) -> None:
    # The share is exactly the allowance, and most such windows hold no exceedance at all.
    rng = np.random.default_rng(25)
    threshold = math.log(100.0) / (1.0 - rho)
    met = empty = 0
    for _ in range(200):
        estimate = exceedance_interval(mm1(n, rho, rng), threshold)
        met += estimate.verdict(0.01) is Verdict.MET
        empty += estimate.count == 0
    assert empty > 40
    assert met / 200 <= 0.09


def test_a_clear_pass_is_still_a_pass() -> None:
    rng = np.random.default_rng(26)
    estimate = exceedance_interval(mm1(20_000, 0.5, rng), 12.5)
    assert estimate.verdict(0.01) is Verdict.MET
    nothing = exceedance_interval(rng.exponential(size=2000), 50.0)
    assert 0.0 < nothing.interval.high < 0.006
    everything = exceedance_interval(rng.exponential(size=2000), -1.0)
    assert everything.verdict(0.01) is Verdict.VIOLATED


def test_verdicts_need_the_whole_interval_on_one_side() -> None:
    assert independent_share(1, 10_000).verdict(0.01) is Verdict.MET
    assert independent_share(300, 10_000).verdict(0.01) is Verdict.VIOLATED
    assert independent_share(98, 10_000).verdict(0.01) is Verdict.INCONCLUSIVE


def test_too_few_to_tell_is_the_whole_range() -> None:
    estimate = share_interval([True] + [False] * 10)
    assert (estimate.interval.low, estimate.interval.high) == (0.0, 1.0)
    assert estimate.verdict(0.5) is Verdict.INCONCLUSIVE
    with pytest.raises(InsufficientDataError):
        share_interval([])


@pytest.mark.parametrize(
    ("quantile", "relative", "expected"),
    [(0.95, 0.05, 3253), (0.99, 0.05, 7173), (0.95, 0.10, 813), (0.999, 0.10, 8043)],
)
def test_independent_sample_sizes_for_an_exponential_law(
    quantile: float, relative: float, expected: int
) -> None:
    x = -math.log1p(-quantile)
    needed = requests_independent(quantile, relative, x * math.exp(-x))
    assert needed == pytest.approx(expected, abs=1.0)


def test_the_answer_to_how_many_more_is_about_right() -> None:
    rng = np.random.default_rng(22)
    widths = []
    for _ in range(40):
        short = quantile_interval(mm1(20_000, 0.5, rng), 0.99)
        needed = requests_for_precision(short, 0.05)
        widths.append(needed.total)
        assert needed.additional == max(0.0, needed.total - 20_000)
    # M/M/1 at half load needs about 57,000 requests for +-5 % by the normal quantile;
    # ten batches use t(9) = 2.26 instead of 1.96.
    assert np.median(widths) == pytest.approx(57_000 * (2.262 / 1.96) ** 2, rel=0.35)


def test_missing_exceedances_are_counted_in_requests() -> None:
    rng = np.random.default_rng(23)
    estimate = quantile_interval(rng.exponential(size=1000), 0.99)
    needed = requests_for_exceedances(estimate)
    assert needed.total == pytest.approx(2000 * estimate.inflation, abs=1.0)
    unknown = quantile_interval(rng.exponential(size=10), 0.99)
    assert math.isinf(requests_for_precision(unknown, 0.05).additional)


def test_requests_for_a_verdict() -> None:
    rng = np.random.default_rng(24)
    share = share_interval(rng.random(5000) < 0.008)
    needed = requests_for_verdict(share, 0.01)
    assert 5_000 < needed.total < 60_000
    clear = share_interval(rng.random(50_000) < 0.002)
    assert requests_for_verdict(clear, 0.01).additional == 0.0
    bad = share_interval(rng.random(50_000) < 0.05)
    assert requests_for_verdict(bad, 0.01).additional == 0.0
    assert math.isinf(requests_for_verdict(independent_share(50, 5000), 0.01).total)
