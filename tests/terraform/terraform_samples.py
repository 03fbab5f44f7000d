"""A recommendation as the search would hand it over."""

from __future__ import annotations

import numpy as np

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel, CountCapacity
from tuner.recommend.types import Candidate, Expected, Recommendation
from tuner.slo import LatencyObjective, Slo, Verdict


def recommendation_of(
    *,
    target_value: float = 1358.77,
    metric: ScalingMetric = ScalingMetric.INVOCATIONS,
    fixed: bool = False,
    verdict: Verdict = Verdict.MET,
    traffic_name: str = "sample day",
) -> Recommendation:
    objective = LatencyObjective(0.99, 0.1)
    slo = Slo((objective,), 0.001)
    capacity = CapacityModel(
        verdict=verdict,
        binding=objective,
        routing="RANDOM",
        method="work_recovery",
        by_count=(CountCapacity(1, Interval(36.9, 38.2, 39.5), "measured", 21_600),),
        gates=(),
        ensemble=np.array([[37.0], [38.0], [39.0]]),
        table=None,
        floor_s=0.001,
        demand_quantile_s=np.array([]),
        workers=4,
        max_supported_count=4,
        requests_used=21_600,
        stages_used=(0, 1, 2),
    )
    expected = Expected(
        Interval(0.99951, 0.99987, 0.99999), 0.001, Interval(80.0, 90.0, 100.0), None, None
    )
    policy = TargetTrackingPolicy(metric, target_value, 60, 600)
    chosen = Candidate(
        "chosen", None if fixed else policy, CapacityBounds(3, 12), expected, "least cost", True
    )
    return Recommendation(
        verdict=verdict,
        slo=slo,
        capacity=capacity,
        chosen=chosen if verdict is Verdict.MET else None,
        alternatives=(),
        rejected=(),
        front=(),
        statements=(),
        sensitivities=(),
        hardest_day=None,
        traffic_name=traffic_name,
        peak_per_min=9000.0,
        warnings=(),
        instance_type="ml.c5.xlarge",
        price_per_hour_usd=0.204,
    )
