"""Track B: hold load around the crossing until it is known well enough."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from tuner.campaign.assess import drift_sentence
from tuner.campaign.config import CampaignConfig
from tuner.campaign.direct import enough
from tuner.campaign.evidence import StageEvidence, evidence, measured
from tuner.campaign.regression import LocalFit, bracket, fit_local, half_width
from tuner.campaign.rough import rough_crossing
from tuner.campaign.server import fit_server
from tuner.campaign.talk import Ask, Finished
from tuner.campaign.types import Routing, StageKind, StageResult
from tuner.slo import LatencyObjective
from tuner.units import s_to_min

_CYCLE = (-1.0, 0.0, 1.0)
_WIDTH = 0.06
"""How far below and above the limit load is held; nearer where lateness rises so steeply that
odds would change by more than a factor of e."""
_SEEN = 2.0
"""Below so many independent late requests the regression has nothing to rest on."""
_STEP = 0.08
_APPROACH = 3
_NEAR = 0.07
"""The approach is over when a window asks for a step no longer than this."""
_MOST_WINDOWS = 60
_SPOILED = 3
_FUTILE_AFTER = 12
_FUTILE = 15.0
"""With this many windows done and that many more needed, the precision is not worth its
minutes: a wider interval, and what would narrow it, is the answer."""
_LATE_PER_WINDOW = 30.0
_SHORTEST = 1.0 / 3.0
"""A window at the limit need not be longer than this many late requests take, nor shorter
than this part of the usual length: a fast endpoint is known sooner."""


def hold_around(
    config: CampaignConfig, results: list[StageResult], count: int, start_per_s: float
) -> Generator[Ask, StageResult, Finished]:
    """Approach the crossing in up to three windows, then cycle below, at and above it.

    The middle window repeats one load, an anchor: a server that changes shows there.
    """
    theta = math.log(start_per_s)
    length = _window_s(config, count, start_per_s)
    for _ in range(_APPROACH):
        text = f"approach the limit on {count}"
        result = yield Ask(StageKind.MEASURE, count, math.exp(theta), length, text)
        results.append(result)
        if not result.void:
            step = math.log(start_of(config, results, count, math.exp(theta))) - theta
            theta += step
            if abs(step) <= _NEAR:
                break
    spoiled, width = 0, _WIDTH
    for window in range(_MOST_WINDOWS):
        offset = width * _CYCLE[window % len(_CYCLE)]
        kind = StageKind.ANCHOR if offset == 0.0 else StageKind.MEASURE
        text = f"hold {offset:+.0%} around the limit on {count}"
        result = yield Ask(kind, count, math.exp(theta + offset), length, text, brief_settle=True)
        results.append(result)
        spoiled = spoiled + 1 if result.void else 0
        if spoiled >= _SPOILED:
            return Finished("generator", f"the generator cannot hold the limit on {count}")
        if result.void:
            continue
        if offset > 0.0:
            drift = drift_sentence(fit_server(results)[0])
            if drift is not None:
                return Finished("drift", drift)
        fit = _fit(config, results, count, theta)
        if fit is None or fit.exceedances < _SEEN:
            wanted = math.log(start_of(config, results, count, math.exp(theta))) - theta
            theta += max(-_STEP, min(_STEP, wanted))
            continue
        wanted = max(-_STEP, min(_STEP, fit.log_rate - theta))
        width = min(_WIDTH, 1.0 / fit.slope)
        half = half_width(fit, config.level)
        if enough(fit) and half < config.precision and abs(wanted) < 0.03:
            return Finished("precision", f"the limit on {count} is known to {half:.1%}")
        missing = fit.windows * ((half / config.precision) ** 2 - 1.0)
        if enough(fit) and fit.windows >= _FUTILE_AFTER and missing > _FUTILE:
            more = s_to_min(missing * length)
            return Finished(
                "not_reached",
                f"the limit on {count} is known to {half:.1%}; {config.precision:.0%} would take "
                f"about {more:.0f} more minutes around it",
            )
        theta += wanted
    return Finished("not_reached", f"the precision was not reached in {_MOST_WINDOWS} windows")


def _window_s(config: CampaignConfig, count: int, rate_per_s: float) -> float:
    """Length of a window at this load per instance, by its rarest late requests.

    Behind a router that balances, late requests come in bursts of hundreds: there it stays.
    """
    if count > 1 and config.routing is not Routing.RANDOM:
        return config.pace.local_s
    rarest = min(o.allowance for o in config.slo.objectives)
    enough_s = _LATE_PER_WINDOW / (rarest * rate_per_s * count)
    return max(min(enough_s, config.pace.local_s), _SHORTEST * config.pace.local_s)


def start_of(
    config: CampaignConfig, results: Sequence[StageResult], count: int, otherwise_per_s: float
) -> float:
    """Where to begin: the least rough crossing over the objectives, by all stages so far.

    Never below a load that held for certain, nor above one that did not.
    """
    found = []
    for objective in config.slo.objectives:
        stages = _stages(config, results, count, objective)
        rough = rough_crossing(stages, objective.allowance)
        if rough is not None:
            span = bracket(stages, objective.allowance)
            found.append(min(max(rough, span.passed_per_s), span.failed_per_s))
    return min(found, default=otherwise_per_s)


def _stages(
    config: CampaignConfig,
    results: Sequence[StageResult],
    count: int,
    objective: LatencyObjective,
) -> list[StageEvidence]:
    """Stages of the law at this count; under RANDOM routing every count has the same."""
    return [
        evidence(r, objective)
        for r in measured(results)
        if config.routing is Routing.RANDOM or r.spec.instance_count == count
    ]


def _fit(
    config: CampaignConfig, results: Sequence[StageResult], count: int, theta: float
) -> LocalFit | None:
    fits = []
    for objective in config.slo.objectives:
        stages = _stages(config, results, count, objective)
        span = bracket(stages, objective.allowance)
        start = span.mid_per_s if span.bounded else math.exp(theta)
        fit = fit_local(stages, objective.allowance, start)
        if fit is not None:
            fits.append(fit)
    return min(fits, key=lambda f: f.log_rate) if fits else None
