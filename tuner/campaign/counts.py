"""Track B at every count: from the counts that were measured to those that were not.

Under RANDOM routing every count has the law of one instance. Behind a router that balances,
counts that were not measured follow the M/G/c tail formula with a pooling exponent, fitted to
the measured ones and made to agree with their crossings; where the formula does not describe
them, only what was measured is answered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.direct import DirectEstimate
from tuner.campaign.tables import curve_of_direct, fit_of_direct
from tuner.campaign.types import Routing, StageResult
from tuner.interval import Interval
from tuner.queueing.capacity import CountCapacity, Gate
from tuner.queueing.curve_fit import POOLING_LIMIT, RESIDUAL_LIMIT, CurveFit
from tuner.queueing.latency_curve import LatencyCurve
from tuner.stats.requests import FloatArray

SUPPORT = 4
"""Counts up to this many times the largest verified one are answered."""
FORMULA_ERROR = 0.02
"""Standard deviation of ln capacity by which the formula misses counts it was not fitted to."""
_T = 2.07
_ENSEMBLE = 12
_LEAST_REFITS = 3


@dataclass(frozen=True, slots=True, eq=False)
class CountsAnswer:
    """Capacity per instance at every count that is supported.

    ``log_members`` has shape (members, len(by_count)); ``gates`` say why counts are missing.
    """

    by_count: tuple[CountCapacity, ...]
    log_members: FloatArray
    gates: tuple[Gate, ...]
    curve: LatencyCurve | None


def at_every_count(
    results: Sequence[StageResult],
    found: DirectEstimate,
    routing: Routing,
    rng: np.random.Generator,
    *,
    count_cap: int | None,
) -> CountsAnswer:
    """Carry the measured counts over to the others.

    Parameters
    ----------
    results
        Every stage used.
    found
        The counts that were measured.
    routing
        How the endpoint spreads requests.
    rng
        Of the resamples.
    count_cap
        No count above it is wanted; None is every count the data support.
    """
    held = {r.spec.instance_count for r in results}
    supported = SUPPORT * max(held if routing is Routing.RANDOM else found.counts)
    if count_cap is not None:
        supported = min(supported, max(count_cap, 1))
    several = routing is not Routing.RANDOM and len(found.counts) > 1
    fitted = fit_of_direct(results, found, routing, rng, members=_ENSEMBLE if several else 1)
    curve = None if fitted is None else curve_of_direct(fitted, found)
    gates: tuple[Gate, ...] = ()
    if routing is Routing.RANDOM:
        counts = tuple(range(1, supported + 1))
        rates = found.rate_per_s * supported
        members = np.repeat(found.log_members, supported, axis=1)
        requests = dict.fromkeys(held, found.requests[0])
    else:
        requests = dict(zip(found.counts, found.requests, strict=True))
        if several and fitted is not None:
            gates = (_pooling_gate(fitted, found),)
        if gates and gates[0].passed and fitted is not None:
            counts = tuple(range(1, supported + 1))
            rates, members = _by_formula(found, fitted, counts, rng)
        else:
            counts, rates, members = found.counts, found.rate_per_s, found.log_members
    by_count = tuple(
        CountCapacity(n, r, "measured" if n in requests else "predicted", requests.get(n, 0))
        for n, r in zip(counts, rates, strict=True)
    )
    return CountsAnswer(by_count, members, gates, curve)


def _by_formula(
    found: DirectEstimate, fitted: CurveFit, counts: Sequence[int], rng: np.random.Generator
) -> tuple[tuple[Interval, ...], FloatArray]:
    """Intervals and members at the counts: measured ones as they are, others by the formula."""
    at, measured = np.log(counts), np.log(found.counts)
    log = np.log([fitted.curve.capacity_per_s(found.objective, n) for n in counts])
    mid = np.log([r.mid for r in found.rate_per_s])
    # The formula is made to agree where load was held, and keeps its shape between and beyond.
    log += np.interp(at, measured, mid - np.interp(measured, at, log))
    spread = _disagreement(fitted, found, counts)
    rates, members = [], []
    for i, n in enumerate(counts):
        nearest = int(np.argmin(np.abs(measured - at[i])))
        near, draws = found.rate_per_s[nearest], found.log_members[:, nearest]
        if n in found.counts:
            rates.append(near)
            members.append(draws)
            continue
        own = math.hypot(FORMULA_ERROR, float(spread[i]))
        low = math.hypot(math.log(near.mid / near.low), _T * own)
        high = math.hypot(math.log(near.high / near.mid), _T * own)
        middle = float(log[i])
        rates.append(
            Interval(math.exp(middle - low), math.exp(middle), math.exp(middle + high), near.level)
        )
        members.append(draws - mid[nearest] + middle + own * rng.standard_normal(len(draws)))
    return tuple(rates), np.column_stack(members)


def _disagreement(fitted: CurveFit, found: DirectEstimate, counts: Sequence[int]) -> FloatArray:
    """Spread, over refits, of ln capacity beyond that at the nearest measured count, (k,)."""
    nearest = [min(found.counts, key=lambda m: abs(math.log(m / n))) for n in counts]
    rows = []
    for curve in fitted.ensemble:
        at = {n: float(curve.capacity_per_s(found.objective, n)) for n in {*counts, *nearest}}
        if min(at.values()) > 0.0:
            rows.append([math.log(at[n] / at[m]) for n, m in zip(counts, nearest, strict=True)])
    return (
        np.std(rows, axis=0, ddof=1)
        if len(rows) >= _LEAST_REFITS
        else np.full(len(counts), math.inf)
    )


def _pooling_gate(fitted: CurveFit, found: DirectEstimate) -> Gate:
    """Do the instances act as one pool, and does the formula describe what was measured?"""
    pooling = fitted.curve.pooling
    # Services of the lowest load alone may leave no room for what load was held at.
    curves = (fitted.curve, *fitted.ensemble)
    holding = sum(float(c.capacity_per_s(found.objective)) > 0.0 for c in curves[1:])
    held = float(curves[0].capacity_per_s(found.objective)) > 0.0 and holding >= _LEAST_REFITS
    passed = fitted.residual_ok and fitted.pooling_ok and held
    why = ""
    if not fitted.pooling_ok:
        why = ": instances that batch, or whose requests slow each other down, do not pool"
    elif not fitted.residual_ok:
        why = ": its shape is not that of a queue"
    elif not held:
        why = f": by it {found.objective.name} is missed even without load"
    return Gate(
        "pooling",
        passed,
        pooling,
        f"exponent >= {POOLING_LIMIT:g}, and quantiles within {RESIDUAL_LIMIT:.0%}",
        f"from the counts measured, n instances act as n^{pooling:.2f} would that share one queue, "
        f"and the formula misses the measured quantiles by {fitted.residual_rms:.1%}" + why,
        None if passed else "hold load around the limit at each count that is wanted",
    )
