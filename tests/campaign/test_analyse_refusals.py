"""What a journal does not support is refused, and the refusal says why and what would help."""

from __future__ import annotations

import numpy as np
from campaign_samples import MM4, SLO, Stage, ask, staircase

from tuner.campaign.analyse import analyse
from tuner.campaign.config import CampaignConfig
from tuner.campaign.rehearse import Campaign, judge, run_campaign
from tuner.campaign.types import Routing
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, QueueOrder
from tuner.slo import LatencyObjective, Slo, Verdict


def test_an_slo_below_the_service_time_is_violated_not_unknown(steps: Campaign) -> None:
    model = ask(steps, Slo((LatencyObjective(0.99, 0.1),)))
    assert model.verdict is Verdict.VIOLATED
    assert model.by_count == ()
    assert "faster instance type" in str(model.gates[-1].remedy)


def test_without_stages_the_answer_is_unknown_with_a_remedy() -> None:
    model = analyse(SLO, [], routing=Routing.RANDOM)
    assert model.verdict is Verdict.INCONCLUSIVE
    assert model.gates[0].remedy is not None
    assert model.table is None


def test_void_stages_are_not_evidence(stage: Stage) -> None:
    latency = np.full(5000, 0.02)
    model = analyse(SLO, [stage(latency, void=True)], routing=Routing.RANDOM)
    assert model.verdict is Verdict.INCONCLUSIVE
    assert "CPU 90 %" in model.gates[0].sentence
    assert model.gates[0].remedy == "use a larger machine"


def test_low_loads_alone_do_not_support_an_answer() -> None:
    """Nobody waits at a tenth of the limit, so the number of workers cannot be seen."""
    model = ask(staircase(MM4, (3.0, 5.0), step_s=120.0))
    assert model.verdict is Verdict.INCONCLUSIVE
    failed = {g.name: g for g in model.gates if not g.passed}
    assert "waiting" in failed
    assert all(g.remedy for g in failed.values())


def test_a_limit_known_only_to_a_factor_is_no_answer() -> None:
    """The tail of the service itself takes most of the allowance: few requests decide."""
    slow = InstanceSpec(ServiceTime.lognormal(0.018, 1.4), 3)
    slo = Slo((LatencyObjective(0.999, 0.28),))
    model = ask(staircase(slow, (110.0,), slo=slo, step_s=40.0), slo)
    assert model.verdict is Verdict.INCONCLUSIVE
    (failed,) = (g for g in model.gates if not g.passed)
    assert failed.name == "precision"
    assert failed.value > 0.5
    assert "no answer" in failed.sentence
    assert "more requests" in str(failed.remedy)


def test_random_order_of_service_is_refused_by_name() -> None:
    shuffled = InstanceSpec(ServiceTime.lognormal(0.05, 1.0), 4, order=QueueOrder.RANDOM)
    slo = Slo((LatencyObjective(0.99, 0.35),))
    model = ask(staircase(shuffled, (40.0, 50.0), slo=slo, step_s=120.0), slo)
    assert model.method != "work_recovery"
    failed = [g for g in model.gates if not g.passed]
    assert any("order of arrival" in g.sentence for g in failed)


def test_a_server_that_keeps_slowing_down_has_no_capacity() -> None:
    slo = Slo((LatencyObjective(0.99, 0.35),))
    fleet = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.05, 1.0), 4))
    backend = VirtualBackend(fleet, seed=3, slowdown=lambda t: 1.0 + t / 2000.0)
    config = CampaignConfig(
        slo=slo,
        rates_per_instance_per_s=(30.0, 35.0, 40.0, 45.0),
        step_s=150.0,
        warm_up_s=0.0,
        seed=3,
    )
    model = judge(config, run_campaign(config, backend))
    assert model.verdict is Verdict.INCONCLUSIVE
    drift = next(g for g in model.gates if g.name == "drift")
    assert not drift.passed
    assert "slower from start to end" in drift.sentence


def test_a_neighbour_that_slows_service_in_spells_is_named() -> None:
    slo = Slo((LatencyObjective(0.99, 0.35),))
    fleet = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.05, 1.0), 4))
    backend = VirtualBackend(fleet, seed=4, slowdown=lambda t: 1.6 if t % 60.0 < 6.0 else 1.0)
    config = CampaignConfig(
        slo=slo, rates_per_instance_per_s=(35.0, 45.0), step_s=180.0, warm_up_s=0.0, seed=4
    )
    model = judge(config, run_campaign(config, backend))
    failed = [g.name for g in model.gates if not g.passed]
    assert "noisy_neighbour" in failed
    assert model.method != "work_recovery"


def test_rare_huge_requests_are_refused_with_the_number_needed() -> None:
    heavy = InstanceSpec(ServiceTime.empirical(pareto_sample()), 8)
    slo = Slo((LatencyObjective(0.99, 3.0),))
    model = ask(staircase(heavy, (20.0, 60.0), slo=slo, step_s=60.0), slo)
    tail = next(g for g in model.gates if g.name == "heavy_tail")
    assert not tail.passed
    assert "more requests" in str(tail.remedy)


def pareto_sample() -> np.ndarray:
    """Quantiles of a Pareto with index 1.5 and least value 15 ms."""
    u = (np.arange(20_000) + 0.5) / 20_000
    return 0.015 * (1.0 - u) ** (-1.0 / 1.5)


def test_loads_far_below_the_limit_are_no_ground_for_a_prediction() -> None:
    """M/M/4 with a true limit of 59.96/s, seen at 20/s and 30/s only."""
    model = ask(staircase(MM4, (20.0, 30.0), seed=5))
    assert model.verdict is Verdict.INCONCLUSIVE
    gate = next(g for g in model.gates if g.name == "reach")
    assert not gate.passed
    assert gate.remedy is not None
    assert "more requests" in gate.remedy


def test_a_short_queue_that_refuses_under_load_is_not_taken_for_an_slo_out_of_reach() -> None:
    short = InstanceSpec(ServiceTime.gamma(0.03, 0.5), 2, queue_limit=4)
    slo = Slo((LatencyObjective(0.99, 0.2),))
    model = ask(staircase(short, (10.0, 25.0, 38.0, 43.0, 50.0), slo=slo, step_s=80.0), slo)
    assert model.verdict is not Verdict.VIOLATED
    assert model.method != "work_recovery"
    refused = next(g for g in model.gates if g.name == "failures")
    assert not refused.passed
    assert "refuses requests under load" in refused.sentence
