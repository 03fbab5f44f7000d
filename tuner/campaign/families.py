"""Families of servers beyond independent workers in order of arrival, and their answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tuner.campaign.contention import fit_shared
from tuner.campaign.direct import DirectEstimate
from tuner.campaign.held import FREEDOM, HeldEstimate, HeldFit, predict, verify
from tuner.campaign.server import ServerFit
from tuner.campaign.types import Routing, StageKind, StageResult
from tuner.campaign.unordered import fit_unordered
from tuner.interval import Interval
from tuner.queueing.capacity import Gate
from tuner.slo import LatencyObjective, Measure

Family = Callable[[Sequence[StageResult]], HeldFit[Any] | None]

FAMILIES: tuple[Family, ...] = (fit_shared, fit_unordered)
"""In the order they are tried: the next one where the tests of the last refuse it."""

_SUSPECTED = frozenset({"state", "order", "waiting"})
"""What stands against independent workers where one of these is at work."""


def suspected(fit: ServerFit | None) -> bool:
    """Whether a server was refused in the way of one of these families."""
    failed = set() if fit is None else {g.name for g in fit.gates if not g.passed}
    return "state" in failed and failed <= _SUSPECTED


def asked(fit: ServerFit | None) -> tuple[Family, ...]:
    """Families that may explain what independent workers in order of arrival do not.

    Without any number of workers that does (None), later requests overtake by far.
    """
    if fit is None:
        return (fit_unordered,)
    return FAMILIES if suspected(fit) else ()


def held_capacity(
    plain: ServerFit | None,
    results: Sequence[StageResult],
    objective: LatencyObjective,
    routing: Routing,
    level: float,
    members: int,
    rng: np.random.Generator,
) -> tuple[tuple[str, DirectEstimate] | None, tuple[Gate, ...]]:
    """Method and capacity by the first family that explains what was measured.

    None with the reasons otherwise. Families are not asked where independent workers
    (``plain``) were refused for another reason. Only one instance is modelled: under any
    routing but RANDOM nothing is said of more.
    """
    counts = {r.spec.instance_count for r in results}
    held = [r for r in results if r.spec.kind in (StageKind.MEASURE, StageKind.ANCHOR)]
    if not held or (counts != {1} and routing is not Routing.RANDOM):
        return None, ()
    if objective.measure is not Measure.LATENCY:
        return None, ()
    near = held[-1].rate_per_instance_per_s
    refused: list[Gate] = []
    for family in asked(plain):
        found, gates = _explained(family, results, objective, near, rng)
        if found is not None:
            return (found[0], _answer(found[1], results, level, members, rng)), gates
        refused.extend(gates)
    return None, tuple(refused)


def _explained(
    family: Family,
    results: Sequence[StageResult],
    objective: LatencyObjective,
    near_per_s: float,
    rng: np.random.Generator,
) -> tuple[tuple[str, HeldEstimate] | None, tuple[Gate, ...]]:
    """Method and limit of one family, where everything speaks for it; and its gates."""
    fit = family(results)
    if fit is None or not fit.gate.passed:
        return None, () if fit is None else (fit.gate,)
    found = predict(fit, objective, near_per_s, rng)
    if found is None:
        return None, (fit.gate,)
    gates = (fit.gate, *verify(fit, found, results, rng))
    return ((fit.method, found) if all(g.passed for g in gates) else None), gates


def _answer(
    found: HeldEstimate,
    results: Sequence[StageResult],
    level: float,
    members: int,
    rng: np.random.Generator,
) -> DirectEstimate:
    half, mid = found.half_width(level), math.exp(found.log_rate)
    low = half + found.lean * found.spread
    interval = Interval(mid * math.exp(-low), mid, mid * math.exp(half), level)
    draws = found.log_rate + found.spread * rng.standard_t(FREEDOM, (members, 1))
    stages = tuple(sorted(r.spec.index for r in results))
    requests = sum(r.requests for r in results)
    return DirectEstimate(found.objective, (1,), (interval,), draws, (requests,), stages)
