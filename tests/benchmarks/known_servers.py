"""Simulated servers whose limit is known, for the benchmarks of the search.

A limit is the load per instance at which 1 % of the requests take longer than the SLO. Where
there is no closed form it was found once by long simulation (``coverage.py --truth``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tuner.campaign.types import Routing
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import (
    Batching,
    Contention,
    FleetSpec,
    InstanceSpec,
    QueueOrder,
    RoutingStrategy,
)
from tuner.slo import LatencyObjective, Slo

LOGNORMAL = ServiceTime.lognormal(0.05, 1.0)
TWO_POINT = ServiceTime.two_point(0.025, 0.275, 0.1)
LEAST = Routing.LEAST_OUTSTANDING_REQUESTS
ALLOWANCE = 0.01


@dataclass(frozen=True)
class Scenario:
    """A server, its SLO, and the true crossing per instance.

    ``read_at`` is the count whose prediction is judged when it was not itself measured; the
    crossing is then the one at that count, and ``alone_per_s`` the one of a single instance.
    ``plain``: work recovery should be believed here; otherwise it should be refused.
    """

    instance: InstanceSpec
    p99_s: float
    truth_per_s: float
    count: int = 1
    read_at: int | None = None
    alone_per_s: float = math.nan
    routing: Routing = Routing.RANDOM
    plain: bool = True
    slowdown: Callable[[float], float] | None = None

    @property
    def slo(self) -> Slo:
        return Slo((LatencyObjective(1.0 - ALLOWANCE, self.p99_s),))

    @property
    def reference_per_s(self) -> float:
        """Where stock practice starts to look: the crossing, or near it where there is none."""
        return self.truth_per_s if math.isfinite(self.truth_per_s) else 55.0

    def backend(self, seed: int) -> VirtualBackend:
        fleet = FleetSpec(self.instance, 1, RoutingStrategy(self.routing.value))
        return VirtualBackend(fleet, seed=seed, slowdown=self.slowdown)


def spells(t_s: float) -> float:
    """A noisy neighbour: half as slow again for five seconds of every minute."""
    return 1.5 if t_s % 60.0 < 5.0 else 1.0


def creeping(t_s: float) -> float:
    """Half as slow again after half an hour, and on like that."""
    return 1.0 + 0.5 * t_s / 1800.0


def cold(t_s: float) -> float:
    """Three times as slow at first, for about a minute and a half."""
    return 1.0 + 2.0 * math.exp(-t_s / 40.0)


SCENARIOS: dict[str, Scenario] = {
    "M/M/4": Scenario(InstanceSpec(ServiceTime.exponential(0.05), 4), 0.30, 59.962),
    "M/D/4": Scenario(InstanceSpec(ServiceTime.deterministic(0.05), 4), 0.12, 54.816),
    "lognormal": Scenario(InstanceSpec(LOGNORMAL, 4), 0.35, 63.15),
    "bimodal": Scenario(InstanceSpec(TWO_POINT, 4), 0.40, 57.296),
    "batching": Scenario(
        InstanceSpec(ServiceTime.deterministic(0.02), 1, batching=Batching(8, 0.005, 0.005)),
        0.12,
        92.33,
        plain=False,
    ),
    "contention": Scenario(
        InstanceSpec(ServiceTime.exponential(0.05), 16, contention=Contention(0.15, 0.004)),
        0.45,
        49.22,
        plain=False,
    ),
    "random x4": Scenario(InstanceSpec(LOGNORMAL, 4), 0.35, 63.15, count=4),
    "least x4": Scenario(InstanceSpec(LOGNORMAL, 4), 0.35, 75.20, count=4, routing=LEAST),
    "least 8 from 2": Scenario(
        InstanceSpec(LOGNORMAL, 4),
        0.35,
        77.58,
        count=2,
        read_at=8,
        alone_per_s=63.15,
        routing=LEAST,
    ),
    "bimodal 8 from 2": Scenario(
        InstanceSpec(TWO_POINT, 4),
        0.40,
        76.56,
        count=2,
        read_at=8,
        alone_per_s=57.296,
        routing=LEAST,
    ),
    "M/M/1 8 from 2": Scenario(
        InstanceSpec(ServiceTime.exponential(0.05), 1),
        0.50,
        18.388,
        count=2,
        read_at=8,
        alone_per_s=10.7897,
        routing=LEAST,
    ),
    "spells": Scenario(InstanceSpec(LOGNORMAL, 4), 0.35, math.nan, plain=False, slowdown=spells),
    "drift": Scenario(InstanceSpec(LOGNORMAL, 4), 0.35, math.nan, plain=False, slowdown=creeping),
    "random order": Scenario(
        InstanceSpec(LOGNORMAL, 4, order=QueueOrder.RANDOM), 0.35, 57.89, plain=False
    ),
    "cold start": Scenario(InstanceSpec(LOGNORMAL, 4), 0.35, 63.15, slowdown=cold),
}


def truth(scenario: Scenario, requests: int = 3_000_000) -> float:
    """The crossing from four long simulations, by a quadratic of ln rate in logit P."""
    count = scenario.read_at or scenario.count
    fleet = FleetSpec(scenario.instance, count, RoutingStrategy(scenario.routing.value))
    x, y = [], []
    for k, rate in enumerate(_rates_around(scenario)):
        rng = np.random.default_rng([k, 2026])
        arrival = np.cumsum(rng.exponential(1.0 / (rate * count), requests))
        latency = simulate(fleet, arrival, rng).done_s - arrival
        late = float(np.mean(latency[requests // 50 :] > scenario.p99_s))
        x.append(math.log(rate))
        y.append(math.log(late / (1.0 - late)))
    return float(np.exp(np.polyval(np.polyfit(y, x, 2), math.log(ALLOWANCE / (1.0 - ALLOWANCE)))))


def _rates_around(scenario: Scenario) -> list[float]:
    if scenario.read_at is None:
        return [f * scenario.reference_per_s for f in (0.95, 0.985, 1.015, 1.05)]
    # Behind a router the spare capacity shrinks about as the count grows.
    full = scenario.instance.workers / scenario.instance.service.mean_s
    spare = (1.0 - scenario.alone_per_s / full) / scenario.read_at
    return [full * (1.0 - f * spare) for f in (1.5, 1.15, 0.9, 0.7)]
