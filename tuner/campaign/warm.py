"""Whether an instance is warm."""

from __future__ import annotations

from tuner.campaign.types import StageResult
from tuner.stats.steady import WARM_UP_SHARE_LIMIT, mser5


def needs_more_warm_up(result: StageResult) -> bool:
    """Whether the transient fills so much of the warm-up that its end is not in sight."""
    log = result.log
    if log is None or len(log) < 50 or result.spec.duration_s < 15.0:
        return False
    return mser5(log.scheduled_s, log.latency_s()).cut_share > WARM_UP_SHARE_LIMIT
