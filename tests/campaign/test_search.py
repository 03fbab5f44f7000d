"""The search: what it asks for, what it costs, and when it stops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tuner.campaign.config import CampaignConfig, Limits, demo_config
from tuner.campaign.rehearse import (
    Campaign,
    Rehearsed,
    each_rehearsed,
    expectation,
    run_campaign,
)
from tuner.campaign.remaining import estimate_remaining
from tuner.campaign.search import Finished, next_action
from tuner.campaign.types import Routing, StageKind, StageResult, StageSpec
from tuner.campaign.virtual import Network, VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import Batching, FleetSpec, InstanceSpec
from tuner.slo import LatencyObjective, Slo

MM4 = FleetSpec(InstanceSpec(ServiceTime.exponential(0.05), 4))
SLO = Slo((LatencyObjective(0.99, 0.3),))


def config(**changes: object) -> CampaignConfig:
    return replace(CampaignConfig(slo=SLO, seed=3), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return run_campaign(config(), VirtualBackend(MM4, seed=3))


def test_a_campaign_ends_by_precision_within_ten_minutes_of_load(campaign: Campaign) -> None:
    assert campaign.finished.reason == "precision"
    assert campaign.load_s < 660.0


def test_track_a_stays_at_safe_loads_until_it_verifies(campaign: Campaign) -> None:
    kinds = [r.spec.kind for r in campaign.results]
    assert kinds[0] is StageKind.FLOOR
    assert StageKind.WARM_UP in kinds
    assert StageKind.VERIFY in kinds
    # The exact limit of M/M/4 with this SLO is 59.9616/s.
    for r in campaign.results:
        if r.spec.kind is StageKind.MEASURE:
            assert r.rate_per_instance_per_s < 0.9 * 59.9616
        if r.spec.kind is StageKind.VERIFY:
            assert 0.9 < r.rate_per_instance_per_s / 59.9616 < 1.05


def test_a_resumed_campaign_asks_for_the_same_stages(campaign: Campaign) -> None:
    asked = [
        next_action(config(), campaign.results[:k]) for k in (0, 1, 4, len(campaign.results) - 1)
    ]
    done = [campaign.results[k].spec for k in (0, 1, 4, len(campaign.results) - 1)]
    assert asked == done
    assert next_action(config(), campaign.results) == campaign.finished


def test_a_void_stage_is_repeated_once_with_other_arrivals(campaign: Campaign) -> None:
    first = campaign.results[0]
    spoiled = replace(first, health=replace(first.health, void_reasons=("late sends",)))
    again = next_action(config(), [spoiled])
    assert isinstance(again, StageSpec)
    assert (again.kind, again.rate_per_s) == (first.spec.kind, first.spec.rate_per_s)
    assert again.index == 1
    assert again.seed != first.spec.seed
    twice = replace(spoiled, spec=again)
    onward = next_action(config(), [spoiled, twice])
    assert isinstance(onward, StageSpec)
    assert onward.kind is not first.spec.kind


class Unable(VirtualBackend):
    """A generator that cannot offer more than 50/s."""

    def measure(self, stage: StageSpec, progress: object = None) -> StageResult:
        result = super().measure(stage)
        if stage.rate_per_s <= 50.0:
            return result
        health = replace(result.health, void_reasons=("CPU 95 % > 70 %",))
        return replace(result, health=health)


def test_a_generator_at_its_limit_ends_the_ramp_and_not_in_an_endless_one() -> None:
    done = run_campaign(config(), Unable(MM4, seed=6))
    ramp = [r for r in done.results if r.spec.kind is StageKind.RAMP]
    assert sum(r.void for r in ramp) == 4
    assert done.load_s < 1800.0
    safe = [r for r in done.results if r.spec.kind is StageKind.MEASURE and not r.void]
    assert safe


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(time_s=100.0), "time"),
        (Limits(time_s=None, requests=800), "requests"),
        (Limits(time_s=None, cost_usd=0.01, price_per_instance_hour_usd=1.0), "cost"),
    ],
)
def test_no_limit_is_ever_passed(limits: Limits, reason: str) -> None:
    limited = run_campaign(config(limits=limits), VirtualBackend(MM4, seed=3))
    assert limited.finished.reason == reason
    assert limits.time_s is None or limited.load_s <= limits.time_s
    assert limits.requests is None or limited.requests <= limits.requests
    assert limits.cost_usd is None or limited.instance_hours * 1.0 <= limits.cost_usd


def test_a_staircase_offers_exactly_the_loads_given() -> None:
    plan = config(
        rates_per_instance_per_s=(20.0, 40.0), instance_counts=(1, 2), step_s=5.0, warm_up_s=4.0
    )
    done = run_campaign(plan, VirtualBackend(MM4, seed=1))
    offered = [(r.spec.kind, r.spec.instance_count, r.spec.rate_per_s) for r in done.results]
    assert offered == [
        (StageKind.WARM_UP, 1, 20.0),
        (StageKind.MEASURE, 1, 20.0),
        (StageKind.MEASURE, 1, 40.0),
        (StageKind.MEASURE, 2, 40.0),
        (StageKind.MEASURE, 2, 80.0),
    ]
    assert done.finished.reason == "plan"


def test_an_slo_below_the_service_time_is_called_unreachable() -> None:
    tight = config(slo=Slo((LatencyObjective(0.99, 0.02),)))
    done = run_campaign(tight, VirtualBackend(MM4, seed=2))
    assert done.finished.reason == "unreachable"


def test_load_is_held_around_the_limit_of_a_server_that_batches() -> None:
    batching = InstanceSpec(ServiceTime.deterministic(0.02), batching=Batching(8, 0.005, 0.005))
    slo = Slo((LatencyObjective(0.99, 0.12),))
    done = run_campaign(config(slo=slo), VirtualBackend(FleetSpec(batching), seed=4))
    held = [r.rate_per_instance_per_s for r in done.results[-6:]]
    assert any(r.spec.kind is StageKind.ANCHOR for r in done.results)
    # 92.3/s by four simulations of a million requests each.
    assert all(abs(rate / 92.3 - 1.0) < 0.14 for rate in held)


def test_a_limit_known_only_roughly_is_narrowed_though_the_precision_is_out_of_reach() -> None:
    slow = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.156, 1.0), 2))
    slo = Slo((LatencyObjective(0.99, 1.12),))
    asked = config(slo=slo, seed=54, limits=Limits(time_s=2400.0))
    run = run_campaign(asked, VirtualBackend(slow, seed=54))
    assert run.finished.reason in ("precision", "not_reached")
    narrowed = [r for r in run.results if r.spec.purpose.startswith("narrow")]
    assert len(narrowed) >= 3
    known = [float(r.purpose.split("from ")[1].rstrip("%")) for r in (s.spec for s in narrowed)]
    last = float(run.finished.sentence.split("known to ")[1].split("%")[0])
    assert last < 0.6 * known[0]


def test_a_drift_that_might_be_chance_is_looked_at_once_more() -> None:
    """By the end of the usual stages the rise of demand is not yet beyond doubt."""
    slower = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.05, 1.0), 4))
    backend = VirtualBackend(slower, seed=203, slowdown=lambda t: 1.0 + t / 3600.0)
    done = run_campaign(config(slo=Slo((LatencyObjective(0.99, 0.35),)), seed=203), backend)
    assert done.results[-1].spec.kind is StageKind.ANCHOR
    assert done.finished.reason == "drift"


def test_the_estimate_of_what_is_left_shrinks_to_the_end(campaign: Campaign) -> None:
    left = [estimate_remaining(config(), campaign.results[:k])[0] for k in (0, 2, 10)]
    assert 300.0 < left[0] < 1200.0
    assert left[0] > left[1] > left[2]


def test_after_an_overload_the_next_stage_settles_until_the_backlog_is_gone(
    campaign: Campaign,
) -> None:
    def end_with(backlog: int) -> list[StageResult]:
        last = max(k for k, r in enumerate(campaign.results) if r.spec.kind is StageKind.RAMP)
        head = list(campaign.results[: last + 1])
        head[-1] = replace(head[-1], in_flight_at_end=backlog)
        return head

    calm, busy = (next_action(config(), end_with(k)) for k in (0, 900))
    assert isinstance(calm, StageSpec)
    assert isinstance(busy, StageSpec)
    assert busy.settle_s > calm.settle_s + 5.0


def test_the_demo_takes_about_ninety_seconds_and_finds_the_limit_within_ten_percent() -> None:
    """Exact by simulation of 1.5 M requests: 169.7/s at p99 <= 120 ms with 1 + exp(1) ms."""
    fleet = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.02, 0.6), 4))
    slo = Slo((LatencyObjective(0.99, 0.12),))
    for seed in range(2):
        quick = demo_config(slo, seed=seed)
        backend = VirtualBackend(fleet, seed=seed, network=Network(0.001, 0.001))
        done = run_campaign(quick, backend)
        assert done.load_s <= 105.0
        assert {r.spec.instance_count for r in done.results} == {1, 2, 4}


def test_a_rehearsal_says_what_to_expect() -> None:
    fleet = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.02, 0.6), 4))
    quick = demo_config(Slo((LatencyObjective(0.99, 0.12),)))
    done = list(each_rehearsed(quick, fleet, n_campaigns=2, seed=5))
    expected = expectation(done, 0.23)
    assert expected.campaigns == 2
    assert expected.answered == 1.0
    assert 1.2 < expected.minutes <= expected.minutes_p90 < 1.8
    assert expected.cost_usd is not None
    # About 90 s at one to four instances, launches included.
    assert 0.23 * 90 / 3600 < expected.cost_usd < 0.23 * 4 * 100 / 3600
    assert expected.capacity_per_s == pytest.approx(170.0, rel=0.1)
    assert 0.0 < expected.precision < 0.2


def test_campaigns_without_an_answer_are_counted_and_lend_no_precision() -> None:
    met = Rehearsed(10.0, 1000.0, 0.2, 0.04, 60.0, "MET")
    refused = Rehearsed(20.0, 3000.0, 0.4, math.nan, math.nan, "INCONCLUSIVE")
    found = expectation([met, refused, replace(met, precision=0.06, capacity_per_s=62.0)])
    assert found.answered == pytest.approx(2 / 3)
    assert (found.minutes, found.requests, found.cost_usd) == (10.0, 1000.0, None)
    assert found.precision == pytest.approx(0.05)
    assert found.capacity_per_s == pytest.approx(61.0)
    assert found.verdicts == (("INCONCLUSIVE", 1), ("MET", 2))
    with pytest.raises(ValueError, match="nothing was rehearsed"):
        expectation([])


def test_least_outstanding_verifies_at_the_count_of_the_plan() -> None:
    plan = demo_config(
        Slo((LatencyObjective(0.99, 0.12),)),
        instance_counts=(1, 2),
        routing=Routing.LEAST_OUTSTANDING_REQUESTS,
    )
    fleet = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.02, 0.6), 4))
    done = run_campaign(plan, VirtualBackend(fleet, seed=1))
    loads = {
        r.spec.instance_count: r.rate_per_instance_per_s
        for r in done.results
        if r.spec.kind is StageKind.VERIFY
    }
    assert loads[2] > loads[1]


def test_the_end_is_a_value_with_a_sentence() -> None:
    end = Finished("time", "the time limit of 60 s of load is reached")
    assert end.reason == "time"
    assert "60 s" in end.sentence
