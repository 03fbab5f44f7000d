"""Track B: hold load around the crossing until it is known well enough."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from tuner.campaign.config import CampaignConfig
from tuner.campaign.direct import enough
from tuner.campaign.evidence import evidence, measured
from tuner.campaign.regression import LocalFit, bracket, fit_local, half_width
from tuner.campaign.talk import Ask, Finished
from tuner.campaign.types import Routing, StageKind, StageResult
from tuner.slo import LatencyObjective

_CYCLE = (-0.06, 0.0, 0.06)
_STEP = 0.08
_APPROACH = 3
_MOST_WINDOWS = 40
_SPOILED = 3


def hold_around(
    config: CampaignConfig, results: list[StageResult], count: int, start_per_s: float
) -> Generator[Ask, StageResult, Finished]:
    """Approach the crossing in three windows, then cycle below, at and above it.

    The middle window repeats one load, an anchor: a server that changes shows there.
    """
    theta = math.log(start_per_s)
    length = config.pace.local_s
    for _ in range(_APPROACH):
        text = f"approach the limit on {count}"
        result = yield Ask(StageKind.MEASURE, count, math.exp(theta), length, text)
        results.append(result)
        if not result.void:
            theta += _towards(result, _binding(config, result))
    spoiled = 0
    for window in range(_MOST_WINDOWS):
        offset = _CYCLE[window % len(_CYCLE)]
        kind = StageKind.ANCHOR if offset == 0.0 else StageKind.MEASURE
        text = f"hold {offset:+.0%} around the limit on {count}"
        result = yield Ask(kind, count, math.exp(theta + offset), length, text, brief_settle=True)
        results.append(result)
        spoiled = spoiled + 1 if result.void else 0
        if spoiled >= _SPOILED:
            return Finished("generator", f"the generator cannot hold the limit on {count}")
        if result.void:
            continue
        fit = _fit(config, results, count, theta)
        if fit is None:
            theta += max(-_STEP, min(_STEP, _towards(result, _binding(config, result))))
            continue
        wanted = max(-_STEP, min(_STEP, fit.log_rate - theta))
        half = half_width(fit, config.level)
        if enough(fit) and half < config.precision and abs(wanted) < 0.03:
            return Finished("precision", f"the limit on {count} is known to {half:.1%}")
        theta += wanted
    return Finished("not_reached", f"the precision was not reached in {_MOST_WINDOWS} windows")


def _binding(config: CampaignConfig, result: StageResult) -> LatencyObjective:
    """The objective that is furthest beyond its allowance in this window."""
    return max(
        config.slo.objectives,
        key=lambda o: (evidence(result, o).share.interval.mid / o.allowance, o.quantile),
    )


def _towards(result: StageResult, objective: LatencyObjective) -> float:
    """How far to move ln load: the curve is about twelve times as steep."""
    seen = evidence(result, objective)
    if seen.overloaded:
        return -0.15
    share = (seen.share.count + 0.5) / (seen.share.n + 1.0)
    distance = math.log(share / (1.0 - share)) - math.log(
        objective.allowance / (1.0 - objective.allowance)
    )
    return max(-0.15, min(0.12, -distance / 12.0))


def _fit(
    config: CampaignConfig, results: Sequence[StageResult], count: int, theta: float
) -> LocalFit | None:
    fits = []
    for objective in config.slo.objectives:
        stages = [
            evidence(r, objective)
            for r in measured(results)
            if config.routing is Routing.RANDOM or r.spec.instance_count == count
        ]
        span = bracket(stages, objective.allowance)
        start = span.mid_per_s if span.bounded else math.exp(theta)
        fit = fit_local(stages, objective.allowance, start)
        if fit is not None:
            fits.append(fit)
    return min(fits, key=lambda f: f.log_rate) if fits else None
