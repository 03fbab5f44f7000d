"""The fleet against exact queueing results that were computed elsewhere.

``tests/oracles/queueing_exact_mmc_mdc.csv`` holds sojourn quantiles of M/M/c and M/D/c
queues; the other numbers are closed forms or numerical inversions quoted beside each case.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from tuner.fleet import (
    Contention,
    Fleet,
    FleetSpec,
    InstanceSpec,
    QueueOrder,
    RoutingStrategy,
    ServiceTime,
    simulate,
)

ORACLE = Path(__file__).resolve().parents[1] / "oracles" / "queueing_exact_mmc_mdc.csv"
LOR = RoutingStrategy.LEAST_OUTSTANDING_REQUESTS
M = ServiceTime.exponential(1.0)
D = ServiceTime.deterministic(1.0)
E2 = ServiceTime.gamma(1.0, 1.0 / math.sqrt(2.0))
H2 = ServiceTime.hyperexponential(0.5, 5.5, 0.1)
TWO_POINT = ServiceTime.two_point(0.5, 5.5, 0.1)
LN1 = ServiceTime.lognormal(1.0, 1.0)


def oracle_rows() -> list[dict[str, str]]:
    with ORACLE.open(newline="") as file:
        return list(csv.DictReader(file))


def sojourn(spec: FleetSpec, rate: float, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / rate, n))
    result = simulate(spec, arrivals, rng)
    assert result.ok.all()
    return (result.done_s - arrivals)[n // 20 :]


def patient(instance: InstanceSpec, **more: object) -> FleetSpec:
    return FleetSpec(instance, timeout_s=math.inf, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [r for r in oracle_rows() if float(r["rho"]) in (0.5, 0.8) and int(r["c"]) <= 16],
    ids=lambda r: f"{r['model']}-{r['c']}-{r['rho']}",
)
def test_sojourn_quantiles_of_one_instance(row: dict[str, str]) -> None:
    service = M if row["model"].startswith("M/M") else D
    spec = patient(InstanceSpec(service, workers=int(row["c"])))
    times = sojourn(spec, float(row["arrival_rate"]), 400_000, seed=11)
    # Three standard deviations of 400 000 requests at these loads.
    wide = float(row["rho"]) > 0.5
    assert times.mean() == pytest.approx(float(row["mean_sojourn"]), rel=0.05 if wide else 0.015)
    for level, column, rel in (
        (0.50, "sojourn_p50", 0.05 if wide else 0.015),
        (0.95, "sojourn_p95", 0.07 if wide else 0.025),
        (0.99, "sojourn_p99", 0.09 if wide else 0.035),
    ):
        assert np.quantile(times, level) == pytest.approx(float(row[column]), rel=rel)


@pytest.mark.parametrize(
    ("service", "rho", "p50", "p95", "p99"),
    [
        (E2, 0.5, 1.3578, 4.5813, 6.8191),
        (H2, 0.5, 1.0820, 18.9775, 32.8369),
        (TWO_POINT, 0.5, 0.6968, 9.2375, 14.1664),
        (LN1, 0.5, 1.2808, 6.1789, 10.3920),
        (LN1, 0.7, 2.1324, 10.4142, 16.7787),
    ],
)
def test_single_server_with_general_service(
    service: ServiceTime, rho: float, p50: float, p95: float, p99: float
) -> None:
    """Exact values: Pollaczek-Khinchine inverted; lognormal by Beekman's sum on a lattice."""
    times = sojourn(patient(InstanceSpec(service)), rho, 1_000_000, seed=5)
    assert np.quantile(times, 0.50) == pytest.approx(p50, rel=0.03)
    assert np.quantile(times, 0.95) == pytest.approx(p95, rel=0.05)
    assert np.quantile(times, 0.99) == pytest.approx(p99, rel=0.06)


@pytest.mark.parametrize("service", [E2, H2, TWO_POINT, LN1, M, D])
def test_mean_wait_follows_pollaczek_khinchine(service: ServiceTime) -> None:
    times = sojourn(patient(InstanceSpec(service)), 0.5, 1_000_000, seed=3)
    wait = 0.5 * service.second_moment_s2 / (2.0 * (1.0 - 0.5))
    assert times.mean() == pytest.approx(wait + service.mean_s, rel=0.03)


@pytest.mark.parametrize(
    ("n", "rho", "mean", "p99"),
    [(2, 0.5, 1.42632, 6.42794), (2, 0.8, 2.95574, 13.08440), (3, 0.5, 1.24484, 5.62747)],
)
def test_least_outstanding_is_join_the_shortest_queue(
    n: int, rho: float, mean: float, p99: float
) -> None:
    """Exact values: stationary Markov chain of M/M JSQ with random ties."""
    spec = patient(InstanceSpec(M), instance_count=n, routing=LOR)
    times = sojourn(spec, rho * n, 400_000, seed=7)
    assert times.mean() == pytest.approx(mean, rel=0.04)
    assert np.quantile(times, 0.99) == pytest.approx(p99, rel=0.06)


