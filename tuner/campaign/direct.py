"""Track B: capacity from load held around the crossing, and from brackets of a staircase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.evidence import StageEvidence, evidence
from tuner.campaign.regression import (
    LEAST_EXCEEDANCES,
    LEAST_WINDOWS,
    Bracket,
    LocalFit,
    bracket,
    fit_local,
    half_width,
    printed_error,
)
from tuner.campaign.types import Routing, StageResult
from tuner.interval import Interval
from tuner.queueing.capacity import Gate
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

LEAST_SLOPE = 1.0
"""d ln odds / d ln load, from far below the limit up to it, that a regression needs."""
_FAR_BELOW = 0.2
_LEAST_LATE = 10


@dataclass(frozen=True, slots=True, eq=False)
class DirectEstimate:
    """Capacity per instance at the counts where load was held near the limit.

    ``log_members`` has shape (members, len(counts)).
    """

    objective: LatencyObjective
    counts: tuple[int, ...]
    rate_per_s: tuple[Interval, ...]
    log_members: FloatArray
    requests: tuple[int, ...]
    stages: tuple[int, ...]


def direct(
    results: Sequence[StageResult],
    objective: LatencyObjective,
    routing: Routing,
    *,
    level: float,
    members: int,
    rng: np.random.Generator,
) -> tuple[DirectEstimate | None, tuple[Gate, ...]]:
    """Estimate the crossing at every count that has loads on either side of it.

    Under RANDOM routing the law per instance does not know the count, so all counts speak
    about one crossing; otherwise each count has its own.
    """
    gates: list[Gate] = []
    found: list[tuple[int, Interval, FloatArray, int, tuple[int, ...]]] = []
    for count, group in _groups(results, objective, routing):
        answer, gate = _one(group, count, objective, level, members, rng)
        gates.append(gate)
        if answer is not None:
            found.append((count, *answer))
    if not found:
        return None, tuple(gates)
    return (
        DirectEstimate(
            objective,
            tuple(f[0] for f in found),
            tuple(f[1] for f in found),
            np.column_stack([f[2] for f in found]),
            tuple(f[3] for f in found),
            tuple(sorted({i for f in found for i in f[4]})),
        ),
        tuple(gates),
    )


def held_up_to(
    results: Sequence[StageResult], objective: LatencyObjective, routing: Routing
) -> dict[int, float]:
    """Load per instance that held an objective for certain, by count; all counts when RANDOM."""
    return {
        count: bracket(group, objective.allowance).passed_per_s
        for count, group in _groups(results, objective, routing)
    }


def _groups(
    results: Sequence[StageResult], objective: LatencyObjective, routing: Routing
) -> list[tuple[int, list[StageEvidence]]]:
    """Stages that speak about one crossing, under the least count they are of."""
    stages = [evidence(r, objective) for r in results]
    counts = sorted({s.instance_count for s in stages})
    if routing is Routing.RANDOM and counts:
        return [(counts[0], stages)]
    return [(n, [s for s in stages if s.instance_count == n]) for n in counts]


def _one(
    stages: Sequence[StageEvidence],
    count: int,
    objective: LatencyObjective,
    level: float,
    members: int,
    rng: np.random.Generator,
) -> tuple[tuple[Interval, FloatArray, int, tuple[int, ...]] | None, Gate]:
    span = bracket(stages, objective.allowance)
    # A search ends where the limit is: the better start when no single window is certain.
    start = span.mid_per_s if span.bounded else stages[-1].rate_per_s
    local = fit_local(stages, objective.allowance, start)
    flat = _flat(stages, local, objective, count)
    if local is not None and enough(local) and flat is None:
        draws = local.log_rate + printed_error(local) * rng.standard_t(local.freedom, members)
        return (local.interval(level), draws, local.requests, local.stages), _gate(
            count, True, local.exceedances, _said(local, count)
        )
    if span.bounded:
        draws = np.log(
            rng.triangular(span.passed_per_s, span.mid_per_s, span.failed_per_s, members)
        )
        interval = Interval(span.passed_per_s, span.mid_per_s, span.failed_per_s, level)
        sentence = (
            f"at {_instances(count)} {span.passed_per_s:.4g}/s each passed and "
            f"{span.failed_per_s:.4g}/s failed"
        )
        return (interval, draws, span.requests, span.stages), _gate(
            count, True, span.mid_per_s, sentence
        )
    if flat is not None:
        return None, flat
    return None, _gate(count, False, local.exceedances if local else 0.0, *_missing(span, count))


def _flat(
    stages: Sequence[StageEvidence], fit: LocalFit | None, objective: LatencyObjective, count: int
) -> Gate | None:
    """Why a regression says nothing: far below the limit nearly as many requests are late.

    Windows around a limit that hardly depends on load lie on a level line, and where it crosses
    the allowance is chance. None where the line rises.
    """
    if fit is None:
        return None
    log_limit, allowance = fit.log_rate, objective.allowance
    below = [
        s
        for s in stages
        if not s.overloaded and s.share.n and math.log(s.rate_per_s) < log_limit - _FAR_BELOW
    ]
    late, n = sum(s.share.count for s in below), sum(s.share.n for s in below)
    if late < _LEAST_LATE:
        return None
    away = sum(s.share.n * (log_limit - math.log(s.rate_per_s)) for s in below) / n
    odds = late / max(n - late, 1) * (1.0 - allowance) / allowance
    slope = -math.log(odds) / away
    if slope >= LEAST_SLOPE:
        return None
    return Gate(
        f"flat_{count}",
        False,
        slope,
        f"odds of being late that grow at least as fast as load (slope {LEAST_SLOPE:g})",
        f"at {_instances(count)} {late / n:.2%} of requests are late at {math.exp(-away):.0%} of "
        f"the load where {objective.name} allows {allowance:.2%}: load hardly matters, and where "
        "it crosses the allowance is chance",
        "relax the objective or set it on a lower percentile: the service alone nearly takes it",
    )


def enough(fit: LocalFit) -> bool:
    """Whether enough windows and slow requests lie near the crossing to give an interval."""
    return fit.windows >= LEAST_WINDOWS and fit.exceedances >= LEAST_EXCEEDANCES


def _gate(count: int, passed: bool, value: float, sentence: str, remedy: str | None = None) -> Gate:
    limit = (
        f"{LEAST_WINDOWS} windows within 13 % of the limit worth {LEAST_EXCEEDANCES:g} "
        "independent slow requests, or a load on either side that is certain"
    )
    return Gate(f"exceedances_{count}", passed, value, limit, sentence, remedy)


def _said(fit: LocalFit, count: int) -> str:
    half = half_width(fit, 0.95)
    return (
        f"{fit.windows} windows around the limit at {_instances(count)} are worth "
        f"{fit.exceedances:.0f} independent slow requests and fix it to {half:.1%}"
    )


def _missing(span: Bracket, count: int) -> tuple[str, str]:
    if span.passed_per_s == 0.0 and not math.isfinite(span.failed_per_s):
        return (
            f"no load at {_instances(count)} is certain to hold the SLO or to miss it",
            "hold each load for longer: about four times the requests halve the doubt",
        )
    if span.passed_per_s == 0.0:
        return (
            f"at {_instances(count)} even the lowest load is not certain to hold the SLO",
            f"measure below {span.failed_per_s:.4g}/s per instance, or hold low loads for longer",
        )
    return (
        f"at {_instances(count)} no load misses the SLO for certain; "
        f"{span.passed_per_s:.4g}/s each still holds it",
        f"offer more than {span.passed_per_s:.4g}/s per instance",
    )


def _instances(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"
