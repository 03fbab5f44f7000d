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
    minutes = np.full(200, 10.0)
    part = stretch(minutes, 100, 500)
    assert part is not None
    assert part.stop - part.start == 50
    assert abs((part.start + part.stop) / 2 - 100) <= 1.5
    at_edge = stretch(minutes, 2, 500)
    assert at_edge == slice(0, 50)
    assert stretch(minutes, 199, 10_000) == slice(0, 200)
    assert stretch(minutes, 100, 90) is None


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
