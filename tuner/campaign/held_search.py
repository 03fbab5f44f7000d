"""Track A for servers that are seen only near their limit: load is held there from the start.

How requests slow each other down, or overtake each other, is seen only where they crowd, so no
safe load is spent. Every window is one that the local regression would have held, too: when
every family is refused, nothing was lost.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from tuner.campaign.config import CampaignConfig
from tuner.campaign.families import Family
from tuner.campaign.held import CAREFUL_Z, HeldEstimate, HeldFit, predict, verify
from tuner.campaign.talk import Ask, Finished
from tuner.campaign.types import Routing, StageKind, StageResult

_CYCLE = (0.0, -1.0, 1.0)
_WIDTH = 0.06
"""How far below and above the limit load is held; nearer where lateness rises so steeply that
odds would change by more than a factor of e."""
_FIRST = 4
"""Windows before the first look at the precision."""
_MOST_WINDOWS = 14
_AIM = 0.98
_FARTHEST = 0.25


def by_holding(
    config: CampaignConfig,
    results: list[StageResult],
    start_per_s: float,
    asked: Sequence[Family],
) -> Generator[Ask, StageResult, Finished | None]:
    """The end of the campaign; None when no family explains what is seen."""
    base = config.instance_counts[0]
    if base != 1 or (config.routing is not Routing.RANDOM and len(config.instance_counts) > 1):
        return None
    theta, pause, width = math.log(start_per_s), _FIRST, _WIDTH
    families = list(asked)
    for window in range(_MOST_WINDOWS):
        offset = width * _CYCLE[window % len(_CYCLE)]
        kind = StageKind.ANCHOR if offset == 0.0 and window else StageKind.MEASURE
        text = f"hold {offset:+.0%} around the limit" if window else "approach the limit"
        rate = math.exp(theta + offset)
        result = yield Ask(kind, 1, rate, config.pace.local_s, text, brief_settle=window > 0)
        results.append(result)
        if result.void:
            return None
        pause -= 1
        if window > 1 and pause > 0:
            continue
        seen = _predicted(config, families, results, math.exp(theta), spread=pause <= 0)
        if seen is None:
            return None
        fit, found = seen
        width = min(_WIDTH, 1.0 / max(e.slope for e in found))
        theta += max(-_FARTHEST, min(_FARTHEST, min(e.log_rate for e in found) - theta))
        if pause > 0:
            continue
        half = max(e.half_width(config.level) for e in found)
        if half <= config.precision:
            if not _verified(config, results, fit, found):
                return None
            return Finished(
                "precision", f"the limit is known to {half:.1%} and load was held at it"
            )
        missing = (window + 1) * ((half / (_AIM * config.precision)) ** 2 - 1.0)
        if missing > _MOST_WINDOWS - window:
            return None
        pause = max(1, math.ceil(0.8 * missing))
    return None


def _predicted(
    config: CampaignConfig,
    families: list[Family],
    results: Sequence[StageResult],
    near_per_s: float,
    *,
    spread: bool,
) -> tuple[HeldFit[Any], list[HeldEstimate]] | None:
    """The first family that is not refused, with its limits, one per objective.

    Those refused are taken out of ``families``.
    """
    while families:
        fit = families[0](results)
        if fit is not None and fit.gate.passed:
            rng = np.random.default_rng([config.seed, len(results)])
            found = [predict(fit, o, near_per_s, rng, spread=spread) for o in config.slo.objectives]
            if None not in found:
                return fit, [e for e in found if e is not None]
        families.pop(0)
    return None


def _verified(
    config: CampaignConfig,
    results: Sequence[StageResult],
    fit: HeldFit[Any],
    found: Sequence[HeldEstimate],
) -> bool:
    rng = np.random.default_rng([config.seed, len(results), 1])
    gates = [g for e in found for g in verify(fit, e, results, rng, CAREFUL_Z)]
    return all(g.passed for g in gates)
