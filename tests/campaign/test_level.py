"""Limits that load hardly moves: services alone take most of the allowance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from campaign_samples import MM4, ask, mm4_limit, staircase
from scipy.stats import binomtest

from tuner.campaign.level import SafeSide, fall_of_odds, is_level, safe_side, taken_alone
from tuner.campaign.predict import Effort, ServerModel, crossing
from tuner.campaign.server import fit_server
from tuner.campaign.types import Routing
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import InstanceSpec
from tuner.queueing.mmc import sojourn_survival
from tuner.slo import LatencyObjective, Slo, Verdict

ALONE = 0.8
OBJECTIVE = LatencyObjective(0.99, -0.05 * math.log(0.01 * ALONE))
"""Of exponential services of 50 ms, 0.8 % take longer, and 1 % may."""
LIMIT = mm4_limit(0.99, OBJECTIVE.threshold_s)


def exponential(mean_s: float, n: int = 40_000) -> np.ndarray:
    return -mean_s * np.log1p(-(np.arange(n) + 0.5) / n)


def test_the_curve_below_a_limit_is_that_of_erlang_c() -> None:
    model = ServerModel(4, 0.0, exponential(0.05))
    at = crossing(model, OBJECTIVE, rng=np.random.default_rng(1), effort=Effort())
    assert at is not None
    assert at.rate_per_s == pytest.approx(LIMIT, rel=0.02)
    side = safe_side(
        model,
        OBJECTIVE,
        at,
        instances=1,
        routing=Routing.RANDOM,
        rng=np.random.default_rng(2),
        requests=200_000,
    )
    limit = float(sojourn_survival(OBJECTIVE.threshold_s, at.rate_per_s, 4, 0.05))
    for down in (0.07, 0.25, 0.75):
        rate = at.rate_per_s * math.exp(-down)
        late = float(sojourn_survival(OBJECTIVE.threshold_s, rate, 4, 0.05))
        fall = math.log(limit / (1.0 - limit)) - math.log(late / (1.0 - late))
        assert side.fallen(-down) == pytest.approx(fall, abs=0.01)
        # Further down the curve is too level for its inverse to say anything.
        assert down > 0.5 or side.where(-fall) == pytest.approx(-down, rel=0.15)


def test_beyond_what_the_services_alone_are_late_there_is_no_lower_end() -> None:
    side = SafeSide(np.array([0.0, -0.1, -0.5, -1.1]), np.array([0.0, -0.1, -0.2, -0.2]))
    assert side.where(-0.15) == pytest.approx(-0.3)
    assert side.where(-0.3) == -1.1
    assert side.fallen(-0.1) == pytest.approx(0.1)


def test_only_services_near_the_allowance_make_a_level_curve() -> None:
    model = ServerModel(4, 0.0, exponential(0.05))
    assert is_level(taken_alone(model, OBJECTIVE))
    # 0.25 % of services take longer than 300 ms, the scenario of most other tests.
    assert not is_level(taken_alone(model, LatencyObjective(0.99, 0.3)))


@pytest.mark.parametrize("late", [12, 40, 900])
def test_odds_fall_as_far_as_the_score_interval_reaches(late: int) -> None:
    """What a sample of independent services may lack is in the score interval of its share."""
    n = 1_000_000
    high = binomtest(late, n).proportion_ci(0.95, method="wilson").high
    lacking = -math.expm1(fall_of_odds(1.959964 / math.sqrt(late), 1.0))
    assert lacking == pytest.approx(n * high / late - 1.0, rel=0.01)


def test_from_very_few_slow_services_no_load_is_ruled_out() -> None:
    assert fall_of_odds(1.96 / math.sqrt(5), 1.0) == -math.inf


def test_a_lucky_sample_of_slow_services_does_not_hide_the_limit() -> None:
    """A quarter of the slow services are missing in these; the straight interval began at 303.7/s,
    2 % above the true limit. (M/M/8, 20 ms, p99.9, services alone take 0.75 of the allowance.)"""
    objective = LatencyObjective(0.999, -0.02 * math.log(0.00075))
    slo, instance = Slo((objective,)), InstanceSpec(ServiceTime.exponential(0.02), 8)
    campaign = staircase(instance, (150.0, 250.0, 300.0), slo=slo, step_s=120.0, seed=6)
    fit, _ = fit_server(campaign.results)
    assert fit is not None
    assert fit.model.unloaded_share(objective.threshold_s) < 0.00065
    model = ask(campaign, slo)
    assert model.verdict is Verdict.MET
    found = model.by_count[0].rate_per_s
    assert sojourn_survival(objective.threshold_s, 297.925, 8, 0.02) == pytest.approx(0.001, 1e-3)
    assert found.low < 297.925 < found.high
    assert math.log(found.mid / found.low) > 1.5 * math.log(found.high / found.mid)


def test_a_steep_limit_keeps_its_interval() -> None:
    model = ask(staircase(MM4, (30.0, 45.0, 55.0), step_s=90.0, seed=3))
    found = model.by_count[0].rate_per_s
    assert math.log(found.mid / found.low) < 1.3 * math.log(found.high / found.mid)
