"""Capacity and traffic in, one defended policy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tuner.autoscaling.policy import ScalingMetric
from tuner.queueing.capacity import CapacityModel
from tuner.recommend import clock_statements, cost_parts, statements
from tuner.recommend.actions import ScheduleRules
from tuner.recommend.alternatives import (
    Named,
    candidates_of,
    comparable,
    front,
    near_misses,
    standard,
)
from tuner.recommend.check import check_by_requests
from tuner.recommend.choose import Scores
from tuner.recommend.constraints import Constraints
from tuner.recommend.evaluate import (
    Choice,
    by_metric,
    day_of,
    evaluate,
    hardest_day,
    stacked,
)
from tuner.recommend.minimum import minimum_as_sum
from tuner.recommend.off_hours import off_hours_for
from tuner.recommend.prices import PRICES, PriceTable
from tuner.recommend.refuse import impossible, unanswered
from tuner.recommend.schedule import Calendar, Planned, schedule_for
from tuner.recommend.scheduled import with_schedule
from tuner.recommend.search import Found, Ground, ground_of, roomy_target
from tuner.recommend.sensitivity import sensitivities
from tuner.recommend.setup import Setup, prepare
from tuner.recommend.signal_search import best_of, searches, signal_choices
from tuner.recommend.types import OffHours, Recommendation, Statement
from tuner.simulator.inputs import MetricCurve
from tuner.slo import Slo, Verdict
from tuner.workload.profile import TrafficProfile


def recommend(
    capacity: CapacityModel,
    traffic: TrafficProfile,
    *,
    slo: Slo,
    constraints: Constraints,
    launch_lag_s: Sequence[float] | float | None = None,
    prices: PriceTable = PRICES,
    today: Choice | None = None,
    seed: int = 0,
    metric_curves: Mapping[ScalingMetric, MetricCurve] | None = None,
    check_requests: int = 0,
    schedule: ScheduleRules | None = None,
) -> Recommendation:
    """Search the cheapest policy that holds the SLO budgets on this traffic.

    Parameters
    ----------
    capacity
        What was measured. Without verdict MET the answer repeats the verdict, with the gates
        as reasons and no policy.
    traffic
        Growth and peak already applied.
    constraints
        Bounds, budgets, resilience, cooldowns and metrics to search.
    launch_lag_s
        Seconds from order to service, one or a sample; None takes what was measured, and
        assumes four to six minutes, with a warning, when nothing was.
    prices
        Asked for ``constraints.instance_type``; without a price hours are minimised all the
        same and costs are None.
    today
        The endpoint's policy and bounds, to be shown beside the answer.
    seed
        Same inputs and seed, same answer.
    metric_curves
        How CPU or concurrency answer to load, for the metrics in ``constraints``.
    check_requests
        Replay the chosen policy request by request over the hardest stretch with at most
        that many requests (about a second per half million); 0 leaves it out.
    schedule
        What scheduled actions may do; None leaves them as a suggestion where surges outrun
        launches.

    Raises
    ------
    InsufficientDataError
        When the capacity model says MET but has no table or no lower bound.
    TrafficError, InputError
        When traffic, launch lag or metrics cannot be used.
    """
    if capacity.verdict is not Verdict.MET:
        return unanswered(capacity, traffic, slo, constraints, prices)
    setup = prepare(
        capacity,
        traffic,
        slo=slo,
        constraints=constraints,
        launch_lag_s=launch_lag_s,
        prices=prices,
        seed=seed,
        metric_curves=metric_curves,
    )
    today, setup = comparable(today, setup)
    if setup.ground.lowest_minimum > setup.ground.ceiling:
        beyond = _beyond(setup, constraints)
        return impossible(capacity, setup, slo, constraints, None, beyond, today)
    others = standard(capacity, setup.ground, today)
    results = searches(setup, setup.ground, constraints, others)
    found = best_of(results, setup.world)
    if found.choice.index is None:
        beyond = _beyond(setup, constraints)
        return impossible(capacity, setup, slo, constraints, found, beyond, today)
    answer = _answer(capacity, setup, slo, constraints, found, others, check_requests, schedule)
    alone = answer.without_schedule
    assert alone is not None
    return replace(answer, signals=signal_choices(setup, results, found, alone))


def _beyond(setup: Setup, constraints: Constraints) -> Found:
    """The search with the user's bounds and the quota lifted."""
    free = replace(constraints, max_capacity=None, quota=None)
    wide = ground_of(setup.world.days, setup.ground.rates_low, free)
    return best_of(searches(setup, wide, free, ()), setup.world)


