"""Metrics as signals: fits against known relations, refusals, and the choice between metrics."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from recommend_samples import SLO, capacity
from scipy import stats

from tuner.autoscaling.policy import ScalingMetric
from tuner.recommend.as_json import to_json
from tuner.recommend.constraints import Constraints
from tuner.recommend.evaluate import World
from tuner.recommend.recommend import recommend
from tuner.recommend.search import Found
from tuner.recommend.signal_search import best_of
from tuner.recommend.signals import (
    FittedSignal,
    Reading,
    datapoints,
    explain,
    false_alarms_per_day,
    fit_signal,
    value_interval,
)
from tuner.recommend.types import Recommendation, Resilience
from tuner.simulator.inputs import MetricCurve
from tuner.workload.shapes import make_traffic

SATURATION = 200.0
VCPUS = 4
CPU, CONCURRENCY = ScalingMetric.CPU, ScalingMetric.CONCURRENCY
ZIGZAG = ((40.0, 90.0), (80.0, 300.0), (120.0, 90.0), (160.0, 310.0))
"""Rates and CPU that no rising curve follows."""
TRAFFIC = make_traffic("diurnal", peak_per_min=60_000.0, days=1.0, seed=1)


def cpu_readings(
    rates: tuple[float, ...] = (40.0, 80.0, 120.0, 160.0), noise: float = 0.01
) -> list[Reading]:
    """CPU of a server that idles at 12 % of a core and burns 1.8 % of one per request/s."""
    rng = np.random.default_rng(3)
    return [
        Reading(CPU, i, r, 1, tuple((12.0 + 1.8 * r) * rng.normal(1.0, noise, 30)))
        for i, r in enumerate(rates)
    ]


def queue_readings(scatter: float, counts: tuple[int, ...] = (1, 2, 4)) -> list[Reading]:
    """The largest number in flight of n instances, drawn, not computed from the fitted form."""
    rng = np.random.default_rng(4)
    found = []
    for n in counts:
        for i, rho in enumerate((0.3, 0.5, 0.7, 0.8)):
            mean = VCPUS * rho / (1.0 - 0.6 * rho)
            largest = rng.poisson(mean, (4000, n)).max(axis=1).mean()
            values = tuple(largest * rng.normal(1.0, scatter, 40).clip(0.1))
            found.append(Reading(CONCURRENCY, i, rho * SATURATION, n, values))
    return found


def curve_of(fitted: FittedSignal) -> MetricCurve:
    assert fitted.curve is not None, fitted.fit.refused
    return fitted.curve


def test_cpu_is_fitted_in_its_own_scale() -> None:
    fitted = fit_signal(CPU, cpu_readings(), SATURATION)
    curve = curve_of(fitted)
    for rate in (0.0, 60.0, 150.0, 200.0):
        value = np.interp(rate / SATURATION, curve.utilization, curve.value)
        assert value == pytest.approx(12.0 + 1.8 * rate, rel=0.02, abs=2.0)
    assert fitted.fit.statistic == "Average"
    assert fitted.fit.period_s == 60
    assert fitted.fit.scatter == pytest.approx(0.01, rel=0.3)
    assert curve.per_waiting == 0.0


def test_the_largest_of_several_instances_is_told_from_that_of_one() -> None:
    """Both counts are fitted; the truth at the count in between is drawn anew."""
    fitted = fit_signal(CONCURRENCY, queue_readings(0.02), SATURATION, instance_count=3)
    curve = curve_of(fitted)
    rng = np.random.default_rng(9)
    for rho in (0.4, 0.6, 0.75):
        truth = rng.poisson(VCPUS * rho / (1.0 - 0.6 * rho), (40_000, 3)).max(axis=1).mean()
        assert np.interp(rho, curve.utilization, curve.value) == pytest.approx(truth, rel=0.12)
    assert curve.per_waiting == 1.0
    assert (np.diff(curve.value) >= 0.0).all()


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        ([], "has no CPUUtilization"),
        (cpu_readings((40.0, 80.0)), "read in 2 stages"),
        (cpu_readings((10.0, 20.0, 40.0)), "20% of saturation"),
        (cpu_readings((150.0, 151.0, 152.0)), "one load only"),
        (
            [Reading(CPU, i, r, 1, (300.0,) * 3) for i, r in enumerate((40.0, 90.0, 160.0))],
            "hardly rises",
        ),
        (
            [
                Reading(CPU, i, r, 1, (v,) * 3)
                for i, (r, v) in enumerate(
                    ((40.0, 90.0), (80.0, 300.0), (120.0, 90.0), (160.0, 310.0))
                )
            ],
            "only to within",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(readings: list[Reading], words: str) -> None:
    fitted = fit_signal(CPU, readings, SATURATION)
    assert fitted.curve is None
    assert fitted.fit.refused is not None
    assert words in fitted.fit.refused


@pytest.mark.parametrize(
    ("metric", "idle", "per_rate"),
    [
        (ScalingMetric.GPU, 4.0, 1.5),
        (ScalingMetric.GPU_MEMORY, 20.0, 0.3),
        (ScalingMetric.MEMORY, 10.0, 0.25),
    ],
)
def test_other_utilisations_are_fitted_where_they_follow_the_load(
    metric: ScalingMetric, idle: float, per_rate: float
) -> None:
    readings = [
        Reading(metric, i, r, 1, (idle + per_rate * r,) * 3)
        for i, r in enumerate((40.0, 80.0, 120.0, 160.0))
    ]
    curve = curve_of(fit_signal(metric, readings, SATURATION))
    value = np.interp(0.5, curve.utilization, curve.value)
    assert value == pytest.approx(idle + per_rate * 100.0, rel=0.02)


def test_memory_that_does_not_follow_the_load_is_refused_by_name() -> None:
    readings = [
        Reading(ScalingMetric.MEMORY, i, r, 1, (62.0 + 0.01 * r,) * 3)
        for i, r in enumerate((40.0, 80.0, 120.0, 160.0))
    ]
    fitted = fit_signal(ScalingMetric.MEMORY, readings, SATURATION)
    assert fitted.curve is None
    assert fitted.fit.refused is not None
    assert fitted.fit.refused.startswith("memory utilisation hardly rises with the load")


def test_the_target_is_known_as_well_as_the_relation() -> None:
    sharp = value_interval(fit_signal(CPU, cpu_readings(noise=0.002), SATURATION), 200.0)
    vague = value_interval(fit_signal(CPU, cpu_readings(noise=0.2), SATURATION), 200.0)
    assert sharp is not None
    assert vague is not None
    assert sharp.mid == vague.mid == 200.0
    assert sharp.relative_half_width < vague.relative_half_width < 0.5


def test_only_whole_periods_of_a_stage_count() -> None:
    at = [0.0, 60.0, 120.0, 180.0]
    assert datapoints(at, [1.0, 2.0, 3.0, 4.0], 60.0, 30.0, 185.0) == (2.0, 3.0)
    assert datapoints(at, [1.0, 2.0, 3.0, 4.0], 60.0, 70.0, 110.0) == ()


def test_false_alarms_follow_the_normal_tail() -> None:
    each = float(stats.norm.sf((1.0 / 0.9 - 1.0) / 0.1))
    assert false_alarms_per_day(0.1, 60) == pytest.approx(1440.0 * each**3)
    assert false_alarms_per_day(0.0, 10) == 0.0
    assert false_alarms_per_day(math.nan, 10) == 0.0


def compared(scatter: float, metric: ScalingMetric = CONCURRENCY) -> Recommendation:
    model = capacity()
    assert model.table is not None
    saturation = model.table.saturation_rate_per_s
    if metric is CPU:
        fitted = fit_signal(CPU, cpu_readings(noise=scatter), saturation)
    else:
        fitted = fit_signal(CONCURRENCY, queue_readings(scatter), saturation)
    found = recommend(
        model,
        TRAFFIC,
        slo=SLO,
        constraints=Constraints(
            "ml.m5.xlarge",
            resilience=Resilience("instance"),
            metrics=(ScalingMetric.INVOCATIONS, metric),
        ),
        launch_lag_s=240.0,
        seed=3,
        metric_curves={metric: curve_of(fitted)},
    )
    return explain(found, {metric: fitted}, vcpus=VCPUS)


def test_cpu_that_is_proportional_to_load_costs_what_invocations_cost() -> None:
    """It is the same signal in another unit: no policy on it can be cheaper or dearer."""
    found = compared(0.01, CPU)
    by = {s.metric: s for s in found.signals}
    first, other = by[ScalingMetric.INVOCATIONS], by[CPU]
    assert first.recommended
    assert first.candidate is not None
    assert other.candidate is not None
    hours = first.candidate.expected.instance_hours_per_day.mid
    assert other.candidate.expected.instance_hours_per_day.mid == pytest.approx(hours, rel=0.03)
    policy = other.candidate.policy
    assert policy is not None
    assert other.machine_share == pytest.approx(policy.target_value / 400.0)
    assert other.target_value is not None
    assert other.target_value.low < policy.target_value < other.target_value.high
    said = next(s for s in found.statements if s.name == "signal")
    assert said.sentence.startswith("Scale on invocations per instance")


def test_a_signal_that_scatters_is_not_recommended() -> None:
    found = compared(0.35)
    noisy = next(s for s in found.signals if s.metric is CONCURRENCY)
    assert not noisy.recommended
    assert "needless alarms" in noisy.reason


@pytest.mark.parametrize(
    ("cost", "scatter", "wins"),
    [(90.0, 0.01, True), (99.0, 0.01, False), (90.0, 0.4, False), (110.0, 0.01, False)],
)
def test_another_signal_wins_when_it_is_steady_and_saves_something(
    cost: float, scatter: float, wins: bool
) -> None:
    def found(metric: ScalingMetric, hours: float) -> Found:
        fields = {"cost": hours, "choice": SimpleNamespace(index=0)}
        return cast("Found", SimpleNamespace(grid=SimpleNamespace(metric=metric), **fields))

    line = np.array([0.0, 1.0])
    curve = MetricCurve(line, line, 1.0, scatter, 10)
    world = cast("World", SimpleNamespace(curves={CONCURRENCY: curve}))
    both = [found(ScalingMetric.INVOCATIONS, 100.0), found(CONCURRENCY, cost)]
    assert (best_of(both, world).grid.metric is CONCURRENCY) == wins


def test_a_refused_signal_leaves_invocations_and_says_why() -> None:
    refused = fit_signal(CPU, cpu_readings((40.0, 80.0)), SATURATION)
    model = capacity()
    found = recommend(
        model, TRAFFIC, slo=SLO, constraints=Constraints("ml.m5.xlarge"), launch_lag_s=240.0
    )
    said = explain(found, {CPU: refused})
    assert [s.recommended for s in said.signals] == [True, False]
    assert "read in 2 stages" in said.statements[0].sentence
    document = json.loads(to_json(said, {}))
    assert document["signals"][1]["fit"]["refused"] == refused.fit.refused
    assert document["signals"][1]["policy"] is None


def test_the_json_has_no_signals_where_none_were_asked_for() -> None:
    found = recommend(
        capacity(), TRAFFIC, slo=SLO, constraints=Constraints("ml.m5.xlarge"), launch_lag_s=240.0
    )
    assert "signals" not in json.loads(to_json(found, {}))
    assert replace(found, signals=()).signals == ()
