"""Whether the SLO is out of reach at any load: said when it is, and not when it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tuner.campaign.alone import hopeless
from tuner.campaign.config import CampaignConfig, demo_config
from tuner.campaign.rehearse import Campaign, judge, run_campaign
from tuner.campaign.types import StageKind, StageResult
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.queueing.capacity import CapacityModel
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.requests import FloatArray, RequestLog

P99 = LatencyObjective(0.99, 0.120)
SLO = Slo((P99,))
Backend = Callable[[int], VirtualBackend]


def idle_miss(seed: int) -> VirtualBackend:
    """Lognormal, mean 70 ms and cv 0.6: 9.6 % of the requests take over 120 ms on their own."""
    return VirtualBackend(FleetSpec(InstanceSpec(ServiceTime.lognormal(0.07, 0.6), 4)), seed=seed)


def slow_single(seed: int) -> VirtualBackend:
    """M/M/1 with mean 22 ms: 0.43 % alone, and exactly 1 % at 7.08/s."""
    return VirtualBackend(FleetSpec(InstanceSpec(ServiceTime.exponential(0.022), 1)), seed=seed)


def cold_single(seed: int) -> VirtualBackend:
    """The same, three times as slow at first and warm after about a minute."""
    return VirtualBackend(
        FleetSpec(InstanceSpec(ServiceTime.exponential(0.022), 1)),
        seed=seed,
        slowdown=lambda t: 1.0 + 2.0 * math.exp(-t / 15.0),
    )


def quick(backend: Backend, seed: int) -> tuple[Campaign, CapacityModel]:
    config = demo_config(SLO, instance_counts=(1,), start_rate_per_s=20.0, seed=seed)
    done = run_campaign(config, backend(seed))
    return done, judge(config, done)


def test_an_slo_that_an_idle_instance_misses_is_violated_not_unknown() -> None:
    """In a hundred seconds of load most are certain, and nobody is told that the SLO is met."""
    found = [quick(idle_miss, seed) for seed in (5000, 5003, 5005, 5007, 5012, 5021)]
    verdicts = [model.verdict for _, model in found]
    assert verdicts.count(Verdict.VIOLATED) >= 4
    assert Verdict.MET not in verdicts
    assert max(done.load_s for done, _ in found) <= 105.0
    for _, model in found:
        if model.verdict is Verdict.VIOLATED:
            assert any(g.name in ("unloaded", "unreachable") for g in model.gates if not g.passed)


def test_at_the_usual_pace_the_search_ends_itself_and_within_ten_minutes() -> None:
    config = CampaignConfig(slo=SLO, seed=2)
    done = run_campaign(config, idle_miss(2))
    assert done.finished.reason == "unreachable"
    assert done.load_s < 600.0
    assert judge(config, done).verdict is Verdict.VIOLATED


@pytest.mark.parametrize("backend", [slow_single, cold_single])
def test_a_slow_server_that_low_load_helps_is_not_called_out_of_reach(backend: Backend) -> None:
    for seed in range(2):
        config = CampaignConfig(slo=SLO, seed=seed)
        done = run_campaign(config, backend(seed))
        assert done.finished.reason != "unreachable"
        assert judge(config, done).verdict is not Verdict.VIOLATED


def spacing(n: int, apart_s: float) -> FloatArray:
    return np.asarray(np.arange(n) * apart_s, dtype=np.float64)


def spaced(result: StageResult, latency_s: FloatArray) -> StageResult:
    """The stage with starts a second apart: every request is alone."""
    start = spacing(len(latency_s), 1.0)
    return replace(result, log=RequestLog.from_times(start, start + latency_s))


def test_requests_that_overlap_do_not_speak_for_low_load(
    stage: Callable[..., StageResult],
) -> None:
    late: FloatArray = np.where(np.arange(400) % 10 == 0, 0.2, 0.05).astype(np.float64)
    plain = stage(late, rate_per_instance_per_s=1.0)
    alone = spaced(plain, late)
    found = hopeless([alone], P99)
    assert found is not None
    share, load = found
    # One in ten is late; the first second and the last request are left out.
    assert share.interval.mid == pytest.approx(0.1, abs=0.003)
    assert load == 1.0
    start = spacing(400, 0.04)
    crowd = replace(plain, log=RequestLog.from_times(start, start + late))
    assert hopeless([crowd], P99) is None


def test_what_gets_faster_was_cold_and_the_ramp_is_not_asked(
    stage: Callable[..., StageResult],
) -> None:
    rng = np.random.default_rng(4)
    factor = 1.0 + 2.0 * np.exp(-np.arange(400) / 40.0)
    warming = spaced(stage(np.full(400, 0.05)), rng.normal(0.06, 0.005, 400) * factor)
    log = warming.log
    assert log is not None
    assert np.mean(log.latency_s() > 0.12) > 0.05
    assert hopeless([warming], P99) is None
    late = np.where(np.arange(400) % 10 == 0, 0.2, 0.05)
    ramp = spaced(stage(late, kind=StageKind.RAMP), late)
    assert hopeless([ramp], P99) is None
