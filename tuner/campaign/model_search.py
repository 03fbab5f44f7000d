"""Track A: recover the server at safe loads, predict its limit, and hold load near it once."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from tuner.campaign.assess import Assessment, assess
from tuner.campaign.config import CampaignConfig
from tuner.campaign.families import asked
from tuner.campaign.held_search import by_holding
from tuner.campaign.local_search import start_of
from tuner.campaign.refusals import USABLE
from tuner.campaign.talk import Ask, Finished
from tuner.campaign.types import StageKind, StageResult

_VERIFY_AT = 0.97
_SECOND_LOAD = 0.7
_FUTILE = 6.0
"""Windows are not added when about this many times all that may be added would be needed."""
_AIM = 0.9
"""Aim a little below the half-width asked for: it is itself an estimate."""


def by_model(
    config: CampaignConfig, results: list[StageResult], bracketed: float
) -> Generator[Ask, StageResult, Finished | None]:
    """The end of the campaign; None when the server is not understood and load must be held.

    Parameters
    ----------
    results
        Of the campaign so far; stages are added as they are run.
    bracketed
        A load per instance between the last two of the ramp.
    """
    pace, base = config.pace, config.instance_counts[0]
    for share in sorted(pace.safe_shares):
        now = assess(config, results)
        if now.hopeless:
            return (yield from _held(config, results, now, bracketed))
        limit = now.rate(base) if now.known else bracketed
        text = f"recover the server at {share:.0%} of the limit"
        rate = share * min(limit, 1.6 * bracketed)
        results.append((yield Ask(StageKind.MEASURE, base, rate, pace.measure_s, text)))
    now = assess(config, results)
    if now.hopeless or now.fit is None:
        return (yield from _held(config, results, now, bracketed))
    if now.unreachable:
        return _out_of_reach(now)
    if now.drifting is not None and now.drift_in_doubt:
        now = yield from _look_again(config, results, now)
    if now.drifting is not None:
        return Finished("drift", now.drifting)
    # A verification is data too: before it, the limit need only be known well enough to aim.
    now = yield from _narrow(config, results, now, 2.0 * config.precision)
    if now.known:
        now = yield from _verify(config, results, now)
    now = yield from _narrow(config, results, now, _AIM * config.precision)
    if now.near_unloaded or now.unreachable:
        return _out_of_reach(now)
    now = yield from _second_look(config, results, now, base)
    if now.drift_in_doubt:
        now = yield from _look_again(config, results, now)
    if now.drifting is not None:
        return Finished("drift", now.drifting)
    if not (now.known and now.verified(results)):
        return None
    counts = ", ".join(map(str, config.instance_counts))
    sentence = f"the limit is known to {now.half_width:.1%} and was verified on {counts}"
    reached = now.half_width <= config.precision
    return Finished("precision" if reached else "not_reached", sentence)


def _held(
    config: CampaignConfig, results: list[StageResult], now: Assessment, bracketed: float
) -> Generator[Ask, StageResult, Finished | None]:
    """The same for a server that is seen only near its limit, where one is suspected."""
    families = asked(now.fit)
    if not families:
        return None
    start = start_of(config, results, config.instance_counts[0], bracketed)
    return (yield from by_holding(config, results, start, families))


def _look_again(
    config: CampaignConfig, results: list[StageResult], now: Assessment
) -> Generator[Ask, StageResult, Assessment]:
    """Repeat the lowest safe load before a drift is believed or ruled out: what it shows then
    is no chance."""
    held = [r for r in results if r.spec.kind is StageKind.MEASURE and not r.void]
    if not held:
        return now
    rate = min(r.rate_per_instance_per_s for r in held)
    text = "repeat a load: does the server change?"
    results.append((yield Ask(StageKind.ANCHOR, 1, rate, config.pace.measure_s, text)))
    return assess(config, results)


def _out_of_reach(now: Assessment) -> Finished:
    if now.unreachable:
        return Finished("unreachable", "the SLO is missed even when no request waits")
    return Finished(
        "not_reached", "about as many requests as the SLO allows are late even when none waits"
    )


def _narrow(
    config: CampaignConfig, results: list[StageResult], now: Assessment, goal: float
) -> Generator[Ask, StageResult, Assessment]:
    """Add safe windows until the half-width is at most the goal, or not worth its minutes;
    and while requests alone may or may not already miss the SLO."""
    pace, longest = config.pace, 2.0 * config.pace.measure_s
    while (now.known and now.half_width > goal) or now.near_unloaded:
        left = pace.extra_windows - _added(config, results)
        if now.near_unloaded:
            if left <= 0:
                break
            text, rate = "does any load hold the SLO?", _highest_safe_per_s(results)
            results.append((yield Ask(StageKind.MEASURE, 1, rate, longest, text)))
            now = assess(config, results)
            continue
        needed = _needed_s(now, results, goal)
        if left > 0 and needed > _FUTILE * longest * left and now.half_width > USABLE:
            # Out of reach, but so wide it is no answer: some of the way is worth its minutes.
            needed = _needed_s(now, results, USABLE)
        elif left <= 0 or needed > _FUTILE * longest * left:
            break
        text = f"narrow the interval from {now.half_width:.1%}"
        length = min(max(needed, 0.35 * pace.measure_s), longest)
        results.append((yield Ask(StageKind.MEASURE, 1, 0.85 * now.rate(1), length, text)))
        now = assess(config, results)
    return now


def _highest_safe_per_s(results: Sequence[StageResult]) -> float:
    held = [r for r in results if r.spec.kind is StageKind.MEASURE and r.spec.instance_count == 1]
    return max(r.rate_per_instance_per_s for r in held)


def _added(config: CampaignConfig, results: Sequence[StageResult]) -> int:
    """Safe windows on one instance beyond the first ones."""
    kinds = [r.spec.kind for r in results if r.spec.instance_count == 1]
    return kinds.count(StageKind.MEASURE) - len(config.pace.safe_shares)


def _needed_s(now: Assessment, results: Sequence[StageResult], goal: float) -> float:
    """Seconds of load at 85 % of the limit so that the precision is likely reached."""
    have = sum(r.spec.duration_s * r.spec.rate_per_s for r in results if r.spec.instance_count == 1)
    factor = (now.half_width / goal) ** 2 - 1.0
    return have * factor / (0.85 * now.rate(1))


def _verify(
    config: CampaignConfig, results: list[StageResult], now: Assessment
) -> Generator[Ask, StageResult, Assessment]:
    """Hold one load near the prediction at every count of the plan."""
    pace, base = config.pace, config.instance_counts[0]
    share = 1.0 if len(config.instance_counts) == 1 else pace.shared_verify
    for count in config.instance_counts:
        limit = now.rate(count)
        if count != base:
            text = f"a lower load on {count} instances"
            rate = _SECOND_LOAD * limit
            results.append((yield Ask(StageKind.MEASURE, count, rate, pace.least_verify_s, text)))
        text = f"verify the prediction on {count}"
        length = max(pace.least_verify_s, share * pace.verify_s / count)
        results.append((yield Ask(StageKind.VERIFY, count, _VERIFY_AT * limit, length, text)))
        now = yield from _second_look(config, results, assess(config, results), count)
        if not now.known or not now.verified(results):
            return replace(now, estimates=(), checked={})
    return now


def _second_look(
    config: CampaignConfig, results: list[StageResult], now: Assessment, count: int
) -> Generator[Ask, StageResult, Assessment]:
    """Hold load near the prediction once more when a stage speaks against it.

    A burst of long requests and a wrong prediction look alike: more requests tell them apart.
    """
    if not now.known or now.verified(results):
        return now
    pace = config.pace
    length = max(pace.least_verify_s, pace.verify_s / count)
    rate, text = _VERIFY_AT * now.rate(count), f"a second look at the prediction on {count}"
    results.append((yield Ask(StageKind.VERIFY, count, rate, length, text)))
    return assess(config, results)
