"""Traffic and answers that the tests of the recommendation share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from recommend_samples import SLO, capacity, true_rate

from tuner.recommend.constraints import Constraints, parse_resilience
from tuner.recommend.recommend import recommend
from tuner.recommend.types import Recommendation
from tuner.workload.traffic import TrafficProfile, make_traffic

RATE_PER_MIN = true_rate(False, 1) * 60.0

CONSTRAINTS = Constraints("ml.m5.xlarge", max_capacity=60, quota=60)


def traffic(shape: str = "diurnal", days: float = 7, peak: float = 8.0) -> TrafficProfile:
    return make_traffic(shape, peak_per_min=peak * RATE_PER_MIN, days=days, seed=3)


@cache
def answer(lose: str = "none") -> Recommendation:
    return recommend(
        capacity(),
        traffic(),
        slo=SLO,
        constraints=replace(CONSTRAINTS, resilience=parse_resilience(lose)),
        launch_lag_s=300.0,
    )


def hours(peak: float = 8.0) -> TrafficProfile:
    """Six hours of growing traffic: enough where the day does not matter."""
    return make_traffic("ramp", peak_per_min=peak * RATE_PER_MIN, days=0.25, seed=3)


def flat(minutes: list[tuple[int, float]]) -> TrafficProfile:
    values = np.concatenate([np.full(n, level * RATE_PER_MIN) for n, level in minutes])
    return TrafficProfile(values, 0, "made")
