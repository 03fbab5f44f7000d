"""What a given policy would do with given traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.alternatives import Named, comparable, standard
from tuner.recommend.choose import meets, plain_shares
from tuner.recommend.constraints import Constraints
from tuner.recommend.evaluate import Choice, candidate, day_of, describe, evaluate, hardest_day
from tuner.recommend.prices import PRICES, PriceTable
from tuner.recommend.setup import prepare
from tuner.recommend.statements import surges
from tuner.recommend.types import Candidate, Statement
from tuner.simulator.inputs import MetricCurve
from tuner.simulator.timeline import Timeline
from tuner.slo import Slo
from tuner.workload.profile import TrafficProfile


@dataclass(frozen=True, slots=True, eq=False)
class WhatIf:
    """A policy's prospects, its hardest day minute by minute, and what to keep in mind.

    ``alternatives`` are the usual ones on the same traffic, today's policy among them.
    """

    candidate: Candidate
    alternatives: tuple[Candidate, ...]
    hardest_day: Timeline
    statements: tuple[Statement, ...]
    warnings: tuple[str, ...]


def what_if(
    capacity: CapacityModel,
    traffic: TrafficProfile,
    policy: TargetTrackingPolicy | None,
    bounds: CapacityBounds,
    *,
    slo: Slo,
    constraints: Constraints,
    launch_lag_s: Sequence[float] | float | None = None,
    prices: PriceTable = PRICES,
    seed: int = 0,
    metric_curves: Mapping[ScalingMetric, MetricCurve] | None = None,
    today: Choice | None = None,
) -> WhatIf:
    """Simulate one policy (None: a fleet fixed at the minimum) as `recommend` would.

    Raises
    ------
    InsufficientDataError, TrafficError, InputError
        As `recommend`; also when the capacity has no verdict MET, since then there is no
        table to simulate with.
    """
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
    choice = (policy, bounds)
    today, setup = comparable(today, setup)
    named = [
        Named("what_if", choice, "The policy asked for."),
        *standard(capacity, setup.ground, today),
    ]
    at = evaluate(setup.world, [n.choice for n in named])
    met = meets(plain_shares(at.low), setup.budgets)
    answers = [
        candidate(
            setup.world,
            at,
            i,
            np.arange(0),
            met,
            name=n.name,
            reason=f"{n.reason} ({describe(n.choice)})",
        )
        for i, n in enumerate(named)
    ]
    return WhatIf(
        candidate=answers[0],
        alternatives=tuple(answers[1:]),
        hardest_day=day_of(setup.world, choice, hardest_day(at.mid, 0)),
        statements=tuple(surges(setup.world, setup.ground, choice)),
        warnings=setup.warnings,
    )
