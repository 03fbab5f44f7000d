"""How fast the policy simulator is, and how close to simulating every request.

Speed: policy-days per second of processor time on one core (wall time beside it), memory of a
process that simulates 1 000 policies over 14 days. Beside it: simulating the requests.

Accuracy: days of traffic, routings and targets against `simulator.des`, which draws every
arrival and service time. The RANDOM capacity table is the closed form of M/M/4; that of
LEAST_OUTSTANDING_REQUESTS is the latency curve with the pooling exponent that four workers have.

Run ``python tests/benchmarks/policy_speed.py [--quick] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import RoutingStrategy
from tuner.queueing import mmc
from tuner.queueing.capacity import ViolationTable
from tuner.queueing.latency_curve import LatencyCurve
from tuner.simulator.des import RequestModel, run_requests
from tuner.simulator.inputs import LaunchLag, PolicyGrid, SimulationOptions
from tuner.simulator.simulate import simulate
from tuner.slo import LatencyObjective

MEAN_S, WORKERS, SLO_S = 0.05, 4, 0.3
LAM_STAR_PER_MIN = 3597.70
POOLING = 0.93
LAGS = LaunchLag.of([200.0, 240.0, 300.0, 330.0, 420.0])
ONE_LAG = LaunchLag.of(280.0)
"""Where single days are compared: a spike hangs on the very lag drawn, whatever the method."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """One measured value and its goal."""

    name: str
    value: float
    unit: str
    goal: float | None
    met: bool | None


def random_table(counts: int) -> ViolationTable:
    """Independent M/M/4 queues."""
    busy = np.append(1.0 - np.geomspace(1.0, 1e-3, 96), 1.0)
    delay = np.linspace(0.0, SLO_S, 61)
    rows = np.ones((len(busy), len(delay)))
    for i, rho in enumerate(busy[:-1]):
        rate = rho * WORKERS / MEAN_S
        rows[i] = mmc.sojourn_survival(SLO_S - delay, rate, WORKERS, MEAN_S)
    probability = np.repeat(np.clip(rows, 0.0, 1.0)[None], counts, axis=0)
    return ViolationTable(np.arange(1, counts + 1), busy, delay, probability, WORKERS / MEAN_S)


def least_table(counts: int) -> ViolationTable:
    """Join the least outstanding of n instances: the latency curve the product fits."""
    demand = -MEAN_S * np.log1p(-(np.arange(2000) + 0.5) / 2000)
    curve = LatencyCurve(demand, float(WORKERS), pooling=POOLING)
    return curve.violation_table(LatencyObjective(0.99, SLO_S), counts)


def day(kind: str, low: float, high: float, minutes: int, rng: np.random.Generator) -> FloatArray:
    """Requests per minute of a day between ``low`` and ``high`` per second."""
    t = np.arange(minutes)
    mean = low + (high - low) * (0.5 - 0.5 * np.cos(2.0 * np.pi * t / minutes))
    if kind == "flash":
        start = minutes // 4
        mean = mean * (1.0 + 0.5 * np.clip((t - start) / 10.0, 0, 1) * (t < start + 60))
    elif kind == "spike":
        mean = mean * np.where((t >= minutes // 3) & (t < minutes // 3 + 10), 2.2, 1.0)
    return rng.poisson(60.0 * mean).astype(np.float64)


def grid_of(policies: int) -> PolicyGrid:
    """About ``policies`` policies: targets x minima x both cooldowns."""
    targets = np.linspace(0.4, 1.1, max(policies // 20, 1)) * LAM_STAR_PER_MIN
    return PolicyGrid.product(targets, [1, 2, 3, 4, 6], [48], [0, 300], [300, 900])


def speed(quick: bool) -> list[Figure]:
    """Policy-days per second at two batch sizes."""
    rng = np.random.default_rng(1)
    table = random_table(48)
    made = []
    for days, policies in ((14, 1000), (28, 1000) if quick else (28, 4000)):
        load = np.stack([day("daily", 150.0, 1000.0, 1440, rng) for _ in range(days)])
        grid = grid_of(policies)
        rates, walls = [], []
        for _ in range(3 if quick else 5):
            wall, cpu = time.perf_counter(), time.process_time()
            simulate(grid, load, table, LAGS)
            rates.append(days * len(grid) / (time.process_time() - cpu))
            walls.append(days * len(grid) / (time.perf_counter() - wall))
        name = f"{len(grid)} policies x {days} days"
        best = max(rates)
        made.append(Figure(f"{name}, per cpu second", best, "policy-days/s", 2e4, best >= 2e4))
        made.append(Figure(f"{name}, per second", max(walls), "policy-days/s", None, None))
    return made


def whole_process() -> list[Figure]:
    """A fresh interpreter that imports, simulates 14 days x 1 000 policies and ends."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--child"], capture_output=True, text=True, check=True
    )
    took_s = time.perf_counter() - start
    peak_mb = float(done.stdout)
    return [
        Figure("14 days x 1000 policies with start-up", took_s, "s", 3.0, took_s < 3.0),
        Figure("its memory", peak_mb, "MB", 500.0, peak_mb < 500.0),
    ]


