"""Two runs compared: queues in virtual time whose service differs by a known factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tuner.campaign.changes import change_text
from tuner.campaign.compare import Comparison, compare
from tuner.campaign.types import StageKind, StageResult, StageSpec
from tuner.campaign.virtual import VirtualBackend
from tuner.errors import InsufficientDataError
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.interval import Interval
from tuner.slo import LatencyObjective, Slo, Verdict

SLO = Slo((LatencyObjective(0.99, 0.12),), 0.001)
RATES = (40.0, 100.0, 150.0)


def run(slower: float, seed: int, rates: tuple[float, ...] = RATES) -> list[StageResult]:
    """Four workers under three loads, up to three quarters of what they carry."""
    service = ServiceTime.lognormal(0.02 * slower, 0.6)
    backend = VirtualBackend(FleetSpec(InstanceSpec(service, workers=4)), seed=seed)
    return [
        backend.measure(
            StageSpec(i, StageKind.MEASURE, 1, rate, 60.0, 5.0, "poisson", 100 * seed + i, "")
        )
        for i, rate in enumerate(rates)
    ]


def verdicts(slower: float, pairs: int) -> list[Comparison]:
    return [compare(run(1.0, 2 * s), run(slower, 2 * s + 1), SLO) for s in range(1, pairs + 1)]


def test_equal_runs_are_not_called_a_regression() -> None:
    found = verdicts(1.0, 40)
    assert sum(c.verdict is Verdict.VIOLATED for c in found) <= 2
    assert sum(c.verdict is Verdict.MET for c in found) >= 30


def test_intervals_of_single_stages_hold_under_autocorrelation() -> None:
    found = verdicts(1.0, 40)
    changes = [s.changes[0].change for c in found for s in c.stages]
    held = np.mean([i.low <= 0.0 <= i.high for i in changes])
    # 120 intervals of 95 %: three standard errors are 6 points.
    assert held >= 0.89


def test_a_slower_service_is_a_regression() -> None:
    found = verdicts(1.08, 12)
    assert all(c.verdict is Verdict.VIOLATED for c in found)
    first = found[0]
    assert first.sentence.startswith("Regression: latency")
    light = first.stages[0].changes[0].change
    # Almost without waiting, latency grows as service does.
    assert light.low < 0.08 < light.high


def test_what_is_certain_but_small_is_no_regression(stage: Callable[..., StageResult]) -> None:
    rng = np.random.default_rng(71)
    base, after = (
        [
            stage(np.exp(rng.normal(mean, 0.1, 20_000)), index=i, rate_per_instance_per_s=50.0 + i)
            for i in range(3)
        ]
        for mean in (-3.0, -2.98)
    )
    found = compare(base, after, SLO)
    assert found.verdict is Verdict.MET
    change = found.overall[0].change
    assert 0.0 < change.low < math.expm1(0.02) < change.high < 0.05
    assert "less than the 5.0% that counts" in found.sentence


def test_failures_alone_are_a_regression(stage: Callable[..., StageResult]) -> None:
    rng = np.random.default_rng(72)
    latency = np.exp(rng.normal(-3, 0.2, 5000))
    bad = rng.random(5000) < 0.03
    found = compare([stage(latency)], [stage(latency, failed=bad)], SLO)
    assert found.verdict is Verdict.VIOLATED
    worse = {c.name for c in found.overall if c.verdict is Verdict.VIOLATED}
    assert "failed requests" in worse
    failed = next(c for c in found.overall if c.name == "failed requests")
    assert failed.change.low < 0.03 < failed.change.high
    assert change_text(failed).endswith("points)")


def test_windows_alone_give_the_same_answer() -> None:
    before, after = run(1.0, 1), run(1.08, 2)
    bare = [[replace(s, log=None) for s in side] for side in (before, after)]
    whole, kept = compare(before, after, SLO), compare(bare[0], bare[1], SLO)
    assert kept.verdict is whole.verdict
    a, b = whole.overall[0].change, kept.overall[0].change
    assert b.mid == pytest.approx(a.mid, abs=0.003)


def test_stages_meet_only_at_the_same_load_and_soundness(
    stage: Callable[..., StageResult],
) -> None:
    latency = np.exp(np.random.default_rng(73).normal(-3, 0.2, 2000))
    base = [
        stage(latency, index=0, rate_per_instance_per_s=50.0),
        stage(latency, index=1, rate_per_instance_per_s=80.0),
        stage(latency, index=2, rate_per_instance_per_s=50.0, count=2),
        stage(latency, index=3, kind=StageKind.WARM_UP),
        stage(latency[:50], index=4, rate_per_instance_per_s=90.0),
    ]
    after = [
        stage(latency, index=0, rate_per_instance_per_s=50.1),
        stage(latency, index=1, rate_per_instance_per_s=85.0),
        stage(latency, index=2, rate_per_instance_per_s=50.0, count=2, void=True),
        stage(latency, index=3, rate_per_instance_per_s=50.0),
    ]
    found = compare(base, after, SLO)
    assert [(s.instance_count, s.stages) for s in found.stages] == [(1, ((0,), (0, 3)))]
    assert found.unmatched == ((1, 2), (1,))
    with pytest.raises(InsufficientDataError, match="no load in common"):
        compare(base[1:2], after[1:2], SLO)


def test_repeats_that_differ_widen_the_interval(stage: Callable[..., StageResult]) -> None:
    rng = np.random.default_rng(74)
    shifts = (-0.1, 0.0, 0.1)
    steady = [stage(np.exp(rng.normal(-3, 0.1, 3000)), index=i) for i in range(3)]
    moody = [stage(np.exp(rng.normal(-3 + s, 0.1, 3000)), index=i) for i, s in enumerate(shifts)]
    calm = compare(steady, steady, SLO).overall[0].change
    wide = compare(steady, moody, SLO).overall[0].change
    assert wide.high - wide.low > 5.0 * (calm.high - calm.low)
    # Student's interval of the three stage means, at the level shared by three figures.
    half = 7.6488 * 0.1 / math.sqrt(3.0)
    assert math.log1p(wide.high) - math.log1p(wide.mid) == pytest.approx(half, rel=0.35)


def test_capacity_decides_where_no_load_is_shared(stage: Callable[..., StageResult]) -> None:
    alone = [stage(np.full(500, 0.05), rate_per_instance_per_s=r) for r in (10.0, 20.0)]

    def verdict(candidate: tuple[float, float, float]) -> Verdict:
        return compare(
            alone[:1], alone[1:], SLO, capacity=(Interval(97, 100, 103), Interval(*candidate))
        ).verdict

    assert verdict((85.0, 88.0, 91.0)) is Verdict.VIOLATED
    assert verdict((99.0, 101.0, 103.0)) is Verdict.MET
    assert verdict((93.0, 98.0, 103.0)) is Verdict.INCONCLUSIVE
    assert verdict((80.0, 98.0, math.inf)) is Verdict.INCONCLUSIVE


def test_a_quantile_among_failures_is_unknown_and_not_an_error(
    stage: Callable[..., StageResult],
) -> None:
    latency = np.exp(np.random.default_rng(75).normal(-3, 0.2, 2000))
    dead = stage(latency, failed=np.arange(2000) % 10 == 0)
    found = compare([dead], [dead], SLO)
    p99 = next(c for c in found.overall if c.name == "p99")
    assert p99.verdict is Verdict.INCONCLUSIVE
    assert "unknown" in change_text(p99)
    assert found.verdict is Verdict.MET
