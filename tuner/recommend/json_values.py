"""Values of ``recommendation.json`` that several of its parts share."""

from __future__ import annotations

import math

from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.interval import Interval


def number_value(value: float) -> float | None:
    """A number, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


def interval_json(interval: Interval | None) -> dict[str, object] | None:
    """An interval as JSON values; an infinite end is null and named."""
    if interval is None:
        return None
    out: dict[str, object] = {
        "low": number_value(interval.low),
        "mid": number_value(interval.mid),
        "high": number_value(interval.high),
        "level": interval.level,
    }
    unbounded = [k for k in ("low", "mid", "high") if out[k] is None]
    return {**out, "unbounded": unbounded} if unbounded else out


def policy_value(policy: TargetTrackingPolicy | None, bounds: CapacityBounds) -> dict[str, object]:
    """Target, bounds and cooldowns; a fixed fleet has no metric."""
    return {
        "metric": policy.metric.value if policy else None,
        "target_value": policy.target_value if policy else None,
        "min_capacity": bounds.min_capacity,
        "max_capacity": bounds.max_capacity,
        "scale_out_cooldown": policy.scale_out_cooldown_s if policy else None,
        "scale_in_cooldown": policy.scale_in_cooldown_s if policy else None,
    }
