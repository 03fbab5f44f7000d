"""Capacity for the mix of production, from a campaign with another mix."""

from __future__ import annotations

import pytest
from campaign_samples import ask, staircase

from tuner.campaign.analyse import analyse
from tuner.campaign.rehearse import Campaign
from tuner.campaign.sensitivity import mix_sensitivity
from tuner.campaign.types import Routing
from tuner.campaign.virtual import PayloadClass
from tuner.errors import InputError, InsufficientDataError
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import InstanceSpec
from tuner.slo import LatencyObjective, Slo

CLASSES = (PayloadClass("light", 0.9, 0.5), PayloadClass("heavy", 0.1, 5.5))
"""Mean 50 ms: nine of ten take 25 ms, one takes 275 ms."""

BIMODAL = InstanceSpec(ServiceTime.deterministic(0.05), 4)

BIMODAL_SLO = Slo((LatencyObjective(0.99, 0.4),))


@pytest.fixture(scope="module")
def two_classes() -> Campaign:
    return staircase(BIMODAL, (30.0, 45.0, 52.0), slo=BIMODAL_SLO, step_s=120.0, classes=CLASSES)


@pytest.mark.parametrize(("heavy", "limit"), [(0.08, 66.5), (0.12, 49.4), (0.15, 41.5)])
def test_capacity_moves_to_the_mix_of_production(
    two_classes: Campaign, heavy: float, limit: float
) -> None:
    """Limits by simulation of the bimodal server at each share of heavy requests."""
    model = analyse(
        BIMODAL_SLO,
        two_classes.results,
        routing=Routing.RANDOM,
        classes=("light", "heavy"),
        mix={"heavy": heavy},
    )
    one = model.at(1)
    assert one is not None
    assert one.rate_per_s.mid == pytest.approx(limit, rel=0.05)


def test_two_more_points_of_heavy_requests_cost_an_eighth(two_classes: Campaign) -> None:
    """From 57.3/s at 10 % to 49.4/s at 12 %: -13.8 % by the same simulations."""
    light, heavy = mix_sensitivity(BIMODAL_SLO, two_classes.results, ("light", "heavy"))
    assert heavy.change == pytest.approx(-0.138, abs=0.03)
    assert light.change > 0.1
    assert "heavy" in heavy.sentence
    assert "cost" in heavy.sentence


def test_an_unknown_class_is_bad_input(two_classes: Campaign) -> None:
    with pytest.raises(InputError, match="medium"):
        ask(two_classes, BIMODAL_SLO, classes=("light", "heavy"), mix={"medium": 0.1})
    with pytest.raises(InputError, match="at most 1"):
        ask(two_classes, BIMODAL_SLO, classes=("light", "heavy"), mix={"heavy": 1.2})


def test_a_class_that_was_never_sent_cannot_be_weighted(two_classes: Campaign) -> None:
    names = ("light", "heavy", "huge")
    with pytest.raises(InsufficientDataError, match="huge"):
        ask(two_classes, BIMODAL_SLO, classes=names, mix={"huge": 0.01})
