"""Arrival processes against their closed forms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tuner.workload.arrivals import (
    CHUNK,
    arrival_rng,
    arrival_times,
    bins_to_times,
    constant_chunks,
    payload_rng,
    ramp_chunks,
    steps_chunks,
    stream,
    trace_chunks,
    until,
)
from tuner.workload.poisson_check import check_poisson


@pytest.mark.parametrize("rate", [1.0, 7.3, 1000.0])
def test_constant_arrivals_are_a_comb(rate: float) -> None:
    times = arrival_times("constant", rate, 100.0, arrival_rng(1))
    assert np.array_equal(times, np.arange(len(times)) / rate)
    assert len(times) == np.ceil(rate * 100.0)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shares_of_a_comb_are_the_comb(parts: int) -> None:
    whole = until(constant_chunks(333.0), 50.0)
    shares = [until(constant_chunks(333.0, part=p, parts=parts), 50.0) for p in range(parts)]
    assert np.array_equal(np.sort(np.concatenate(shares)), whole)


def test_poisson_gaps_are_exponential_and_counts_have_dispersion_one() -> None:
    times = arrival_times("poisson", 50.0, 2000.0, arrival_rng(2))
    assert np.all(np.diff(times) > 0)
    assert stats.kstest(np.diff(times), "expon", args=(0, 1 / 50)).pvalue > 0.01
    counts = np.bincount(times.astype(int), minlength=2000)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.1)
    assert len(times) == pytest.approx(100_000, abs=4 * np.sqrt(100_000))


def test_thinned_poisson_shares_add_up_to_poisson() -> None:
    shares = [
        until(stream("poisson", 90.0, arrival_rng(3, w), part=w, parts=3), 1000.0) for w in range(3)
    ]
    union = np.sort(np.concatenate(shares))
    assert stats.kstest(np.diff(union), "expon", args=(0, 1 / 90)).pvalue > 0.01
    assert len(union) == pytest.approx(90_000, abs=4 * 300)
    assert abs(np.corrcoef(*(np.bincount(s.astype(int), minlength=1000)[:1000]
                             for s in shares[:2]))[0, 1]) < 0.1  # fmt: skip


def test_the_seed_repeats_and_separates_workers_and_purposes() -> None:
    first = arrival_times("poisson", 10.0, 100.0, arrival_rng(4))
    assert np.array_equal(first, arrival_times("poisson", 10.0, 100.0, arrival_rng(4)))
    draws = [
        g.random() for g in (arrival_rng(4), arrival_rng(4, 1), arrival_rng(5), payload_rng(4))
    ]
    assert len(set(draws)) == 4


@pytest.mark.parametrize(("a", "b"), [(0.0, 100.0), (100.0, 0.0), (30.0, 90.0), (50.0, 50.0)])
def test_a_ramp_follows_its_integral(a: float, b: float) -> None:
    times = np.concatenate(list(ramp_chunks(a, b, 1000.0, arrival_rng(6))))
    mass = a * times + (b - a) * times**2 / 2000.0
    total = (a + b) / 2 * 1000.0
    assert np.all((times >= 0) & (times <= 1000.0))
    assert stats.kstest(mass / total, "uniform").pvalue > 0.01
    assert len(times) == pytest.approx(total, abs=4 * np.sqrt(total))


def test_a_nearly_flat_ramp_is_exact() -> None:
    times = np.concatenate(list(ramp_chunks(10.0, 10.0 + 1e-12, 100.0, arrival_rng(7))))
    flat = np.concatenate(list(ramp_chunks(10.0, 10.0, 100.0, arrival_rng(7))))
    assert np.allclose(times, flat, atol=1e-9)


def test_a_trace_is_replayed_from_zero_at_any_speed_and_share() -> None:
    recorded = np.array([1e6, 1e6 + 1, 1e6 + 1, 1e6 + 5])
    assert np.array_equal(np.concatenate(list(trace_chunks(recorded))), [0, 1, 1, 5])
    assert np.array_equal(np.concatenate(list(trace_chunks(recorded, speed=2))), [0, 0.5, 0.5, 2.5])
    halves = [np.concatenate(list(trace_chunks(recorded, part=p, parts=2))) for p in (0, 1)]
    assert [h.tolist() for h in halves] == [[0, 1], [1, 5]]


def test_a_long_trace_comes_in_chunks() -> None:
    recorded = np.arange(3.0 * CHUNK + 5)
    chunks = list(trace_chunks(recorded))
    assert [len(c) for c in chunks] == [CHUNK, CHUNK, CHUNK, 5]
    assert np.array_equal(np.concatenate(chunks), recorded)


def test_counts_become_times_inside_their_bins() -> None:
    times = bins_to_times([3, 0, 2], 60.0, arrival_rng(8))
    assert np.array_equal(np.histogram(times, [0, 60, 120, 180])[0], [3, 0, 2])
    assert np.all(np.diff(times) >= 0)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    for make in (
        lambda: arrival_times("poisson", rate, 1.0, arrival_rng(0)),
        lambda: arrival_times("constant", rate, 1.0, arrival_rng(0)),
        lambda: arrival_times("poisson", 1.0, rate, arrival_rng(0)),
    ):
        with pytest.raises(ValueError, match="positive finite"):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: arrival_times("bursty", 1.0, 1.0, arrival_rng(0)),
        lambda: next(constant_chunks(1.0, part=2, parts=2)),
        lambda: next(ramp_chunks(0.0, 0.0, 1.0, arrival_rng(0))),
        lambda: next(ramp_chunks(-1.0, 5.0, 1.0, arrival_rng(0))),
        lambda: next(trace_chunks([])),
        lambda: next(trace_chunks([2.0, 1.0])),
        lambda: next(trace_chunks([1.0, np.nan])),
        lambda: bins_to_times([1.5], 60.0, arrival_rng(0)),
        lambda: bins_to_times([np.nan], 60.0, arrival_rng(0)),
        lambda: bins_to_times([-1.0], 60.0, arrival_rng(0)),
    ],
)
def test_what_cannot_be_a_process_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        make()


# -- the check -----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [20.0, 500.0, 10_000.0])
def test_true_poisson_is_rejected_at_the_nominal_rate(rate: float) -> None:
    rejected = dispersed = 0
    for seed in range(200):
        times = arrival_times("poisson", rate, 6000 / rate, arrival_rng(seed))
        check = check_poisson(times, rate, 6000 / rate)
        assert check is not None
        rejected += check.ks_p_value < 0.05
        dispersed += check.dispersion_p_value < 0.05
    # Binomial(200, 0.05): 99.9 % of outcomes lie in 2..21.
    assert 1 <= rejected <= 21
    if rate < 1000:
        assert 1 <= dispersed <= 21


def test_the_p_value_is_scipys() -> None:
    times = arrival_times("poisson", 50.0, 100.0, arrival_rng(9))
    check = check_poisson(times, 50.0, 100.0)
    assert check is not None
    assert check.step == 1
    ours = stats.kstest(np.diff(times), "expon", args=(0, 1 / 50)).pvalue
    assert check.ks_p_value == pytest.approx(ours, abs=0.01)


def test_high_rates_are_tested_on_sums_of_gaps() -> None:
    times = arrival_times("poisson", 10_000.0, 5.0, arrival_rng(10))
    check = check_poisson(times, 10_000.0, 5.0)
    assert check is not None
    assert check.step == 20
    jitter = np.sort(times + arrival_rng(11).uniform(0, 1e-4, len(times)))
    still = check_poisson(jitter, 10_000.0, 5.0)
    assert still is not None
    assert still.ks_p_value > 0.01


@pytest.mark.parametrize("kind", ["comb", "pauses", "ticks", "slow"])
def test_broken_generators_are_caught(kind: str) -> None:
    times = arrival_times("poisson", 100.0, 60.0, arrival_rng(12))
    broken = {
        "comb": np.arange(6000) / 100,
        "pauses": np.where(times % 10 < 0.2, np.floor(times / 10) * 10 + 0.2, times),
        "ticks": np.ceil(times / 0.01) * 0.01,
        "slow": times * 1.1,
    }[kind]
    check = check_poisson(broken[broken < 60], 100.0, 60.0)
    assert check is not None
    assert min(check.ks_p_value, check.dispersion_p_value) < 1e-4


def test_too_few_gaps_say_nothing() -> None:
    assert check_poisson(np.arange(50.0), 1.0, 50.0) is None
    with pytest.raises(ValueError, match="positive"):
        check_poisson(np.arange(50.0), 0.0, 50.0)


def test_streams_are_endless() -> None:
    chunks = itertools.islice(stream("poisson", 1e6, arrival_rng(0)), 5)
    assert sum(len(c) for c in chunks) == 5 * CHUNK


def test_steps_have_their_own_rates_from_the_first_moment_on() -> None:
    rates = np.array([300.0, 0.0, 900.0, 90.0])
    times = np.concatenate(list(steps_chunks(rates, 20.0, arrival_rng(3))))
    assert np.all(np.diff(times) > 0)
    counts = np.histogram(times, np.arange(5) * 20.0)[0]
    for rate, count in zip(rates, counts, strict=True):
        assert abs(count - rate * 20.0) <= 4 * np.sqrt(rate * 20.0)
    assert counts[1] == 0
    for index in (0, 2):
        inside = times[(times >= index * 20.0) & (times < (index + 1) * 20.0)] - index * 20.0
        check = check_poisson(inside, float(rates[index]), 20.0, quantisation_s=1e-6)
        assert check is not None
        assert check.ks_p_value > 1e-3
        # The first arrival is an exponential gap into the step, not a gap across its edge.
        assert inside[0] < 10 / rates[index]


@pytest.mark.parametrize("rates", [[], [0.0], [1.0, -1.0], [np.nan], [[1.0]]])
def test_impossible_steps_are_refused(rates: Any) -> None:
    with pytest.raises(ValueError, match="steps need"):
        next(steps_chunks(rates, 1.0, arrival_rng(0)))
