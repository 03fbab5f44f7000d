"""The answer in words, the same for page and terminal."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal

from tuner.autoscaling.policy import ScalingMetric, TargetTrackingPolicy
from tuner.queueing.capacity import CapacityModel, CountCapacity
from tuner.recommend.types import Candidate, Recommendation
from tuner.report.data import Pairs
from tuner.report.words import (
    METRIC_UNITS,
    cooldown,
    interval,
    money,
    money_interval,
    number,
    percent,
)
from tuner.slo import Verdict
from tuner.units import per_min_to_per_s

HEADLINES = {
    Verdict.MET: "The SLO can be held",
    Verdict.VIOLATED: "No allowed capacity holds the SLO",
    Verdict.INCONCLUSIVE: "The data do not support an answer yet",
}


SHORT_UNITS = {
    ScalingMetric.INVOCATIONS: "/min",
    ScalingMetric.CONCURRENCY: " concurrent",
    ScalingMetric.CPU: " % CPU",
    ScalingMetric.GPU: " % GPU",
    ScalingMetric.GPU_MEMORY: " % GPU memory",
    ScalingMetric.MEMORY: " % memory",
}


def target_text(target_value: float) -> str:
    """The target as it is written: down to a whole number from 100 on, else to three digits."""
    exact = Decimal(repr(target_value))
    digits = 0 if exact >= 100 else exact.adjusted() - 2
    text = f"{exact.quantize(Decimal(1).scaleb(digits), rounding=ROUND_FLOOR):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def metric_name(policy: TargetTrackingPolicy) -> str:
    """The variable that names the metric, with its value."""
    if policy.metric.customized:
        return f"customized_metric {policy.metric.value}"
    return policy.metric.value


def settings(recommendation: Recommendation) -> Pairs:
    """What to set, by the names of the Terraform variables; empty without a policy."""
    chosen = recommendation.chosen
    if chosen is None:
        return ()
    if chosen.policy is None:
        return (
            ("instance_type", recommendation.instance_type),
            ("instance_count", str(chosen.bounds.min_capacity)),
        )
    policy = chosen.policy
    return (
        ("target_value", target_text(policy.target_value)),
        ("min_capacity", str(chosen.bounds.min_capacity)),
        ("max_capacity", str(chosen.bounds.max_capacity)),
        ("scale_out_cooldown", cooldown(policy.scale_out_cooldown_s)),
        ("scale_in_cooldown", cooldown(policy.scale_in_cooldown_s)),
        ("instance_type", recommendation.instance_type),
        *_by_the_clock(recommendation),
    )


def _by_the_clock(recommendation: Recommendation) -> Pairs:
    """The scheduled actions in few words; nothing without them."""
    actions = recommendation.scheduled_actions
    if not actions:
        return ()
    levels = {a.min_capacity for a in actions}
    text = f"{len(actions)}, minimum {min(levels)} to {max(levels)}"
    return (("scheduled_actions", text),)


def sentence(recommendation: Recommendation) -> str:
    """The recommendation in one sentence."""
    chosen = recommendation.chosen
    if chosen is None:
        return HEADLINES[recommendation.verdict] + "."
    kind = recommendation.instance_type
    if chosen.policy is None:
        return f"Run {chosen.bounds.min_capacity} instances of {kind} without autoscaling."
    unit = METRIC_UNITS[chosen.policy.metric]
    schedule = recommendation.adopted_schedule
    bounds = chosen.bounds if schedule is None else schedule.bounds
    clock = "" if schedule is None else ", the minimum following the clock"
    return (
        f"Keep {target_text(chosen.policy.target_value)} {unit}, between "
        f"{bounds.min_capacity} and {bounds.max_capacity} instances of {kind}{clock}."
    )


def capacity_words(entry: CountCapacity) -> str:
    """Capacity with its interval, and per minute as the target is."""
    rate = entry.rate_per_s
    per_min = rate.scaled(1.0 / per_min_to_per_s(1.0))
    return (
        f"{interval(rate)} requests/s per instance at {percent(rate.level)} confidence "
        f"= {interval(per_min, 4)} per minute"
    )


def binding_words(capacity: CapacityModel) -> str:
    """What limits the capacity."""
    if capacity.verdict is not Verdict.MET:
        return "not known"
    if capacity.binding is None:
        return "the share of errors"
    threshold = number(capacity.binding.threshold_s * 1e3)
    return f"{capacity.binding.name} reaches {threshold} ms first"


def headroom_words(recommendation: Recommendation) -> str | None:
    """The target as a share of what one instance carries."""
    chosen = recommendation.chosen
    policy = chosen.policy if chosen is not None else None
    if policy is None or policy.metric is not ScalingMetric.INVOCATIONS:
        return None
    entries = recommendation.capacity.by_count
    if not entries or not entries[0].rate_per_s.mid > 0:
        return None
    share = per_min_to_per_s(policy.target_value) / entries[0].rate_per_s.mid
    count = entries[0].instance_count
    plural = "" if count == 1 else "s"
    return (
        f"{round(100 * share)} % of what an instance carries (measured at {count} instance{plural})"
    )


def compared(candidate: Candidate, chosen: Candidate | None) -> str:
    """A candidate's cost beside the chosen one's."""
    if chosen is None or candidate is chosen:
        return ""
    own, base = _cost(candidate, chosen), _cost(chosen, candidate)
    if base <= 0.0 or not math.isfinite(own):
        return ""
    change = own / base - 1.0
    return "same cost" if abs(change) < 0.005 else f"{100 * change:+.0f} %"


def _cost(candidate: Candidate, other: Candidate) -> float:
    own, theirs = candidate.expected.cost_per_month_usd, other.expected.cost_per_month_usd
    if own is None or theirs is None:
        return candidate.expected.instance_hours_per_day.mid
    return own.mid


def cost_words(candidate: Candidate) -> str:
    """What a candidate costs, in the best unit known."""
    expected = candidate.expected
    if expected.cost_per_month_usd is None:
        return f"{interval(expected.instance_hours_per_day)} instance-hours per day"
    text = f"{money_interval(expected.cost_per_month_usd)} per month"
    if expected.cost_per_million_usd is not None:
        text += f", {money(expected.cost_per_million_usd.mid)} per million requests"
    return text


def attainment_words(candidate: Candidate) -> str:
    """The share of requests inside the SLO, with its interval."""
    met = candidate.expected.slo_attainment
    return f"{percent(met.mid)} ({percent(met.low)} to {percent(met.high)})"


def policy_words(candidate: Candidate) -> str:
    """One line for a candidate's policy."""
    policy, bounds = candidate.policy, candidate.bounds
    if policy is None:
        if bounds.min_capacity == bounds.max_capacity:
            return f"{bounds.min_capacity} instances, no autoscaling"
        return f"{bounds.min_capacity} to {bounds.max_capacity} instances, no target"
    unit = SHORT_UNITS[policy.metric]
    return (
        f"target {target_text(policy.target_value)}{unit}, {bounds.min_capacity} to "
        f"{bounds.max_capacity} instances, cooldowns out {policy.scale_out_cooldown_s} s, "
        f"in {policy.scale_in_cooldown_s} s"
    )
