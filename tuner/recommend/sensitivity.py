"""What changes when an assumption does: launch lag, growth, capacity, threshold, budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tuner.queueing.capacity import CapacityModel
from tuner.recommend.choose import Scores, cheapest, meets, upper_bounds
from tuner.recommend.evaluate import Choice, Evaluated, grid_of, roomy, score_at, scores_of
from tuner.recommend.rates import scaled_table, table_rates
from tuner.recommend.search import Found
from tuner.recommend.setup import Setup
from tuner.recommend.types import Statement
from tuner.simulator.simulate import simulate_ensemble
from tuner.units import s_to_ms

LAG_FACTORS = (0.5, 2.0)
GROWTHS = (1.1, 1.25, 1.5)
BUDGET_FACTORS = (0.5, 2.0)


def sensitivities(
    capacity: CapacityModel, setup: Setup, found: Found, at: Evaluated, chosen: Choice
) -> list[Statement]:
    """The chosen policy under other assumptions; policy 0 of ``at`` is the chosen one.

    The value of a statement is the share of slow requests, except for ``budget_``: there it
    is the change of cost of the policy that would be chosen.
    """
    return [
        *_capacity(at),
        *_other_worlds(setup, chosen, float(at.mid.cost[0])),
        *_thresholds(capacity, setup, chosen, float(at.mid.cost[0])),
        *_budget(setup, found),
    ]


def _line(name: str, words: str, scores: Scores, base_hours: float) -> Statement:
    missed, hours = float(scores.violating_share[0]), float(scores.cost[0])
    return Statement(
        name,
        f"{words}: {missed:.3%} of requests slow, {float(scores.bad[0].mean()):.2%} of minutes "
        f"bad, {round(hours / base_hours - 1.0, 2) + 0.0:+.0%} instance-hours.",
        missed,
        "share of requests",
    )


def _capacity(at: Evaluated) -> list[Statement]:
    first = np.array([0])
    hours = float(at.mid.cost[0])
    pairs = (("low", at.low), ("mid", at.mid), ("high", at.high))
    return [
        _line(f"capacity_{end}", f"Capacity at the {end} of its interval", s.policies(first), hours)
        for end, s in pairs
    ]


def _other_worlds(setup: Setup, chosen: Choice, base: float) -> list[Statement]:
    """Other launch lags and growths in one call: each is a set of days."""
    world, grid = setup.world, grid_of([chosen])
    d = len(world.days)
    lags = [f for f in LAG_FACTORS for _ in range(d)] + [1.0] * (d * len(GROWTHS))
    launch = {f: world.launch.scaled(f) for f in set(lags)}
    days = np.concatenate([world.days * g for g in (*(1.0 for _ in LAG_FACTORS), *GROWTHS)])
    (joint,) = score_at(world, grid, (1.0,), days=days, launch=[launch[f] for f in lags])
    names = [(f"launch_lag_x{f:g}", f"Launches {f:g} times as long") for f in LAG_FACTORS]
    names += [(f"growth_x{g:g}", f"Traffic times {g:g}") for g in GROWTHS]
    return [
        _line(name, words, joint.days(np.arange(i * d, (i + 1) * d)), base)
        for i, (name, words) in enumerate(names)
    ]


def _thresholds(
    capacity: CapacityModel, setup: Setup, chosen: Choice, base: float
) -> list[Statement]:
    """The chosen policy under a tighter and a wider SLO, and what an instance carries there.

    The value is the share of slow requests. No statement without a latency curve.
    """
    if capacity.table is None or capacity.binding is None:
        return []
    world, grid = setup.world, grid_of([chosen])
    faster = world.table.saturation_rate_per_s / capacity.table.saturation_rate_per_s
    tables = [scaled_table(t, faster) for _, t in capacity.other_thresholds]
    if not tables:
        return []
    options = roomy(world.options(grid.metric), grid)
    results = simulate_ensemble(
        grid, world.days, tables, world.launch, seed=world.seed, options=options
    )
    rate = table_rates(world.table, world.allowance)[0]
    out = []
    for (factor, _), table, result in zip(capacity.other_thresholds, tables, results, strict=True):
        change = table_rates(table, world.allowance)[0] / rate - 1.0
        words = (
            f"An SLO of {s_to_ms(capacity.binding.threshold_s * factor):.4g} ms, at which one "
            f"instance carries {change:+.0%}"
        )
        out.append(_line(f"slo_x{factor:g}", words, scores_of(world, result), base))
    return out


def _budget(setup: Setup, found: Found) -> list[Statement]:
    """What other budgets would cost, chosen from what was simulated."""
    choice, world = found.choice, setup.world
    assert choice.index is not None
    scores = found.scores.days(choice.chosen_on)
    shares = upper_bounds(scores, world.seed)
    cost = float(scores.cost[choice.index])
    out = []
    for f in BUDGET_FACTORS:
        budgets = replace(
            setup.budgets,
            requests=min(1.0, setup.budgets.requests * f),
            minutes=min(1.0, setup.budgets.minutes * f),
        )
        other = cheapest(scores, meets(shares, budgets).all)
        words = (
            f"Budgets of {budgets.requests:.3%} of requests and {budgets.minutes:.3%} of minutes"
        )
        if other is None:
            out.append(Statement(f"budget_x{f:g}", f"{words}: no policy tried holds them."))
            continue
        change = float(scores.cost[other]) / cost - 1.0
        target = f"target {found.grid.target_value[other]:.6g}"
        out.append(
            Statement(
                f"budget_x{f:g}", f"{words}: {target}, {change:+.0%} cost.", change, "share of cost"
            )
        )
    return out
