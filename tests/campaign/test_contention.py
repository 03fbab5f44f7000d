"""Campaigns on a server whose requests slow each other down, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tuner.campaign.config import CampaignConfig
from tuner.campaign.evidence import evidence
from tuner.campaign.families import FAMILIES, asked, held_capacity, suspected
from tuner.campaign.held import HeldEstimate, verify_late
from tuner.campaign.rehearse import Campaign, judge, run_campaign
from tuner.campaign.server import fit_server
from tuner.campaign.types import Routing, StageKind, StageResult
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import Contention, FleetSpec, InstanceSpec
from tuner.slo import LatencyObjective, Slo

OBJECTIVE = LatencyObjective(0.99, 0.45)
SHARED = InstanceSpec(ServiceTime.exponential(0.05), 16, contention=Contention(0.15, 0.004))
# Of 12 million simulated requests 1 % take longer than 450 ms at this load.
LIMIT_PER_S = 49.22
CONFIG = CampaignConfig(slo=Slo((OBJECTIVE,)), seed=5)


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return run_campaign(CONFIG, VirtualBackend(FleetSpec(SHARED), seed=5))


def test_the_limit_is_found_in_less_than_twelve_minutes(campaign: Campaign) -> None:
    model = judge(CONFIG, campaign)
    assert model.method == "contention_recovery"
    assert campaign.finished.reason == "precision"
    assert campaign.load_s < 12.0 * 60.0
    found = model.at(1)
    assert found is not None
    assert found.source == "measured"
    assert found.rate_per_s.low < LIMIT_PER_S < found.rate_per_s.high
    assert found.rate_per_s.mid == pytest.approx(LIMIT_PER_S, rel=0.06)
    assert model.table is not None
    # RANDOM routing: every count has the law of one.
    assert model.at(4) is not None
    assert {g.name: g.passed for g in model.gates}["contention"]


def test_another_routing_is_answered_for_one_instance_only(campaign: Campaign) -> None:
    fit, _ = fit_server(campaign.results)
    assert suspected(fit)
    rng = np.random.default_rng(1)
    least = Routing.LEAST_OUTSTANDING_REQUESTS
    found, _ = held_capacity(fit, campaign.results, OBJECTIVE, least, 0.95, 10, rng)
    assert found is not None
    assert found[0] == "contention_recovery"
    assert found[1].counts == (1,)
    last = campaign.results[-1]
    two = replace(last, spec=replace(last.spec, instance_count=2))
    more = (*campaign.results, two)
    assert held_capacity(fit, more, OBJECTIVE, least, 0.95, 10, rng) == (None, ())


def test_a_plain_server_is_not_suspected(steps: Campaign) -> None:
    fit, _ = fit_server(steps.results)
    assert fit is not None
    assert not suspected(fit)
    assert asked(fit) == ()
    # Where no workers explain the times, only the order of service is asked.
    assert asked(None) == FAMILIES[1:]


@pytest.mark.parametrize(("late", "passed"), [(150, True), (195, True), (300, False), (60, False)])
def test_windows_that_contradict_the_prediction_refuse_it(
    stage: Callable[..., StageResult], late: int, passed: bool
) -> None:
    # 15,000 requests at the limit: 150 late ones are expected, in clumps of about two.
    latency = np.full(15_000, 0.1)
    latency[np.random.default_rng(1).permutation(15_000)[:late]] = 1.0
    held = stage(latency, kind=StageKind.MEASURE, rate_per_instance_per_s=50.0)
    found = HeldEstimate(OBJECTIVE, float(np.log(held.rate_per_instance_per_s)), 5.0, 2.0)
    assert verify_late(found, [evidence(held, OBJECTIVE)]).passed is passed


def test_too_few_late_requests_verify_nothing(stage: Callable[..., StageResult]) -> None:
    latency = np.full(3_000, 0.1)
    latency[::100] = 1.0
    held = stage(latency, rate_per_instance_per_s=50.0)
    found = HeldEstimate(OBJECTIVE, float(np.log(held.rate_per_instance_per_s)), 5.0, 2.0)
    gate = verify_late(found, [evidence(held, OBJECTIVE)])
    assert not gate.passed
    assert gate.remedy is not None
