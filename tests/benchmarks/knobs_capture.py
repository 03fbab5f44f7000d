"""Data capture: costs against hand arithmetic from the price list, effects against a known truth.

The truth of the effect is the emulator's: a captured request's service takes a stated share
longer. Pairs of streams through the same queue, off and on, go through the comparison that
``tuner capture`` makes; the emulator's own sockets are left to ``tuner capture`` itself.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from figures import Row, main, row

from tuner.fleet.batch import fifo_waits
from tuner.recommend.data_capture import CaptureLoad, capture_cost
from tuner.stats.paired import PairedRatio, compare_paired
from tuner.stats.requests import FloatArray, RequestLog

GB = 1024.0**3
EXAMPLES = (
    # name, load, sampling percent, retention days, USD a month by hand
    (
        "30 M JSON requests of 3 kB, all, 30 days",
        CaptureLoad(3000.0, 300.0, 30e6, 4.0),
        100.0,
        30.0,
        30e6 * (370 + 4000 + 400) / GB * 0.023 + 4 * 43_200 / 1000 * 0.005,
    ),
    (
        "1 M images of 1.5 MB, 20 %, 90 days",
        CaptureLoad(1.5e6, 30.0, 1e6, 2.0),
        20.0,
        90.0,
        0.2e6 * 3 * (370 + 2_000_000 + 40) / GB * 0.023 + 2 * 43_200 / 1000 * 0.005,
    ),
    (
        "1 000 requests as text, all, 1 day",
        CaptureLoad(100.0, 20.0, 1000.0, 1.0, base64=False),
        100.0,
        1.0,
        1000 / 30 * 490 / GB * 0.023 + 1000 / 1000 * 0.005,
    ),
)
"""S3 Standard, us-east-1: 0.023 USD per GB-month, 0.005 USD per 1 000 PUT requests; a file a
minute and instance, a month of 43 200 minutes; 370 bytes of keys around a record."""

WORKERS, MEAN_S, CV, OVERHEAD_S = 4, 0.020, 0.6, 0.001
RHO, LENGTH_S, BLOCK_S = 0.6, 300.0, 5.0
SHARE = 0.05


def stream(share: float, rng: np.random.Generator, gap: FloatArray) -> list[RequestLog]:
    """A log for each column of gaps, service ``share`` longer."""
    sigma = math.sqrt(math.log1p(CV**2))
    demand = rng.lognormal(math.log(MEAN_S) - sigma**2 / 2, sigma, gap.shape) * (1.0 + share)
    took = fifo_waits(gap, demand, WORKERS) + demand + OVERHEAD_S
    at = np.cumsum(gap, axis=0)
    return [
        RequestLog.from_times(t[t < LENGTH_S], (t + w)[t < LENGTH_S])
        for t, w in zip(at.T, took.T, strict=True)
    ]


def pairs(share: float, lanes: int, seed: int) -> list[PairedRatio]:
    """Comparisons of independent pairs of five minutes each."""
    rng = np.random.default_rng(seed)
    rate = RHO * WORKERS / MEAN_S
    gap = rng.exponential(1.0 / rate, (math.ceil(rate * LENGTH_S * 1.05), lanes))
    off, on = (stream(s, rng, gap) for s in (0.0, share))
    return [
        compare_paired(a, b, quantile=0.99, block_s=BLOCK_S, rng=rng, resamples=300)
        for a, b in zip(off, on, strict=True)
    ]


def true_ratios(lanes: int) -> tuple[float, float]:
    """Ratios of p99 and of the geometric mean in very many requests."""
    rng = np.random.default_rng(99)
    rate = RHO * WORKERS / MEAN_S
    gap = rng.exponential(1.0 / rate, (math.ceil(rate * LENGTH_S * 1.05), lanes))
    off, on = (
        np.concatenate([log.latency_s() for log in stream(s, rng, gap)]) for s in (0.0, SHARE)
    )
    mean = math.exp(float(np.log(on).mean() - np.log(off).mean()))
    return float(np.quantile(on, 0.99) / np.quantile(off, 0.99)), mean


def rows(quick: bool) -> list[Row]:
    """The benchmark's figures."""
    found = []
    for name, load, percent, days, by_hand in EXAMPLES:
        ours = capture_cost(load, percent, retention_days=days).usd_per_month
        found.append(row(f"capture cost: {name}, off by", abs(ours / by_hand - 1.0), at_most=0.01))
    lanes = 40 if quick else 400
    p99, mean = true_ratios(40 if quick else 200)
    slower, same = pairs(SHARE, lanes, 1), pairs(0.0, lanes, 2)
    for name, truth, values in (
        ("p99", p99, [r.quantile_ratio for r in slower]),
        ("mean", mean, [r.mean_ratio for r in slower]),
    ):
        inside = float(np.mean([v.low <= truth <= v.high for v in values]))
        width = float(np.median([v.relative_half_width for v in values]))
        goal = 0.95 - 3.0 * math.sqrt(0.95 * 0.05 / lanes)
        found.append(
            row(
                f"capture effect of {SHARE:.0%} (true {name} ratio {truth:.3f}): 95 % "
                "intervals that hold it",
                inside,
                at_least=goal,
            )
        )
        found.append(row(f"capture effect: half width of the {name} ratio, 5 min", width))
    seen = float(np.mean([r.p_value < 0.05 and r.mean_ratio.mid > 1.0 for r in slower]))
    false = float(np.mean([r.p_value < 0.05 for r in same]))
    found.append(row("capture effect: seen by the paired test in 5 min", seen))
    limit = 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / lanes)
    found.append(row("capture effect: false alarms without any", false, at_most=limit))
    return found


if __name__ == "__main__":
    sys.exit(main(__doc__, rows))