def _answer(
    capacity: CapacityModel,
    setup: Setup,
    slo: Slo,
    constraints: Constraints,
    found: Found,
    others: Sequence[Named],
    check_requests: int,
    rules: ScheduleRules | None,
) -> Recommendation:
    index = found.choice.index
    assert index is not None
    chosen = found.grid.policy(index)
    rejected = near_misses(found, setup.budgets.requests)
    points = front(found, setup.budgets.requests)
    named = [
        Named("recommended", chosen, _reason(setup), index),
        *others,
        *(n for n, _ in rejected),
        *points,
    ]
    almost = [
        Named("", found.grid.policy(i), "", i)
        for i in cost_parts.nearly(found, setup.budgets).tolist()
    ]
    tried = [*named, *almost]
    at = evaluate(setup.world, [n.choice for n in tried], low=_low_end(setup, found, tried))
    known = at.mid.policies(np.arange(len(named), len(tried)))
    candidates = candidates_of(setup, found, named, at)
    n_other, n_rejected = len(others), len(rejected)
    beside = candidates[1 : 1 + n_other]
    refused = [
        replace(c, meets=False, failing=failing)
        for c, (_, failing) in zip(
            candidates[1 + n_other : 1 + n_other + n_rejected], rejected, strict=True
        )
    ]
    day = hardest_day(at.mid, 0)
    outrun = statements.reactive_alone(found, setup.world, setup.ground)
    planned, cheaper, off_hours = _by_the_clock(setup, found, chosen, rules, outrun is not None)
    hardest = day_of(setup.world, chosen, day)
    checked = (
        check_by_requests(capacity, setup.world, chosen, hardest, check_requests)
        if check_requests
        else None
    )
    adopted = planned is not None and planned.schedule.adopted
    runs = (planned.schedule.policy, planned.schedule.bounds) if planned and adopted else chosen
    if checked is not None and adopted:
        checked = replace(checked, sentence=f"Without the schedule: {checked.sentence}")
    extra = [s for s in (outrun, cheaper, checked) if s is not None]
    alone = Recommendation(
        verdict=Verdict.MET,
        slo=slo,
        capacity=capacity,
        chosen=replace(candidates[0], meets=True, failing=()),
        alternatives=tuple(c for c in beside if c.name != "today"),
        rejected=tuple(refused),
        front=tuple(candidates[1 + n_other + n_rejected :]),
        statements=(*_statements(setup, found, runs, known), *extra),
        sensitivities=tuple(sensitivities(capacity, setup, found, at, chosen)),
        hardest_day=hardest,
        traffic_name=setup.traffic.name,
        peak_per_min=setup.ground.peak_per_min,
        warnings=(*setup.warnings, *_bound_warnings(setup.ground, runs, constraints)),
        instance_type=constraints.instance_type,
        price_per_hour_usd=setup.world.price.usd_per_hour if setup.world.price else None,
        price=setup.world.price,
        basis=setup.basis(
            found.choice.chosen_on.tolist(), found.choice.scored_on.tolist(), len(found.grid)
        ),
        minimum=minimum_as_sum(setup.world, setup.ground, chosen[1].min_capacity),
        today=next((c for c in beside if c.name == "today"), None),
        schedule=planned.schedule if planned is not None else None,
        off_hours=off_hours,
    )
    return with_schedule(alone, planned, setup) if planned is not None and adopted else alone


