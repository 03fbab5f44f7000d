"""The load at which errors, not latency, use up their allowance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tuner.campaign.types import StageResult
from tuner.interval import Interval
from tuner.stats.proportions import share_interval


def error_limit(
    max_error_rate: float, results: Sequence[StageResult], level: float
) -> Interval | None:
    """Load per instance where the error share passes its ceiling; None if it never does.

    The interval runs from the highest load below every failing one to the lowest load that
    fails for certain.
    """
    loads = sorted(results, key=lambda r: r.rate_per_instance_per_s)
    failing = math.inf
    for result in reversed(loads):
        share = share_interval(_failed(result), level=level).interval
        if share.low <= max_error_rate:
            break
        failing = result.rate_per_instance_per_s
    if not math.isfinite(failing):
        return None
    below = [r.rate_per_instance_per_s for r in loads if r.rate_per_instance_per_s < failing]
    low = max(below, default=0.0)
    return Interval(low, math.sqrt(max(low, 0.25 * failing) * failing), failing, level)


def _failed(result: StageResult) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if result.log is not None:
        return np.asarray(~result.log.ok)
    return np.concatenate(
        [np.arange(w.total) < w.failures for w in result.windows] or [np.zeros(0, np.bool_)]
    )
