"""Deployment variables against minutes drawn from known distributions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tuner.campaign.canary import CanaryTest, MinutePair, Side
from tuner.errors import InsufficientDataError
from tuner.recommend.deployment import Alarm, Deployment, Release, plan_deployment, statistic_s
from tuner.slo import LatencyObjective, Measure, Slo
from tuner.stats.histogram import LatencyHistogram

SLO = Slo((LatencyObjective(0.99, 0.12),), 0.002)
TEST = CanaryTest(0.05, 0.01)
RATE = 50.0


def side(rng: np.random.Generator, *, requests: int = 3000, slower: float = 1.0) -> Side:
    """A minute of lognormal latencies around 20 ms."""
    latency = slower * rng.lognormal(math.log(0.02), 0.5, requests)
    mean_ln = float(np.log(latency).mean())
    return Side(requests, 0, int((latency > 0.12).sum()), mean_ln, LatencyHistogram.of(latency))


def pairs(n: int, seed: int, *, requests: int = 3000) -> list[MinutePair]:
    rng = np.random.default_rng(seed)
    return [
        MinutePair(i, side(rng, requests=requests), side(rng, requests=requests)) for i in range(n)
    ]


def release(**changes: float) -> Release:
    values: dict[str, float] = {"rate_per_s": RATE, "instance_count": 10} | changes
    return Release(**values)  # type: ignore[arg-type]


def alarm(found: Deployment, name: str) -> Alarm:
    return next(a for a in found.alarms if a.name == name)


def test_a_release_with_much_traffic_takes_the_smallest_canary_of_one_instance() -> None:
    found = plan_deployment(pairs(20, 1), TEST, SLO, release(rate_per_s=2000.0))
    assert found.size_percent == 10
    assert found.minutes_to_see is not None
    assert found.wait_s >= 60 * found.minutes_to_see
    crowd = plan_deployment(pairs(20, 1), TEST, SLO, release(rate_per_s=2e4, instance_count=100))
    assert crowd.size_percent == 5
    single = plan_deployment(pairs(20, 1), TEST, SLO, release(instance_count=1))
    assert single.size_percent == 50


def test_little_traffic_takes_a_larger_canary_or_says_that_none_is_enough() -> None:
    found = plan_deployment(pairs(20, 2), TEST, SLO, release(rate_per_s=12.0, instance_count=100))
    assert 5 < found.size_percent < 50
    assert 600 < found.wait_s <= 3600
    scarce = plan_deployment(pairs(20, 2), TEST, SLO, release(rate_per_s=0.5))
    assert (scarce.size_percent, scarce.minutes_to_see, scarce.wait_s) == (50, None, 3600)
    assert "cannot show" in scarce.sentences[0]
    given = plan_deployment(pairs(20, 2), TEST, SLO, release(size_percent=20))
    assert given.size_percent == 20


def test_waiting_times_are_what_aws_takes() -> None:
    for rate in (0.5, 20.0, 5000.0):
        found = plan_deployment(pairs(15, 3), TEST, SLO, release(rate_per_s=rate))
        assert 0 < found.wait_s <= 3600
        assert 0 < found.termination_wait_s <= 3600
        assert 600 <= found.timeout_s <= 28_800
        assert found.timeout_s > found.wait_s + found.termination_wait_s
        assert found.wait_s >= max(a.time_s for a in found.alarms)


@pytest.mark.parametrize("rate", [RATE, 20.0])
def test_the_latency_alarm_rarely_errs_and_sees_what_it_says(rate: float) -> None:
    size = 50
    rng = np.random.default_rng(5)

    def trips(slow: Alarm, periods: int, slower: float) -> bool:
        requests = int(rate * size / 100 * slow.period_s)
        quantile = None if slow.statistic == "Average" else float(slow.statistic[1:]) / 100
        above = 0
        for _ in range(periods):
            value = statistic_s(side(rng, requests=requests, slower=slower), quantile)
            above = above + 1 if value * 1e6 > slow.threshold else 0
            if above == slow.periods:
                return True
        return False

    wrong, seen, small = [], [], []
    for seed in range(40, 46):
        there = release(rate_per_s=rate, size_percent=size)
        slow = alarm(plan_deployment(pairs(30, seed), TEST, SLO, there), "slow")
        assert slow.sees is not None
        wrong += [trips(slow, 3600 // slow.period_s, 1.0) for _ in range(10)]
        seen += [trips(slow, slow.periods, 1.0 + slow.sees) for _ in range(20)]
        small += [trips(slow, slow.periods, 1.0 + slow.sees / 3) for _ in range(20)]
    assert sum(wrong) <= 2
    # 120 tries of 0.9: three standard errors are 8 points.
    assert np.mean(seen) >= 0.82
    assert np.mean(small) <= 0.5


def test_fewer_requests_at_the_canary_see_only_larger_slow_downs() -> None:
    rich = plan_deployment(pairs(20, 6), TEST, SLO, release(size_percent=50))
    poor = plan_deployment(pairs(20, 6), TEST, SLO, release(size_percent=5))
    assert (alarm(poor, "slow").sees or 0.0) > (alarm(rich, "slow").sees or 0.0)


def test_thresholds_are_in_microseconds_and_leave_out_what_is_not_the_model() -> None:
    whole = plan_deployment(pairs(20, 7), TEST, SLO, release())
    inner = plan_deployment(pairs(20, 7), TEST, SLO, release(beyond_model_s=0.004))
    assert alarm(whole, "slo-p99").threshold == 120_000
    assert alarm(inner, "slo-p99").threshold == 116_000
    assert 20_000 < alarm(whole, "slow").threshold < 40_000
    assert alarm(inner, "slow").threshold < alarm(whole, "slow").threshold
    with pytest.raises(InsufficientDataError, match="outside of the model"):
        plan_deployment(pairs(20, 7), TEST, SLO, release(beyond_model_s=1.0))


def test_a_baseline_beyond_its_slo_does_not_roll_every_release_back() -> None:
    tight = Slo((LatencyObjective(0.99, 0.03),))
    found = alarm(plan_deployment(pairs(20, 8), TEST, tight, release()), "slo-p99")
    worst = max(statistic_s(p.baseline, 0.99) for p in pairs(20, 8))
    assert found.threshold == math.floor(worst * 1e6)
    assert "worst minute" in found.sentence


def test_the_error_alarm_allows_what_the_slo_and_the_baseline_do() -> None:
    assert alarm(plan_deployment(pairs(20, 9), TEST, SLO, release()), "errors").threshold == 0.002
    failing = [replace(p, baseline=replace(p.baseline, failures=30, late=30)) for p in pairs(20, 9)]
    allowed = alarm(plan_deployment(failing, TEST, SLO, release()), "errors").threshold
    # 600 of 60,000: the exact 99 % bound is 1.1 %.
    assert 0.0105 < allowed < 0.0115


def test_a_first_chunk_objective_has_no_alarm_of_its_own() -> None:
    streamed = Slo((LatencyObjective(0.95, 0.1, Measure.TTFT),))
    found = plan_deployment(pairs(12, 10), TEST, streamed, release())
    assert [a.name for a in found.alarms] == ["slow", "errors"]


def test_too_few_minutes_are_refused() -> None:
    with pytest.raises(InsufficientDataError, match="too few minutes"):
        plan_deployment(pairs(9, 11), TEST, SLO, release())
