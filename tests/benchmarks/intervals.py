"""Does a printed 95 % interval for p99 hold? Tuner beside what is usually printed.

Windows of M/M/1 sojourns, whose p99 is known exactly, are drawn over and over; each method
prints its interval and is counted right when the truth is inside. An end at infinity says
"unknown" and counts as holding on that side; how often is shown.

A second table has the live view's histogram beside HdrHistogram (hdrhistogram on PyPI).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from tuner.slo import Verdict
from tuner.stats.histogram import LatencyHistogram
from tuner.stats.proportions import exceedance_interval, independent_share
from tuner.stats.quantiles import independent_ranks, quantile_interval

Column = NDArray[np.float64]
Ends = tuple[float, float]
SEED = 20261122


def mm1(n: int, rho: float, rng: np.random.Generator) -> Column:
    warm = 8000
    arrival = np.cumsum(rng.exponential(1.0 / rho, n + warm))
    served = np.cumsum(rng.exponential(1.0, n + warm))
    begun = np.concatenate([[0.0], served[:-1]])
    return (served + np.maximum.accumulate(arrival - begun) - arrival)[warm:]


def p99(x: Column) -> float:
    k = math.ceil(0.99 * len(x)) - 1
    return float(np.partition(x, k)[k])


def tuner_ranks(x: Column, rng: np.random.Generator) -> Ends:
    interval = quantile_interval(x, 0.99).interval
    return interval.low, interval.high


def binomial(x: Column, rng: np.random.Generator) -> Ends:
    low, high = independent_ranks(len(x), 0.99)
    ranked = np.sort(x)
    return float(ranked[low - 1]), float(ranked[high - 1]) if high <= len(x) else math.inf


def mean_of_batches(x: Column, rng: np.random.Generator) -> Ends:
    """What a dashboard does: p99 of each of 20 periods, mean and 95 % interval of those."""
    parts = [p99(b) for b in np.array_split(x, 20)]
    half = 2.093 * float(np.std(parts, ddof=1)) / math.sqrt(20)
    return float(np.mean(parts)) - half, float(np.mean(parts)) + half


def block_bootstrap(x: Column, rng: np.random.Generator) -> Ends:
    blocks = np.array_split(x, 60)
    found = [p99(np.concatenate([blocks[i] for i in rng.integers(60, size=60)])) for _ in range(60)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


METHODS: dict[str, Callable[[Column, np.random.Generator], Ends]] = {
    "tuner": tuner_ranks,
    "independent ranks": binomial,
    "mean of 20 periods": mean_of_batches,
    "block bootstrap": block_bootstrap,
}


def coverage(windows: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for rho, n in ((0.5, 3000), (0.5, 48_000), (0.8, 12_000), (0.8, 48_000), (0.9, 48_000)):
        truth = math.log(100.0) / (1.0 - rho)
        rng = np.random.default_rng([SEED, n, int(100 * rho)])
        samples = [mm1(n, rho, rng) for _ in range(windows)]
        for name, method in METHODS.items():
            ends = np.array([method(x, rng) for x in samples])
            held = float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))
            unknown = float(np.mean(np.isinf(ends[:, 1])))
            ours = name == "tuner"
            # Three standard errors of a share of .90 over this many windows below it.
            least = round(0.90 - 3.0 * math.sqrt(0.09 / windows), 3)
            label = f"holds: {name}, M/M/1 rho {rho}, {n} requests"
            rows.append(row(label, held, "share", f">= {least}" if ours else None, held >= least))
            if ours:
                rows.append(row(f"upper end unknown: {label[7:]}", unknown, "share", None, True))
    return rows


def wrong_passes(windows: int) -> list[dict[str, object]]:
    """Verdicts MET at a load whose share of slow requests is exactly the allowance."""
    rows = []
    for rho, n in ((0.5, 3000), (0.8, 3000), (0.9, 12_000)):
        threshold = math.log(100.0) / (1.0 - rho)
        rng = np.random.default_rng([SEED, n, int(100 * rho), 2])
        passed = {"tuner": 0, "independent requests": 0}
        for _ in range(windows):
            x = mm1(n, rho, rng)
            slow = int(np.count_nonzero(x > threshold))
            passed["tuner"] += exceedance_interval(x, threshold).verdict(0.01) is Verdict.MET
            passed["independent requests"] += (
                independent_share(slow, n).verdict(0.01) is Verdict.MET
            )
        most = round(0.08 + 3.0 * math.sqrt(0.08 * 0.92 / windows), 3)
        for name, count in passed.items():
            goal = f"<= {most}" if name == "tuner" else None
            label = f"wrongly passed: {name}, M/M/1 rho {rho}, {n} requests"
            rows.append(row(label, count / windows, "share", goal, count / windows <= most))
    return rows


def histograms(values: int) -> list[dict[str, object]]:
    rng = np.random.default_rng([SEED, 3])
    laws = {
        "lognormal": 0.05 * rng.lognormal(0.0, 0.83, values),
        "bimodal": np.where(rng.random(values) < 0.9, 0.02, 0.22) * rng.uniform(0.9, 1.1, values),
        "pareto 1.5": 0.02 * (1.0 + rng.pareto(1.5, values)),
    }
    rows = []
    for law, x in laws.items():
        begun = time.perf_counter()
        ours = LatencyHistogram.merge(LatencyHistogram.of(p) for p in np.array_split(x, 8))
        ours_us = (time.perf_counter() - begun) / values * 1e6
        begun = time.perf_counter()
        peer = HdrHistogram(1, 3_600_000_000, 3)
        for v in (x * 1e6).tolist():
            peer.record_value(int(v))
        peer_us = (time.perf_counter() - begun) / values * 1e6
        worst = {"tuner": 0.0, "HdrHistogram": 0.0}
        for q in (0.5, 0.9, 0.95, 0.99, 0.999):
            exact = float(np.quantile(x, q, method="inverted_cdf"))
            worst["tuner"] = max(worst["tuner"], abs(ours.quantile_s(q) / exact - 1.0))
            other = peer.get_value_at_percentile(100.0 * q) / 1e6
            worst["HdrHistogram"] = max(worst["HdrHistogram"], abs(other / exact - 1.0))
        error = worst["tuner"]
        rows += [
            row(f"worst error: tuner, {law}", error, "relative", "<= 0.005", error <= 0.005),
            row(f"worst error: HdrHistogram, {law}", worst["HdrHistogram"], "relative", None, True),
            row(f"record: tuner, {law}", ours_us, "us per value", None, True),
            row(f"record: HdrHistogram, {law}", peer_us, "us per value", None, True),
            row(f"record: HdrHistogram over tuner, {law}", peer_us / ours_us, "ratio", None, True),
        ]
    return rows


def row(name: str, value: float, unit: str, goal: str | None, met: bool) -> dict[str, object]:
    return {"name": name, "value": value, "unit": unit, "goal": goal, "met": met}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under a minute")
    parser.add_argument("--json", action="store_true", help="rows as JSON on standard output")
    args = parser.parse_args()
    windows, values = (60, 20_000) if args.quick else (400, 200_000)
    rows = coverage(windows) + wrong_passes(4 * windows) + histograms(values)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{windows} windows a row, seed {SEED}")
    for r in rows:
        goal = f"   goal {r['goal']}: {'met' if r['met'] else 'MISSED'}" if r["goal"] else ""
        print(f"{r['name']:<62} {r['value']:>9.4g} {r['unit']}{goal}")


if __name__ == "__main__":
    main()
