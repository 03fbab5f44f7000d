"""The search on each scaling metric, and which metric's policy to take."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.autoscaling.policy import ScalingMetric
from tuner.recommend.alternatives import Named, candidates_of
from tuner.recommend.constraints import Constraints
from tuner.recommend.evaluate import World, evaluate
from tuner.recommend.search import Found, Ground, search
from tuner.recommend.setup import Setup
from tuner.recommend.signals import false_alarms_per_day
from tuner.recommend.types import Candidate, SignalChoice

WORTH = 0.02
"""An earlier metric is kept unless a later one saves more than this share of the cost."""
ALARMS_PER_DAY = 1.0


def searches(
    setup: Setup, ground: Ground, constraints: Constraints, others: Sequence[Named]
) -> list[Found]:
    """The search on each metric, in the order of the constraints.

    The other policies ride along where everything follows invocations.
    """
    riders = [n.choice for n in others]
    metrics = {p.metric for p, _ in riders if p is not None} | set(constraints.metrics)
    if metrics != {ScalingMetric.INVOCATIONS}:
        riders = []
    return [
        search(setup.world, ground, constraints, m, setup.days.weekend, setup.budgets, riders)
        for m in constraints.metrics
    ]


def best_of(results: Sequence[Found], world: World) -> Found:
    """The cheapest among the metrics that are steady enough, with a preference for earlier ones.

    A metric whose datapoints scatter so much that a fleet at 90 % of its target would scale out
    for nothing every day is taken only when no steady one holds the budgets.
    """
    able = [r for r in results if r.choice.index is not None] or list(results)
    steady = [r for r in able if _steady(world, r.grid.metric)] or able
    least = min(r.cost for r in steady)
    return next(r for r in steady if r.cost <= least * (1.0 + WORTH))


def _steady(world: World, metric: ScalingMetric) -> bool:
    curve = world.curves.get(metric)
    if metric is ScalingMetric.INVOCATIONS or curve is None:
        return True
    return false_alarms_per_day(curve.scatter, curve.period_s) < ALARMS_PER_DAY


def signal_choices(
    setup: Setup, results: Sequence[Found], taken: Found, chosen: Candidate
) -> tuple[SignalChoice, ...]:
    """The best policy on each metric; empty when there is one metric only."""
    if len(results) < 2:
        return ()
    return tuple(
        SignalChoice(r.grid.metric, chosen, recommended=True)
        if r is taken
        else SignalChoice(r.grid.metric, _candidate(setup, r))
        for r in results
    )


def _candidate(setup: Setup, found: Found) -> Candidate | None:
    index = found.choice.index
    if index is None:
        return None
    policy = found.grid.policy(index)
    name = f"by_{found.grid.metric.name.lower()}"
    named = [Named(name, policy, "The cheapest on this metric.", index)]
    at = evaluate(setup.world, [policy])
    return candidates_of(setup, found, named, at)[0]
