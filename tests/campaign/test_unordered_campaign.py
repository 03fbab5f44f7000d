"""Campaigns on a server that takes waiting requests in random order, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np
import pytest

from tuner.campaign.config import CampaignConfig
from tuner.campaign.families import held_capacity
from tuner.campaign.rehearse import Campaign, judge, run_campaign
from tuner.campaign.server import fit_server
from tuner.campaign.types import Routing, StageKind, StageResult
from tuner.campaign.unordered import fit_unordered
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, QueueOrder
from tuner.slo import LatencyObjective, Slo

SERVICE = ServiceTime.gamma(0.05, 0.7)
OBJECTIVE = LatencyObjective(0.99, 0.25)
# Of 12 million simulated requests 1 % take longer than 250 ms at this load.
LIMIT_PER_S = 135.3
CONFIG = CampaignConfig(slo=Slo((OBJECTIVE,)), seed=3)


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    instance = InstanceSpec(SERVICE, 8, order=QueueOrder.RANDOM)
    return run_campaign(CONFIG, VirtualBackend(FleetSpec(instance), seed=3))


def test_the_limit_is_found_in_less_than_twelve_minutes(campaign: Campaign) -> None:
    model = judge(CONFIG, campaign)
    assert model.method == "unordered_recovery"
    assert campaign.finished.reason == "precision"
    assert campaign.load_s < 12.0 * 60.0
    found = model.at(1)
    assert found is not None
    assert found.source == "measured"
    assert found.rate_per_s.low < LIMIT_PER_S < found.rate_per_s.high
    assert found.rate_per_s.mid == pytest.approx(LIMIT_PER_S, rel=0.05)
    # RANDOM routing: every count has the law of one.
    assert model.at(4) is not None
    passed = {g.name: g.passed for g in model.gates}
    assert passed["unordered"]
    assert passed["random_order"]
    assert not passed["workers"]
    # Families that were refused on the way are no reason to doubt the answer.
    assert "contention" not in passed


def last_come_first_served(arrival_s: np.ndarray, demand_s: np.ndarray, workers: int) -> np.ndarray:
    """Latency of each request where a free worker takes the one that came last."""
    busy: list[float] = []
    waiting: list[int] = []
    done = np.zeros(len(arrival_s))

    def advance(until_s: float) -> None:
        while busy and busy[0] <= until_s:
            free_s = heappop(busy)
            if waiting:
                request = waiting.pop()
                done[request] = free_s + demand_s[request]
                heappush(busy, done[request])

    for i, now in enumerate(arrival_s.tolist()):
        advance(now)
        if len(busy) < workers:
            done[i] = now + demand_s[i]
            heappush(busy, done[i])
        else:
            waiting.append(i)
    advance(np.inf)
    latency: np.ndarray = done - arrival_s
    return latency


@pytest.fixture
def last_first(stage: Callable[..., StageResult]) -> list[StageResult]:
    """Windows on a server of eight workers that serves the last come first."""
    rng = np.random.default_rng(1)
    results = []
    for index, rate in enumerate((40.0, 124.0, 132.0, 140.0, 132.0)):
        n = int(60.0 * rate)
        # The fixture draws these very starts.
        start = np.sort(np.random.default_rng([1, index]).uniform(0.0, 60.0, n))
        latency = last_come_first_served(start, SERVICE.sample(rng, n), 8)
        results.append(stage(latency, index=index, rate_per_instance_per_s=rate))
    return results


def test_another_order_is_told_by_those_that_waited(last_first: list[StageResult]) -> None:
    fit = fit_unordered(last_first)
    assert fit is not None
    # Whatever the order, the requests that start at once are a fair sample.
    assert fit.gate.passed
    assert fit.work.workers == 8
    assert fit.work.demand_s.mean() == pytest.approx(0.05, rel=0.03)
    (check,) = fit.checks(last_first[1:], 3.0, np.random.default_rng(1))
    assert not check.passed
    assert check.remedy is not None
    plain, _ = fit_server(last_first)
    rng = np.random.default_rng(1)
    found, gates = held_capacity(plain, last_first, OBJECTIVE, Routing.RANDOM, 0.95, 10, rng)
    assert found is None
    assert [g.name for g in gates if not g.passed]


def test_random_order_passes_the_same_check(campaign: Campaign) -> None:
    held = [r for r in campaign.results if r.spec.kind in (StageKind.MEASURE, StageKind.ANCHOR)]
    fit = fit_unordered(campaign.results)
    assert fit is not None
    (check,) = fit.checks(held, 3.0, np.random.default_rng(1))
    assert check.passed
    assert fit.checks([], 3.0, np.random.default_rng(1)) == ()
