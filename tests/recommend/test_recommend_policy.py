"""The whole answer: on traffic and capacity whose right answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from policy_samples import CONSTRAINTS, RATE_PER_MIN, answer, flat, hours, traffic
from recommend_samples import SLO, capacity, true_rate

from tuner.autoscaling.policy import ScalingMetric
from tuner.recommend.constraints import Constraints
from tuner.recommend.prices import PRICES
from tuner.recommend.rates import allowance_of, safe_rates, table_rates
from tuner.recommend.recommend import recommend
from tuner.recommend.schedule import merged
from tuner.recommend.setup import prepare
from tuner.recommend.types import Failing
from tuner.slo import Verdict
from tuner.workload.traffic import make_traffic


def test_capacity_read_from_the_table_is_the_closed_form() -> None:
    for pooled in (False, True):
        model = capacity(pooled=pooled)
        assert model.table is not None
        rates = table_rates(model.table, 0.01)
        for n in (1, 2, 5, 16):
            assert rates[n - 1] == pytest.approx(true_rate(pooled, n), rel=0.01)
        low = safe_rates(model, 0.01, 8, "low")
        assert low[7] == pytest.approx(0.98 * true_rate(pooled, 8), rel=1e-6)
    assert allowance_of(capacity(), SLO) == 0.01


def test_constant_traffic_gets_the_fleet_that_arithmetic_gives() -> None:
    got = recommend(
        capacity(spread=0.01),
        flat([(300, 4.6)]),
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=300.0,
    )
    assert got.chosen is not None
    # 4.6 instances' worth at the lower bound needs ceil(4.6 / 0.99) = 5, all day.
    assert got.chosen.expected.instance_hours_per_day.mid == pytest.approx(120.0, abs=0.5)


def test_a_record_that_never_scales_gets_a_usual_target() -> None:
    got = recommend(
        capacity(), hours(peak=0.25), slo=SLO, constraints=CONSTRAINTS, launch_lag_s=300.0
    )
    assert got.chosen is not None
    assert got.chosen.policy is not None
    assert got.chosen.bounds.min_capacity == 1
    assert got.chosen.policy.target_value == pytest.approx(0.7 * RATE_PER_MIN, rel=0.08)


def test_a_mild_day_saves_against_the_half_rule_and_holds_the_budget() -> None:
    got = answer()
    assert got.verdict is Verdict.MET
    assert got.chosen is not None
    assert got.chosen.policy is not None
    half = next(c for c in got.alternatives if c.name == "aws_half_of_maximum")
    assert half.policy is not None
    assert half.policy.target_value == pytest.approx(0.5 * RATE_PER_MIN)
    saved = 1 - (
        got.chosen.expected.instance_hours_per_day.mid / half.expected.instance_hours_per_day.mid
    )
    assert 0.3 < saved < 0.55
    assert got.chosen.expected.slo_attainment.low >= 0.99
    assert got.chosen.expected.bad_minute_share <= 0.005
    assert {c.name for c in got.alternatives} >= {"fixed_peak_fleet", "70_percent_of_maximum"}


def test_costs_follow_from_hours_and_price() -> None:
    expected = answer().chosen
    assert expected is not None
    hours = expected.expected.instance_hours_per_day.mid
    month = expected.expected.cost_per_month_usd
    million = expected.expected.cost_per_million_usd
    assert month is not None
    assert million is not None
    assert month.mid == pytest.approx(hours * 30 * 0.23)
    requests = float(traffic().requests_per_min.sum()) / 7
    assert million.mid == pytest.approx(hours * 0.23 / requests * 1e6)


def test_surges_at_known_hours_get_a_schedule_that_costs_less() -> None:
    day = [(9 * 60 + 40, 1.0), (80, 7.0), (13 * 60, 1.0)]
    got = recommend(capacity(), flat(day * 2), slo=SLO, constraints=CONSTRAINTS, launch_lag_s=900.0)
    assert got.chosen is not None
    assert got.schedule is not None
    assert got.schedule.meets
    raised = [w for w in got.schedule.windows if w.min_capacity >= 7]
    assert len(raised) == 1
    # Known 16 minutes ahead: 09:40 less launch and a minute, on the half hour before.
    assert raised[0].start_minute == 9 * 60
    hours = sum(
        (end - w.start_minute) / 60 * w.min_capacity
        for w, end in zip(
            got.schedule.windows,
            [*(w.start_minute for w in got.schedule.windows[1:]), 1440],
            strict=True,
        )
    )
    assert got.schedule.instance_hours_per_day == pytest.approx(hours, rel=0.15)
    said = next(s for s in got.statements if s.name == "scheduled_minimum")
    assert "from 09:00" in said.sentence
    assert said.value is not None
    assert said.value > 0.4


def test_a_schedule_has_few_windows_and_never_less_than_needed() -> None:
    need = np.random.default_rng(2).integers(1, 9, 48)
    calm = merged(need)
    assert (calm >= need).all()
    assert np.count_nonzero(np.diff(calm)) < 6
    assert merged(np.full(48, 3)).tolist() == [3] * 48
    assert merged(np.array([1] * 20 + [8] * 2 + [1] * 26)).tolist() == [1] * 20 + [8] * 2 + [1] * 26


def test_bounds_too_low_are_violated_with_a_proposal_and_its_price() -> None:
    got = recommend(
        capacity(),
        hours(),
        slo=SLO,
        constraints=replace(CONSTRAINTS, max_capacity=4),
        launch_lag_s=300.0,
    )
    assert got.verdict is Verdict.VIOLATED
    assert got.chosen is None
    assert got.proposal is not None
    assert got.proposal.bounds.max_capacity > 4
    assert got.proposal.failing == (Failing.BOUND,)
    assert got.proposal.expected.cost_per_month_usd is not None
    assert got.rejected
    assert all(c.failing and not c.meets for c in got.rejected)


def test_the_maximum_covers_the_believable_peak_and_the_quota_is_compared() -> None:
    got = answer()
    assert got.chosen is not None
    assert got.chosen.policy is not None
    peak = next(s for s in got.statements if s.name == "believable_peak").value
    assert peak is not None
    assert got.chosen.bounds.max_capacity >= peak / got.chosen.policy.target_value
    tight = recommend(
        capacity(),
        hours(),
        slo=SLO,
        constraints=replace(CONSTRAINTS, quota=9, max_capacity=None),
        launch_lag_s=300.0,
    )
    assert any("quota of 9" in w for w in tight.warnings)
    unknown = recommend(
        capacity(), hours(), slo=SLO, constraints=Constraints("ml.m5.xlarge"), launch_lag_s=300.0
    )
    assert any("quota" in w and "not checked" in w for w in unknown.warnings)


def test_rejected_policies_have_reasons_and_the_front_is_one() -> None:
    got = answer()
    assert all(c.failing for c in got.rejected)
    assert any(c.failing == (Failing.COST,) for c in got.rejected)
    assert any(Failing.MINUTES in c.failing for c in got.rejected)
    hours = [c.expected.instance_hours_per_day.mid for c in got.front]
    assert hours == sorted(hours)
    assert len(got.front) >= 3


def test_slower_launches_and_growth_never_help() -> None:
    by_name = {s.name: s.value for s in answer().sensitivities}
    assert by_name["launch_lag_x0.5"] <= by_name["launch_lag_x2"]  # type: ignore[operator]
    assert by_name["capacity_low"] >= by_name["capacity_high"]  # type: ignore[operator]
    assert by_name["budget_x0.5"] >= 0.0 >= by_name["budget_x2"]  # type: ignore[operator]


def test_the_same_question_gets_the_same_answer() -> None:
    one, two = (
        recommend(
            capacity(), hours(), slo=SLO, constraints=CONSTRAINTS, launch_lag_s=(200.0, 400.0)
        )
        for _ in range(2)
    )
    assert one.chosen == two.chosen
    assert one.statements == two.statements
    assert one.rejected == two.rejected


def test_routing_by_least_outstanding_moves_traffic_to_new_instances() -> None:
    traffic = make_traffic("diurnal", peak_per_min=20_000.0, days=1, seed=1)
    for pooled in (False, True):
        setup = prepare(
            capacity(pooled=pooled),
            traffic,
            slo=SLO,
            constraints=Constraints("ml.m5.xlarge"),
            launch_lag_s=240.0,
            prices=PRICES,
            seed=0,
            metric_curves=None,
        )
        assert setup.world.options(ScalingMetric.INVOCATIONS).least_outstanding is pooled
