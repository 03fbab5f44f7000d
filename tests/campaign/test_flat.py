"""SLOs that the service alone nearly takes: load hardly matters, and no limit is made up."""

from __future__ import annotations

import numpy as np
import pytest
from campaign_samples import SLO, Stage

from tuner.campaign.config import CampaignConfig, Limits
from tuner.campaign.direct import direct
from tuner.campaign.rehearse import judge, run_campaign
from tuner.campaign.types import Routing, StageResult
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.slo import LatencyObjective, Slo, Verdict

NEAR = (47.0, 50.0, 53.0) * 4
BELOW = (25.0, 30.0, 35.0)


def held(stage: Stage, share_near: float, share_below: float) -> list[StageResult]:
    rng = np.random.default_rng(8)
    loads = [(r, share_below) for r in BELOW] + [
        (r, share_near * (1.0 + 8.0 * np.log(r / 50.0))) for r in NEAR
    ]
    return [
        stage(np.where(rng.random(9000) < p, 0.4, 0.1), index=i, rate_per_instance_per_s=r)
        for i, (r, p) in enumerate(loads)
    ]


@pytest.mark.parametrize(("below", "answered"), [(0.0002, True), (0.003, True), (0.0112, False)])
def test_a_line_that_is_level_far_below_is_not_regressed(
    stage: Stage, below: float, answered: bool
) -> None:
    rng = np.random.default_rng(1)
    found, gates = direct(
        held(stage, 0.01, below),
        SLO.objectives[0],
        Routing.RANDOM,
        level=0.95,
        members=8,
        rng=rng,
    )
    assert (found is not None) is answered
    if found is not None:
        assert found.rate_per_s[0].mid == pytest.approx(50.0, rel=0.03)
        return
    (gate,) = gates
    assert gate.name == "flat_1"
    assert gate.value < 1.0
    assert "load hardly matters" in gate.sentence


def test_a_search_asks_whether_any_load_holds_and_does_not_hold_load_in_vain() -> None:
    """Of the services 1.0 % are longer than the threshold, and 1 % may be."""
    fleet = FleetSpec(InstanceSpec(ServiceTime.exponential(0.0184), 16))
    config = CampaignConfig(
        Slo((LatencyObjective(0.99, 0.085),)), seed=4, limits=Limits(time_s=2400.0)
    )
    run = run_campaign(config, VirtualBackend(fleet, seed=4))
    assert run.finished.reason in ("not_reached", "unreachable")
    asked = [r.spec.purpose for r in run.results]
    assert "does any load hold the SLO?" in asked
    assert not any(purpose.startswith("hold ") for purpose in asked)
    assert judge(config, run).verdict is not Verdict.MET


def test_an_slo_clearly_below_the_service_is_still_called_out_of_reach() -> None:
    fleet = FleetSpec(InstanceSpec(ServiceTime.exponential(0.0184), 16))
    config = CampaignConfig(Slo((LatencyObjective(0.99, 0.065),)), seed=2)
    run = run_campaign(config, VirtualBackend(fleet, seed=2))
    assert run.finished.reason == "unreachable"
    assert judge(config, run).verdict is Verdict.VIOLATED
