"""Canary: false alarms when looked at every minute, and how soon a slow-down is seen.

Pairs of minutes of two simulated variants under the same arrivals go through the decision that
``tuner canary`` takes after every minute. Beside it stand the two tests people run by hand on
the same minutes: a z test on the share of late requests of all requests so far, and a t test on
the minutes' mean latency, each repeated every minute.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from figures import Row, main, row
from numpy.typing import NDArray

from tuner.campaign.canary import CanaryTest, CanaryVerdict, MinutePair, Side, look
from tuner.fleet.batch import fifo_waits
from tuner.fleet.quick import lindley
from tuner.stats.histogram import LatencyHistogram

Column = NDArray[np.float64]
SEED = 20261122
WORKERS, MEAN_S, CV = 4, 0.020, 0.6
THRESHOLD_S, ALLOWANCE = 0.120, 0.01
SETTLE_S, MINUTE_S = 5.0, 60.0
MINUTES = 120
LANES = 480
NOTHING = LatencyHistogram.of([])
ASKED = CanaryTest(0.05, ALLOWANCE)


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


def endless(
    slower: float, common: float, own: float, rng: np.random.Generator, rho: float = 0.75
) -> list[MinutePair]:
    """Two hours of one worker each, never drained, whose service has slow spells.

    Spells are first-order autoregressive by minute (0.8), of these standard deviations: some
    shared by both variants, some each one's own.
    """
    rate = rho / MEAN_S
    at = np.cumsum(rng.exponential(1.0 / rate, math.ceil(60.0 * MINUTES * rate * 1.02)))
    minute = np.minimum((at / 60.0).astype(int), MINUTES)
    shared = _spells(common, rng)
    sides = []
    for factor in (1.0, slower):
        sigma = math.sqrt(math.log1p(CV**2))
        demand = rng.lognormal(math.log(MEAN_S) - sigma**2 / 2, sigma, len(at)) * factor
        demand *= np.exp(shared + _spells(own, rng))[minute]
        took = lindley(at, demand) - at
        count = np.bincount(minute, minlength=MINUTES + 1)
        mean = np.bincount(minute, np.log(took), MINUTES + 1) / np.maximum(count, 1)
        late = np.bincount(minute, took > THRESHOLD_S, MINUTES + 1)
        sides.append([
            Side(int(count[i]), 0, int(late[i]), float(mean[i]), NOTHING) for i in range(MINUTES)
        ])  # fmt: skip
    return [MinutePair(i, b, c) for i, (b, c) in enumerate(zip(*sides, strict=True))]


def _spells(sd: float, rng: np.random.Generator) -> Column:
    values = np.zeros(MINUTES + 1)
    for i in range(1, MINUTES + 1):
        values[i] = 0.8 * values[i - 1] + 0.6 * sd * rng.normal()
    return values


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


def rows(quick: bool) -> list[Row]:
    """The figures; ``quick`` takes fewer repetitions."""
    many = 16 if quick else 200
    return [*_false_alarms(many), *_spelled(many), *_slow_downs(max(12, many // 3))]


def _false_alarms(many: int) -> list[Row]:
    found: list[Row] = []
    for rho in (0.56, 0.75):
        busy = f"{rho:.0%} busy"
        equal = canaries(rho, 1.0, many, int(100 * rho))
        alarms = float(np.mean([ever_slower(p, ASKED) for p in equal]))
        by_hand = np.mean([naive(p) for p in equal], axis=0)
        stops = [ends(p, ASKED) for p in equal]
        cleared = [n for v, n in stops if v is CanaryVerdict.NOT_SLOWER]
        found += [
            row(f"canary: false alarms in 2 h, {busy}", alarms, at_most=0.05),
            row(f"  by hand: z on late requests, {busy}", by_hand[0]),
            row(f"  by hand: t on minutes, {busy}", by_hand[1]),
            row(f"canary: cleared of 5 %, {busy}", len(cleared) / many),
            row(f"canary: minutes to the all-clear, {busy}", _median(cleared), "min (median)"),
        ]
    return found


def _spelled(many: int) -> list[Row]:
    """Queues that are never drained, with slow spells; the last case has no goal to reach.

    A variant that is slow for an hour by bad luck cannot be told from one that is slow.
    """
    found: list[Row] = []
    for what, common, own in (
        ("never drained", 0.0, 0.0),
        ("shared slow spells of 10 %", 0.10, 0.0),
        ("slow spells of 2 % of its own", 0.10, 0.02),
    ):
        rng = np.random.default_rng([SEED, 7, int(1000 * own)])
        equal = [endless(1.0, common, own, rng) for _ in range(many)]
        alarms = float(np.mean([ever_slower(p, ASKED) for p in equal]))
        by_hand = float(np.mean([naive(p)[1] for p in equal]))
        goal = 0.05 if own == 0.0 else None
        found += [
            row(f"canary: false alarms, 75% busy, {what}", alarms, at_most=goal),
            row(f"  by hand: t on minutes, {what}", by_hand),
        ]
    return found


def _slow_downs(many: int) -> list[Row]:
    found: list[Row] = []
    for rho, slower in ((0.75, 1.03), (0.75, 1.05), (0.75, 1.10), (0.56, 1.05)):
        tests = canaries(rho, slower, many, int(1000 * slower + rho * 100))
        found += _seen(f"service {slower - 1:.0%} slower, {rho:.0%} busy", tests,
                       goal=(rho, slower) == (0.75, 1.05))  # fmt: skip
    rng = np.random.default_rng([SEED, 8])
    spelled = [endless(1.05, 0.10, 0.0, rng) for _ in range(many)]
    found += _seen("service 5% slower, one worker with spells, 75% busy", spelled, goal=True)
    return found


def _seen(what: str, tests: list[list[MinutePair]], *, goal: bool) -> list[Row]:
    stops = [ends(p, ASKED) for p in tests]
    seen = [n if v is CanaryVerdict.SLOWER else math.inf for v, n in stops]
    median = _median(seen)
    return [
        row(
            f"canary: minutes to see {what}",
            median,
            "min (median)",
            below=15 if goal else None,
        ),
        row(f"canary: seen, {what}", float(np.mean(np.isfinite(seen)))),
    ]


def _median(values: list[float] | list[int]) -> float:
    return float(np.median(values)) if values else math.inf


if __name__ == "__main__":
    sys.exit(main(__doc__, rows))