def child() -> None:
    """The work of `whole_process`; prints peak memory in MB."""
    rng = np.random.default_rng(1)
    load = np.stack([day("daily", 150.0, 1000.0, 1440, rng) for _ in range(14)])
    simulate(grid_of(1000), load, random_table(48), LAGS)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0)


@dataclass(frozen=True)
class Case:
    """One comparison, in percent of requests, percent of minutes and instance-hours."""

    name: str
    requests: int
    fluid: tuple[float, float, float]
    exact: tuple[float, float, float]
    exact_s: float


def accuracy(quick: bool) -> list[Case]:
    """Fluid against request by request."""
    minutes, high = (480, 170.0) if quick else (1440, 300.0)
    rng = np.random.default_rng(7)
    counts = 24
    tables = {
        RoutingStrategy.RANDOM: random_table(counts),
        RoutingStrategy.LEAST_OUTSTANDING_REQUESTS: least_table(counts),
    }
    random, least = tables
    shares = {random: (0.5, 0.87, 0.95, 1.06), least: (0.87, 1.06)}
    cases = [(r, "daily", s) for r in tables for s in shares[r]]
    cases += [(r, kind, 0.8) for r in tables for kind in ("flash", "spike")]
    loads = {
        kind: day(kind, high / 5.0, high, minutes, rng) for kind in ("daily", "flash", "spike")
    }
    return [compare(tables[r], r, kind, share, loads[kind]) for r, kind, share in cases]


def compare(
    table: ViolationTable, routing: RoutingStrategy, kind: str, share: float, load: FloatArray
) -> Case:
    """One policy on one day, both ways. A day of deep overload is replayed three times: what
    one replay gives varies by a tenth of a point there."""
    grid = PolicyGrid.product(share * LAM_STAR_PER_MIN, 2, 24, 0, 300)
    options = SimulationOptions(least_outstanding=routing is not RoutingStrategy.RANDOM)
    fluid = simulate(grid, load, table, ONE_LAG, options=options)
    model = RequestModel(ServiceTime.exponential(MEAN_S), WORKERS, routing, SLO_S)
    start = time.perf_counter()
    replays = [
        run_requests(*grid.policy(0), load, model, ONE_LAG, np.random.default_rng(seed))
        for seed in range(3 if kind == "spike" else 1)
    ]
    took_s = (time.perf_counter() - start) / len(replays)
    return Case(
        f"{routing.name.split('_')[0].lower()} {kind} {share:.2f}",
        int(replays[0].requests.sum()),
        (
            100.0 * float(fluid.violating_share[0, 0]),
            100.0 * float(fluid.bad_minute_share[0, 0]),
            float(fluid.instance_hours[0, 0]),
        ),
        (
            100.0 * float(np.mean([r.violating_share for r in replays])),
            100.0 * float(np.mean([r.bad_minute_share(0.01) for r in replays])),
            float(np.mean([r.instance_hours for r in replays])),
        ),
        took_s,
    )


def judged(cases: list[Case]) -> list[Figure]:
    """Worst differences, and how much faster the fluid model is."""
    apart = max(abs(c.fluid[0] - c.exact[0]) for c in cases)
    hours = 100.0 * max(abs(c.fluid[2] / c.exact[2] - 1.0) for c in cases)
    rate = sum(c.requests for c in cases) / sum(c.exact_s for c in cases)
    return [
        Figure("cases compared", len(cases), "cases", 6.0, len(cases) >= 6),
        Figure("worst difference of misses", apart, "points", 0.1, apart <= 0.1),
        Figure("worst difference of instance-hours", hours, "%", 0.5, hours <= 0.5),
        Figure("requests simulated one by one", rate, "requests/s", None, None),
    ]


def show(cases: list[Case], figures: list[Figure]) -> None:
    """The table for people."""
    print(f"{'case':<22}{'requests':>12}{'misses % exact/fluid':>24}", end="")
    print(f"{'bad minutes %':>18}{'instance-hours':>20}")
    for c in cases:
        pairs = [f"{e:.3f} / {f:.3f}" for e, f in zip(c.exact, c.fluid, strict=True)]
        print(f"{c.name:<22}{c.requests:>12,}{pairs[0]:>24}{pairs[1]:>18}{pairs[2]:>20}")
    print()
    for f in figures:
        goal = "" if f.goal is None else f"goal {f.goal:,g}: {'met' if f.met else 'MISSED'}"
        print(f"{f.name:<48}{f.value:>14,.3f} {f.unit:<14}{goal}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter days, smaller batches")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child()
        return 0
    cases = accuracy(asked.quick)
    figures = speed(asked.quick) + whole_process() + judged(cases)
    fluid = next(f.value for f in figures if f.unit == "policy-days/s")
    one_by_one = sum(c.exact_s for c in cases) / len(cases)
    ratio = fluid * one_by_one
    if math.isfinite(ratio):
        figures.append(Figure("fluid over one by one, a policy-day each", ratio, "x", None, None))
    if asked.json:
        print(json.dumps([asdict(f) for f in figures], indent=2))
    else:
        show(cases, figures)
    return 0 if all(f.met is not False for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
