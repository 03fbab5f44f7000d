"""How much of the cost each kind of caution is: a loss, what was not measured, days unseen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tuner.recommend.choose import (
    Budgets,
    IntArray,
    Scores,
    cheapest,
    meets,
    plain_shares,
    upper_bounds,
)
from tuner.recommend.constraints import describe_resilience
from tuner.recommend.evaluate import World
from tuner.recommend.search import Found
from tuner.recommend.types import Statement

REACH = 4.0
"""Policies with more slow requests than this over the budget would not do at any capacity."""
MOST_NEARLY = 48


def resilience_cost(found: Found, budgets: Budgets, world: World) -> Statement:
    """How much of the cost the resilience rule is; or what being able to lose an instance costs."""
    scores = found.scores.days(found.choice.chosen_on)
    shares = upper_bounds(scores, world.seed)
    index = found.choice.index
    assert index is not None
    cost = float(scores.cost[index])
    if budgets.unsafe_minutes is not None:
        free = cheapest(scores, meets(shares, replace(budgets, unsafe_minutes=None)).all)
        assert free is not None
        share = max(0.0, 1.0 - float(scores.cost[free]) / cost)
        lost = describe_resilience(world.resilience)
        return Statement(
            "resilience_cost",
            f"Being able to lose {lost} at any minute is {share:.0%} of the cost.",
            share,
            "share of cost",
        )
    safe = cheapest(scores, meets(shares, replace(budgets, unsafe_minutes=0.01)).all)
    if safe is None:
        return Statement(
            "resilience_cost",
            "No policy within the bounds could also lose an instance in 99 % of minutes.",
        )
    more = max(0.0, float(scores.cost[safe]) / cost - 1.0)
    return Statement(
        "resilience_cost",
        f"Nothing may be lost under this rule; to survive the loss of an instance in 99 % of "
        f"minutes costs {more:.0%} more.",
        more,
        "share of cost",
    )


def nearly(found: Found, budgets: Budgets) -> IntArray:
    """Cheaper policies that might do if the middle of the capacity were known to be true.

    They are to be simulated there, for `caution_cost`.
    """
    index, scores = found.choice.index, found.scores
    assert index is not None
    limit = REACH * max(budgets.requests, float(scores.violating_share[index]))
    able = (scores.cost < scores.cost[index]) & (scores.violating_share <= limit)
    rows = np.flatnonzero(able)
    rows = rows[np.argsort(scores.cost[rows], kind="stable")]
    keep = np.unique(np.linspace(0, rows.size - 1, min(MOST_NEARLY, rows.size)).astype(np.int64))
    return np.asarray(rows[keep], dtype=np.int64)


def caution_cost(found: Found, budgets: Budgets, world: World, known: Scores) -> list[Statement]:
    """What the answer pays because the capacity is not known exactly, and for other days.

    Each is the share of the cost that would be saved if that one caution were dropped: were the
    middle of the capacity interval known to be true (``known`` scores the policies of `nearly`
    there); and were the recorded days the only ones, so that the budgets had to hold on them
    and at no upper bound.
    """
    index, days = found.choice.index, found.choice.chosen_on
    assert index is not None
    scores = found.scores.days(days)
    cost = float(scores.cost[index])
    mid = known.days(days)
    other = cheapest(mid, meets(upper_bounds(mid, world.seed), budgets).all)
    unknown = 0.0 if other is None else max(0.0, 1.0 - float(mid.cost[other]) / cost)
    out = [
        Statement(
            "capacity_uncertainty_cost",
            f"Holding at the lower end of the capacity interval is {unknown:.0%} of the cost; "
            "a longer measurement makes it less.",
            unknown,
            "share of cost",
        )
    ]
    if days.size < 2:
        return out
    allowed = meets(plain_shares(scores), budgets).all
    allowed[index] = True
    tight = cheapest(scores, allowed)
    assert tight is not None
    unseen = max(0.0, 1.0 - float(scores.cost[tight]) / cost)
    said = Statement(
        "unseen_days_cost",
        f"Room for days unlike the {days.size} recorded ones is {unseen:.0%} of the cost: a "
        "policy that only just holds the budgets on them would cost that much less.",
        unseen,
        "share of cost",
    )
    return [*out, said]
