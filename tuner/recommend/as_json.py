"""``recommendation.json``: the stable contract for scripts, byte for byte repeatable.

Schema 1. Numbers are unrounded; an infinite end of an interval is null and is named in
``unbounded``; a refusal or a violated SLO is a document too, with ``policy`` null and the
reasons as data. Costs are for a month of 30 days, instance-hours per day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.errors import InputError
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.costs import costs_of
from tuner.recommend.density_types import density_value
from tuner.recommend.json_costs import (
    capture_value,
    costs_value,
    off_hours_value,
    schedule_value,
)
from tuner.recommend.json_knobs import right_sizing_value, signals_value
from tuner.recommend.json_values import interval_json as interval_json
from tuner.recommend.json_values import number_value, policy_value
from tuner.recommend.types import Candidate, Expected, Recommendation, Statement
from tuner.recommend.verify_json import verification_value
from tuner.slo import LatencyObjective, Measure, Slo, Verdict

SCHEMA_VERSION = 1


def to_json(recommendation: Recommendation, provenance: Mapping[str, object]) -> str:
    """The document as text, ending in a line feed.

    Parameters
    ----------
    provenance
        Run, versions, seed, dates: written as it is under ``provenance``.

    Raises
    ------
    TypeError
        When ``provenance`` holds a value JSON has no word for.
    """
    return dump_json({**document(recommendation), "provenance": dict(provenance)})


def candidate_to_json(candidate: Candidate, alternatives: Sequence[Candidate] = ()) -> str:
    """One candidate and what it is held against, as they stand in a document."""
    beside = {"alternatives": [_candidate(c) for c in alternatives]}
    return dump_json({"schema_version": SCHEMA_VERSION, **_candidate(candidate), **beside})


def document(recommendation: Recommendation) -> dict[str, object]:
    """The document as plain JSON values, without provenance."""
    r = recommendation
    chosen = r.chosen
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": r.verdict.value,
        "slo": _slo(r.slo),
        "capacity": _capacity(r.capacity),
        "policy": policy_value(chosen.policy, chosen.bounds) if chosen else None,
        "expected": _expected(chosen.expected) if chosen else None,
        "instance_type": r.instance_type,
        "price": _price(r),
        "evidence": _evidence(r),
        "minimum": [
            {
                "role": p.role,
                "instances": p.instances,
                "cost_per_month_usd": p.cost_per_month_usd,
                "sentence": p.sentence,
            }
            for p in r.minimum
        ],
        "alternatives": [_candidate(c) for c in r.alternatives],
        "today": _candidate(r.today) if r.today else None,
        "rejected": [_candidate(c) for c in r.rejected],
        "front": [_candidate(c) for c in r.front],
        "statements": [_statement(s) for s in r.statements],
        "sensitivities": [_statement(s) for s in r.sensitivities],
        "schedule": schedule_value(r.schedule) if r.schedule else None,
        "proposal": _candidate(r.proposal) if r.proposal else None,
        "refusals": refusals(r),
        "warnings": list(r.warnings),
        **({"right_sizing": right_sizing_value(r.right_size)} if r.right_size else {}),
        **({"signals": signals_value(r.signals)} if r.signals else {}),
        **({"off_hours": off_hours_value(r.off_hours)} if r.off_hours else {}),
        **({"data_capture": capture_value(r.data_capture)} if r.data_capture else {}),
        **({"models": density_value(r.models)} if r.models else {}),
        **({"verification": verification_value(r.verification)} if r.verification else {}),
        **({"costs": costs_value(costs)} if (costs := costs_of(r)) else {}),
    }


def refusals(recommendation: Recommendation) -> list[dict[str, object]]:
    """Why there is no policy: the gates that failed, or the constraints nothing could meet."""
    if recommendation.chosen is not None:
        return []
    found: list[dict[str, object]] = [
        {"code": g.name, "sentence": g.sentence, "remedy": g.remedy}
        for g in recommendation.capacity.gates
        if not g.passed
    ]
    found += [
        {"code": s.name, "sentence": s.sentence, "remedy": None}
        for s in recommendation.statements
        if s.name.startswith("refused:")
    ]
    return found


@dataclass(frozen=True, slots=True)
class Document:
    """The parts of a ``recommendation.json`` that other commands act on."""

    verdict: Verdict
    slo: Slo
    instance_type: str
    policy: TargetTrackingPolicy | None
    bounds: CapacityBounds | None
    warnings: tuple[str, ...]
    scheduled_actions: tuple[str, ...] = ()
    """Names of the scheduled actions that belong to the policy."""


def from_json(text: str, source: str) -> Document:
    """Read a document back.

    Raises
    ------
    InputError
        When it is not JSON, of another schema, or a needed key is missing or wrong.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InputError(f"{source}: not JSON: {error}") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{source}: another schema", value=version, allowed=f"schema_version {SCHEMA_VERSION}"
        )
    try:
        return _read(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{source}: a part of the recommendation is missing or wrong",
            value=str(error),
            hint="write it again with `tuner recommend`",
        ) from None


