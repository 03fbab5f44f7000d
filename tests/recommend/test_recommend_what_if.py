"""Questions about a policy at hand, and capacities, bounds and traffic that leave something out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_samples import CONSTRAINTS, RATE_PER_MIN, answer, hours, traffic
from recommend_samples import SERVICE_RATE_PER_S, SLO, capacity, late, table, true_rate

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.errors import InputError, InsufficientDataError
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.constraints import Constraints
from tuner.recommend.prices import PRICES
from tuner.recommend.recommend import recommend
from tuner.recommend.what_if import what_if
from tuner.slo import Verdict
from tuner.workload.traffic import make_traffic


def test_what_if_repeats_the_candidate_of_the_search() -> None:
    chosen = answer().chosen
    assert chosen is not None
    got = what_if(
        capacity(),
        traffic(),
        chosen.policy,
        chosen.bounds,
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=300.0,
    )
    assert got.candidate.meets
    assert got.candidate.expected.instance_hours_per_day == chosen.expected.instance_hours_per_day
    assert got.hardest_day.in_service.size == 1440
    half = next(c for c in answer().alternatives if c.name == "aws_half_of_maximum")
    assert [c.name for c in got.alternatives][:1] == ["aws_half_of_maximum"]
    assert got.alternatives[0].expected.instance_hours_per_day == (
        half.expected.instance_hours_per_day
    )


def test_a_fixed_fleet_can_be_asked_about_and_today_is_shown() -> None:
    fleet = CapacityBounds(9, 9)
    got = what_if(
        capacity(),
        hours(),
        None,
        fleet,
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=300.0,
    )
    assert got.candidate.expected.instance_hours_per_day.mid == pytest.approx(216.0)
    assert got.candidate.meets
    policy = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 0.2 * RATE_PER_MIN)
    with_today = recommend(
        capacity(),
        hours(),
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=300.0,
        today=(policy, CapacityBounds(2, 50)),
    )
    assert with_today.today is not None
    assert with_today.today.policy == policy


@pytest.mark.parametrize("verdict", [Verdict.VIOLATED, Verdict.INCONCLUSIVE])
def test_a_capacity_without_an_answer_is_passed_on(verdict: Verdict) -> None:
    got = recommend(capacity(verdict=verdict), hours(), slo=SLO, constraints=CONSTRAINTS)
    assert got.verdict is verdict
    assert got.chosen is None
    assert got.statements[0].name == "refused:capacity"


def test_missing_parts_are_said_not_guessed() -> None:
    with pytest.raises(InsufficientDataError):
        recommend(replace(capacity(), table=None), hours(), slo=SLO, constraints=CONSTRAINTS)
    with pytest.raises(InputError):
        recommend(capacity(), hours(), slo=SLO, constraints=CONSTRAINTS, launch_lag_s=-5.0)
    with pytest.raises(InputError):
        recommend(
            capacity(),
            hours(),
            slo=SLO,
            constraints=replace(CONSTRAINTS, metrics=(ScalingMetric.CPU,)),
        )
    unpriced = recommend(
        capacity(),
        traffic(days=1),
        slo=SLO,
        constraints=replace(CONSTRAINTS, instance_type="ml.unheard.of"),
    )
    assert unpriced.chosen is not None
    assert unpriced.chosen.expected.cost_per_month_usd is None
    assert any("not known" in w for w in unpriced.warnings)
    assert any("launches are taken" in w for w in unpriced.warnings)
    assert any("1 day of traffic" in w for w in unpriced.warnings)
    assert unpriced.basis is not None
    assert unpriced.basis.scored_on_days == ()


def test_traffic_that_looks_like_a_rate_per_second_is_noticed() -> None:
    got = recommend(capacity(), hours(peak=0.02), slo=SLO, constraints=CONSTRAINTS, prices=PRICES)
    assert any("per second" in w for w in got.warnings)


def test_where_the_launch_lag_comes_from_is_said() -> None:
    traffic = make_traffic("diurnal", peak_per_min=20_000.0, days=4, seed=1)
    constraints = Constraints("ml.m5.xlarge")
    measured = replace(capacity(), launch_lag_s=(200.0, 260.0))

    def words(model: CapacityModel, lag: float | None) -> tuple[str, list[str]]:
        answer = recommend(model, traffic, slo=SLO, constraints=constraints, launch_lag_s=lag)
        assert answer.basis is not None
        return answer.basis.launch_lag_source, [w for w in answer.warnings if "aunches" in w]

    source, said = words(capacity(), None)
    assert source == "assumed"
    assert "No scale-out was measured" in said[0]
    source, said = words(capacity(), 240.0)
    assert source == "given"
    assert "240 s, as given; no scale-out was measured" in said[0]
    source, said = words(measured, 240.0)
    assert source == "given"
    assert "as given; those measured lasted 200 to 260 s" in said[0]
    assert words(measured, None) == ("measured", [])


def test_the_price_of_each_caution_is_said_and_none_where_nothing_is_unknown() -> None:
    def prices(spread: float, days: int) -> tuple[float, float]:
        got = recommend(
            capacity(spread=spread),
            traffic(days=days),
            slo=SLO,
            constraints=CONSTRAINTS,
            launch_lag_s=300.0,
        )
        named = {s.name: s.value for s in got.statements}
        values = named["capacity_uncertainty_cost"], named["unseen_days_cost"]
        assert None not in values
        return values  # type: ignore[return-value]

    exact, rough = prices(1e-6, 7), prices(0.15, 7)
    assert exact[0] == pytest.approx(0.0, abs=1e-9)
    # Fifteen percent less capacity is about fifteen percent more instances.
    assert 0.08 < rough[0] < 0.2
    assert exact[1] >= 0.0


def test_another_threshold_of_the_slo_is_told_from_its_own_table() -> None:
    """M/M/4, 50/s each: at 160 ms an instance carries less than at 200 ms, by bisection."""
    model = capacity()
    assert model.table is not None
    other = tuple((f, table(False, threshold_s=0.2 * f)) for f in (0.8, 1.2))
    got = recommend(
        replace(model, other_thresholds=other),
        traffic(days=2),
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=300.0,
    )
    named = {s.name: s for s in got.sensitivities}
    tight, wide = named["slo_x0.8"], named["slo_x1.2"]
    assert got.chosen is not None
    missed = 1.0 - got.chosen.expected.slo_attainment.mid
    assert tight.value is not None
    assert wide.value is not None
    assert wide.value < missed < tight.value
    low, high = 0.0, 4 * SERVICE_RATE_PER_S
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if late(4, middle, 0.16) <= 0.01 else (low, middle)
    change = low / true_rate(False, 1) - 1.0
    assert f"An SLO of 160 ms, at which one instance carries {change:+.0%}:" in tight.sentence
    assert not [s for s in answer().sensitivities if s.name.startswith("slo_")]
