"""Several instance types of one run: each with its own answer, and which of them to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.autoscaling.policy import ScalingMetric
from tuner.commands.inputs import price_in
from tuner.errors import InputError
from tuner.plan.parse import Plan
from tuner.recommend.constraints import Constraints
from tuner.recommend.prices import Price
from tuner.recommend.right_size import MeasuredType, right_size
from tuner.recommend.types import Recommendation, RightSizing, Statement
from tuner.simulator.inputs import MetricCurve
from tuner.workload.traffic import TrafficProfile

OF_THE_TYPE = ("capacity.instance_type", "capacity.price_per_hour_usd")
"""Overrides of a question that are about the first type alone."""


@dataclass(frozen=True, slots=True, eq=False)
class TypeAnswer:
    """What one campaign of a run says; without a recommendation, why."""

    name: str
    plan: Plan
    instance_type: str
    constraints: Constraints
    recommendation: Recommendation | None
    reason: str = ""
    misses: bool = False
    metric_curves: Mapping[ScalingMetric, MetricCurve] | None = None


def without_type(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A question's overrides as they hold for the other types."""
    return {k: v for k, v in overrides.items() if k not in OF_THE_TYPE}


def compare(answers: Sequence[TypeAnswer], traffic: TrafficProfile, seed: int) -> RightSizing:
    """Hold the types against each other on one traffic.

    Raises
    ------
    InputError
        If a type has no price.
    """
    return right_size(
        [
            MeasuredType(
                a.name,
                _price(a),
                a.constraints,
                a.recommendation,
                a.reason,
                a.misses,
                launch_lag_s=a.plan.capacity.launch_lag_s,
                metric_curves=a.metric_curves,
            )
            for a in answers
        ],
        traffic,
        seed=seed,
    )


def _price(answer: TypeAnswer) -> Price:
    price = price_in(answer.plan, answer.instance_type)
    if price is None:
        raise InputError(
            "types are compared by what they cost, and this one has no known price",
            value=answer.instance_type,
            hint=f"tuner prices update {answer.instance_type}, or price_per_hour_usd in the plan",
        )
    return price


def with_sizing(
    chosen: Recommendation, sized: RightSizing, first: Recommendation | None
) -> Recommendation:
    """The chosen type's recommendation, saying what it was held against.

    ``first`` is that of the plan's own type, the one in use today.
    """
    today = chosen.today
    if today is None and first is not None and first.today is not None:
        said = f"On {first.instance_type}. {first.today.reason}".strip()
        today = replace(first.today, reason=said)
    weak = [
        f"The comparison takes {t.price.usd_per_hour:g} USD per hour for {t.name}, a price of "
        f"grade {t.price.grade} ({t.price.source}, {t.price.date}): tuner prices update."
        for t in sized.types
        if t.price.grade not in ("A", "given") and t.instance_type != chosen.instance_type
    ]
    return replace(
        chosen,
        today=today,
        right_size=sized,
        statements=(Statement("right_size", sized.sentence), *chosen.statements),
        warnings=(*chosen.warnings, *weak),
    )
