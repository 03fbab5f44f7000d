"""What to measure next: a pure function of what was measured so far.

The search is written as one conversation: it asks for a stage and is told its result. A
resumed campaign replays its journal through the same conversation and goes on where it ended.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from tuner.campaign.assess import Assessment, assess, failing_for_certain, lowest_start_per_s
from tuner.campaign.config import CampaignConfig, Limits, Pace, demo_config
from tuner.campaign.local_search import hold_around, start_of
from tuner.campaign.talk import Ask, Conversation, Finished, Talk
from tuner.campaign.types import ScaleEvent, StageKind, StageResult, StageSpec
from tuner.campaign.warm import needs_more_warm_up

__all__ = [
    "CampaignConfig",
    "Finished",
    "Limits",
    "Pace",
    "conversation",
    "demo_config",
    "estimate_remaining",
    "next_action",
]

_TYPICAL_RAMP = 6
_TYPICAL_LOCAL = 12
_QUIET = 1.10
"""Mean latency may grow by this much and the ramp still doubles the load."""
_VERIFY_AT = 0.97
_SECOND_LOAD = 0.7
_LOW_STEP_S = 60.0
_SPOILED = 2
_FUTILE = 6.0
"""Windows are not added when about this many times all that may be added would be needed."""
_AIM = 0.9
"""Aim a little below the half-width asked for: it is itself an estimate."""


def next_action(
    config: CampaignConfig,
    results: Sequence[StageResult],
    scale_events: Sequence[ScaleEvent] = (),
) -> StageSpec | Finished:
    """The stage to run next, or why the campaign is over.

    Parameters
    ----------
    config
        What is asked.
    results
        Every finished stage in order, void ones included: those are repeated once.
    scale_events
        Scale changes so far; instances being launched cost money too.
    """
    talk = conversation(config)
    action = talk.start()
    for result in results:
        if isinstance(action, Finished):
            return action
        action = talk.tell(result)
    if isinstance(action, Finished):
        return action
    over = talk.over_limit(results, scale_events, action)
    return over if over is not None else action


def conversation(config: CampaignConfig) -> Conversation:
    """A campaign to be told results one after another (the virtual backend does)."""
    script = _search(config) if config.rates_per_instance_per_s is None else _staircase(config)
    return Conversation(config, script)


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


def _staircase(config: CampaignConfig) -> Talk:
    """Exactly the loads given, at every count."""
    rates = config.rates_per_instance_per_s or ()
    base = config.instance_counts[0]
    if config.warm_up_s > 0.0:
        yield Ask(StageKind.WARM_UP, base, rates[0], config.warm_up_s, "warm up")
    for count in config.instance_counts:
        for rate in rates:
            text = f"load {rate:.4g}/s per instance on {count}"
            yield Ask(StageKind.MEASURE, count, rate, config.step_s, text)
    return Finished("plan", "every load of the plan was offered")


def _search(config: CampaignConfig) -> Talk:
    base = config.instance_counts[0]
    results: list[StageResult] = []
    start = yield from _first_look(config, results)
    bracketed = yield from _ramp(config, results, start)
    if isinstance(bracketed, Finished):
        return bracketed
    if base == 1 and not any(o.measure.streamed for o in config.slo.objectives):
        done = yield from _by_model(config, results, bracketed)
        if done is not None:
            return done
    now = assess(config, results)
    counts = config.instance_counts if config.routing.value != "RANDOM" else (base,)
    for count in reversed(counts):
        centre = now.rate(count) if now.known else start_of(config, results, count, bracketed)
        finished = yield from hold_around(config, results, count, centre)
    return finished


def _first_look(
    config: CampaignConfig, results: list[StageResult]
) -> Generator[Ask, StageResult, float]:
    """Unloaded latency, a safe first load, and the warm-up."""
    base = config.instance_counts[0]
    hint = config.start_rate_per_s
    rate = 2.0 if hint is None else max(2.0, 0.25 * hint)
    look = yield Ask(StageKind.FLOOR, base, rate, config.pace.floor_s, "unloaded latency")
    results.append(look)
    start = hint if hint is not None else lowest_start_per_s(look)
    if config.warm_up_s > 0.0:
        for _ in range(3):
            text = "warm up"
            warm = yield Ask(StageKind.WARM_UP, base, start, config.warm_up_s, text)
            results.append(warm)
            if not needs_more_warm_up(warm):
                break
    return start


def _ramp(
    config: CampaignConfig, results: list[StageResult], start: float
) -> Generator[Ask, StageResult, float | Finished]:
    """Raise the load until the SLO is missed beyond doubt; a load between the last two."""
    base, pace = config.instance_counts[0], config.pace
    rate, quiet, lower = start, None, 0
    last_good, spoiled = 0.0, 0
    while True:
        text = f"find the limit: {rate:.4g}/s per instance"
        # Low loads need longer for enough requests to say anything.
        length = max(pace.ramp_s, min(_LOW_STEP_S, _LOW_STEP_S / rate)) if lower else pace.ramp_s
        step = yield Ask(StageKind.RAMP, base, rate, length, text)
        results.append(step)
        if step.void:
            spoiled += 1
            # A machine that was busy for a moment is not a generator at its limit.
            if spoiled < _SPOILED:
                continue
            if last_good == 0.0:
                return Finished("generator", "the generator cannot offer even the first load")
            return last_good
        if failing_for_certain(step, config.slo):
            if last_good > 0.0:
                between = start_of(config, results, base, last_good)
                return min(max(between, last_good), math.sqrt(last_good * rate))
            lower += 1
            if lower > 2:
                return Finished("unreachable", "the SLO is missed even at the lowest load")
            rate /= 3.0
            continue
        last_good, spoiled = rate, 0
        if lower:
            return last_good
        mean = _mean_latency_s(step)
        quiet = mean if quiet is None else min(quiet, mean)
        rate *= 2.0 if mean <= _QUIET * quiet else pace.ramp_factor


def _mean_latency_s(result: StageResult) -> float:
    if result.log is None or not len(result.log):
        return math.inf
    latency = result.log.latency_s()
    return float(np.mean(latency)) if np.isfinite(latency).all() else math.inf


def _by_model(
    config: CampaignConfig, results: list[StageResult], bracketed: float
) -> Generator[Ask, StageResult, Finished | None]:
    """Track A; None when the server is not understood and load must be held instead."""
    pace, base = config.pace, config.instance_counts[0]
    for share in sorted(pace.safe_shares):
        now = assess(config, results)
        if now.hopeless:
            return None
        limit = now.rate(base) if now.known else bracketed
        text = f"recover the server at {share:.0%} of the limit"
        rate = share * min(limit, 1.6 * bracketed)
        results.append((yield Ask(StageKind.MEASURE, base, rate, pace.measure_s, text)))
    now = assess(config, results)
    if now.unreachable:
        return Finished("unreachable", "the SLO is missed even when no request waits")
    now = yield from _look_again(config, results, now)
    if now.drifting is not None:
        return Finished("drift", now.drifting)
    # A verification is data too: before it, the limit need only be known well enough to aim.
    now = yield from _narrow(config, results, now, 2.0 * config.precision)
    if now.known:
        now = yield from _verify(config, results, now)
    if now.known:
        now = yield from _narrow(config, results, now, _AIM * config.precision)
    now = yield from _second_look(config, results, now, base)
    now = yield from _look_again(config, results, now)
    if now.drifting is not None:
        return Finished("drift", now.drifting)
    if not (now.known and now.verified(results)):
        return None
    counts = ", ".join(map(str, config.instance_counts))
    sentence = f"the limit is known to {now.half_width:.1%} and was verified on {counts}"
    reached = now.half_width <= config.precision
    return Finished("precision" if reached else "not_reached", sentence)


def _look_again(
    config: CampaignConfig, results: list[StageResult], now: Assessment
) -> Generator[Ask, StageResult, Assessment]:
    """Repeat the lowest safe load before a drift is believed: what it shows then is no chance."""
    if now.drifting is None:
        return now
    held = [r for r in results if r.spec.kind is StageKind.MEASURE and not r.void]
    rate = min(r.rate_per_instance_per_s for r in held)
    text = "repeat a load: does the server change?"
    results.append((yield Ask(StageKind.ANCHOR, 1, rate, config.pace.measure_s, text)))
    return assess(config, results)


def _narrow(
    config: CampaignConfig, results: list[StageResult], now: Assessment, goal: float
) -> Generator[Ask, StageResult, Assessment]:
    """Add safe windows until the half-width is at most the goal, or not worth its minutes."""
    pace, longest = config.pace, 2.0 * config.pace.measure_s
    while now.known and now.half_width > goal:
        left = pace.extra_windows - _added(config, results)
        needed = _needed_s(now, results, goal)
        if left <= 0 or needed > _FUTILE * longest * left:
            break
        text = f"narrow the interval from {now.half_width:.1%}"
        length = min(max(needed, 0.35 * pace.measure_s), longest)
        results.append((yield Ask(StageKind.MEASURE, 1, 0.85 * now.rate(1), length, text)))
        now = assess(config, results)
    return now


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
            return replace(now, estimates=())
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
