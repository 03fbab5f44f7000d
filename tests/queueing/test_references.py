"""Exact queues against numbers found by other methods (tests/oracles/queues.py)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.queueing import closed, fluid, jsq, mdc, mg1, mmc, sharing
from tuner.queueing.erlang import erlang_b, erlang_c
from tuner.slo import LatencyObjective

ORACLE: dict[str, list[Any]] = json.loads(
    Path(__file__).parents[1].joinpath("oracles", "queues.json").read_text("utf-8")
)
QUANTILES = (0.5, 0.95, 0.99)
SERVICE = {
    "deterministic": mg1.discrete(((1.0, 1.0),)),
    "erlang2": mg1.erlang(2, 1.0),
    "hyperexponential": mg1.hyperexponential((0.5, 5.5), (0.9, 0.1)),
    "two_point": mg1.discrete(((0.5, 0.9), (5.5, 0.1))),
    "lognormal": mg1.lognormal(1.0, 1.0),
}


@pytest.mark.parametrize(("servers", "offered", "value"), ORACLE["erlang_b"])
def test_erlang_b(servers: int, offered: float, value: float) -> None:
    assert float(erlang_b(servers, offered)) == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize(("servers", "offered", "value"), ORACLE["erlang_c"])
def test_erlang_c(servers: int, offered: float, value: float) -> None:
    assert float(erlang_c(servers, offered)) == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("servers", [0.3, 1.5, 4.6, 20.25])
@pytest.mark.parametrize("offered", [0.4, 3.0, 19.0, 900.0, 40_000.0])
def test_erlang_b_of_real_servers_is_jagermans_integral(servers: float, offered: float) -> None:
    # 1/B = int_0^inf e^-u (1 + u/a)^N du, by the trapezoidal rule in ln u.
    z = np.linspace(-40.0, 6.0, 20_001)
    u = np.exp(z)
    inverse = float(np.sum(u * np.exp(servers * np.log1p(u / offered) - u)) * (z[1] - z[0]))
    assert float(erlang_b(servers, offered)) == pytest.approx(1.0 / inverse, rel=1e-6)


def test_erlang_broadcasts_and_refuses_nonsense() -> None:
    b = erlang_b(np.array([[1.0], [2.0]]), np.array([0.0, 1.0, 5.0]))
    assert b.shape == (2, 3)
    assert np.allclose(b[:, 0], 0.0)
    assert b[0, 1] == pytest.approx(0.5)
    assert float(erlang_b(0.0, 3.0)) == pytest.approx(1.0)
    assert np.array_equal(erlang_c([1.0, 2.0], [1.0, 7.0]), [1.0, 1.0])
    with pytest.raises(ValueError, match="negative"):
        erlang_b(-1.0, 1.0)
    with pytest.raises(ValueError, match="positive"):
        erlang_c(0.0, 1.0)


@pytest.mark.parametrize(("servers", "offered", "values"), ORACLE["mmc_sojourn"])
def test_mmc_sojourn(servers: int, offered: float, values: list[float]) -> None:
    found = [mmc.sojourn_quantile_s(q, offered, servers, 1.0) for q in QUANTILES]
    assert found == pytest.approx(values, rel=1e-5)


def test_mmc_means_and_waits() -> None:
    assert mmc.mean_wait_s(14.4, 16, 1.0) == pytest.approx(0.36959, abs=5e-6)
    grid = np.linspace(0.0, 200.0, 400_001)
    for c, a in ((1, 0.8), (4, 3.2), (2, 1.0)):
        late = mmc.sojourn_survival(grid, a, c, 1.0)
        area = float(np.sum((late[1:] + late[:-1]) / 2.0) * grid[1])
        assert mmc.mean_sojourn_s(a, c, 1.0) == pytest.approx(area, rel=1e-5)
        waits = mmc.wait_survival(grid, a, c, 1.0)
        q = mmc.wait_quantile_s(0.95, a, c, 1.0)
        assert float(np.interp(q, grid, waits)) == pytest.approx(0.05, rel=1e-4)
    assert mmc.wait_quantile_s(0.5, 0.3, 4, 1.0) == 0.0
    for over in (4.0, 5.0):
        assert math.isinf(mmc.mean_wait_s(over, 4, 1.0))
        assert math.isinf(mmc.sojourn_quantile_s(0.5, over, 4, 1.0))
        assert math.isinf(mmc.wait_quantile_s(0.5, over, 4, 1.0))


def test_mmc_where_the_two_rates_meet() -> None:
    # c mu - lambda = mu: the closed form divides by 0 unless it is taken as a limit.
    exact = mmc.sojourn_survival(2.0, 1.0, 2, 1.0)
    near = mmc.sojourn_survival(2.0, 1.0 + 1e-6, 2, 1.0)
    assert float(exact) == pytest.approx(float(near), rel=1e-5)


@pytest.mark.parametrize(
    ("servers", "threshold_s", "rate"), [(1, 0.5, 10.7897), (4, 0.3, 59.9616), (8, 0.3, 138.6624)]
)
def test_mmc_capacity_under_an_slo(servers: int, threshold_s: float, rate: float) -> None:
    objective = LatencyObjective(0.99, threshold_s)
    assert mmc.capacity_per_s(objective, servers, 0.05) == pytest.approx(rate, abs=5e-5)


def test_an_slo_below_the_service_time_has_no_capacity() -> None:
    assert mmc.capacity_per_s(LatencyObjective(0.99, 0.2), 4, 0.05) == 0.0


@pytest.mark.parametrize(("servers", "places", "offered", "value"), ORACLE["mmck_blocking"])
def test_mmck_blocking(servers: int, places: int, offered: float, value: float) -> None:
    assert mmc.blocking(servers, places, offered) == pytest.approx(value, rel=1e-10)
    with pytest.raises(ValueError, match="places"):
        mmc.blocking(5, 4, 1.0)


@pytest.mark.parametrize(("servers", "offered", "values", "no_wait"), ORACLE["mdc_sojourn"])
def test_mdc_sojourn(servers: int, offered: float, values: list[float], no_wait: float) -> None:
    found = [mdc.sojourn_quantile_s(q, offered, servers, 1.0) for q in QUANTILES]
    assert found == pytest.approx(values, rel=2e-5)
    # The lattice puts half a cell of waits into its atom.
    assert mdc.wait_cdf(0.0, offered, servers, 1.0) == pytest.approx(no_wait, abs=1e-3)


@pytest.mark.parametrize(
    ("rho", "values"),
    [
        (0.5, (1.0, 3.05064, 4.33626)),
        (0.8, (2.27594, 7.62032, 11.35589)),
        (0.9, (4.01305, 15.12867, 22.89824)),
    ],
)
def test_md1_by_both_methods(rho: float, values: tuple[float, ...]) -> None:
    franx = [mdc.sojourn_quantile_s(q, rho, 1, 1.0) for q in QUANTILES]
    assert franx == pytest.approx(values, abs=1e-5)
    inverted = [mg1.sojourn_quantile_s(q, rho, SERVICE["deterministic"]) for q in QUANTILES]
    assert inverted == pytest.approx(values, abs=2e-4)
    assert mdc.mean_wait_s(rho, 1, 1.0) == pytest.approx(rho / (2.0 * (1.0 - rho)), rel=1e-9)


def test_mdc_takes_any_unit_of_time_and_knows_its_saturation() -> None:
    assert mdc.sojourn_quantile_s(0.99, 64.0, 4, 0.05) == pytest.approx(3.45458 * 0.05, rel=1e-5)
    assert mdc.wait_cdf(0.0, 3.2, 4, 1.0) == pytest.approx(0.42172, abs=5e-6)
    assert mdc.wait_cdf(0.0, 3.6, 4, 1.0) == pytest.approx(0.22456, abs=5e-6)
    assert mdc.sojourn_survival(0.999, 3.2, 4, 1.0) == 1.0
    assert mdc.sojourn_survival(3.45458, 3.2, 4, 1.0) == pytest.approx(0.01, abs=1e-6)
    assert math.isinf(mdc.sojourn_quantile_s(0.5, 4.0, 4, 1.0))
    assert math.isinf(mdc.mean_wait_s(4.0, 4, 1.0))
    with pytest.raises(ValueError, match="offered"):
        mdc.state_probabilities(4.0, 4)
    with pytest.raises(ValueError, match="too close"):
        mdc.state_probabilities(0.9999, 1)


@pytest.mark.parametrize(("law", "rho", "values"), ORACLE["mg1_sojourn"])
def test_mg1_sojourn(law: str, rho: float, values: list[float]) -> None:
    found = [mg1.sojourn_quantile_s(q, rho, SERVICE[law]) for q in QUANTILES]
    assert found == pytest.approx(values, rel=1e-4)


@pytest.mark.parametrize(
    ("law", "rho", "wait"),
    [
        ("lognormal", 0.8, 4.0),
        ("erlang2", 0.9, 6.75),
        ("hyperexponential", 0.7, 7.58333),
        ("two_point", 0.8, 6.5),
    ],
)
def test_pollaczek_khinchine_means(law: str, rho: float, wait: float) -> None:
    service = SERVICE[law]
    assert mg1.mean_wait_s(rho, service) == pytest.approx(wait, abs=5e-6)
    top = 60.0 * (1.0 + wait)
    grid = np.linspace(0.0, top, 3001)[1:] - top / 6000.0
    if law != "lognormal":
        area = sum(mg1.wait_survival(t, rho, service) for t in grid) * top / 3000.0
        assert area == pytest.approx(wait, rel=2e-3)
    assert mg1.wait_survival(0.0, rho, service) == rho
    assert mg1.wait_survival(-1.0, rho, service) == 1.0
    assert math.isinf(mg1.mean_wait_s(1.0, service))
    assert math.isinf(mg1.sojourn_quantile_s(0.5, 1.0, service))


def test_mg1_of_an_exponential_law_is_mm1() -> None:
    service = mg1.hyperexponential((1.0,), (1.0,))
    for t in (0.3, 2.0, 15.0):
        assert mg1.sojourn_survival(t, 0.8, service) == pytest.approx(math.exp(-0.2 * t), abs=1e-8)
        assert mg1.wait_survival(t, 0.8, service) == pytest.approx(
            0.8 * math.exp(-0.2 * t), abs=1e-8
        )
    assert service.scv == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("instances", "rho", "mean", "p50", "p95", "p99"), ORACLE["shortest_queue"]
)
def test_join_the_shortest_queue(
    instances: int, rho: float, mean: float, p50: float, p95: float, p99: float
) -> None:
    queue = jsq.shortest_queue(instances, rho, 1.0)
    assert queue.mean_sojourn_s == pytest.approx(mean, rel=1e-6)
    found = [queue.sojourn_quantile_s(q) for q in QUANTILES]
    assert found == pytest.approx([p50, p95, p99], rel=1e-6)


def test_join_the_shortest_queue_near_saturation() -> None:
    two = jsq.shortest_queue(2, 0.9, 0.05)
    assert two.mean_sojourn_s == pytest.approx(5.47491 * 0.05, rel=1e-5)
    assert two.sojourn_quantile_s(0.99) == pytest.approx(24.50770 * 0.05, rel=1e-5)
    # Never better than one pool of two servers, never worse than queues chosen at random.
    assert mmc.mean_sojourn_s(1.8, 2, 1.0) < 5.47491 < mmc.mean_sojourn_s(0.9, 1, 1.0)
    with pytest.raises(ValueError, match="instances"):
        jsq.shortest_queue(4, 0.5, 1.0)


@pytest.mark.parametrize(("rate", "mean", "empty"), ORACLE["contention"])
def test_contention(rate: float, mean: float, empty: float) -> None:
    server = sharing.ContentionQueue(1.0, 16, 0.15, 0.004)
    assert server.mean_sojourn_s(rate) == pytest.approx(mean, rel=1e-9)
    assert float(server.state_probabilities(rate)[0]) == pytest.approx(empty, rel=1e-9)
    assert float(server.throughput_per_s(16)) == pytest.approx(3.80048, abs=5e-6)
    with pytest.raises(ValueError, match="rate"):
        server.mean_sojourn_s(3.9)


def test_processor_sharing() -> None:
    for rho, mean in ((0.5, 2.0), (0.8, 5.0), (0.9, 10.0)):
        assert sharing.ps_mean_sojourn_s(rho, 1.0) == pytest.approx(mean)
    assert np.allclose(sharing.ps_mean_sojourn_of_demand_s([0.5, 2.0], 0.5, 1.0), [1.0, 4.0])
    assert math.isinf(sharing.ps_mean_sojourn_s(1.0, 1.0))
    assert np.isinf(sharing.ps_mean_sojourn_of_demand_s(1.0, 1.2, 1.0))
    # Unlimited sharing without contention is M/M/1-PS, whose number present is geometric.
    plain = sharing.ContentionQueue(1.0, 1, 0.0, 0.0)
    assert plain.mean_sojourn_s(0.8) == pytest.approx(5.0, rel=1e-9)


@pytest.mark.parametrize(("users", "throughput", "response"), ORACLE["closed_loop"])
def test_closed_loop(users: int, throughput: float, response: float) -> None:
    found = closed.closed_loop(users, 0.1, 1.0)
    assert found.throughput_per_s == pytest.approx(throughput, rel=1e-9)
    assert found.response_s == pytest.approx(response, rel=1e-9)
    with pytest.raises(ValueError, match="user"):
        closed.closed_loop(0, 0.1, 1.0)


def test_fluid_overload() -> None:
    # Four instances of 80/s at 400/s for 300 s, then eight.
    after = fluid.backlog([400.0, 400.0], [320.0, 640.0], [300.0, 100.0])
    assert after == pytest.approx([24_000.0, 0.0])
    assert float(fluid.delay_s(24_000.0, 320.0)) == 75.0
    assert float(fluid.delay_s(24_000.0, 640.0)) == 37.5
    assert fluid.drain_time_s(24_000.0, 400.0, 640.0) == pytest.approx(100.0)
    assert math.isinf(fluid.drain_time_s(1.0, 400.0, 320.0))
    assert fluid.drain_time_s(0.0, 400.0, 320.0) == 0.0
    assert fluid.backlog([10.0, 10.0, 30.0], 20.0, 5.0, start=60.0) == pytest.approx([10, 0, 50])
