"""How many models an instance holds: against simulated memories of known size, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tuner.campaign.models import ModelStage, VirtualModels, repeated, warm_requests
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, ModelsSpec
from tuner.recommend.constraints import parse_resilience
from tuner.recommend.density import Need, decide_density, next_count
from tuner.recommend.density_types import Density, density_value
from tuner.recommend.memory_fit import split_cold
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.workload.models import law

P95 = Slo((LatencyObjective(0.95, 0.15),))
MIX = law(100, "m{n}", popularity="zipf", exponent=1.0)
SLOTS = 30


def instance(seed: int, slots: int = SLOTS, load_s: float = 0.5) -> VirtualModels:
    models = ModelsSpec(slots * 10.0, 10.0, ServiceTime.lognormal(load_s, 0.3), loaders=4)
    served = InstanceSpec(ServiceTime.lognormal(0.02, 0.6), workers=4, models=models)
    return VirtualModels(FleetSpec(served), MIX, seed=seed)


def stage(made: VirtualModels, count: int, seed: int, *, cloudwatch: bool = True) -> ModelStage:
    warm = warm_requests(MIX.first(count).shares, 0.05)
    return made.measure(count, 60.0, 5000, warm=warm, seed=seed, cloudwatch=cloudwatch)


def swept(seed: int, *, cloudwatch: bool, slo: Slo = P95, need: Need | None = None) -> Density:
    made, stages = instance(seed), list[ModelStage]()
    need = need or Need(MIX)
    while (count := next_count(stages, slo, need)) is not None:
        stages.append(stage(made, count, seed * 50 + len(stages), cloudwatch=cloudwatch))
    assert len({s.models for s in stages}) == len(stages)
    return decide_density(stages, slo, need)


def long_run_truth() -> int:
    """The largest number whose late share in a long run is inside the SLO."""

    def late(count: int) -> float:
        warm = warm_requests(MIX.first(count).shares, 0.05)
        seen = instance(77).measure(count, 60.0, 15_000, warm=warm, seed=5)
        return float(np.mean(seen.latency_s > 0.15))

    low, high = SLOTS, SLOTS + 8
    assert late(low) < 0.05 < late(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if late(middle) <= 0.05 else (low, middle)
    return low


def test_the_recommended_density_is_near_the_truth_of_the_fleet() -> None:
    truth = long_run_truth()
    for seed in (1, 2):
        found = swept(seed, cloudwatch=seed != 2)
        assert found.verdict is Verdict.MET
        assert found.recommended == pytest.approx(truth, rel=0.1)
        assert found.slots is not None
        assert found.slots.mid == pytest.approx(SLOTS, rel=0.04)
        assert found.models_per_instance is not None
        limit = found.models_per_instance
        # The truth of a run of this length is itself known to a model.
        assert limit.low - 1 <= truth <= limit.high + 1
        assert found.cold_seen_by == ("latency" if seed == 2 else "ModelCacheHit")


def test_cold_loads_are_kept_apart_from_warm_latency() -> None:
    found = decide_density([stage(instance(4), 80, 9)], P95, Need(MIX))
    (row,) = found.rows
    assert row.cold.mid > 0.1
    assert row.warm_p99_s is not None
    assert row.warm_p99_s < 0.15 < row.p99_s.mid
    assert row.verdict is Verdict.VIOLATED


def test_when_everything_fits_the_answer_has_no_upper_end() -> None:
    made = instance(5, slots=100)
    found = decide_density([stage(made, 30, 1), stage(made, 100, 2)], P95, Need(MIX))
    assert found.verdict is Verdict.MET
    assert found.models_per_instance is not None
    assert found.recommended == 100
    assert math.isinf(found.models_per_instance.high)
    assert next_count([stage(made, 100, 3)], P95, Need(MIX)) is None


def test_one_model_that_misses_the_slo_is_a_violation() -> None:
    quick = Slo((LatencyObjective(0.95, 0.005),))
    found = decide_density([stage(instance(6), 4, 1)], quick, Need(MIX))
    assert found.verdict is Verdict.VIOLATED
    assert found.recommended is None
    assert found.min_instances is None
    assert "already miss" in found.refusals[0]


def test_a_short_stage_is_refused() -> None:
    whole = stage(instance(7), 8, 1)
    short = replace(whole, latency_s=whole.latency_s[:100])
    found = decide_density([short], P95, Need(MIX))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "fewer than" in found.refusals[0]
    with pytest.raises(ValueError, match="no stage"):
        decide_density([], P95, Need(MIX))


def test_loads_as_fast_as_answers_cannot_be_told_apart_but_the_slo_can() -> None:
    made = instance(8, load_s=0.02)
    stages = [stage(made, n, n, cloudwatch=False) for n in (4, 60)]
    assert not split_cold(stages).clear
    found = decide_density(stages, P95, Need(MIX))
    assert found.method == "bracket"
    assert found.verdict is Verdict.MET
    assert found.recommended == 60
    assert found.cold_seen_by == "nothing"
    assert all(r.warm_p99_s is None for r in found.rows)


def test_a_memory_that_is_none_is_not_fitted_through() -> None:
    """Cold loads that do not grow with the models: no memory does that."""
    rng = np.random.default_rng(1)

    def odd(count: int, cold: float) -> ModelStage:
        latency = rng.lognormal(-4.0, 0.3, 4000)
        latency[rng.random(4000) < cold] = 1.0
        return ModelStage(count, 50.0, MIX.first(count).shares, latency)

    found = decide_density([odd(5, 0.02), odd(20, 0.3), odd(40, 0.02)], P95, Need(MIX))
    assert found.method == "bracket"
    assert found.recommended == 5
    assert any("does not explain" in s for s in found.sentences)


def test_instances_hold_every_model_after_a_loss_and_carry_the_peak() -> None:
    need = Need(MIX, 600.0, parse_resilience("1 instance"), 0.25)
    made = instance(9)
    found = decide_density([stage(made, n, n) for n in (20, 25, 40, 50)], P95, need)
    assert found.recommended is not None
    assert found.min_instances == math.ceil(100 / found.recommended) + 1
    by_count = {r.models: r for r in found.rows}
    # 600/s at 60/s each, and one more to lose.
    assert by_count[20].instances == 11
    assert by_count[20].cost_per_month_usd == pytest.approx(11 * 0.25 * 720)


def test_errors_count_as_late() -> None:
    whole = stage(instance(10), 8, 1)
    broken = whole.latency_s.copy()
    broken[::10] = math.inf
    found = decide_density([replace(whole, latency_s=broken)], P95, Need(MIX))
    assert found.rows[0].verdict is Verdict.VIOLATED
    assert found.rows[0].late.mid == pytest.approx(0.1, abs=0.01)


def test_the_answer_repeats_and_is_json() -> None:
    stages = [stage(instance(11), n, n, cloudwatch=False) for n in (20, 30, 40)]
    a, b = (density_value(decide_density(stages, P95, Need(MIX))) for _ in range(2))
    assert a == b
    assert a["recommended_per_instance"]


def test_first_requests_of_a_model_are_told_from_repeats() -> None:
    touched = np.zeros(4, np.bool_)
    assert repeated(np.array([0, 1, 0, 1], np.uint16), touched).tolist() == [0, 0, 1, 1]
    assert repeated(np.array([2, 0, 2], np.uint16), touched).tolist() == [0, 1, 1]
    assert touched.tolist() == [True, True, True, False]


def test_the_warm_up_reaches_nearly_every_model() -> None:
    shares = law(200, "m{n}", popularity="zipf").shares
    requests = warm_requests(shares, 0.05)
    rng = np.random.default_rng(1)
    left = np.setdiff1d(np.arange(200), rng.choice(200, requests, p=shares))
    assert shares[left].sum() < 0.05 * 0.1
