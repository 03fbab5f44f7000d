"""Machine names of candidates, statements and failures, as people read them."""

from __future__ import annotations

import re

from tuner.recommend.types import Candidate, Failing, Recommendation, Statement
from tuner.report.words import plain

_NAMES = {
    "chosen": "Recommended",
    "proposal": "Outside the bounds",
    "today": "Today's policy",
    "without_schedule": "Without a schedule",
    "aws_half_of_maximum": "AWS rule: half of maximum",
    "70_percent_of_maximum": "70 % of maximum",
    "fixed_peak_fleet": "Fixed fleet for the peak",
    "right_size": "Instance type",
    "signal": "Scaling signal",
    "scored_days": "Days kept for scoring",
    "next_day": "A like day",
    "largest_ramp": "Largest ramp survived",
    "largest_jump": "Largest jump survived",
    "ramp_rule": "Rule of thumb",
    "believable_peak": "Believable peak",
    "resilience_cost": "Price of resilience",
    "capacity_uncertainty_cost": "Price of what was not measured",
    "unseen_days_cost": "Price of days unseen",
    "every_day": "For every single day",
    "scheduled_minimum": "A minimum that follows the clock",
    "no_schedule": "No schedule",
    "off_hours": "Off-hours",
    "data_capture": "Data capture",
    "refused:no_policy": "Refused",
    "reactive_alone": "Why the minimum is raised",
    "costliest_day": "The costliest day",
    "request_check": "Replayed request by request",
    "refused:capacity": "Refused",
    "binding:minutes": "Limit on bad minutes",
    "binding:requests": "Limit on slow requests",
    "binding:resilience": "Limit on resilience",
    "capacity_low": "capacity: low end",
    "capacity_mid": "capacity: middle",
    "capacity_high": "capacity: high end",
}
_FACTORS = {
    "launch_lag": "launch time",
    "growth": "traffic",
    "budget": "SLO budgets",
    "slo": "SLO threshold",
}
_FACTOR = re.compile(r"(\w+)_x([\d.]+)\Z")
_REJECTED = re.compile(r"rejected_\d+\Z")
_REPEATED_SETTING = re.compile(r"\s*\((?:target|fixed fleet)[^()]*\)\Z")

FAILINGS = {
    Failing.REQUESTS: "too many slow requests",
    Failing.MINUTES: "too many bad minutes",
    Failing.RESILIENCE: "would not survive the loss it must",
    Failing.BOUND: "outside the bounds",
    Failing.COST: "does it, but costs more",
}


def said(name: str) -> str:
    """A machine name in words; another name as it is, underscores as blanks."""
    if name in _NAMES:
        return _NAMES[name]
    if _REJECTED.match(name):
        return "Searched policy"
    factor = _FACTOR.match(name)
    if factor is not None:
        what = _FACTORS.get(factor[1], factor[1].replace("_", " "))
        return f"{what} ×{factor[2]}"
    return name.replace("_", " ")


def failings(candidate: Candidate) -> str:
    """What a candidate breaks; empty when it breaks nothing."""
    return ", ".join(FAILINGS[f] for f in candidate.failing)


def reason(candidate: Candidate) -> str:
    """The reason without a repetition of the setting, which stands beside it."""
    return _REPEATED_SETTING.sub("", plain(candidate.reason))


def others(recommendation: Recommendation) -> tuple[Candidate, ...]:
    """Everything the answer is held against: today's policy first, a proposal next."""
    named = (recommendation.proposal, recommendation.today)
    first = [c for c in named if c is not None]
    known = {id(c) for c in first}
    return (*first, *(c for c in recommendation.alternatives if id(c) not in known))


def refusal(recommendation: Recommendation) -> str | None:
    """The sentence that says why there is no policy."""
    refused: list[Statement] = [
        s for s in recommendation.statements if s.name.startswith("refused:")
    ]
    return refused[0].sentence if refused else None
