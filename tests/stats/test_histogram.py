"""The histogram: small errors, exact merges, nothing dropped."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tuner.stats.histogram import LatencyHistogram, Window, windows_of
from tuner.stats.requests import Outcome, RequestLog

LAWS = {
    "lognormal": lambda rng, n: 0.05 * rng.lognormal(0.0, 0.83, n),
    "bimodal": lambda rng, n: np.where(rng.random(n) < 0.9, 0.02, 0.22) * rng.uniform(0.9, 1.1, n),
    "pareto": lambda rng, n: 0.02 * (1.0 + rng.pareto(1.5, n)),
}


@pytest.mark.parametrize("law", LAWS)
def test_quantiles_are_within_half_a_percent(law: str) -> None:
    rng = np.random.default_rng(11)
    x = LAWS[law](rng, 200_000)
    histogram = LatencyHistogram.of(x)
    for q in (0.5, 0.9, 0.95, 0.99, 0.999):
        exact = float(np.quantile(x, q, method="inverted_cdf"))
        assert histogram.quantile_s(q) == pytest.approx(exact, rel=0.005)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1e-6, 1e4), max_size=200),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_merge_of_any_split_is_the_histogram_of_the_union(
    values: list[float], cuts: list[int]
) -> None:
    parts = np.split(np.array(values), sorted(min(c, len(values)) for c in cuts))
    merged = LatencyHistogram.merge(LatencyHistogram.of(p) for p in parts)
    assert merged == LatencyHistogram.of(values)
    assert merged.total == len(values)


def test_nothing_is_dropped_at_the_ends() -> None:
    histogram = LatencyHistogram.of([-1.0, 0.0, 1e-12, 1e9])
    assert histogram.total == 4
    assert histogram.quantile_s(1.0) == pytest.approx(1e9, rel=0.005)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_failures_are_not_binned(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        LatencyHistogram.of([0.1, bad])


def test_failures_count_as_infinite_in_a_quantile() -> None:
    histogram = LatencyHistogram.of(np.full(98, 0.1))
    assert histogram.quantile_s(0.98, failures=2) == pytest.approx(0.1, rel=0.005)
    assert math.isinf(histogram.quantile_s(0.99, failures=2))
    assert math.isnan(LatencyHistogram.of([]).quantile_s(0.5))


def sample_log(rng: np.random.Generator, n: int = 5000) -> RequestLog:
    start = np.sort(rng.uniform(3.0, 40.0, n))
    start = np.concatenate([start[start < 20.0], start[start > 23.5]])
    outcome = rng.choice([0, 0, 0, 1, 3], len(start)).astype(np.uint8)
    return RequestLog.from_times(start, start + rng.exponential(0.05, len(start)), outcome=outcome)


@pytest.mark.parametrize("length_s", [1.0, 0.5, 7.0])
def test_windows_hold_what_was_started_in_them(length_s: float) -> None:
    log = sample_log(np.random.default_rng(12))
    windows = windows_of(log, length_s)
    assert sum(w.total for w in windows) == len(log)
    assert [w.start_s for w in windows] == sorted({w.start_s for w in windows})
    for w in windows:
        part = log.between(w.start_s, w.start_s + w.length_s)
        assert w.total == len(part) > 0
        took: NDArray[np.float64] = part.done_s - part.scheduled_s
        for outcome, histogram in w.by_outcome:
            assert histogram == LatencyHistogram.of(took[part.outcome == outcome])
        assert w.failures == int(np.count_nonzero(~part.ok))


def test_merged_windows_are_the_window_of_the_union() -> None:
    log = sample_log(np.random.default_rng(13))
    merged = Window.merge(windows_of(log, 0.5))
    assert merged.total == len(log)
    assert merged.ok == LatencyHistogram.of(log.latency_s()[log.ok])
    assert merged.quantile_s(0.5) == pytest.approx(
        float(np.quantile(log.latency_s(), 0.5, method="inverted_cdf")), rel=0.005
    )


def test_a_dropped_arrival_is_counted_with_no_time() -> None:
    log = RequestLog.from_times(
        np.array([0.1, 0.2]),
        np.array([0.15, np.nan]),
        outcome=np.array([Outcome.OK, Outcome.DROPPED], dtype=np.uint8),
    )
    (window,) = windows_of(log)
    assert (window.total, window.failures) == (2, 1)
    assert windows_of(log.between(5.0, 6.0)) == ()
