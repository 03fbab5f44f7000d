"""How long a campaign still takes, roughly."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.campaign.config import CampaignConfig
from tuner.campaign.types import StageKind, StageResult

_TYPICAL_RAMP = 6
_TYPICAL_LOCAL = 12


def estimate_remaining(config: CampaignConfig, results: Sequence[StageResult]) -> tuple[float, int]:
    """Seconds and stages that a campaign like this one still takes, roughly."""
    typical = _typical(config)
    for result in results:
        spec = result.spec
        for i, (kind, count, _) in enumerate(typical):
            if kind is spec.kind and count == spec.instance_count and not result.void:
                del typical[i]
                break
        else:
            if spec.kind is StageKind.MEASURE and len(typical) < 2:
                typical.append((StageKind.MEASURE, spec.instance_count, config.pace.local_s))
    if any(r.spec.kind is not StageKind.RAMP for r in results[-1:]):
        kinds = {r.spec.kind for r in results}
        if StageKind.RAMP in kinds and results[-1].spec.kind is not StageKind.WARM_UP:
            typical = [t for t in typical if t[0] is not StageKind.RAMP]
    seconds = sum(length + config.settle_s for _, _, length in typical)
    limit = config.limits.time_s
    if limit is not None:
        spent = sum(r.spec.duration_s + r.spec.settle_s for r in results)
        seconds = min(seconds, max(limit - spent, 0.0))
    return seconds, len(typical)


def _typical(config: CampaignConfig) -> list[tuple[StageKind, int, float]]:
    pace, base = config.pace, config.instance_counts[0]
    plan: list[tuple[StageKind, int, float]] = []
    if config.warm_up_s > 0.0:
        plan.append((StageKind.WARM_UP, base, config.warm_up_s))
    if config.rates_per_instance_per_s is not None:
        steps = len(config.rates_per_instance_per_s)
        for count in config.instance_counts:
            plan += [(StageKind.MEASURE, count, config.step_s)] * steps
        return plan
    plan.append((StageKind.FLOOR, base, pace.floor_s))
    plan += [(StageKind.RAMP, base, pace.ramp_s)] * _TYPICAL_RAMP
    if base != 1:
        return plan + [(StageKind.MEASURE, base, pace.local_s)] * _TYPICAL_LOCAL
    plan += [(StageKind.MEASURE, base, pace.measure_s)] * len(pace.safe_shares)
    plan.append((StageKind.VERIFY, base, pace.verify_s))
    for count in config.instance_counts[1:]:
        length = max(pace.least_verify_s, pace.verify_s / count)
        plan += [(StageKind.MEASURE, count, pace.least_verify_s)]
        plan += [(StageKind.VERIFY, count, length)]
    return plan
