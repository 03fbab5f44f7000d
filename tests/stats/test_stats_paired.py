"""The paired comparison against streams whose true ratio is set."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.errors import InsufficientDataError
from tuner.stats.paired import PairedRatio, compare_paired
from tuner.stats.requests import FloatArray, Outcome, RequestLog

N, LENGTH_S = 4000, 60.0


def streams(ratio: float, seed: int) -> tuple[RequestLog, RequestLog]:
    """Lognormal latency that a disturbance common to both multiplies by up to e."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0.0, 0.5, 60)

    def one(factor: float) -> RequestLog:
        at: FloatArray = np.sort(rng.uniform(0.0, LENGTH_S, N))
        work = 0.02 * rng.lognormal(0.0, 0.4, N) * np.exp(noise[at.astype(int)])
        return RequestLog.from_times(at, at + factor * work)

    return one(1.0), one(ratio)


def compared(ratio: float, seed: int, level: float = 0.95) -> PairedRatio:
    first, second = streams(ratio, seed)
    rng = np.random.default_rng(seed)
    return compare_paired(
        first, second, quantile=0.99, block_s=1.0, rng=rng, level=level, resamples=200
    )


def test_intervals_hold_the_true_ratio_as_often_as_they_say() -> None:
    found = [compared(1.05, seed, level=0.9) for seed in range(40)]
    for name in ("mean_ratio", "quantile_ratio"):
        inside = sum(getattr(f, name).low <= 1.05 <= getattr(f, name).high for f in found)
        # Binomial(40, 0.9): fewer than 30 has probability 0.002.
        assert inside >= 30, name


def test_a_disturbance_of_both_does_not_hide_a_small_difference() -> None:
    found = compared(1.05, 3)
    assert found.p_value < 0.01
    assert found.mean_ratio.relative_half_width < 0.03


def test_without_a_difference_one_is_rarely_found() -> None:
    false = sum(compared(1.0, seed).p_value < 0.05 for seed in range(60))
    # Binomial(60, 0.05): more than 9 has probability 0.001.
    assert false <= 9


def test_failures_are_slow_and_too_many_are_refused() -> None:
    first, second = streams(1.0, 1)
    outcome = second.outcome.copy()
    outcome[: N // 20] = int(Outcome.TIMEOUT)
    broken = RequestLog.from_times(second.scheduled_s, second.done_s, outcome=outcome)
    with pytest.raises(InsufficientDataError, match="fail"):
        compare_paired(first, broken, quantile=0.99, block_s=1.0, rng=np.random.default_rng(1))


def test_too_short_a_comparison_is_refused() -> None:
    first, second = (s.between(0.0, 5.0) for s in streams(1.0, 1))
    with pytest.raises(InsufficientDataError):
        compare_paired(first, second, quantile=0.99, block_s=1.0, rng=np.random.default_rng(1))
