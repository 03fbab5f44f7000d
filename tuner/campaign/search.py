"""What to measure next: a pure function of what was measured so far.

The search is written as one conversation: it asks for a stage and is told its result. A
resumed campaign replays its journal through the same conversation and goes on where it ended.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np

from tuner.campaign.alone import look_alone
from tuner.campaign.assess import assess, failing_for_certain, lowest_start_per_s
from tuner.campaign.config import CampaignConfig, Limits, Pace, demo_config
from tuner.campaign.local_search import hold_around, start_of
from tuner.campaign.model_search import by_model
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
    "next_action",
]

_QUIET = 1.10
"""Mean latency may grow by this much and the ramp still doubles the load."""
_LOW_STEP_S = 60.0
_SPOILED = 2


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
        done = yield from by_model(config, results, bracketed)
        if done is not None:
            return done
    lost = yield from look_alone(config, results)
    if lost is not None:
        return lost
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
            lost = yield from look_alone(config, results)
            return lost or last_good
        mean = _mean_latency_s(step)
        quiet = mean if quiet is None else min(quiet, mean)
        rate *= 2.0 if mean <= _QUIET * quiet else pace.ramp_factor


def _mean_latency_s(result: StageResult) -> float:
    if result.log is None or not len(result.log):
        return math.inf
    latency = result.log.latency_s()
    return float(np.mean(latency)) if np.isfinite(latency).all() else math.inf
