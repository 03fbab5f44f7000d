"""The policies an answer is held against: rules of thumb, a fixed fleet, today's, near misses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.choose import meets, pareto, plain_shares
from tuner.recommend.evaluate import Choice, Evaluated, candidate, describe
from tuner.recommend.search import Found, Ground
from tuner.recommend.setup import Setup
from tuner.recommend.types import Candidate, Failing
from tuner.units import per_s_to_per_min

IntArray = NDArray[np.int64]

AWS_SAFETY_FACTOR = 0.5
"""The start value in AWS's "Load testing your auto scaling configuration": target = maximum of
one instance x 0.5 x 60."""
COMMON_SHARE = 0.7
AWS_COOLDOWN_S = 300
FRONT_POINTS = 8
FRONT_REACH = 4.0
REJECTED_POINTS = 7


@dataclass(frozen=True, slots=True)
class Named:
    """A policy to evaluate, what to call it, and why it is there.

    ``row`` is its place in the search's grid, -1 for a policy from elsewhere.
    """

    name: str
    choice: Choice
    reason: str
    row: int = -1


def rule_of_thumb(
    capacity: CapacityModel, ground: Ground, share: float, name: str, reason: str
) -> Named:
    """A target at a share of what one instance carries, AWS's own cooldowns, same bounds."""
    target = per_s_to_per_min(capacity.by_count[0].rate_per_s.mid) * share
    low = min(ground.lowest_minimum, ground.ceiling)
    top = int(ground.largest_needed(np.array([target]))[0])
    policy = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, target, AWS_COOLDOWN_S, AWS_COOLDOWN_S)
    return Named(name, (policy, CapacityBounds(low, max(low, min(top, ground.ceiling)))), reason)


def standard(capacity: CapacityModel, ground: Ground, today: Choice | None) -> list[Named]:
    """The alternatives that are always shown, today's policy last."""
    fleet = min(ground.highest_minimum, ground.ceiling)
    named = [
        rule_of_thumb(
            capacity,
            ground,
            AWS_SAFETY_FACTOR,
            "aws_half_of_maximum",
            "AWS's start value: half of what one instance carries.",
        ),
        rule_of_thumb(
            capacity,
            ground,
            COMMON_SHARE,
            "70_percent_of_maximum",
            "A common rule: 70 % of what one instance carries.",
        ),
        Named(
            "fixed_peak_fleet",
            (None, CapacityBounds(fleet, fleet)),
            "No scaling: as many instances as the recorded peak needs.",
        ),
    ]
    if today is not None:
        named.append(Named("today", today, "The policy the endpoint has today."))
    return named


def comparable(today: Choice | None, setup: Setup) -> tuple[Choice | None, Setup]:
    """Today's policy if it can be simulated; else a warning in its place."""
    metric = today[0].metric if today is not None and today[0] is not None else None
    if metric in (None, ScalingMetric.INVOCATIONS) or metric in setup.world.curves:
        return today, setup
    said = (
        f"Today's policy follows {metric}, and it was not measured how that answers to load: "
        "it is not compared."
    )
    return None, replace(setup, warnings=(*setup.warnings, said))


def front(found: Found, budget: float) -> list[Named]:
    """Points of cost against slow requests that no other policy beats, thinned evenly.

    Policies with more than `FRONT_REACH` times the budget of slow requests are nobody's choice.
    """
    scores = found.scores
    index = pareto(scores.cost, scores.violating_share)
    index = index[scores.violating_share[index] <= FRONT_REACH * budget]
    if index.size > FRONT_POINTS:
        keep = np.unique(np.rint(np.linspace(0, index.size - 1, FRONT_POINTS)).astype(np.int64))
        index = index[keep]
    return [
        Named(
            f"front_{i + 1}",
            found.grid.policy(int(k)),
            "On the front of cost against misses.",
            int(k),
        )
        for i, k in enumerate(index)
    ]


def near_misses(found: Found, budget: float) -> list[tuple[Named, tuple[Failing, ...]]]:
    """Policies not taken, the nearest in cost for each reason.

    With a choice: the dearest of the cheaper ones that fail, by what they fail; and the next
    dearer ones that would do. Without one: those with the fewest misses.
    """
    scores, met, index = found.scores, found.choice.met, found.choice.index
    cost = scores.cost
    picks: list[tuple[int, tuple[Failing, ...]]] = []
    seen: Counter[tuple[Failing, ...]] = Counter()
    like: set[tuple[float, int]] = set()
    if index is None:
        order = np.argsort(scores.violating_share, kind="stable")
    else:
        order = np.argsort(-cost, kind="stable")
        order = order[cost[order] <= cost[index]]
        order = order[scores.violating_share[order] <= FRONT_REACH * budget]
    for i in order.tolist():
        failing = met.failing(i)
        knobs = (float(found.grid.target_value[i]), int(found.grid.min_capacity[i]))
        if not failing or seen[failing] >= 3 or knobs in like:
            continue
        seen[failing] += 1
        like.add(knobs)
        picks.append((i, failing))
        if len(picks) == REJECTED_POINTS - 2:
            break
    if index is not None:
        dearer = np.flatnonzero(met.all & (cost > cost[index]))
        nearest = dearer[np.argsort(cost[dearer], kind="stable")][:2]
        picks += [(int(i), (Failing.COST,)) for i in nearest]
    return [
        (Named(f"rejected_{k + 1}", found.grid.policy(i), _why(failing), i), failing)
        for k, (i, failing) in enumerate(picks)
    ]


_REASONS = {
    Failing.REQUESTS: "too many slow requests",
    Failing.MINUTES: "too many bad minutes",
    Failing.RESILIENCE: "too many minutes in which the loss would not be survived",
    Failing.BOUND: "outside the bounds",
    Failing.COST: "meets everything, but a cheaper policy does too",
}


def _why(failing: tuple[Failing, ...]) -> str:
    text = " and ".join(_REASONS[f] for f in failing)
    return text[0].upper() + text[1:] + "."


def candidates_of(
    setup: Setup, found: Found, named: Sequence[Named], at: Evaluated
) -> list[Candidate]:
    """Candidates held against the budgets at the low end of the capacity, on all days."""
    met = meets(plain_shares(at.low), setup.budgets)
    return [
        candidate(
            setup.world,
            at,
            i,
            found.choice.scored_on,
            met,
            name=n.name,
            reason=f"{n.reason} ({describe(n.choice)})",
        )
        for i, n in enumerate(named)
    ]
