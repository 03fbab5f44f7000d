"""``tuner compare``: false alarms between equal runs, and how small a slow-down two runs show.

Pairs of whole runs, three loads of one simulated instance each, go through the comparison that
decides the exit code in CI. Beside it stand the two checks people write by hand on the same
requests: the p99 of every load may rise by at most 5 %, and a t test on single requests.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import numpy as np
from figures import Row, main, row

from tuner.campaign.compare import compare
from tuner.campaign.types import GeneratorHealth, StageKind, StageResult, StageSpec
from tuner.fleet.batch import fifo_waits
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.histogram import windows_of
from tuner.stats.requests import RequestLog

SEED = 20261122
WORKERS, MEAN_S, CV = 4, 0.020, 0.6
BUSY = (0.2, 0.5, 0.75)
SETTLE_S = 5.0
SLO = Slo((LatencyObjective(0.99, 0.120),), 0.001)
ASKED = 0.05
SOUND = GeneratorHealth(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1, None, None)

Run = list[StageResult]


def stages(busy: float, slower: float, length_s: float, lanes: int, seed: int) -> Run:
    """So many independent stages of one load; each begins idle and settles."""
    rng = np.random.default_rng([SEED, seed, int(1000 * busy), int(1000 * slower)])
    rate = busy * WORKERS / MEAN_S
    steps = math.ceil((SETTLE_S + length_s) * rate * 1.06 + 60)
    gap = rng.exponential(1.0 / rate, (steps, lanes))
    sigma = math.sqrt(math.log1p(CV**2))
    demand = rng.lognormal(math.log(MEAN_S) - sigma**2 / 2, sigma, (steps, lanes)) * slower
    took = fifo_waits(gap, demand, WORKERS) + demand
    at = np.cumsum(gap, axis=0) - SETTLE_S
    found = []
    for lane in range(lanes):
        inside = (at[:, lane] >= 0.0) & (at[:, lane] < length_s)
        start = at[inside, lane]
        log = RequestLog.from_times(start, start + took[inside, lane])
        spec = StageSpec(0, StageKind.MEASURE, 1, rate, length_s, SETTLE_S, "poisson", lane, "")
        found.append(StageResult(spec, 0.0, log, windows_of(log), SOUND))
    return found


def runs(slower: float, length_s: float, many: int, seed: int) -> list[Run]:
    """So many runs of three loads."""
    columns = [stages(b, slower, length_s, many, seed) for b in BUSY]
    return [list(stage) for stage in zip(*columns, strict=True)]


def by_hand(before: Run, after: Run) -> tuple[bool, bool]:
    """Whether the usual checks in a pipeline fail: p99 up by 5 %, or t on single requests."""
    p99, t = False, False
    for mine, other in zip(before, after, strict=True):
        assert mine.log is not None
        assert other.log is not None
        a, b = mine.log.latency_s(), other.log.latency_s()
        p99 |= bool(np.quantile(b, 0.99) > (1.0 + ASKED) * np.quantile(a, 0.99))
        x, y = np.log(a), np.log(b)
        se = math.sqrt(float(x.var()) / len(x) + float(y.var()) / len(y))
        t |= float(y.mean() - x.mean()) / se > 1.645
    return p99, t


def rows(quick: bool) -> list[Row]:
    """The figures; ``quick`` takes fewer pairs."""
    many = 40 if quick else 400
    found: list[Row] = []
    for minutes in (1, 5):
        length = 60.0 * minutes
        what = f"3 loads of {minutes} min"
        equal = runs(1.0, length, many + 1, minutes)
        pairs = list(pairwise(equal))
        seen = [compare(a, b, SLO, slower_by=ASKED).verdict for a, b in pairs]
        alarms = float(np.mean([v is Verdict.VIOLATED for v in seen]))
        cleared = float(np.mean([v is Verdict.MET for v in seen]))
        naive = np.mean([by_hand(a, b) for a, b in pairs], axis=0)
        found += [
            row(f"compare: false alarms, {what}", alarms, at_most=ASKED),
            row(f"  by hand: p99 up by 5 %, {what}", float(naive[0])),
            row(f"  by hand: t on single requests, {what}", float(naive[1])),
            row(f"compare: cleared of 5 %, {what}", cleared),
        ]
        for slower in (1.05, 1.10):
            after = runs(slower, length, len(pairs), 10 + minutes)
            told = [
                compare(a, b, SLO, slower_by=ASKED).verdict is Verdict.VIOLATED
                for a, b in zip(equal, after, strict=False)
            ]
            found.append(
                row(f"compare: seen, service {slower - 1:.0%} slower, {what}", float(np.mean(told)))
            )
    return found


if __name__ == "__main__":
    sys.exit(main(__doc__, rows))
