"""The two simulators beside each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recommend_samples import SLO, capacity, true_rate

from tuner.recommend.check import stretch
from tuner.recommend.constraints import Constraints
from tuner.recommend.recommend import recommend
from tuner.workload.traffic import make_traffic


def test_the_stretch_grows_around_the_worst_minute_within_its_allowance() -> None:
    minutes, calm = np.full(200, 10.0), np.zeros(200)
    part = stretch(minutes, calm, 100, 500)
    assert len(part) == 50
    assert abs((part.start + part.stop) / 2 - 100) <= 1.5
    assert stretch(minutes, calm, 2, 500) == range(50)
    assert stretch(minutes, calm, 199, 10_000) == range(200)


def test_the_stretch_begins_where_nothing_waits() -> None:
    minutes, delay_s = np.full(200, 10.0), np.zeros(200)
    delay_s[80:120] = 3.0
    part = stretch(minutes, delay_s, 110, 500)
    assert part.start <= 79
    assert 110 in part
    # The allowance does not last until the worst minute: the beginning of the overload.
    assert stretch(minutes, delay_s, 110, 200) == range(77, 97)
    assert len(stretch(minutes, delay_s, 110, 5)) == 0


@pytest.mark.parametrize("pooled", [False, True])
def test_busy_endpoints_are_checked_too(pooled: bool) -> None:
    """40 instances, 400 000 requests in the largest minute; at most 200 000 are replayed."""
    traffic = make_traffic(
        "ramp", peak_per_min=40 * 60 * true_rate(False, 1), days=0.1, trough_share=0.5, seed=2
    )
    got = recommend(
        capacity(pooled=pooled),
        traffic,
        slo=SLO,
        constraints=Constraints("ml.m5.xlarge"),
        launch_lag_s=240.0,
        check_requests=200_000,
    )
    said = next(s for s in got.statements if s.name == "request_check")
    if pooled:
        assert said.value is None
        assert "Not replayed" in said.sentence
        return
    assert "one instance in" in said.sentence
    assert got.chosen is not None
    assert said.value is not None
    assert said.value < 0.02


def test_a_policy_replayed_request_by_request_agrees_with_the_search() -> None:
    peak = 3 * 60 * true_rate(False, 1)
    traffic = make_traffic("ramp", peak_per_min=peak, days=0.05, trough_share=0.5, seed=2)
    model = capacity()
    got = recommend(
        model,
        traffic,
        slo=SLO,
        constraints=Constraints("ml.m5.xlarge"),
        launch_lag_s=240.0,
        check_requests=2_000_000,
    )
    said = next(s for s in got.statements if s.name == "request_check")
    assert got.chosen is not None
    assert said.value == pytest.approx(1 - got.chosen.expected.slo_attainment.mid, abs=0.003)
    blind = replace(model, demand_quantile_s=np.empty(0))
    without = recommend(
        blind,
        traffic,
        slo=SLO,
        constraints=Constraints("ml.m5.xlarge"),
        launch_lag_s=240.0,
        check_requests=2_000_000,
    )
    assert not [s for s in without.statements if s.name == "request_check"]
