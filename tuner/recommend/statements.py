"""Sentences about an answer, each with the number it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from tuner.autoscaling.policy import ScalingMetric
from tuner.recommend.choose import (
    BOOTSTRAP_DAYS,
    NO_REQUESTS,
    Budgets,
    Scores,
    cheapest,
    meets,
    plain_shares,
    upper_bounds,
)
from tuner.recommend.constraints import describe_resilience, survivors
from tuner.recommend.evaluate import HOURS_PER_DAY, Choice, World, grid_of, monthly_usd, roomy
from tuner.recommend.rates import scaled_table
from tuner.recommend.search import Found, Ground
from tuner.recommend.types import Statement
from tuner.simulator.headroom import (
    largest_jump,
    largest_ramp,
    ramp_for_share,
    share_for_ramp,
)
from tuner.units import per_s_to_per_min

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
DAILY_LEVEL = 0.90
WORTH_SAYING = 0.03
IDLE = 1.5
"""Times the instances needed: from here on a minimum that follows the clock may be worth it."""


def binding(found: Found, budgets: Budgets, world: World) -> list[Statement]:
    """The budgets in order of what they cost: hours a day saved if one were dropped."""
    index = found.choice.index
    if index is None:
        return []
    days = found.choice.chosen_on
    scores = found.scores.days(days)
    shares = upper_bounds(scores, world.seed)
    cost = float(scores.cost[index])
    used = [float(s[index]) for s in shares]
    rows = [
        ("requests", "slow requests", replace(budgets, requests=1.0), used[0], budgets.requests),
        ("minutes", "bad minutes", replace(budgets, minutes=1.0), used[1], budgets.minutes),
        (
            "resilience",
            "minutes that could not lose " + describe_resilience(world.resilience),
            replace(budgets, unsafe_minutes=None),
            used[2],
            budgets.unsafe_minutes,
        ),
    ]
    out = []
    for name, words, relaxed, value, limit in rows:
        if limit is None:
            continue
        other = cheapest(scores, meets(shares, relaxed).all)
        assert other is not None
        saved = max(0.0, cost - float(scores.cost[other]))
        effect = (
            f"without this limit the cheapest policy costs {saved / cost:.0%} less"
            if saved > 0.0
            else "dropping this limit alone saves nothing"
        )
        sentence = f"{value:.3%} of {limit:.3%} allowed {words} at the upper bound; {effect}."
        out.append((saved, Statement(f"binding:{name}", sentence, saved / cost, "share of cost")))
    return [s for _, s in sorted(out, key=lambda pair: (-pair[0], pair[1].name))]


def days_statement(found: Found, budgets: Budgets) -> list[Statement]:
    """What the days that were not used for choosing say about the next one.

    A policy fixed before s exchangeable days, all of which met the budgets, fails the next
    one with probability at most 1 / (s + 1): of s + 1 exchangeable days each is equally
    likely to be the only one that fails. With failures: the Clopper-Pearson upper bound.
    """
    choice = found.choice
    assert choice.index is not None
    if not choice.scored_on.size:
        why = (
            "the first choice failed on the days kept for scoring, and the policy was chosen "
            "again on all of them"
            if choice.refuted is not None
            else "the record is too short to keep days aside"
        )
        return [
            Statement(
                "next_day",
                f"No day scores the policy independently: {why}. The figures describe the days "
                "it was chosen on.",
            )
        ]
    scored = found.scores.days(choice.scored_on).policies(np.array([choice.index]))
    met = [
        bool(meets(plain_shares(scored.days(np.array([d]))), budgets).all[0])
        for d in range(choice.scored_on.size)
    ]
    count, failed = len(met), met.count(False)
    shares = [float(s[0]) for s in plain_shares(scored)]
    first = Statement(
        "scored_days",
        f"On {count} days not used for choosing, {shares[0]:.3%} of requests were slow and "
        f"{shares[1]:.3%} of minutes bad, at the lower bound of the capacity.",
        shares[0],
        "share of requests",
    )
    if not failed:
        bound = 1.0 / (count + 1)
        text = f"All {count} met the budgets: a like day fails with probability at most {bound:.1%}"
    else:
        last = betaincinv(failed + 1, count - failed, DAILY_LEVEL) if failed < count else 1.0
        bound = float(last)
        text = (
            f"{failed} of {count} missed the budgets on their own: a like day does so with "
            f"probability at most {bound:.0%} ({DAILY_LEVEL:.0%} bound)"
        )
    return [first, Statement("next_day", f"{text}, whatever its distribution.", bound)]


def start_of(world: World, choice: Choice) -> tuple[int, float]:
    """Instances and load per minute where surges begin: the mean traffic's fleet at its target.

    There no instance is idle and no alarm has begun to count: the worst moment.
    """
    policy, bounds = choice
    mean = float(world.days.mean())
    if policy is None or policy.metric is not ScalingMetric.INVOCATIONS:
        return bounds.min_capacity, mean
    wanted = math.ceil(mean / policy.target_value)
    n = min(max(wanted, bounds.min_capacity), bounds.max_capacity)
    return n, n * policy.target_value


def surges(world: World, ground: Ground, choice: Choice) -> list[Statement]:
    """The largest ramp and jump survived, by simulation at the low end, and by rule."""
    n, start = start_of(world, choice)
    grid = grid_of([choice])
    policy, bounds = grid.policy(0)
    table = scaled_table(world.table, world.low_factor)
    steady = replace(world.at(world.low_factor).options(policy.metric), dispersion=1.0)
    options = roomy(steady, grid)
    ramp = largest_ramp(policy, bounds, table, world.launch, start, options=options)
    jump = largest_jump(policy, bounds, table, world.launch, start, options=options)
    where = f"From {n} instance{'s' if n > 1 else ''} " + (
        f"at {start:.0f} requests per minute" if choice[0] is None else "at their target"
    )
    least = " at least" if ramp.beyond else ""
    out = [
        Statement(
            "largest_ramp",
            f"{where}, load may grow by{least} {ramp.value:.1%} of itself per minute, up to "
            "twice as much, without one bad minute."
            if ramp.value
            else f"{where}, even a growth of 0.1 % per minute up to twice the load brings bad "
            "minutes.",
            ramp.value,
            "per minute",
        ),
        Statement(
            "largest_jump",
            f"{where}, a sudden jump to{' at least' if jump.beyond else ''} x{jump.value:.2f} "
            "brings no bad minute."
            if jump.value > 1.0
            else f"{where}, no sudden jump is survived without bad minutes.",
            max(jump.value, 1.0),
            "factor",
        ),
    ]
    if choice[0] is not None and policy.metric is ScalingMetric.INVOCATIONS:
        carried = float(ground.rates_low[min(n, ground.rates_low.size) - 1])
        share = policy.target_value / per_s_to_per_min(carried)
        slowest_s = max(world.launch.seconds)
        out.append(
            Statement(
                "ramp_rule",
                f"The target is {share:.0%} of what an instance carries there; by the rule "
                f"1 / (1 + g x reaction time) that leaves room for "
                f"{ramp_for_share(share, slowest_s):.1%} per minute. A growth of 5 % per minute "
                f"needs {share_for_ramp(0.05, slowest_s):.0%}.",
                share,
                "target over capacity",
            )
        )
    return out


def every_day(found: Found, budgets: Budgets, world: World) -> Statement | None:
    """The cheapest target with every single day met, other knobs as chosen, and its promise.

    The bound 1 / (k + 1) holds for k exchangeable days because the candidates are nested: a
    lower target with the same minimum and cooldowns.
    """
    index = found.choice.index
    assert index is not None
    grid, days = found.grid, found.scores.requests.size
    same = (
        (grid.min_capacity == grid.min_capacity[index])
        & (grid.scale_out_cooldown_s == grid.scale_out_cooldown_s[index])
        & (grid.scale_in_cooldown_s == grid.scale_in_cooldown_s[index])
    )
    daily = _daily_met(found.scores, budgets)
    best = cheapest(found.scores, same & daily.all(axis=1))
    if days < 2:
        return None
    if best is None:
        return Statement(
            "every_day",
            f"With this minimum no target tried meets the budgets on every one of the {days} "
            "days; over all days they are met.",
        )
    more = float(found.scores.cost[best] / found.scores.cost[index]) - 1.0
    return Statement(
        "every_day",
        f"To meet the budgets on every one of the {days} days: target "
        f"{grid.target_value[best]:.6g}, {more:+.0%} cost; the next like day then fails with "
        f"probability at most {1.0 / (days + 1):.1%}.",
        float(grid.target_value[best]),
        "target_value",
    )


def _daily_met(scores: Scores, budgets: Budgets) -> NDArray[np.bool_]:
    requests = np.maximum(scores.requests, NO_REQUESTS)[None]
    unsafe = 1.0 if budgets.unsafe_minutes is None else budgets.unsafe_minutes
    met: NDArray[np.bool_] = (
        (scores.violating / requests <= budgets.requests)
        & (scores.bad <= budgets.minutes)
        & (scores.unsafe <= unsafe)
    )
    return met


def reactive_alone(found: Found, world: World, ground: Ground) -> Statement | None:
    """Whether instances have to stand idle because scaling comes too late; with their price."""
    index = found.choice.index
    assert index is not None
    low = int(found.grid.min_capacity[index])
    cost = float(found.scores.cost[index])
    at_lowest = found.grid.min_capacity == ground.lowest_minimum
    if (found.choice.met.all & at_lowest).any() or low == ground.lowest_minimum:
        return _idle(cost, world, ground)
    cheaper = at_lowest & (found.scores.cost < cost)
    if not cheaper.any():
        return _idle(cost, world, ground)
    misses = np.where(cheaper, found.scores.violating_share, np.inf)
    more = cost - float(found.scores.cost[int(np.argmin(misses))])
    price = monthly_usd(more, world.price)
    said = "" if price is None else f", {price:+.0f} USD a month against the nearest cheaper one"
    return Statement(
        "reactive_alone",
        f"Surges are faster than launches: with a minimum of {ground.lowest_minimum} no target "
        f"holds the SLO at that cost. The recommended minimum is {low}{said}.",
        price,
        "USD per month",
    )


def _idle(cost: float, world: World, ground: Ground) -> Statement | None:
    """Instances the policy runs over those that carry each minute and survive the loss."""
    carried = ground.needed(world.days)
    most = np.arange(2 * int(carried.max()) + world.resilience.count + 1)
    fleet = np.searchsorted(survivors(world.resilience, most), carried)
    times = cost / (float(fleet.mean()) * HOURS_PER_DAY)
    if times < IDLE:
        return None
    price = monthly_usd(cost * (1.0 - 1.0 / times), world.price)
    said = "" if price is None else f", {price:.0f} USD a month"
    return Statement(
        "reactive_alone",
        f"Surges are faster than launches: the policy runs {times:.1f} times the instances that "
        f"the load asks for minute by minute; the others wait for the next surge{said}.",
        price,
        "USD per month",
    )


def costliest_day(found: Found, budgets: Budgets, world: World) -> Statement | None:
    """How much of the cost comes from the one day that rules most cheaper policies out."""
    index, days = found.choice.index, found.choice.chosen_on
    assert index is not None
    scores = found.scores.days(days)
    cheaper = scores.cost < scores.cost[index]
    if days.size <= BOOTSTRAP_DAYS or not cheaper.any():
        return None
    misses = scores.violating[cheaper] / max(scores.requests.sum(), NO_REQUESTS) / budgets.requests
    unsafe = 0.0 if budgets.unsafe_minutes is None else scores.unsafe[cheaper] / days.size
    weight = np.sum(
        misses + scores.bad[cheaper] / days.size / max(budgets.minutes, NO_REQUESTS) + unsafe,
        axis=0,
    )
    worst = int(np.argmax(weight))
    rest = scores.days(np.delete(np.arange(days.size), worst))
    other = cheapest(rest, meets(upper_bounds(rest, world.seed), budgets).all)
    assert other is not None
    saved = 1.0 - float(scores.cost[other]) / float(scores.cost[index])
    if saved < WORTH_SAYING:
        return None
    return Statement(
        "costliest_day",
        f"Day {int(days[worst]) + 1} of the record rules most cheaper policies out: without it "
        f"the answer would cost {saved:.0%} less. Is it a day to be ready for?",
        saved,
        "share of cost",
    )