@pytest.mark.parametrize("n", [1, 2, 8])
def test_random_routing_leaves_the_law_of_one_instance(n: int) -> None:
    """Thinning a Poisson process: M/M/4 at a = 2.8 on every instance."""
    spec = patient(InstanceSpec(M, workers=4), instance_count=n)
    times = sojourn(spec, 2.8 * n, 500_000, seed=2)
    for level, exact in ((0.5, 1.02855), (0.95, 3.75250), (0.99, 5.49256)):
        assert np.quantile(times, level) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("service", [M, D, TWO_POINT])
def test_processor_sharing_is_insensitive_to_the_service_law(service: ServiceTime) -> None:
    """M/G/1-PS: mean sojourn E[S]/(1 - rho) for any law."""
    spec = patient(InstanceSpec(service, workers=10_000, contention=Contention(1.0)))
    times = sojourn(spec, 0.5 / service.mean_s, 60_000, seed=4)
    assert times.mean() == pytest.approx(service.mean_s / 0.5, rel=0.04)


@pytest.mark.parametrize(("rate", "mean"), [(0.5, 1.08727), (2.0, 1.52728)])
def test_contention_matches_its_birth_death_chain(rate: float, mean: float) -> None:
    """Exponential work, limited sharing of 16, alpha .15, beta .004: birth-death and Little."""
    spec = patient(InstanceSpec(M, workers=16, contention=Contention(0.15, 0.004)))
    assert sojourn(spec, rate, 60_000, seed=9).mean() == pytest.approx(mean, rel=0.025)


def test_contention_speed_at_sixteen() -> None:
    assert 16 * Contention(0.15, 0.004).speed(16) == pytest.approx(3.80048, abs=5e-6)


@pytest.mark.parametrize(
    ("workers", "waiting", "load", "blocked"),
    [(1, 4, 0.9, 0.126023), (4, 4, 3.6, 0.096636), (4, 8, 4.4, 0.138706), (4, 0, 3.2, 0.228145)],
)
def test_blocking_of_a_finite_queue(
    workers: int, waiting: int, load: float, blocked: float
) -> None:
    """M/M/c/K: stationary probability of a full system."""
    spec = patient(InstanceSpec(M, workers=workers, queue_limit=waiting))
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(1.0 / load, 80_000))
    refused = 1.0 - simulate(spec, arrivals, rng).ok.mean()
    assert refused == pytest.approx(blocked, rel=0.03)


def test_random_order_keeps_the_mean_and_widens_the_tail() -> None:
    """Work conservation: any order that ignores service times has the FIFO mean."""
    fifo = sojourn(patient(InstanceSpec(M)), 0.7, 80_000, seed=6)
    spec = patient(InstanceSpec(M, order=QueueOrder.RANDOM))
    random = sojourn(spec, 0.7, 80_000, seed=6)
    assert random.mean() == pytest.approx(1.0 / 0.3, rel=0.06)
    assert np.quantile(random, 0.99) > 1.1 * np.quantile(fifo, 0.99)


@pytest.mark.parametrize("routing", list(RoutingStrategy))
def test_event_model_agrees_with_the_exact_law(routing: RoutingStrategy) -> None:
    """The same M/M/4 through submit and advance, looked at late and irregularly."""
    spec = patient(InstanceSpec(M, workers=4), routing=routing)
    rng = np.random.default_rng(8)
    arrivals = np.cumsum(rng.exponential(1.0 / 2.8, 100_000))
    fleet = Fleet(spec, rng)
    times = []
    for number, arrival in enumerate(arrivals.tolist()):
        fleet.submit(arrival)
        if number % 97 == 0:
            times += [c.done_s - c.arrived_s for c in fleet.advance(arrival + 0.001)]
    assert np.quantile(times, 0.5) == pytest.approx(1.02855, rel=0.03)
    assert np.quantile(times, 0.99) == pytest.approx(5.49256, rel=0.05)


def test_fast_path_equals_the_event_model_request_by_request() -> None:
    """Same service times in the same order: both must give the same ends."""
    values = tuple(np.random.default_rng(0).exponential(1.0, 50).tolist())

    class Turn:
        """A generator that takes the values in turn."""

        def __init__(self) -> None:
            self.at = 0

        def integers(self, low: int, high: int, n: int) -> np.ndarray:
            picked = (self.at + np.arange(n)) % 50
            self.at += n
            return picked

        def random(self, n: int) -> np.ndarray:
            return np.full(n, 0.5)

        def spawn(self, n: int) -> list[Turn]:
            return [Turn() for _ in range(n)]

    spec = patient(InstanceSpec(ServiceTime.empirical(values), workers=3))
    arrivals = np.sort(np.random.default_rng(1).uniform(0.0, 500.0, 1200))
    quick = simulate(spec, arrivals, Turn())  # type: ignore[arg-type]
    fleet = Fleet(spec, Turn())  # type: ignore[arg-type]
    for index, arrival in enumerate(arrivals.tolist()):
        fleet.submit(arrival, index)
    ends = {c.tag: c.done_s for c in fleet.advance(1e9)}
    np.testing.assert_allclose([ends[i] for i in range(1200)], quick.done_s, rtol=1e-12)
