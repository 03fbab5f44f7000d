"""A policy with its schedule as the answer: bounds, expectation, hardest day and minimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tuner.autoscaling.policy import CapacityBounds
from tuner.recommend.choose import meets, upper_bounds
from tuner.recommend.evaluate import Evaluated, candidate, day_of, describe, hardest_day
from tuner.recommend.minimum import minimum_as_sum
from tuner.recommend.schedule import Planned, scores_under
from tuner.recommend.setup import Setup
from tuner.recommend.types import WITHOUT_SCHEDULE, Recommendation


def with_schedule(answer: Recommendation, planned: Planned, setup: Setup) -> Recommendation:
    """The answer with the schedule's policy in the place of the policy alone.

    Its minimum is the highest that the clock asks for, which is safe until the first scheduled
    action fires; what is expected of it counts from then on. The policy alone stays as an
    alternative. The minimum as a sum is that of the quietest window.
    """
    alone = answer.chosen
    schedule, world = planned.schedule, setup.world
    assert alone is not None
    under = (schedule.policy, schedule.bounds)
    mid, high = scores_under(world, [under], planned.parts, (1.0, world.high_factor))
    safe = CapacityBounds(schedule.highest_minimum, schedule.bounds.max_capacity)
    choice = (schedule.policy, safe)
    chosen = candidate(
        world,
        Evaluated((choice,), planned.low, mid, high),
        0,
        np.arange(0),
        meets(upper_bounds(planned.low, world.seed), setup.budgets),
        name=alone.name,
        reason=(
            "The cheapest tried that holds every budget at the lower bound of the capacity, "
            f"with a minimum that follows the clock, on {setup.days.count} days of traffic. "
            f"({describe(choice)} until the first scheduled action)"
        ),
    )
    day = hardest_day(mid, 0)
    return replace(
        answer,
        chosen=chosen,
        schedule=schedule,
        alternatives=(
            replace(alone, name=WITHOUT_SCHEDULE, reason=f"Without a schedule. {alone.reason}"),
            *answer.alternatives,
        ),
        hardest_day=day_of(world, under, day, planned.minimum_on(day)),
        minimum=minimum_as_sum(world, setup.ground, schedule.lowest_minimum),
    )