def _read(raw: dict[str, object]) -> Document:
    slo, policy = raw["slo"], raw["policy"]
    assert isinstance(slo, dict)
    objectives = tuple(
        LatencyObjective(o["quantile"], o["threshold_s"], Measure(o["measure"]))
        for o in slo["objectives"]
    )
    read_policy, bounds = None, None
    if isinstance(policy, dict):
        bounds = CapacityBounds(policy["min_capacity"], policy["max_capacity"])
        if policy["metric"] is not None:
            read_policy = TargetTrackingPolicy(
                ScalingMetric(policy["metric"]),
                float(policy["target_value"]),
                int(policy["scale_out_cooldown"]),
                int(policy["scale_in_cooldown"]),
            )
    warnings = raw["warnings"]
    assert isinstance(warnings, list)
    schedule, off_hours = raw.get("schedule"), raw.get("off_hours")
    clock = schedule if isinstance(schedule, dict) and schedule["adopted"] else off_hours
    actions = clock["actions"] if isinstance(clock, dict) else ()
    return Document(
        Verdict(str(raw["verdict"])),
        Slo(objectives, slo["max_error_rate"]),
        str(raw["instance_type"]),
        read_policy,
        bounds,
        tuple(str(w) for w in warnings),
        tuple(str(a["name"]) for a in actions),
    )


def dump_json(value: object) -> str:
    """A document as text, ending in a line feed; NaN and infinities are refused."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _slo(slo: Slo) -> dict[str, object]:
    return {
        "objectives": [
            {
                "name": o.name,
                "measure": o.measure.value,
                "quantile": o.quantile,
                "threshold_s": o.threshold_s,
            }
            for o in slo.objectives
        ],
        "max_error_rate": slo.max_error_rate,
        "text": slo.describe(),
    }


def _capacity(capacity: CapacityModel) -> dict[str, object]:
    entries = [
        {
            "instance_count": c.instance_count,
            "rate_per_s": interval_json(c.rate_per_s),
            "source": c.source,
            "requests": c.requests,
        }
        for c in capacity.by_count
    ]
    return {
        "verdict": capacity.verdict.value,
        "per_instance_rate_per_s": entries[0]["rate_per_s"] if entries else None,
        "by_instance_count": entries,
        "binding": capacity.binding.name if capacity.binding else None,
        "method": capacity.method,
        "routing": capacity.routing,
        "max_supported_count": capacity.max_supported_count,
    }


def _expected(expected: Expected) -> dict[str, object]:
    intervals = {
        "slo_attainment": expected.slo_attainment,
        "instance_hours": expected.instance_hours_per_day,
        "cost_per_month_usd": expected.cost_per_month_usd,
        "cost_per_million_usd": expected.cost_per_million_usd,
    }
    return {
        **{name: number_value(i.mid) if i else None for name, i in intervals.items()},
        "instance_hours_per": "day",
        "bad_minute_share": expected.bad_minute_share,
        "resilient_minute_share": expected.resilient_minute_share,
        "intervals": {name: interval_json(i) for name, i in intervals.items()},
    }


def _candidate(candidate: Candidate) -> dict[str, object]:
    return {
        "name": candidate.name,
        "policy": policy_value(candidate.policy, candidate.bounds),
        "expected": _expected(candidate.expected),
        "meets": candidate.meets,
        "failing": [f.value for f in candidate.failing],
        "reason": candidate.reason,
    }


def _statement(statement: Statement) -> dict[str, object]:
    value = statement.value
    return {
        "name": statement.name,
        "sentence": statement.sentence,
        "value": number_value(value) if value is not None else None,
        "unit": statement.unit,
    }


def _price(recommendation: Recommendation) -> dict[str, object] | None:
    price = recommendation.price
    if price is None:
        return None
    return {
        "usd_per_hour": price.usd_per_hour,
        "grade": price.grade,
        "source": price.source,
        "date": price.date,
        "region": price.region,
    }


def _evidence(recommendation: Recommendation) -> dict[str, object]:
    capacity, basis = recommendation.capacity, recommendation.basis
    out: dict[str, object] = {
        "stages": list(capacity.stages_used),
        "requests": capacity.requests_used,
        "intervals": {
            str(c.instance_count): interval_json(c.rate_per_s) for c in capacity.by_count
        },
        "gates": [
            {
                "name": g.name,
                "passed": g.passed,
                "value": number_value(g.value),
                "limit": g.limit,
                "sentence": g.sentence,
                "remedy": g.remedy,
            }
            for g in capacity.gates
        ],
        "traffic": {
            "name": recommendation.traffic_name,
            "peak_per_min": recommendation.peak_per_min,
        },
        "simulation": None,
    }
    if basis is not None:
        out["simulation"] = {
            "days": basis.traffic_days,
            "chosen_on_days": list(basis.chosen_on_days),
            "scored_on_days": list(basis.scored_on_days),
            "policies": basis.policies,
            "launch_lag_s": list(basis.launch_lag_s),
            "launch_lag_measured": basis.launch_lag_measured,
            "launch_lag_source": basis.launch_lag_source,
            "budget_requests": basis.budget_requests,
            "budget_minutes": basis.budget_minutes,
            "resilience": {
                "lose": basis.resilience.lose,
                "count": basis.resilience.count,
                "zones": basis.resilience.zones,
            },
            "seed": basis.seed,
            "traffic_notes": list(basis.traffic_notes),
        }
    return out
