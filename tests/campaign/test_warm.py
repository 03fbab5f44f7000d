"""A warm-up is repeated on a cold instance, and hardly ever on a warm one."""

from __future__ import annotations

import math
from collections.abc import Callable

from tuner.campaign.types import StageKind, StageSpec
from tuner.campaign.virtual import VirtualBackend
from tuner.campaign.warm import needs_more_warm_up
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec

SERVER = FleetSpec(InstanceSpec(ServiceTime.lognormal(0.05, 1.0), 4))


def repeated(slowdown: Callable[[float], float] | None, stages: int) -> int:
    found = 0
    for seed in range(stages):
        backend = VirtualBackend(SERVER, seed=seed, slowdown=slowdown)
        stage = StageSpec(0, StageKind.WARM_UP, 1, 8.0, 120.0, 0.0, "poisson", seed, "warm up")
        found += needs_more_warm_up(backend.measure(stage))
    return found


def test_a_warm_server_is_not_warmed_up_twice() -> None:
    assert repeated(None, 40) <= 2


def test_a_server_that_gets_faster_all_through_the_warm_up_is_warmed_up_again() -> None:
    assert repeated(lambda t: 1.0 + 2.0 * math.exp(-t / 60.0), 20) >= 18
