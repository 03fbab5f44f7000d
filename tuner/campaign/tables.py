"""The latency curve behind the policy simulator's table, tuned to the capacities found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tuner.campaign.direct import DirectEstimate
from tuner.campaign.model_based import ModelEstimate
from tuner.campaign.server import ServerFit
from tuner.campaign.types import Routing, StageResult
from tuner.errors import InsufficientDataError
from tuner.queueing.curve_fit import CurveFit, CurveWindow, fit_curve
from tuner.queueing.latency_curve import LatencyCurve, demand_quantiles
from tuner.stats.requests import FloatArray

_POINTS = 300
_HALVINGS = 18


def curve_of_server(
    fit: ServerFit, found: ModelEstimate, largest: int, routing: Routing
) -> LatencyCurve:
    """The formula with the recovered demands, made to cross where the simulation does."""
    model = fit.model
    base = LatencyCurve(
        demand_quantiles(model.demand_s, _POINTS), float(model.workers), floor_s=model.floor_s
    )
    objective, failures = found.objective, model.failure_share
    allowed = (objective.allowance - failures) / (1.0 - failures)

    def spare(curve: LatencyCurve, count: int) -> float:
        late = curve.survival(objective.threshold_s, found.rate(count), count)
        return allowed - float(late)

    curve = replace(base, decay=_solve(lambda d: spare(replace(base, decay=d), 1), 0.2, 8.0))
    if routing is Routing.RANDOM or largest == 1:
        return curve
    pooling = _solve(lambda g: spare(replace(curve, pooling=g), largest), 0.0, 1.0)
    return replace(curve, pooling=pooling)


def fit_of_direct(
    results: Sequence[StageResult],
    found: DirectEstimate,
    routing: Routing,
    rng: np.random.Generator,
    *,
    members: int = 1,
) -> CurveFit | None:
    """The formula fitted to the stages' quantiles; None when they do not support a fit."""
    stages = [r for r in results if r.log is not None and len(r.log) >= 200]
    limit = {n: r.mid for n, r in zip(found.counts, found.rate_per_s, strict=True)}
    anyone = found.rate_per_s[0].mid
    windows, lowest = [], None
    for result in stages:
        count = result.spec.instance_count
        if result.rate_per_instance_per_s > 1.02 * limit.get(count, anyone):
            continue
        assert result.log is not None
        latency = result.log.latency_s()
        windows.append(CurveWindow.of(latency, count, result.rate_per_instance_per_s))
        if lowest is None or result.rate_per_instance_per_s < lowest[0]:
            lowest = (result.rate_per_instance_per_s, latency[np.isfinite(latency)])
    if lowest is None:
        return None
    several = len({w.instance_count for w in windows}) > 1
    pooling = None if several and routing is not Routing.RANDOM else 0.0
    try:
        return fit_curve(windows, _thinned(lowest[1]), rng, pooling=pooling, members=members)
    except InsufficientDataError:
        return None


def curve_of_direct(fitted: CurveFit, found: DirectEstimate) -> LatencyCurve | None:
    """The fitted formula scaled to the capacity found; None when it crosses nowhere."""
    curve = fitted.curve
    reached = float(curve.capacity_per_s(found.objective, found.counts[0]))
    if reached <= 0.0:
        return None
    # Workers set the scale of load without touching the service that was measured.
    return replace(curve, workers=curve.workers * found.rate_per_s[0].mid / reached)


def _thinned(latency_s: FloatArray, most: int = 5000) -> FloatArray:
    step = max(1, len(latency_s) // most)
    return np.asarray(latency_s[::step])


def _solve(f: Callable[[float], float], low: float, high: float) -> float:
    """Root of a rising function by halving; the nearer end when there is none inside."""
    if f(low) >= 0.0:
        return low
    if f(high) <= 0.0:
        return high
    for _ in range(_HALVINGS):
        mid = 0.5 * (low + high)
        low, high = (mid, high) if f(mid) < 0.0 else (low, mid)
    return 0.5 * (low + high)
