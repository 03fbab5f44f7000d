"""Campaigns against servers with a known limit, for the tests of the analysis."""

from __future__ import annotations

import math
from collections.abc import Callable

from tuner.campaign.analyse import analyse
from tuner.campaign.config import CampaignConfig
from tuner.campaign.rehearse import Campaign, run_campaign
from tuner.campaign.types import Routing, StageResult
from tuner.campaign.virtual import PayloadClass, VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, RoutingStrategy
from tuner.queueing.capacity import CapacityModel
from tuner.slo import LatencyObjective, Slo

LEAST = Routing.LEAST_OUTSTANDING_REQUESTS

MM4 = InstanceSpec(ServiceTime.exponential(0.05), 4)

SLO = Slo((LatencyObjective(0.99, 0.3),))

MM4_LIMIT = 59.9616
"""Exact: Erlang C, p99 = 300 ms at mean 50 ms."""

Stage = Callable[..., StageResult]


def staircase(
    instance: InstanceSpec,
    rates: tuple[float, ...],
    counts: tuple[int, ...] = (1,),
    *,
    slo: Slo = SLO,
    step_s: float = 60.0,
    routing: Routing = Routing.RANDOM,
    seed: int = 1,
    classes: tuple[PayloadClass, ...] = (),
) -> Campaign:
    config = CampaignConfig(
        slo=slo,
        routing=routing,
        instance_counts=counts,
        rates_per_instance_per_s=rates,
        step_s=step_s,
        warm_up_s=0.0,
        settle_s=5.0,
        seed=seed,
    )
    fleet = FleetSpec(instance, 1, RoutingStrategy(routing.value))
    return run_campaign(config, VirtualBackend(fleet, seed=seed, classes=classes))


def ask(campaign: Campaign, slo: Slo = SLO, **more: object) -> CapacityModel:
    return analyse(slo, campaign.results, routing=Routing.RANDOM, **more)  # type: ignore[arg-type]


def mm4_limit(quantile: float, threshold_s: float) -> float:
    """Closed form: P(T > t) of M/M/4 by bisection on the load."""

    def late(rate: float) -> float:
        mu, a = 20.0, rate / 20.0
        terms = [a**k / math.factorial(k) for k in range(4)]
        last = a**4 / math.factorial(4) * 4.0 / (4.0 - a)
        waits = last / (sum(terms) + last)
        drain = 4.0 * mu - rate
        own = math.exp(-mu * threshold_s)
        queued = (drain * own - mu * math.exp(-drain * threshold_s)) / (drain - mu)
        return (1.0 - waits) * own + waits * queued

    low, high = 1.0, 79.9
    for _ in range(60):
        mid = 0.5 * (low + high)
        low, high = (mid, high) if late(mid) < 1.0 - quantile else (low, mid)
    return low
