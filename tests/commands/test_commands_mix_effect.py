"""The answer names the payload classes its capacity hangs on."""

from __future__ import annotations

import pytest

from tuner.campaign.analyse import analyse
from tuner.campaign.config import CampaignConfig
from tuner.campaign.rehearse import run_campaign
from tuner.campaign.types import Routing
from tuner.campaign.virtual import PayloadClass, VirtualBackend
from tuner.commands.mix_effect import mix_statements
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.slo import LatencyObjective, Slo

SLO = Slo((LatencyObjective(0.99, 0.4),))


def test_two_more_points_of_heavy_requests_are_said_to_cost_a_seventh() -> None:
    """Crossings of this server at 10 % and 12 % heavy requests: 57.3 and 49.4, so -14 %."""
    light = ServiceTime.deterministic(0.025)
    classes = (PayloadClass("light", 0.9), PayloadClass("heavy", 0.1, 11.0))
    fleet = FleetSpec(InstanceSpec(light, 4), 1)
    config = CampaignConfig(
        slo=SLO, rates_per_instance_per_s=(40.0, 52.0), step_s=150.0, warm_up_s=0.0, seed=4
    )
    results = run_campaign(config, VirtualBackend(fleet, seed=4, classes=classes)).results
    names = ("light", "heavy")
    capacity = analyse(SLO, results, routing=Routing.RANDOM, classes=names)
    said = {s.name: s for s in mix_statements(SLO, capacity, results, names, None, 1)}
    cost = said["mix_heavy"]
    assert cost.value == pytest.approx(-0.14, abs=0.04)
    assert "2 more points of heavy requests cost" in cost.sentence
    assert mix_statements(SLO, capacity, results, ("only",), None, 1) == ()
