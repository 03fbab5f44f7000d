"""Is the SLO out of reach at any load? The requests that had the endpoint to themselves tell.

A request that finds nothing in flight, and whose answer is there before the next one comes,
neither waits nor shares an instance: no lower load would have served it sooner. Long requests
are the likelier to be joined by another, so the share of late ones among those alone is too low
rather than too high: when it is above the allowance, lower loads need not be tried.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.config import CampaignConfig
from tuner.campaign.evidence import evidence, overloaded, sound
from tuner.campaign.talk import Ask, Finished
from tuner.campaign.types import StageKind, StageResult
from tuner.slo import LatencyObjective
from tuner.stats.proportions import ShareEstimate, independent_share, share_interval
from tuner.stats.quantiles import BATCHES
from tuner.stats.requests import FloatArray, RequestLog
from tuner.stats.steady import mann_kendall_z

_LEVEL = 0.99
_SUSPECT_LEVEL = 0.8
_LEAST_LATE = 3
_COLD = (StageKind.WARM_UP, StageKind.FLOOR, StageKind.RAMP)
_LATE_WANTED = 10.0
"""Late requests that are alone: with ten, the share is known to be over a third of itself."""
_ALONE_WANTED = 3.0 * BATCHES
_LOOKS = 3
_FALLING_Z = -1.64
_TREND_GROUPS = 200
_MARGIN_S = 0.5
"""Of a limit of time, for the rounding of what was spent."""
_LONGEST = 4.0
"""A look takes at most so many safe windows: longer, and what is left is the usual search."""


def hopeless(
    results: Sequence[StageResult], objective: LatencyObjective
) -> tuple[ShareEstimate, float] | None:
    """Share of requests that are late though alone, and their least load per instance.

    None when it is not certain to be above the allowance, or when some load held the
    objective. An instance that is still warming up answers alone requests faster and faster:
    what ran until the ramp was over is not asked, nor what came before they ceased to.
    """
    warm = [r for r in sound(results) if r.spec.kind not in _COLD]
    late = _late(_settled(_times_alone(warm, objective)), objective)
    if len(late) < 2 * BATCHES or np.count_nonzero(late) < _LEAST_LATE:
        return None
    share = share_interval(late, level=_LEVEL)
    if share.interval.low <= objective.allowance:
        return None
    if any(evidence(r, objective).share.interval.high <= objective.allowance for r in warm):
        return None
    return share, min(r.rate_per_instance_per_s for r in warm)


def look_alone(
    config: CampaignConfig, results: list[StageResult]
) -> Generator[Ask, StageResult, Finished | None]:
    """Hold a low load until it is certain that no load meets the SLO.

    None when nothing speaks for that, or not enough: then the search goes on as it would have.
    Stages are added to ``results`` as they are run.
    """
    base = config.instance_counts[0]
    for look in range(_LOOKS + 1):
        suspects = [(o, _suspected(results, o)) for o in config.slo.objectives]
        objective, share = max(suspects, key=lambda s: s[1] / s[0].allowance)
        if share == 0.0:
            return None
        if hopeless(results, objective) is not None:
            return Finished("unreachable", "the SLO is missed even when no request waits")
        rate, length = _quiet_load(config, results, objective, share)
        if look == _LOOKS or length <= 0.0:
            return None
        text = "is the SLO out of reach even at low load?"
        results.append((yield Ask(StageKind.MEASURE, base, rate / base, length, text)))
    return None


def _suspected(results: Sequence[StageResult], objective: LatencyObjective) -> float:
    """Share of late requests where that is likely beyond what is allowed at low load; else 0.

    Told from the requests that were alone, or from the lowest load that was held.
    """
    used = _steady(results)
    late = _late(_times_alone(used, objective), objective)
    groups = [(int(np.count_nonzero(late)), len(late))]
    if used:
        seen = evidence(min(used, key=lambda r: r.rate_per_instance_per_s), objective).share
        groups.append((seen.count, seen.n))
    for count, n in groups:
        if count < _LEAST_LATE:
            continue
        if independent_share(count, n, level=_SUSPECT_LEVEL).interval.low > objective.allowance:
            return count / n
    return 0.0


def _quiet_load(
    config: CampaignConfig,
    results: Sequence[StageResult],
    objective: LatencyObjective,
    share: float,
) -> tuple[float, float]:
    """The total load at which most late requests are alone, and how long to hold it.

    At rate r one that takes t seconds is alone with chance exp(-r (m + t)), m the mean
    latency: r exp(-r (m + t)) is largest at r = 1 / (m + t). No time at all where even
    every look would be too short.
    """
    log = min(_steady(results), key=lambda r: r.rate_per_instance_per_s).log
    assert log is not None
    answered = log.latency_s()[log.ok]
    mean_s = float(np.mean(answered)) if len(answered) else objective.threshold_s
    rate = 1.0 / (mean_s + max(objective.threshold_s, mean_s))
    warm = [r for r in sound(results) if r.spec.kind not in _COLD]
    late = _late(_settled(_times_alone(warm, objective)), objective)
    missing = max(
        (_LATE_WANTED - np.count_nonzero(late)) / share,
        _ALONE_WANTED - len(late),
        _ALONE_WANTED / 2.0,
    )
    needed_s, longest_s = missing * math.e / rate, _LONGEST * config.pace.measure_s
    length = min(needed_s, longest_s)
    if config.limits.time_s is not None:
        spent_s = sum(r.spec.settle_s + r.spec.duration_s for r in results)
        length = min(length, config.limits.time_s - spent_s - config.settle_s - _MARGIN_S)
    futile = needed_s > _LOOKS * longest_s or length < config.pace.ramp_s
    return rate, 0.0 if futile else length


def _steady(results: Sequence[StageResult]) -> list[StageResult]:
    """Stages after the warm-up that were kept request by request and not overloaded."""
    return [
        r
        for r in sound(results)
        if r.spec.kind not in _COLD[:2] and r.log is not None and not overloaded(r)
    ]


def _times_alone(results: Sequence[StageResult], objective: LatencyObjective) -> FloatArray:
    """What the objective measures of requests that were alone, in time order, shape (n,)."""
    parts = [np.zeros(0)]
    for result in results:
        log = result.log
        if log is None or len(log) < 2 or overloaded(result):
            continue
        parts.append(log.times_s(objective.measure)[_alone(log)])
    return np.concatenate(parts)


def _late(times_s: FloatArray, objective: LatencyObjective) -> NDArray[np.bool_]:
    """Which missed the threshold; a stream that never began (NaN) is as late as a failure."""
    return ~(times_s <= objective.threshold_s)


def _settled(times_s: FloatArray) -> FloatArray:
    """The end of the times, from where on they no longer fall."""
    while len(times_s) >= 2 * BATCHES:
        groups = np.array_split(times_s, min(len(times_s), _TREND_GROUPS))
        if mann_kendall_z([float(np.median(g)) for g in groups]) > _FALLING_Z:
            break
        times_s = times_s[len(times_s) // 2 :]
    return times_s


def _alone(log: RequestLog) -> NDArray[np.bool_]:
    """Requests with no other in flight from their intended start to their end, shape (n,).

    The first seconds, which requests of the time before may have shared, and the last
    request are left out.
    """
    start, done = log.scheduled_s, log.done_s
    alone = np.zeros(len(log), np.bool_)
    before = np.maximum.accumulate(done)[:-2]
    alone[1:-1] = (start[1:-1] >= before) & (done[1:-1] <= start[2:])
    alone &= start >= start[0] + float(np.max(done - start))
    return alone
