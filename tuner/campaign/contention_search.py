"""Track A for requests that slow each other down: held near the limit from the start.

How requests slow each other down near the limit is seen only there, so no safe load is spent.
Every window is one that the local regression would have held, too: when the model is refused,
nothing was lost.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np

from tuner.campaign.config import CampaignConfig
from tuner.campaign.contention import (
    CAREFUL_Z,
    SharedEstimate,
    fit_shared,
    predict,
    verify_shared,
)
from tuner.campaign.talk import Ask, Finished
from tuner.campaign.types import Routing, StageKind, StageResult

_CYCLE = (0.0, -0.06, 0.06)
_FIRST = 4
"""Windows before the first look at the precision."""
_MOST_WINDOWS = 14
_AIM = 0.98
_FARTHEST = 0.25


def by_contention(
    config: CampaignConfig, results: list[StageResult], start_per_s: float
) -> Generator[Ask, StageResult, Finished | None]:
    """The end of the campaign; None when requests do not slow each other down as assumed."""
    base = config.instance_counts[0]
    if base != 1 or (config.routing is not Routing.RANDOM and len(config.instance_counts) > 1):
        return None
    theta, pause = math.log(start_per_s), _FIRST
    for window in range(_MOST_WINDOWS):
        offset = _CYCLE[window % len(_CYCLE)]
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
        found = _predicted(config, results, math.exp(theta), spread=pause <= 0)
        if found is None:
            return None
        theta += max(-_FARTHEST, min(_FARTHEST, min(e.log_rate for e in found) - theta))
        if pause > 0:
            continue
        half = max(e.half_width(config.level) for e in found)
        if half <= config.precision:
            if not all(verify_shared(e, results, CAREFUL_Z).passed for e in found):
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
    config: CampaignConfig, results: Sequence[StageResult], near_per_s: float, *, spread: bool
) -> list[SharedEstimate] | None:
    """The limits as the model has them, one per objective; None when it is refused."""
    fit = fit_shared(results)
    if fit is None or not fit.gate.passed:
        return None
    rng = np.random.default_rng([config.seed, len(results)])
    found = [predict(fit, o, near_per_s, rng, spread=spread) for o in config.slo.objectives]
    return None if None in found else [e for e in found if e is not None]
