"""Campaigns in virtual time for the tests of the campaign."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from campaign_samples import MM4, staircase

from tuner.campaign.rehearse import Campaign
from tuner.campaign.types import GeneratorHealth, StageKind, StageResult, StageSpec
from tuner.stats.histogram import windows_of
from tuner.stats.requests import RequestLog

SOUND = GeneratorHealth(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1, None, None)
VOID = GeneratorHealth(
    0.0, 0.0, 0.0, 0.0, 0.9, 0, 0, 1, None, None, ("CPU 90 % > 70 %",), "use a larger machine"
)


def _stage(
    latency_s: np.ndarray,
    *,
    index: int = 0,
    kind: StageKind = StageKind.MEASURE,
    count: int = 1,
    rate_per_instance_per_s: float = 50.0,
    failed: np.ndarray | None = None,
    void: bool = False,
    raw: bool = True,
    seed: int = 1,
) -> StageResult:
    """A stage with Poisson starts and the latencies given, in order."""
    n = len(latency_s)
    total = rate_per_instance_per_s * count
    rng = np.random.default_rng([seed, index])
    duration = n / total
    start = np.sort(rng.uniform(0.0, duration, n))
    outcome = None if failed is None else failed.astype(np.uint8) * 2
    log = RequestLog.from_times(start, start + latency_s, outcome=outcome)
    spec = StageSpec(index, kind, count, total, duration, 0.0, "poisson", index, "made up")
    return StageResult(spec, 0.0, log if raw else None, windows_of(log), VOID if void else SOUND)


@pytest.fixture
def stage() -> Callable[..., StageResult]:
    return _stage


@pytest.fixture(scope="session")
def steps() -> Campaign:
    return staircase(MM4, (30.0, 45.0, 55.0, 65.0), (1, 2), step_s=90.0)
