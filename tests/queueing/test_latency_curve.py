"""The M/G/c tail formula against exact queues, and what it promises in itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.queueing import jsq, mmc
from tuner.queueing.latency_curve import LatencyCurve, capacity_interval, demand_quantiles
from tuner.slo import LatencyObjective


def exponential_curve(workers: float, **more: float) -> LatencyCurve:
    grid = (np.arange(400_000) + 0.5) / 400_000
    return LatencyCurve.of_demands(-0.05 * np.log1p(-grid), workers, **more)


@pytest.mark.parametrize("workers", [1, 4, 8])
def test_curve_of_exponential_demands_is_mmc(workers: int) -> None:
    curve = exponential_curve(workers)
    for rho in (0.3, 0.7, 0.9):
        rate = rho * workers / 0.05
        for t in (0.02, 0.1, 0.4):
            exact = float(mmc.sojourn_survival(t, rate, workers, 0.05))
            # A demand beyond the last of 2,000 points cannot be told from it.
            assert float(curve.survival(t, rate)) == pytest.approx(exact, rel=0.01, abs=2.5e-4)
        for q in (0.5, 0.95, 0.99):
            exact = mmc.sojourn_quantile_s(q, rate, workers, 0.05)
            assert float(curve.quantile_s(q, rate)) == pytest.approx(exact, rel=0.008)


@pytest.mark.parametrize(("workers", "slo_s", "rate"), [(4, 0.3, 59.9616), (8, 0.3, 138.6624)])
def test_capacity_is_that_of_mmc(workers: int, slo_s: float, rate: float) -> None:
    found = exponential_curve(workers).capacity_per_s(LatencyObjective(0.99, slo_s))
    assert float(found) == pytest.approx(rate, rel=0.005)


def test_pooling_one_is_one_big_pool_and_zero_does_not_know_the_count() -> None:
    pooled = exponential_curve(4, pooling=1.0)
    for n in (2, 6):
        exact = float(mmc.sojourn_survival(0.2, 64.0 * n, 4 * n, 0.05))
        assert float(pooled.survival(0.2, 64.0, n)) == pytest.approx(exact, rel=0.01)
    alone = exponential_curve(4)
    same = alone.capacity_per_s(LatencyObjective(0.99, 0.3), np.arange(1, 20))
    assert np.ptp(same) == 0.0


def test_shortest_queue_lies_between_no_pooling_and_full_pooling() -> None:
    # Three instances of one worker: the formula with g near .78 stays within a few per cent.
    chain = jsq.shortest_queue(3, 0.8, 0.05)
    curves = {g: exponential_curve(1, pooling=g) for g in (0.0, 0.78, 1.0)}
    p99 = {g: float(c.quantile_s(0.99, 16.0, 3)) for g, c in curves.items()}
    exact = chain.sojourn_quantile_s(0.99)
    assert p99[1.0] < exact < p99[0.0]
    assert p99[0.78] == pytest.approx(exact, rel=0.06)


def test_backlog_and_floor_shift_the_latency() -> None:
    plain = exponential_curve(4)
    moved = exponential_curve(4, floor_s=0.03)
    assert float(moved.survival(0.23, 60.0, delay_s=0.05)) == pytest.approx(
        float(plain.survival(0.15, 60.0)), rel=1e-9
    )
    assert float(plain.survival(0.2, 60.0, delay_s=0.3)) == 1.0
    assert float(moved.quantile_s(0.9, 60.0, delay_s=1.0)) == pytest.approx(
        1.03 + float(plain.quantile_s(0.9, 60.0)), rel=1e-6
    )


def test_saturation_is_infinite_and_failures_use_up_the_allowance() -> None:
    curve = exponential_curve(4)
    assert curve.saturation_rate_per_s == pytest.approx(80.0, rel=1e-4)
    assert np.isinf(curve.quantile_s(0.5, [80.1, 200.0])).all()
    assert float(curve.quantile_s(0.5, 0.0)) == pytest.approx(0.05 * math.log(2.0), rel=0.01)
    assert np.isinf(curve.quantile_s(0.99, 40.0, failures=0.02))
    assert float(curve.quantile_s(0.99, 40.0, failures=0.005)) > float(curve.quantile_s(0.99, 40.0))
    objective = LatencyObjective(0.99, 0.3)
    clean, dirty = (float(curve.capacity_per_s(objective, failures=f)) for f in (0.0, 0.005))
    assert 0.0 < dirty < clean
    assert float(curve.capacity_per_s(objective, failures=0.02)) == 0.0
    assert float(curve.capacity_per_s(LatencyObjective(0.99, 0.1))) == 0.0


def test_capacity_is_where_the_violations_reach_the_allowance() -> None:
    rng = np.random.default_rng(51)
    curve = LatencyCurve.of_demands(rng.lognormal(-3.0, 0.6, 20_000), 3.0, pooling=0.9, decay=1.2)
    objective = LatencyObjective(0.95, 0.25)
    counts = np.array([1, 3, 10])
    rate = curve.capacity_per_s(objective, counts)
    assert np.all(np.diff(rate) > 0.0)
    assert curve.survival(0.25, rate, counts) == pytest.approx(0.05, abs=1e-4)
    assert np.all(curve.survival(0.25, rate * 1.01, counts) > 0.05)


def test_table_holds_the_survival_of_the_curve() -> None:
    rng = np.random.default_rng(52)
    curve = LatencyCurve.of_demands(
        np.where(rng.random(50_000) < 0.9, 0.025, 0.275), 4.0, pooling=0.95, floor_s=0.004
    )
    objective = LatencyObjective(0.99, 0.4)
    table = curve.violation_table(objective, 48, failures=0.002)
    assert table.probability.shape == (48, len(table.utilization), len(table.delay_s))
    assert table.instance_count.tolist() == list(range(1, 49))
    for _ in range(200):
        i, j, k = (int(rng.integers(m)) for m in table.probability.shape)
        rate = table.utilization[j] * table.saturation_rate_per_s
        late = float(curve.survival(0.4, rate, i + 1, delay_s=table.delay_s[k]))
        assert table.probability[i, j, k] == pytest.approx(0.002 + 0.998 * late, abs=2e-9)


def test_table_rises_with_load_and_backlog_up_to_one() -> None:
    table = exponential_curve(2, pooling=0.8).violation_table(LatencyObjective(0.99, 0.3), 12)
    assert np.all(np.diff(table.probability, axis=1) >= 0.0)
    assert np.all(np.diff(table.probability, axis=2) >= 0.0)
    assert table.utilization[0] == 0.0
    assert table.utilization[-1] == 1.0
    assert np.all(np.diff(table.utilization) > 0.0)
    assert np.all(table.probability[:, -1, :] == 1.0)
    assert table.probability[:, :, -1] == pytest.approx(1.0)
    assert table.delay_s[0] == 0.0


def test_linear_look_up_finds_the_capacity() -> None:
    curve = exponential_curve(4, pooling=0.95)
    objective = LatencyObjective(0.99, 0.3)
    table = curve.violation_table(objective, 16)
    exact = curve.capacity_per_s(objective, np.arange(1, 17))
    for i in (0, 3, 15):
        row = table.probability[i, :, 0]
        found = np.interp(0.01, row, table.utilization) * table.saturation_rate_per_s
        assert found == pytest.approx(exact[i], rel=0.003)


@settings(max_examples=40, deadline=None)
@given(
    workers=st.floats(0.5, 40.0),
    pooling=st.floats(0.0, 1.0),
    sigma=st.floats(0.0, 1.5),
    slo=st.floats(1.5, 30.0),
    n=st.integers(1, 64),
)
def test_capacity_is_inside_and_stricter_slos_carry_less(
    workers: float, pooling: float, sigma: float, slo: float, n: int
) -> None:
    demands = 0.01 * np.exp(sigma * np.sin(np.linspace(0.0, 1.5, 300)))
    curve = LatencyCurve.of_demands(demands, workers, pooling=pooling)
    loose = float(curve.capacity_per_s(LatencyObjective(0.95, slo * 0.01), n))
    strict = float(curve.capacity_per_s(LatencyObjective(0.99, slo * 0.01), n))
    assert 0.0 <= strict <= loose <= curve.saturation_rate_per_s


def test_demand_quantiles_keep_the_mean_of_a_heavy_tail() -> None:
    rng = np.random.default_rng(53)
    x = 1.0 + rng.pareto(1.6, 30_000)
    q = demand_quantiles(x)
    assert q.mean() == pytest.approx(x.mean(), rel=1e-9)
    assert np.all(np.diff(q) >= 0.0)
    assert float(np.median(q)) == pytest.approx(float(np.median(x)), rel=0.01)
    assert demand_quantiles([-1e-5, 0.2]).mean() == pytest.approx(0.1)
    with pytest.raises(ValueError, match="finite"):
        demand_quantiles([0.1, math.inf])


@pytest.mark.parametrize(
    "bad",
    [
        {"workers": 0.0},
        {"workers": 1.0, "pooling": 1.5},
        {"workers": 1.0, "decay": 0.0},
    ],
)
def test_a_curve_refuses_nonsense(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"positive|pooling"):
        LatencyCurve(np.array([0.1, 0.2]), **bad)


def test_a_curve_needs_ascending_demands() -> None:
    for column in (np.array([0.2, 0.1]), np.array([]), np.array([-0.1, 0.1])):
        with pytest.raises(ValueError, match="demand"):
            LatencyCurve(column, 1.0)


def test_more_points_resolve_a_p999() -> None:
    grid = (np.arange(400_000) + 0.5) / 400_000
    curve = LatencyCurve.of_demands(-0.05 * np.log1p(-grid), 4, points=20_000)
    for rate in (24.0, 60.0):
        exact = mmc.sojourn_quantile_s(0.999, rate, 4, 0.05)
        assert float(curve.quantile_s(0.999, rate)) == pytest.approx(exact, rel=0.003)


def test_capacity_interval_has_the_spread_of_the_members() -> None:
    rng = np.random.default_rng(54)
    held = 0
    for _ in range(300):
        noise = rng.normal(0.0, 0.1, 21)
        interval = capacity_interval(50.0 * np.exp(noise[1:]), 50.0 * math.exp(noise[0]))
        held += interval.low <= 50.0 <= interval.high
    assert 0.91 <= held / 300 <= 0.98
    with pytest.raises(ValueError, match="two members"):
        capacity_interval([50.0], 50.0)
    nothing = capacity_interval([0.0, 3.0], 2.0)
    assert (nothing.low, nothing.mid, nothing.high) == (0.0, 2.0, 3.0)
