"""How one figure differs between two runs: latency, quantiles, failures, capacity.

Requests of one stage depend on each other, so that every interval here comes from batches of
time, not from single requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.types import StageResult
from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.slo import Slo, Verdict
from tuner.stats.proportions import share_interval
from tuner.stats.quantiles import quantile_interval, quantile_interval_of_windows
from tuner.stats.requests import FloatArray

BATCHES = 12
LEAST_PER_BATCH = 10
FAILURE_MARGIN = 0.001
"""Rise of the share of failures that is a regression where the SLO names no limit."""

Pair = tuple[tuple[StageResult, ...], tuple[StageResult, ...]]
"""Stages of either run at one load."""


@dataclass(frozen=True, slots=True)
class Change:
    """How one figure differs between the runs.

    ``change`` is candidate over baseline less one (a difference for shares, ``relative``
    False); positive is worse, so that a capacity counts by what was lost. ``deciding`` says
    whether "not known" here leaves the whole answer open; the others only raise alarms.
    """

    name: str
    baseline: float
    candidate: float
    change: Interval
    verdict: Verdict
    deciding: bool = False
    relative: bool = True


@dataclass(frozen=True, slots=True)
class _Estimate:
    """A mean with its standard error and degrees of freedom."""

    mean: float
    se: float
    freedom: float


def change_text(change: Change) -> str:
    """``+5.2 % (+3.9 % to +6.5 %)``; points for shares; an unknown end is said."""
    unit = " %" if change.relative else " points"

    def say(x: float) -> str:
        return f"{100.0 * x:+.3g}{unit}" if math.isfinite(x) else "unknown"

    c = change.change
    return f"{say(c.mid)} ({say(c.low)} to {say(c.high)})"


def _mean_ln(stages: Sequence[StageResult]) -> _Estimate:
    """Mean of ln latency of answered requests over stages of one load, each of equal weight."""
    found = [_stage_mean_ln(s) for s in stages]
    m = len(found)
    within = sum(e.se**2 for e in found) / m**2
    mean = sum(e.mean for e in found) / m
    # Repeats of one load that differ more than their batches say: the endpoint drifts.
    between = float(np.var([e.mean for e in found], ddof=1)) / m if m > 1 else 0.0
    if between > within:
        return _Estimate(mean, math.sqrt(between), m - 1)
    freedom = within**2 / sum((e.se**2 / m**2) ** 2 / e.freedom for e in found) if within else 1.0
    return _Estimate(mean, math.sqrt(within), freedom)


def _stage_mean_ln(stage: StageResult) -> _Estimate:
    """From batches of equal time, widened where neighbouring batches still move together.

    References
    ----------
    Law, A. M., Simulation Modeling and Analysis, section 9.5 (batch means); the widening is
    that of a first-order autoregressive series, (1 + r) / (1 - r).
    """
    batches = _batch_means(stage)
    k = len(batches)
    variance = float(np.var(batches, ddof=1))
    if variance == 0.0:
        return _Estimate(float(batches.mean()), 0.0, k - 1)
    centred = batches - batches.mean()
    r = float(np.sum(centred[1:] * centred[:-1]) / np.sum(centred**2)) + 1.0 / k
    r = min(max(r, 0.0), 0.8)
    inflation = (1.0 + r) / (1.0 - r)
    freedom = max(2.0, (k - 1) / inflation)
    return _Estimate(float(batches.mean()), math.sqrt(variance * inflation / k), freedom)


def _batch_means(stage: StageResult) -> FloatArray:
    """Mean ln latency of each batch of time, shape (BATCHES,), or fewer where some are empty."""
    edges = np.linspace(0.0, stage.spec.duration_s, BATCHES + 1)
    if stage.log is not None:
        latency = stage.log.latency_s()
        good = np.isfinite(latency)
        at, value = stage.log.scheduled_s[good], np.log(np.maximum(latency[good], 1e-9))
        weight = np.ones(len(at))
    else:
        parts = [(w.start_s, w.ok.middles_s(), w.ok.count) for w in stage.windows]
        at = np.concatenate([np.full(len(m), t) for t, m, _ in parts])
        value = np.log(np.concatenate([m for _, m, _ in parts]))
        weight = np.concatenate([c for _, _, c in parts]).astype(np.float64)
    batch = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, BATCHES - 1)
    total = np.bincount(batch, weight, BATCHES)
    sums = np.bincount(batch, weight * value, BATCHES)
    kept = total >= 1.0
    if np.count_nonzero(kept) < 3:
        raise InsufficientDataError(
            "too few answered requests for a comparison",
            value=f"stage {stage.spec.index}",
            hint="measure longer stages",
        )
    return np.asarray(sums[kept] / total[kept])


def latency_change(pairs: Sequence[Pair], level: float, slower_by: float) -> Change:
    """Mean over the loads of the difference of mean logarithms."""
    from scipy.special import stdtrit

    sides = [[_mean_ln(stages) for stages in side] for side in zip(*pairs, strict=True)]
    parts = [(e.se / len(pairs), e.freedom) for side in sides for e in side]
    variance = sum(se**2 for se, _ in parts)
    # Satterthwaite's degrees of freedom of a sum of variances.
    freedom = variance**2 / sum(se**4 / f for se, f in parts) if variance else 1.0
    before, after = (float(np.mean([e.mean for e in side])) for side in sides)
    radius = float(stdtrit(freedom, 0.5 + level / 2.0)) * math.sqrt(variance)
    mid = after - before
    change = Interval(mid - radius, mid, mid + radius, level)
    name = "latency (geometric mean)"
    return _relative(name, math.exp(before), math.exp(after), change, slower_by, deciding=True)


def quantile_change(
    pairs: Sequence[Pair], quantile: float, level: float, slower_by: float
) -> Change:
    """Mean over the loads of the difference of ln quantiles."""
    logs = [
        [_ln(_quantile(stages, quantile, level)) for stages in side]
        for side in zip(*pairs, strict=True)
    ]
    differences = [_difference(a, b) for a, b in zip(*logs, strict=True)]
    m = len(differences)
    mid = sum(d.mid for d in differences) / m
    down = math.sqrt(sum((d.mid - d.low) ** 2 for d in differences)) / m
    up = math.sqrt(sum((d.high - d.mid) ** 2 for d in differences)) / m
    middles = [math.exp(sum(x.mid for x in side) / m) for side in logs]
    change = Interval(mid - down, mid, mid + up, level)
    return _relative(f"p{quantile * 100:.10g}", middles[0], middles[1], change, slower_by)


def _quantile(stages: Sequence[StageResult], quantile: float, level: float) -> Interval:
    """Quantile in seconds of the stages of one load, laid end to end."""
    logs = [s.log for s in stages]
    if all(log is not None for log in logs):
        latency = np.concatenate([log.latency_s() for log in logs if log is not None])
        return quantile_interval(latency, quantile, level=level).interval
    windows = [w for s in stages for w in s.windows]
    return quantile_interval_of_windows(windows, quantile, level=level).interval


def _ln(value: Interval) -> Interval:
    low = math.log(value.low) if value.low > 0.0 else -math.inf
    mid = math.log(value.mid) if value.mid > 0.0 else low
    return Interval(low, max(mid, low), math.log(value.high), value.level)


def _difference(a: Interval, b: Interval) -> Interval:
    """Interval of b less a from the interval of each, however lopsided.

    References
    ----------
    Zou, G. Y. and Donner, A., Stat. Med. 27, 2008: the variance at either limit is recovered
    from that limit.
    """
    if not (math.isfinite(a.mid) and math.isfinite(b.mid)):
        return Interval(-math.inf, 0.0, math.inf, a.level)
    mid = b.mid - a.mid
    low = mid - math.hypot(b.mid - b.low, a.high - a.mid)
    high = mid + math.hypot(b.high - b.mid, a.mid - a.low)
    return Interval(low, mid, high, a.level)


def failure_change(pairs: Sequence[Pair], level: float, slo: Slo) -> Change:
    """Difference of the shares of requests that failed, over all common loads."""
    shares = [
        share_interval(
            np.concatenate([_failed(s) for stages in side for s in stages]), level=level
        ).interval
        for side in zip(*pairs, strict=True)
    ]
    change = _difference(shares[0], shares[1])
    margin = slo.max_error_rate or FAILURE_MARGIN
    verdict = _judge(change, margin)
    return Change(
        "failed requests", shares[0].mid, shares[1].mid, change, verdict, relative=False
    )  # fmt: skip


def _failed(stage: StageResult) -> FloatArray:
    if stage.log is not None:
        return np.asarray(~stage.log.ok)
    parts = []
    for w in stage.windows:
        column = np.zeros(w.total, np.bool_)
        column[: w.failures] = True
        parts.append(column)
    return np.concatenate(parts)


def capacity_change(
    baseline: Interval, candidate: Interval, level: float, slower_by: float, *, deciding: bool
) -> Change:
    """What was lost of an instance's capacity, over what is left: positive is worse."""
    change = _difference(_widened(_ln(candidate), level), _widened(_ln(baseline), level))
    name = "capacity lost"
    return _relative(name, baseline.mid, candidate.mid, change, slower_by, deciding=deciding)


def _widened(value: Interval, level: float) -> Interval:
    """The interval at another level, by the ratio of the normal quantiles."""
    from scipy.special import ndtri

    ratio = float(ndtri(0.5 + level / 2.0) / ndtri(0.5 + value.level / 2.0))
    low = value.mid - ratio * (value.mid - value.low)
    return Interval(low, value.mid, value.mid + ratio * (value.high - value.mid), level)


def _relative(
    name: str,
    baseline: float,
    candidate: float,
    ln_change: Interval,
    slower_by: float,
    *,
    deciding: bool = False,
) -> Change:
    low, mid, high = (_expm1(x) for x in (ln_change.low, ln_change.mid, ln_change.high))
    change = Interval(low, mid, high, ln_change.level)
    return Change(name, baseline, candidate, change, _judge(change, slower_by), deciding)


def _expm1(x: float) -> float:
    return math.inf if x > 700.0 else math.expm1(x)


def _judge(change: Interval, margin: float) -> Verdict:
    """A regression is certain and large; none is certainly small; the rest is not known."""
    if change.low > 0.0 and change.mid >= margin:
        return Verdict.VIOLATED
    return Verdict.MET if change.high < margin else Verdict.INCONCLUSIVE
