"""A window's own arrivals through the server: against exact laws, and against bursts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tuner.campaign.evidence import failures_by_load, steady_failures
from tuner.campaign.model_based import ModelEstimate, estimate
from tuner.campaign.predict import Effort, ServerModel
from tuner.campaign.replays import MOST_REQUESTS, replay
from tuner.campaign.server import ServerFit, fit_server
from tuner.campaign.types import GeneratorHealth, Routing, StageKind, StageResult, StageSpec
from tuner.campaign.verify import verification
from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.queueing.capacity import Gate
from tuner.slo import LatencyObjective
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome, RequestLog

MEAN_S = 0.05
SOUND = GeneratorHealth(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1, None, None)
EXPONENTIAL = MEAN_S * -np.log1p(-(np.arange(4000) + 0.5) / 4000)


def poisson_log(rate_per_s: float, n: int, seed: int) -> RequestLog:
    start = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate_per_s, n))
    return RequestLog.from_times(start, start)


@pytest.mark.parametrize("routing", list(Routing))
def test_replays_of_poisson_arrivals_show_the_law_of_one_server(routing: Routing) -> None:
    """M/M/1 at utilisation 0.5: P(T > t) = exp(-(mu - lambda) t)."""
    model = ServerModel(1, 0.0, EXPONENTIAL)
    instances = 1 if routing is Routing.LEAST_OUTSTANDING_REQUESTS else 3
    log = poisson_log(10.0 * instances, 24_000, seed=1)
    seen = replay(
        model,
        (EXPONENTIAL,),
        log,
        0.3,
        np.array([0.8, 1.0, 1.2]),
        instances=instances,
        routing=routing,
        rng=np.random.default_rng(2),
    )
    exact = [math.exp(-(20.0 - 10.0 * f) * 0.3) for f in (0.8, 1.0, 1.2)]
    assert seen.n == 24_000
    assert seen.share == pytest.approx(exact, rel=0.1)
    assert (seen.inflation >= 1.0).all()


def test_only_the_first_requests_of_a_long_window_are_replayed() -> None:
    log = poisson_log(10.0, MOST_REQUESTS + 5_000, seed=3)
    model = ServerModel(1, 0.0, EXPONENTIAL)
    seen = replay(
        model, (EXPONENTIAL,), log, 0.3, np.ones(1),
        instances=1, routing=Routing.RANDOM, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert seen.n == MOST_REQUESTS


def test_each_request_draws_a_demand_of_its_own_payload_class() -> None:
    """Hardly anything waits, so the heavy class is late and no other."""
    start = np.arange(4_000.0)
    kind = (np.arange(4_000) % 4 == 0).astype(np.uint16)
    log = RequestLog.from_times(start, start, payload_class=kind)
    pools = (np.full(50, 0.1), np.full(50, 0.5))
    seen = replay(
        ServerModel(1, 0.0, np.concatenate(pools)), pools, log, 0.3, np.ones(1),
        instances=1, routing=Routing.RANDOM, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert seen.share[0] == pytest.approx(0.25, abs=1e-3)


def bursts(slower: float, *, seed: int, steady: bool = False) -> StageResult:
    """60 s on M/M/4: 45/s, but 200/s in every tenth second; or 60/s all along."""
    rng = np.random.default_rng([seed, 8])
    calm, busy = (60.0, 60.0) if steady else (45.0, 200.0)
    rates = [busy if second % 10 == 0 else calm for second in range(60)]
    parts = [np.sort(rng.uniform(k, k + 1, rng.poisson(r))) for k, r in enumerate(rates)]
    start = np.concatenate(parts)
    run = simulate(FleetSpec(InstanceSpec(ServiceTime.exponential(MEAN_S * slower), 4)), start, rng)
    log = RequestLog.from_times(start, run.done_s)
    spec = StageSpec(9, StageKind.VERIFY, 1, 58.0, 60.0, 0.0, "poisson", 9, "near the limit")
    return StageResult(spec, 0.0, log, windows_of(log), SOUND)


@pytest.fixture(scope="module")
def recovered() -> tuple[ServerFit, ModelEstimate]:
    """A server recovered from M/M/4 at 48/s, and its limit."""
    rng = np.random.default_rng(5)
    start = np.cumsum(rng.exponential(1.0 / 48.0, 9_000))
    run = simulate(FleetSpec(InstanceSpec(ServiceTime.exponential(MEAN_S), 4)), start, rng)
    log = RequestLog.from_times(start, run.done_s)
    spec = StageSpec(0, StageKind.MEASURE, 1, 48.0, float(start[-1]), 0.0, "poisson", 0, "safe")
    fit, _ = fit_server([StageResult(spec, 0.0, log, windows_of(log), SOUND)])
    assert fit is not None
    assert fit.passed
    objective, effort = LatencyObjective(0.99, 0.3), Effort(10_000, 60_000, 10_000)
    found = estimate(fit, objective, (1,), Routing.RANDOM, rng, members=8, effort=effort)
    assert found is not None
    return fit, found


def gate_of(recovered: tuple[ServerFit, ModelEstimate], window: StageResult) -> Gate:
    rng = np.random.default_rng(6)
    return verification(*recovered, [window], Routing.RANDOM, rng, requests=30_000)[0][0]


def test_a_burst_of_arrivals_is_not_held_against_the_server(
    recovered: tuple[ServerFit, ModelEstimate],
) -> None:
    window = bursts(1.0, seed=1)
    assert window.log is not None
    # Ten times what the SLO allows, at a load below the limit of 59.96/s.
    assert np.mean(window.log.latency_s() > 0.3) > 0.1
    assert gate_of(recovered, window).passed


def test_a_server_slower_than_its_requests_say_is_caught(
    recovered: tuple[ServerFit, ModelEstimate],
) -> None:
    window = bursts(1.25, seed=1, steady=True)
    gate = gate_of(recovered, window)
    assert not gate.passed
    assert "slower than its own requests say" in gate.sentence


def test_failures_that_come_with_load_are_not_the_servers_own(
    stage: Callable[..., StageResult],
) -> None:
    def failing(rate_per_s: float, share: float, index: int) -> StageResult:
        rng = np.random.default_rng(index)
        failed = rng.random(4_000) < share
        made = stage(
            np.full(4_000, 0.05), rate_per_instance_per_s=rate_per_s, index=index, failed=failed
        )
        assert made.log is not None
        assert set(np.unique(made.log.outcome)) <= {int(Outcome.OK), int(Outcome.MODEL_ERROR)}
        return made

    same = steady_failures([failing(20.0, 0.005, 1), failing(50.0, 0.005, 2)])
    assert same.of == 8_000
    assert same.share == pytest.approx(0.005, abs=0.003)
    worse = steady_failures([failing(20.0, 0.005, 1), failing(50.0, 0.05, 2)])
    assert worse.of == 4_000
    assert worse.share == pytest.approx(0.005, abs=0.003)
    early = steady_failures([failing(r, s, i) for i, (r, s) in enumerate(_REFUSING)])
    assert early.of == 4_000  # the rise is seen wherever it begins, not only at half the loads
    assert failures_by_load([failing(20.0, 0.005, 1), failing(50.0, 0.005, 2)]) is None
    risen = failures_by_load([failing(20.0, 0.005, 1), failing(50.0, 0.05, 2)])
    assert risen is not None
    assert risen[0].share < 0.02 < risen[1].share
    drawn = [worse.drawn(np.random.default_rng(k)) for k in range(50)]
    assert np.std(drawn) == pytest.approx(math.sqrt(0.005 / 4_000), rel=0.5)


_REFUSING = ((26.0, 0.0), (38.0, 0.01), (45.0, 0.02), (50.0, 0.02))
"""Rate and share of failures of a server that refuses requests from three quarters of 50/s."""
