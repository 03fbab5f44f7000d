"""Canaries against made-up minutes whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tuner.campaign.canary import (
    CanaryTest,
    CanaryVerdict,
    Look,
    MinutePair,
    Side,
    look,
    minutes_to_see,
    side_of,
)
from tuner.campaign.types import StageResult
from tuner.errors import InsufficientDataError
from tuner.slo import LatencyObjective, Measure
from tuner.stats.histogram import LatencyHistogram

P99 = LatencyObjective(0.99, 0.1)
TEST = CanaryTest(0.05, 0.01)
NOTHING = LatencyHistogram.of([])


def side(mean_ln: float, late: int = 0, failures: int = 0, requests: int = 6000) -> Side:
    return Side(requests, failures, late, mean_ln, NOTHING)


def minutes(
    difference: float, n: int, rng: np.random.Generator, *, sd: float = 0.02, common: float = 0.3
) -> list[MinutePair]:
    """Pairs whose logarithms differ by so much on average; the endpoint's own mood is shared."""
    mood = rng.normal(-3.0, common, n)
    noise = rng.normal(0.0, sd / math.sqrt(2.0), (2, n))
    late = rng.poisson(20.0, (2, n))
    return [
        MinutePair(
            i,
            side(float(mood[i] + noise[0, i]), int(late[0, i])),
            side(float(mood[i] + difference + noise[1, i]), int(late[1, i])),
        )
        for i in range(n)
    ]


def end(pairs: list[MinutePair], test: CanaryTest = TEST) -> tuple[Look, int]:
    for n in range(1, len(pairs) + 1):
        seen = look(pairs[:n], test)
        if seen.verdict is not CanaryVerdict.OPEN:
            return seen, n
    return seen, len(pairs)


def test_equal_variants_are_rarely_called_slower_at_any_of_two_hours_of_looks() -> None:
    rng = np.random.default_rng(61)
    alarms = 0
    for _ in range(80):
        pairs = minutes(0.0, 120, rng)
        looks = (look(pairs[:n], TEST) for n in range(10, 121, 5))
        alarms += any(s.verdict is CanaryVerdict.SLOWER for s in looks)
    assert alarms / 80 <= 0.05


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (math.log(1.05), CanaryVerdict.SLOWER),
        (math.log(1.5), CanaryVerdict.SLOWER),
        (0.0, CanaryVerdict.NOT_SLOWER),
        (math.log(0.8), CanaryVerdict.NOT_SLOWER),
    ],
)
def test_the_answer_comes_early_and_is_right(difference: float, verdict: CanaryVerdict) -> None:
    rng = np.random.default_rng(62)
    ends = [end(minutes(difference, 120, rng)) for _ in range(60)]
    assert np.mean([s.verdict is verdict for s, _ in ends]) >= 0.95
    assert float(np.median([n for _, n in ends])) <= 15
    seen = ends[0][0]
    assert seen.slower is not None
    assert seen.slower.low < math.expm1(difference) < seen.slower.high


def test_a_wrong_all_clear_is_as_rare_as_a_false_alarm() -> None:
    rng = np.random.default_rng(63)
    ends = [end(minutes(math.log(1.05), 120, rng, sd=0.06))[0].verdict for _ in range(120)]
    assert np.mean([v is CanaryVerdict.NOT_SLOWER for v in ends]) <= 0.05


def test_the_first_look_waits_for_ten_minutes() -> None:
    pairs = minutes(1.0, 10, np.random.default_rng(64))
    early = look(pairs[:9], TEST)
    assert (early.verdict, early.slower, early.minutes) == (CanaryVerdict.OPEN, None, 9)
    assert look(pairs, TEST).verdict is CanaryVerdict.SLOWER
    assert look([], TEST).verdict is CanaryVerdict.OPEN


def test_more_late_requests_are_seen_where_the_mean_is_the_same() -> None:
    rng = np.random.default_rng(65)
    pairs = [
        MinutePair(i, side(-3.0 + rng.normal(0, 0.01), rng.poisson(20)),
                   side(-3.0 + rng.normal(0, 0.01), rng.poisson(120)))
        for i in range(40)
    ]  # fmt: skip
    seen, n = end(pairs)
    assert seen.verdict is CanaryVerdict.SLOWER
    assert n <= 12
    assert seen.late is not None
    assert seen.late.low < 100 / 6000 < seen.late.high
    assert "late or fails" in seen.sentence


