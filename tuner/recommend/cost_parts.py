"""How much of the cost each kind of caution is: a loss, what was not measured, days unseen."""

from __future__ import annotations

from dataclasses import replace

from tuner.recommend.choose import (
    BoolArray,
    Budgets,
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


def caution_cost(found: Found, budgets: Budgets, world: World) -> list[Statement]:
    """What the answer pays because the capacity is not known exactly, and for other days.

    Each is the share of the cost that would be saved if that one caution were dropped: were the
    middle of the capacity interval known to be true; and were the recorded days the only ones,
    so that the budgets had to hold on them and at no upper bound.
    """
    index, days = found.choice.index, found.choice.chosen_on
    assert index is not None
    scores = found.scores.days(days)
    cost = float(scores.cost[index])
    out = []
    if found.mid is not None:
        mid = found.mid.days(days)
        share = _saved(mid, meets(upper_bounds(mid, world.seed), budgets).all, index, cost)
        out.append(
            Statement(
                "capacity_uncertainty_cost",
                f"Holding at the lower end of the capacity interval is {share:.0%} of the cost; "
                "a longer measurement makes it less.",
                share,
                "share of cost",
            )
        )
    share = _saved(scores, meets(plain_shares(scores), budgets).all, index, cost)
    out.append(
        Statement(
            "unseen_days_cost",
            f"Room for days unlike the {days.size} recorded ones is {share:.0%} of the cost: a "
            "policy that only just holds the budgets on them would cost that much less.",
            share,
            "share of cost",
        )
    )
    return out


def _saved(scores: Scores, allowed: BoolArray, index: int, cost: float) -> float:
    """Share of the cost that the cheapest policy allowed saves; the choice itself always is."""
    also = allowed.copy()
    also[index] = True
    other = cheapest(scores, also)
    assert other is not None
    return max(0.0, 1.0 - float(scores.cost[other]) / cost)