def _by_the_clock(
    setup: Setup, found: Found, chosen: Choice, rules: ScheduleRules | None, outrun: bool
) -> tuple[Planned | None, Statement | None, OffHours | None]:
    """What scheduled actions are worth: off-hours, or a minimum that follows the need."""
    world = setup.world
    calendar = Calendar.of(setup.days, setup.traffic.start_minute_of_week)
    if rules is not None and rules.non_production:
        off = off_hours_for(world, chosen, rules, calendar.weekend, calendar.midnight)
        return None, clock_statements.off_hours(off), off
    if rules is None and not outrun and not roomy_target(world, setup.ground, chosen):
        return None, None, None
    planned = schedule_for(world, setup.ground, chosen, setup.budgets, calendar, rules)
    schedule = planned.schedule if planned is not None else None
    said = clock_statements.scheduled(schedule, chosen, found, world)
    if said is None:
        return None, clock_statements.not_scheduled(schedule, found) if rules else None, None
    assert planned is not None
    schedule = replace(planned.schedule, saved_share=said.value or 0.0)
    return replace(planned, schedule=schedule), said, None


def _low_end(setup: Setup, found: Found, named: Sequence[Named]) -> Scores:
    """Scores at the low end: from the search, and simulated for those that did not ride along."""
    known = np.array([n.row for n in named if n.row >= 0])
    others = [n.choice for n in named if n.row < 0]
    beside = found.beside
    if beside.violating.shape[0] != len(others):
        (beside,) = by_metric(setup.world, others, (setup.world.low_factor,))
    first = found.scores.policies(known[:1])
    return stacked([first, beside, found.scores.policies(known[1:])])


def _reason(setup: Setup) -> str:
    d = setup.days.count
    return (
        "The cheapest policy tried that holds every budget at the lower bound of the capacity, "
        f"on {d} day{'s' if d > 1 else ''} of traffic."
    )


def _statements(setup: Setup, found: Found, chosen: Choice, known: Scores) -> list[Statement]:
    world, ground, budgets = setup.world, setup.ground, setup.budgets
    policy, bounds = chosen
    per_request = policy is not None and policy.metric is ScalingMetric.INVOCATIONS
    enough = (
        policy is None
        or not per_request
        or bounds.max_capacity >= int(ground.largest_needed(np.array([policy.target_value]))[0])
    )
    verb = "covers" if enough else "does not cover"
    maximum = Statement(
        "believable_peak",
        f"The maximum {verb} {ground.believable_peak_per_min:.0f} requests per minute, the "
        f"largest peak to expect (recorded: {ground.peak_per_min:.0f}).",
        ground.believable_peak_per_min,
        "requests per minute",
    )
    optional = (
        statements.every_day(found, budgets, world),
        statements.costliest_day(found, budgets, world),
    )
    return [
        *statements.days_statement(found, budgets),
        *statements.surges(world, ground, chosen),
        maximum,
        cost_parts.resilience_cost(found, budgets, world),
        *cost_parts.caution_cost(found, budgets, world, known),
        *statements.binding(found, budgets, world),
        *(s for s in optional if s is not None),
    ]


def _bound_warnings(ground: Ground, chosen: Choice, constraints: Constraints) -> list[str]:
    policy, bounds = chosen
    if policy is None or policy.metric is not ScalingMetric.INVOCATIONS:
        return []
    needed = int(ground.largest_needed(np.array([policy.target_value]))[0])
    said = []
    if needed > bounds.max_capacity:
        limit = (
            f"the quota of {constraints.quota}"
            if constraints.quota == ground.ceiling
            else f"max_capacity {ground.ceiling}"
        )
        said.append(
            f"The largest peak to expect ({ground.believable_peak_per_min:.0f} requests per "
            f"minute) needs {needed} instances; {limit} does not cover it."
        )
    if constraints.quota is None:
        said.append(
            f"The account's quota of {constraints.instance_type} was not checked; the policy "
            f"may order up to {bounds.max_capacity}."
        )
    return said
