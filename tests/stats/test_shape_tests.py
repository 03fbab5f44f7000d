"""Tails, drift, arrivals, running comparisons and day bootstraps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuner.errors import InsufficientDataError
from tuner.stats.arrivals import arrival_test, exponential_ks_p_value
from tuner.stats.bootstrap import day_bootstrap, day_mean_interval
from tuner.stats.drift import drift_test
from tuner.stats.sequences import mean_radius, mean_sequence, normal_mixture_radius
from tuner.stats.tails import tail_check


def test_tail_index_of_a_pareto_is_found_and_called_heavy() -> None:
    rng = np.random.default_rng(41)
    checks = [tail_check(1.0 + rng.pareto(1.5, 20_000)) for _ in range(50)]
    assert np.mean([c.index for c in checks]) == pytest.approx(1.5, rel=0.05)
    assert np.std([c.index for c in checks]) == pytest.approx(checks[0].index_se, rel=0.35)
    assert sum(c.heavy for c in checks) >= 48


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_lognormal_demands_are_not_heavy(cv: float) -> None:
    rng = np.random.default_rng(42)
    sigma = math.sqrt(math.log1p(cv**2))
    flags = [tail_check(rng.lognormal(0.0, sigma, 20_000)).heavy for _ in range(50)]
    assert sum(flags) <= 3


def test_one_giant_request_is_heavy() -> None:
    x = np.random.default_rng(43).exponential(size=1000)
    check = tail_check(np.append(x, 200.0))
    assert check.largest_share == pytest.approx(200.0 / (200.0 + x.sum()))
    assert check.heavy
    assert not tail_check(x).heavy
    assert not tail_check(np.ones(500)).heavy
    with pytest.raises(InsufficientDataError):
        tail_check(np.ones(99))


def test_drift_between_anchors() -> None:
    rng = np.random.default_rng(44)
    false = true = 0
    for _ in range(100):
        anchors = [rng.lognormal(0.0, 0.8, 3000) for _ in range(3)]
        false += drift_test(anchors).drifted()
        anchors[1] = anchors[1] * 1.15
        true += drift_test(anchors).drifted()
    assert false <= 5
    assert true >= 95


def test_drift_f_is_that_of_the_analysis_of_variance() -> None:
    # Batch means 0 1 | 2 3 (in ln units): between 2 * var(.5, 2.5) = 4, within .5 -> 8.
    logs = [np.repeat([0.0, 1.0], 10), np.repeat([2.0, 3.0], 10)]
    test = drift_test([np.exp(v) for v in logs], batches=2)
    assert test.f == pytest.approx(8.0)
    assert test.p_value == pytest.approx(0.10557, abs=1e-4)
    assert test.ratio == pytest.approx(math.exp(2.0))
    with pytest.raises(InsufficientDataError):
        drift_test([np.ones(100)])
    with pytest.raises(InsufficientDataError):
        drift_test([np.ones(100), np.ones(10)])


def sent(kind: str, rng: np.random.Generator, rate: float = 100.0, length: float = 60.0):
    t = np.cumsum(rng.exponential(1.0 / rate, int(rate * length * 1.2)))
    if kind == "paced":
        t = (np.arange(int(rate * length)) + rng.uniform(0, 0.3, int(rate * length))) / rate
    elif kind == "pauses":
        # 0.2 s of silence every 10 s, then everything at once.
        inside = np.mod(t, 10.0) < 0.2
        t = np.where(inside, np.floor(t / 10.0) * 10.0 + 0.2, t)
    elif kind == "ticks":
        t = np.ceil(t / 0.01) * 0.01
    return t[t < length]


@pytest.mark.parametrize(
    ("kind", "rejected"),
    [("poisson", (0, 6)), ("paced", (100, 100)), ("pauses", (95, 100)), ("ticks", (95, 100))],
)
def test_generators_that_are_not_poisson_are_found(kind: str, rejected: tuple[int, int]) -> None:
    rng = np.random.default_rng(45)
    tests = [arrival_test(sent(kind, rng), 100.0, 60.0) for _ in range(100)]
    assert all(t is not None for t in tests)
    found = sum(not t.poisson for t in tests if t is not None)
    assert rejected[0] <= found <= rejected[1]


def test_dispersion_says_which_way() -> None:
    rng = np.random.default_rng(46)
    paced, pauses = (arrival_test(sent(k, rng), 100.0, 60.0) for k in ("paced", "pauses"))
    assert paced is not None
    assert pauses is not None
    assert paced.dispersion < 0.3
    assert pauses.dispersion > 1.2


def test_too_few_arrivals_say_nothing() -> None:
    assert arrival_test(np.arange(40) / 10.0, 10.0, 4.0) is None
    assert arrival_test(np.full(100, np.nan), 10.0, 10.0) is None


def test_ks_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(47)
    p = [exponential_ks_p_value(rng.exponential(0.1, 400), 10.0) for _ in range(400)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_a_running_comparison_rarely_errs_at_any_time() -> None:
    rng = np.random.default_rng(48)
    wrong = found = 0
    for _ in range(200):
        x = rng.normal(0.0, 0.05, 120)
        looks = [mean_sequence(x[:n]) for n in range(10, 121)]
        wrong += any(not i.low <= 0.0 <= i.high for i in looks)
        last = mean_sequence(x + 0.03)
        found += last.low > 0.0
    assert wrong / 200 <= 0.05
    assert found / 200 >= 0.95


def test_normal_mixture_radius_crosses_where_the_mixture_says() -> None:
    # The boundary is where the mixture of likelihood ratios, an integral of
    # exp(m s - m**2 v / 2) over m ~ N(0, 1/rho), reaches 1/alpha.
    alpha, n, variance = 0.05, 40, 2.0
    radius = float(normal_mixture_radius(n, variance, alpha=alpha, tuned_for=60))
    rho = variance * 60 / (-2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha)))
    s, v = radius * n, n * variance
    m = np.linspace(-20.0, 20.0, 400_001) / math.sqrt(rho)
    density = np.exp(m * s - m**2 * v / 2.0 - m**2 * rho / 2.0) * math.sqrt(rho / (2.0 * math.pi))
    assert float(density.sum() * (m[1] - m[0])) == pytest.approx(1.0 / alpha, rel=1e-6)


def test_a_comparison_starts_after_ten_minutes() -> None:
    with pytest.raises(InsufficientDataError):
        mean_sequence(np.zeros(9))
    assert mean_sequence(np.zeros(10)).high == 0.0


def test_a_known_least_variance_keeps_equal_differences_from_certainty() -> None:
    bare, floored = mean_sequence(np.zeros(20)), mean_sequence(np.zeros(20), least_variance=0.04)
    assert bare.high == 0.0
    assert floored.high == pytest.approx(float(mean_radius(20, 0.2)))
    noisy = np.random.default_rng(50).normal(0.0, 1.0, 20)
    assert mean_sequence(noisy, least_variance=0.04) == mean_sequence(noisy)


def test_day_bootstrap_has_the_spread_of_the_mean() -> None:
    rng = np.random.default_rng(49)
    days = rng.exponential(size=60)
    means = day_bootstrap(days, np.random.default_rng(1), resamples=4000)
    assert means.mean() == pytest.approx(days.mean(), rel=0.02)
    assert means.std() == pytest.approx(days.std() / math.sqrt(60), rel=0.06)


def test_days_are_drawn_whole_and_within_their_type() -> None:
    days = np.array([[1.0, 10.0], [1.0, 10.0], [5.0, 50.0], [5.0, 50.0], [5.0, 50.0]])
    means = day_bootstrap(
        days, np.random.default_rng(2), stratum=["sun", "sun", "mon", "mon", "mon"]
    )
    assert np.allclose(means, [3.4, 34.0])
    mixed = day_bootstrap(days, np.random.default_rng(2))
    assert np.allclose(mixed[:, 1], 10.0 * mixed[:, 0])
    assert mixed[:, 0].std() > 0.5


def test_one_day_bounds_nothing() -> None:
    interval = day_mean_interval([0.3], np.random.default_rng(3))
    assert not interval.bounded
    many = day_mean_interval(np.linspace(0.0, 1.0, 30), np.random.default_rng(3))
    assert 0.35 < many.low < many.mid < many.high < 0.65
    with pytest.raises(InsufficientDataError):
        day_bootstrap([], np.random.default_rng(3))
