"""Whether an instance is warm."""

from __future__ import annotations

from tuner.campaign.types import StageResult
from tuner.stats.steady import WARM_UP_SHARE_LIMIT, mser5, settle_test

_FALLING_T = -1.64
"""Of a server that is warm, one stage in six has a large cut by chance; latency that also
falls has one in fifty. Of cold ones every stage has both."""


def needs_more_warm_up(result: StageResult) -> bool:
    """Whether the transient fills so much of the warm-up that its end is not in sight."""
    log = result.log
    if log is None or len(log) < 50 or result.spec.duration_s < 15.0:
        return False
    latency = log.latency_s()
    if mser5(log.scheduled_s, latency).cut_share <= WARM_UP_SHARE_LIMIT:
        return False
    return settle_test(latency).t < _FALLING_T
