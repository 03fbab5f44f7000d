"""Counts that were not measured, where the server itself could not be recovered."""

from __future__ import annotations

import numpy as np
import pytest
from campaign_samples import LEAST, MM4, MM4_LIMIT, SLO, staircase

from tuner.campaign.counts import CountsAnswer, at_every_count
from tuner.campaign.direct import DirectEstimate
from tuner.campaign.rehearse import Campaign
from tuner.campaign.types import Routing
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import Batching, InstanceSpec
from tuner.interval import Interval
from tuner.slo import LatencyObjective, Slo

TWO, EIGHT = 68.3, 76.7
"""Limits of 2 and of 8 such instances behind a router by outstanding requests: simulations of
1.2 million requests a load, to 0.5 %."""


@pytest.fixture(scope="module")
def queue() -> Campaign:
    rates = tuple(share * MM4_LIMIT for share in (0.5, 0.75, 0.9, 1.0))
    return staircase(MM4, rates, (1, 2), routing=LEAST, step_s=90.0, seed=4)


def known(one: float = MM4_LIMIT, two: float = TWO, slo: Slo = SLO) -> DirectEstimate:
    draws = np.random.default_rng(1).standard_normal((48, 2)) * 0.02
    intervals = tuple(Interval(0.95 * r, r, r / 0.95, 0.95) for r in (one, two))
    return DirectEstimate(
        slo.objectives[0], (1, 2), intervals, np.log([one, two]) + draws, (9000, 9000), (1, 2)
    )


def carried(
    campaign: Campaign, found: DirectEstimate, routing: Routing = LEAST, cap: int | None = None
) -> CountsAnswer:
    rng = np.random.default_rng(2)
    return at_every_count(campaign.results, found, routing, rng, count_cap=cap)


def test_up_to_four_times_the_measured_counts_are_predicted_behind_a_router(
    queue: Campaign,
) -> None:
    answer = carried(queue, known())
    assert [c.instance_count for c in answer.by_count] == list(range(1, 9))
    assert [c.source for c in answer.by_count] == ["measured"] * 2 + ["predicted"] * 6
    assert [c.rate_per_s.mid for c in answer.by_count[:2]] == [MM4_LIMIT, TWO]
    eight = answer.by_count[-1].rate_per_s
    assert eight.mid == pytest.approx(EIGHT, rel=0.03)
    assert eight.low < EIGHT < eight.high
    assert eight.relative_half_width > known().rate_per_s[1].relative_half_width
    assert np.median(answer.log_members[:, -1]) == pytest.approx(np.log(eight.mid), abs=0.02)
    assert answer.gates[0].passed


def test_no_more_counts_than_are_wanted(queue: Campaign) -> None:
    assert len(carried(queue, known(), cap=3).by_count) == 3


def test_instances_that_batch_are_not_pooled_by_the_formula() -> None:
    batching = InstanceSpec(ServiceTime.deterministic(0.02), 1, batching=Batching(8, 0.005, 0.005))
    slo = Slo((LatencyObjective(0.99, 0.12),))
    rates = (45.0, 68.0, 82.0, 92.0)
    held = staircase(batching, rates, (1, 2), slo=slo, routing=LEAST, step_s=90.0)
    answer = carried(held, known(92.3, 107.0, slo))
    assert [c.instance_count for c in answer.by_count] == [1, 2]
    gate = answer.gates[0]
    assert gate.name == "pooling"
    assert not gate.passed
    assert gate.remedy == "hold load around the limit at each count that is wanted"


def test_under_random_routing_every_count_has_the_law_of_one(queue: Campaign) -> None:
    one = known()
    alone = DirectEstimate(
        one.objective, (1,), one.rate_per_s[:1], one.log_members[:, :1], (9000,), (1,)
    )
    answer = carried(queue, alone, Routing.RANDOM)
    assert len(answer.by_count) == 8
    assert {c.rate_per_s.mid for c in answer.by_count} == {MM4_LIMIT}
    assert answer.gates == ()


def test_a_formula_that_leaves_no_room_carries_nothing_over(queue: Campaign) -> None:
    """By the services of the lowest load alone p99 is missed, though load was held inside it."""
    answer = carried(queue, known(50.0, 58.0, Slo((LatencyObjective(0.99, 0.215),))))
    assert [c.instance_count for c in answer.by_count] == [1, 2]
    (gate,) = answer.gates
    assert not gate.passed
    assert "even without load" in gate.sentence
