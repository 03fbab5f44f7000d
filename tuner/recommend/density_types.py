"""The answer for a multi-model endpoint, as values."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.interval import Interval
from tuner.recommend.json_values import interval_json
from tuner.slo import Verdict


@dataclass(frozen=True, slots=True)
class DensityRow:
    """One measured number of models on one instance, and what it would cost.

    ``late`` is the share of requests over the tightest objective, which allows ``allowed``.
    ``instances`` hold all models of the endpoint and its peak at this density.
    """

    models: int
    rate_per_s: float
    requests: int
    p99_s: Interval
    warm_p99_s: float | None
    late: Interval
    allowed: float
    cold: Interval
    verdict: Verdict
    instances: int
    cost_per_month_usd: float | None


@dataclass(frozen=True, slots=True)
class Density:
    """The answer for a multi-model endpoint.

    Parameters
    ----------
    verdict
        MET with a number of models, VIOLATED when not even warm models hold the SLO,
        INCONCLUSIVE when the data do not say.
    models_per_instance
        How many an instance can hold; ``high`` is infinite when all that were tried fit.
    recommended
        The number to plan with: the largest that was measured and held.
    min_instances
        So that all models have a place, also after the loss that the plan allows.
    method
        ``"memory"``: the fitted memory; ``"bracket"``: between two measured numbers.
    rate_per_s
        Load of the instance for which this holds.
    """

    verdict: Verdict
    total_models: int
    models_per_instance: Interval | None
    recommended: int | None
    min_instances: int | None
    method: str
    rate_per_s: float
    slots: Interval | None
    rows: tuple[DensityRow, ...]
    cold_seen_by: str
    cold_threshold_s: float | None
    sentences: tuple[str, ...]
    refusals: tuple[str, ...] = ()


def density_value(density: Density) -> dict[str, object]:
    """The answer as plain JSON values, for ``recommendation.json``."""
    return {
        "verdict": density.verdict.value,
        "total_models": density.total_models,
        "models_per_instance": interval_json(density.models_per_instance),
        "recommended_per_instance": density.recommended,
        "min_instances": density.min_instances,
        "method": density.method,
        "rate_per_instance_per_s": density.rate_per_s,
        "models_in_memory": interval_json(density.slots),
        "cold_seen_by": density.cold_seen_by,
        "cold_threshold_s": density.cold_threshold_s,
        "sentences": list(density.sentences),
        "refusals": list(density.refusals),
        "sweep": [
            {
                "models": r.models,
                "rate_per_s": r.rate_per_s,
                "requests": r.requests,
                "p99_s": interval_json(r.p99_s),
                "warm_p99_s": r.warm_p99_s,
                "late_share": interval_json(r.late),
                "late_allowed": r.allowed,
                "cold_share": interval_json(r.cold),
                "verdict": r.verdict.value,
                "instances": r.instances,
                "cost_per_month_usd": r.cost_per_month_usd,
            }
            for r in density.rows
        ],
    }
