"""Optional parts of ``recommendation.json``: costs, scheduled actions, data capture."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.recommend.actions import ScheduledAction
from tuner.recommend.costs import Costs
from tuner.recommend.data_capture import CaptureDecision, CaptureOption
from tuner.recommend.json_values import interval_json, policy_value
from tuner.recommend.types import OffHours, Schedule, Window


def schedule_value(schedule: Schedule) -> dict[str, object]:
    """Windows in local time, and the scheduled actions that make them."""
    return {
        "policy": policy_value(schedule.policy, schedule.bounds),
        "windows": _windows(schedule.windows),
        "weekend_windows": _windows(schedule.weekend_windows),
        "actions": actions_value(schedule.actions),
        "lead_minutes": schedule.lead_min,
        "repeats_share": schedule.repeats,
        "adopted": schedule.adopted,
        "instance_hours": schedule.instance_hours_per_day,
        "instance_hours_per": "day",
        "violating_share": schedule.violating_share,
        "bad_minute_share": schedule.bad_minute_share,
    }


def _windows(windows: Sequence[Window]) -> list[dict[str, object]]:
    return [{"start_minute": w.start_minute, "min_capacity": w.min_capacity} for w in windows]


def actions_value(actions: Sequence[ScheduledAction]) -> list[dict[str, object]]:
    """Scheduled actions by the names of Application Auto Scaling."""
    return [
        {
            "name": a.name,
            "schedule": a.schedule,
            "timezone": a.timezone,
            "min_capacity": a.min_capacity,
            "max_capacity": a.max_capacity,
        }
        for a in actions
    ]


def off_hours_value(off: OffHours) -> dict[str, object]:
    """Off-hours and what they save."""
    return {
        "actions": actions_value(off.actions),
        "hours_per_week": off.hours_per_week,
        "saved_instance_hours": interval_json(off.saved_hours_per_day),
        "saved_instance_hours_per": "day",
        "saved_per_month_usd": interval_json(off.saved_usd_per_month),
        "deleted_saves_per_month_usd": off.deleted_usd_per_month,
        "violating_share": off.violating_share,
        "sentence": off.sentence,
    }


def capture_value(decision: CaptureDecision) -> dict[str, object]:
    """How much to capture, with every percentage that was looked at."""
    load = decision.load
    return {
        "sampling_percent": decision.sampling_percent,
        "affordable_percent": decision.affordable_percent,
        "destination": decision.rules.destination,
        "sentence": decision.sentence,
        "budget_usd_per_month": decision.rules.budget_usd_per_month,
        "p99_allowance": decision.rules.p99_allowance,
        "retention_days": decision.rules.retention_days,
        "price_source": decision.rules.prices.source,
        "load": None
        if load is None
        else {
            "request_bytes": load.request_bytes,
            "response_bytes": load.response_bytes,
            "record_bytes": load.record_bytes,
            "requests_per_month": load.requests_per_month,
            "instances": load.instances,
            "files_per_instance_min": load.files_per_instance_min,
        },
        "options": [_option(o) for o in decision.options],
    }


def _option(option: CaptureOption) -> dict[str, object]:
    cost, effect = option.cost, option.effect
    return {
        "sampling_percent": option.sampling_percent,
        "standing": option.standing.value,
        "cost": None
        if cost is None
        else {
            "usd_per_month": cost.usd_per_month,
            "storage_usd_per_month": cost.storage_usd_per_month,
            "put_usd_per_month": cost.put_usd_per_month,
            "stored_gb": cost.stored_gb,
            "captured_per_month": cost.captured_per_month,
            "put_requests_per_month": cost.put_requests_per_month,
        },
        "effect": None
        if effect is None
        else {
            "p99_ratio": interval_json(effect.p99_ratio),
            "mean_ratio": interval_json(effect.mean_ratio),
            "p_value": effect.p_value,
            "requests": effect.requests,
            "rate_per_instance_per_s": effect.rate_per_instance_per_s,
        },
    }


def costs_value(costs: Costs) -> dict[str, object]:
    """The cost page."""
    return {
        "total_per_month_usd": interval_json(costs.total_per_month),
        "total_per_million_usd": interval_json(costs.total_per_million),
        "policies": [
            {
                "name": r.name,
                "per_month_usd": interval_json(r.usd_per_month),
                "per_million_usd": interval_json(r.usd_per_million),
                "compared": r.compared,
                "meets": r.candidate.meets,
            }
            for r in costs.rows
        ],
        "parts": [
            {
                "name": p.name,
                "per_month_usd": interval_json(p.usd_per_month),
                "per_million_usd": interval_json(costs.per_million(p.usd_per_month)),
                "in_total": p.in_total,
                "sentence": p.sentence,
            }
            for p in costs.parts
        ],
    }
