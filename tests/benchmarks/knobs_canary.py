"""Canary: false alarms when looked at every minute, and how soon a slow-down is seen.

Pairs of minutes of two simulated variants under the same arrivals go through the decision that
``tuner canary`` takes after every minute. Beside it stand the two tests people run by hand on
the same minutes: a z test on the share of late requests of all requests so far, and a t test on
the minutes' mean latency, each repeated every minute.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.canary import CanaryTest, CanaryVerdict, MinutePair, Side, look
from tuner.fleet.batch import fifo_waits
from tuner.stats.histogram import LatencyHistogram

Row = dict[str, Any]
Column = NDArray[np.float64]
SEED = 20261122
WORKERS, MEAN_S, CV = 4, 0.020, 0.6
THRESHOLD_S, ALLOWANCE = 0.120, 0.01
SETTLE_S, MINUTE_S = 5.0, 60.0
MINUTES = 120
LANES = 480
NOTHING = LatencyHistogram.of([])


def minutes(rho: float, slower: float, lanes: int, rng: np.random.Generator) -> list[MinutePair]:
    """So many pairs of minutes; each begins idle and settles, as the stages of a canary do."""
    rate = rho * WORKERS / MEAN_S
    steps = math.ceil((SETTLE_S + MINUTE_S) * rate * 1.08)
    gap = rng.exponential(1.0 / rate, (steps, lanes))
    at = np.cumsum(gap, axis=0)
    inside = (at >= SETTLE_S) & (at < SETTLE_S + MINUTE_S)
    count = inside.sum(axis=0)
    sides = []
    for factor in (1.0, slower):
        sigma = math.sqrt(math.log1p(CV**2))
        demand = rng.lognormal(math.log(MEAN_S) - sigma**2 / 2, sigma, (steps, lanes)) * factor
        took = fifo_waits(gap, demand, WORKERS) + demand
        late = ((took > THRESHOLD_S) & inside).sum(axis=0)
        sides.append((np.where(inside, np.log(took), 0.0).sum(axis=0) / count, late))
    return [
        MinutePair(
            i,
            *(
                Side(int(count[i]), 0, int(late[i]), float(mean[i]), NOTHING)
                for mean, late in sides
            ),
        )
        for i in range(lanes)
    ]


def canaries(rho: float, slower: float, many: int, seed: int) -> list[list[MinutePair]]:
    """So many tests of two hours."""
    rng = np.random.default_rng([SEED, seed])
    found: list[MinutePair] = []
    while len(found) < many * MINUTES:
        found += minutes(rho, slower, LANES, rng)
    return [found[i * MINUTES : (i + 1) * MINUTES] for i in range(many)]


def ends(pairs: list[MinutePair], test: CanaryTest) -> tuple[CanaryVerdict, int]:
    """The first clear answer, and its minute."""
    for n in range(10, len(pairs) + 1):
        seen = look(pairs[:n], test)
        if seen.verdict is not CanaryVerdict.OPEN:
            return seen.verdict, n
    return CanaryVerdict.OPEN, len(pairs)


def ever_slower(pairs: list[MinutePair], test: CanaryTest) -> bool:
    """Whether the alarm would be raised at any minute, had nobody stopped at the all-clear."""
    looks = (look(pairs[:n], test) for n in range(10, len(pairs) + 1))
    return any(s.verdict is CanaryVerdict.SLOWER for s in looks)


def naive(pairs: list[MinutePair]) -> tuple[bool, bool]:
    """Whether repeated tests at 5 % ever say slower: z on late requests, t on minutes."""
    late_b = np.cumsum([p.baseline.late for p in pairs])
    late_c = np.cumsum([p.candidate.late for p in pairs])
    n = np.cumsum([p.baseline.requests for p in pairs])
    pooled = np.maximum((late_b + late_c) / (2 * n), 1e-12)
    z = (late_c - late_b) / n / np.sqrt(2 * pooled * (1 - pooled) / n)
    ln = np.array([p.candidate.mean_ln - p.baseline.mean_ln for p in pairs])
    m = np.arange(1, len(ln) + 1)
    mean = np.cumsum(ln) / m
    var = (np.cumsum(ln**2) - m * mean**2) / np.maximum(m - 1, 1)
    t = mean[9:] / np.sqrt(np.maximum(var[9:], 1e-30) / m[9:])
    return bool((z[9:] > 1.645).any()), bool((t > 1.833).any())


def _row(name: str, value: float, unit: str, goal: str = "", met: bool | None = None) -> Row:
    return {"name": name, "value": value, "unit": unit, "goal": goal, "met": met}


def rows(quick: bool) -> list[Row]:
    """The figures; ``quick`` takes fewer repetitions."""
    many = 40 if quick else 300
    # No stated slow-down ends a test early here: every look of two hours can raise the alarm.
    endless = CanaryTest(0.05, ALLOWANCE)
    found: list[Row] = []
    for rho in (0.56, 0.75):
        equal = canaries(rho, 1.0, many, int(100 * rho))
        alarms = float(np.mean([ever_slower(p, endless) for p in equal]))
        by_hand = np.mean([naive(p) for p in equal], axis=0)
        within = 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / many)
        found += [
            _row(f"canary: false alarms in 2 h, {rho:.0%} busy", alarms, "share",
                 f"<= 0.05 (+ 3 se: {within:.3f})", alarms <= within),
            _row(f"  by hand: z on late requests, {rho:.0%} busy", float(by_hand[0]), "share"),
            _row(f"  by hand: t on minutes, {rho:.0%} busy", float(by_hand[1]), "share"),
        ]  # fmt: skip
        stops = [ends(p, endless) for p in equal]
        cleared = [n for v, n in stops if v is CanaryVerdict.NOT_SLOWER]
        found.append(_row(f"canary: cleared of 5 %, {rho:.0%} busy", len(cleared) / many, "share"))
        found.append(
            _row(f"canary: minutes to the all-clear, {rho:.0%} busy", _median(cleared), "min")
        )
    for rho, slower in ((0.75, 1.03), (0.75, 1.05), (0.75, 1.10), (0.56, 1.05)):
        tests = canaries(rho, slower, max(20, many // 3), int(1000 * slower + rho * 100))
        stops = [ends(p, endless) for p in tests]
        seen = [n for v, n in stops if v is CanaryVerdict.SLOWER]
        main = (rho, slower) == (0.75, 1.05)
        median = _median([n if v is CanaryVerdict.SLOWER else math.inf for v, n in stops])
        what = f"service {slower - 1:.0%} slower, {rho:.0%} busy"
        found.append(
            _row(f"canary: minutes to see {what}", median, "min (median)", "< 15" if main else "",
                 median < 15 if main else None)
        )  # fmt: skip
        found.append(_row(f"canary: seen, {what}", len(seen) / len(tests), "share"))
    return found


def _median(values: list[float] | list[int]) -> float:
    return float(np.median(values)) if values else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = rows(args.quick)
    if args.json:
        print(json.dumps(found))
        return
    for row in found:
        met = {True: "met", False: "MISSED", None: ""}[row["met"]]
        print(f"{row['name']:<58} {row['value']:>9.3f} {row['unit']:<14} {row['goal']:<24} {met}")


if __name__ == "__main__":
    main()
