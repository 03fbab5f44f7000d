"""Optional parts of ``recommendation.json``: instance types and scaling signals."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.recommend.json_values import interval_json, number_value, policy_value
from tuner.recommend.types import RightSizing, SignalChoice, SignalFit, TypeCost


def right_sizing_value(sized: RightSizing) -> dict[str, object]:
    """The types compared, cheapest first."""
    return {
        "chosen": sized.chosen,
        "ties": list(sized.ties),
        "sentence": sized.sentence,
        "types": [_type(t) for t in sized.types],
    }


def _type(cost: TypeCost) -> dict[str, object]:
    return {
        "name": cost.name,
        "instance_type": cost.instance_type,
        "standing": cost.standing.value,
        "reason": cost.reason,
        "beaten_by": cost.beaten_by,
        "price": {
            "usd_per_hour": cost.price.usd_per_hour,
            "grade": cost.price.grade,
            "source": cost.price.source,
            "date": cost.price.date,
            "region": cost.price.region,
        },
        "capacity_per_s": interval_json(cost.capacity_per_s),
        "usd_per_million_at_capacity": interval_json(cost.usd_per_million_at_capacity),
        "static_fleet": None
        if cost.static_count is None
        else {
            "instances": cost.static_count,
            "cost_per_month_usd": interval_json(cost.static_usd_per_month),
        },
        "policy": None if cost.bounds is None else policy_value(cost.policy, cost.bounds),
        "cost_per_month_usd": interval_json(cost.scaled_usd_per_month),
        "cost_per_million_usd": interval_json(cost.scaled_usd_per_million),
    }


def signals_value(signals: Sequence[SignalChoice]) -> list[dict[str, object]]:
    """The scaling metrics compared."""
    return [
        {
            "metric": s.metric.value,
            "recommended": s.recommended,
            "reason": s.reason,
            "policy": policy_value(s.candidate.policy, s.candidate.bounds) if s.candidate else None,
            "target_value": interval_json(s.target_value),
            "machine_share": s.machine_share,
            "cost_per_month_usd": interval_json(s.candidate.expected.cost_per_month_usd)
            if s.candidate
            else None,
            "slo_attainment": interval_json(s.candidate.expected.slo_attainment)
            if s.candidate
            else None,
            "fit": _fit(s.fit),
        }
        for s in signals
    ]


def _fit(fit: SignalFit | None) -> dict[str, object] | None:
    if fit is None:
        return None
    return {
        "statistic": fit.statistic,
        "period_s": fit.period_s,
        "stages": fit.stages,
        "periods": fit.periods,
        "misfit": number_value(fit.misfit),
        "scatter": number_value(fit.scatter),
        "refused": fit.refused,
    }