def test_no_late_request_in_small_samples_is_not_certainty() -> None:
    rng = np.random.default_rng(66)
    few = [
        MinutePair(i, *(side(-3.0 + rng.normal(0, 1e-4), requests=30) for _ in "bc"))
        for i in range(10)
    ]
    seen = look(few, TEST)
    assert seen.late is not None
    # None of 300: the exact 97.5 % bound of one share alone is 1.2 %.
    assert seen.late.high > 0.012
    assert seen.verdict is CanaryVerdict.OPEN


def test_a_candidate_that_mostly_fails_is_stopped_at_once() -> None:
    fails = MinutePair(0, side(-3.0), side(-3.0, late=4000, failures=4000))
    seen = look([fails], TEST)
    assert seen.verdict is CanaryVerdict.SLOWER
    assert "failed 66.7%" in seen.sentence
    both = MinutePair(0, side(-3.0, 4000, 4000), side(-3.0, 4000, 4000))
    assert look([both], TEST).verdict is CanaryVerdict.OPEN


def test_the_time_a_test_takes_is_foretold() -> None:
    rng = np.random.default_rng(67)
    sd = 0.05
    foretold = minutes_to_see(sd, TEST, chance=0.9)
    slow = [minutes(TEST.ln_limit, foretold, rng, sd=sd) for _ in range(300)]
    seen = np.mean([(s := look(p, TEST).slower) is not None and s.low > 0.0 for p in slow])
    # The variance is known to the forecast and estimated by the test: a little less than 0.9.
    assert 0.84 <= seen <= 0.96
    assert minutes_to_see(sd, TEST, chance=0.5) < foretold < minutes_to_see(2 * sd, TEST)
    assert minutes_to_see(0.0, TEST) == 10
    with pytest.raises(InsufficientDataError, match="reasonable length"):
        minutes_to_see(50.0, TEST)


def test_a_side_counts_failures_as_late_and_not_as_latency(
    stage: Callable[..., StageResult],
) -> None:
    latency = np.array([0.05, 0.2, 0.05, 0.05])
    failed = np.array([False, False, True, False])
    for raw in (True, False):
        seen = side_of(stage(latency, failed=failed, raw=raw), P99)
        assert (seen.requests, seen.failures, seen.late) == (4, 1, 2)
        exact = (2 * math.log(0.05) + math.log(0.2)) / 3
        assert seen.mean_ln == pytest.approx(exact, abs=1e-9 if raw else 0.006)
        assert seen.answered.total == 3


def test_a_side_needs_requests_and_first_chunks(stage: Callable[..., StageResult]) -> None:
    with pytest.raises(InsufficientDataError, match="without a request"):
        side_of(stage(np.array([])), P99)
    first = LatencyObjective(0.95, 0.1, Measure.TTFT)
    with pytest.raises(InsufficientDataError, match="ttft_p95 needs every request"):
        side_of(stage(np.array([0.1]), raw=False), first)


def test_a_question_about_nothing_is_refused() -> None:
    for bad in ((0.0, 0.01, 0.05), (0.05, 0.0, 0.05), (0.05, 0.01, 1.0)):
        with pytest.raises(ValueError, match=r"nothing to look for|alpha"):
            CanaryTest(*bad)


def test_spells_that_outlast_a_minute_widen_the_interval() -> None:
    rng = np.random.default_rng(68)
    shock = rng.normal(0.0, 0.02, 120)
    lasting = np.zeros(120)
    for i in range(1, 120):
        lasting[i] = 0.8 * lasting[i - 1] + shock[i]
    shuffled = rng.permutation(lasting)

    def width(differences: np.ndarray) -> float:
        pairs = [MinutePair(i, side(-3.0), side(-3.0 + d)) for i, d in enumerate(differences)]
        found = look(pairs, TEST).slower
        assert found is not None
        return found.high - found.low

    # The mean of a first-order series of 0.8 has nine times the variance of independent minutes.
    assert 2.0 <= width(lasting) / width(shuffled) <= 3.2
