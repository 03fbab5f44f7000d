"""Did it get slower? Two finished runs, stage against stage at the same load.

Stages are matched by instance count and offered rate. Two runs were not made at the same
moment, so that a difference has to be both certain and as large as the stated slow-down before
it is called a regression.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.campaign.changes import (
    BATCHES,
    LEAST_PER_BATCH,
    Change,
    Pair,
    capacity_change,
    change_text,
    failure_change,
    latency_change,
    quantile_change,
)
from tuner.campaign.evidence import sound
from tuner.campaign.types import StageKind, StageResult
from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.slo import Slo, Verdict
from tuner.stats.histogram import Window

RATE_TOLERANCE = 0.005
"""Offered rates this near to each other are the same load."""


@dataclass(frozen=True, slots=True)
class StageChange:
    """One load at which both runs were measured; ``stages`` are the indices in either run."""

    instance_count: int
    rate_per_s: float
    stages: tuple[tuple[int, ...], tuple[int, ...]]
    requests: tuple[int, int]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer. VIOLATED is a regression, MET is none, INCONCLUSIVE is not known."""

    verdict: Verdict
    slower_by: float
    level: float
    overall: tuple[Change, ...]
    stages: tuple[StageChange, ...]
    unmatched: tuple[tuple[int, ...], tuple[int, ...]]
    sentence: str


def compare(
    baseline: Sequence[StageResult],
    candidate: Sequence[StageResult],
    slo: Slo,
    *,
    slower_by: float = 0.05,
    level: float = 0.95,
    capacity: tuple[Interval, Interval] | None = None,
) -> Comparison:
    """Compare two runs.

    Parameters
    ----------
    slo
        Its quantiles and its allowance of errors are compared.
    slower_by
        The slow-down that counts, as a share.
    level
        Confidence of the answer; what can raise an alarm shares its complement.
    capacity
        Requests per second and instance of either run, where known.

    Raises
    ------
    InsufficientDataError
        If the runs have no load in common and no capacity each.
    """
    pairs, alone = _matched(baseline, candidate)
    if not pairs and capacity is None:
        raise InsufficientDataError(
            "the runs have no load in common and no capacity to compare",
            hint="measure both with the same load.rates and load.instance_counts",
        )
    quantiles = sorted({o.quantile for o in slo.objectives})
    count = (2 + len(quantiles) if pairs else 0) + (capacity is not None)
    each = 1.0 - (1.0 - level) / count
    overall: list[Change] = []
    if pairs:
        overall.append(latency_change(pairs, each, slower_by))
        overall += [quantile_change(pairs, q, each, slower_by) for q in quantiles]
        overall.append(failure_change(pairs, each, slo))
    if capacity is not None:
        overall.append(capacity_change(*capacity, each, slower_by, deciding=not pairs))
    verdict = _verdict(overall)
    stages = tuple(_stage_change(p, quantiles, slo, slower_by, level) for p in pairs)
    sentence = _sentence(verdict, overall, slower_by)
    return Comparison(verdict, slower_by, level, tuple(overall), stages, alone, sentence)


def _matched(
    baseline: Sequence[StageResult], candidate: Sequence[StageResult]
) -> tuple[list[Pair], tuple[tuple[int, ...], tuple[int, ...]]]:
    """Stages of either run at each common load, and the indices of those without a partner."""
    left = [_usable(baseline), _usable(candidate)]
    pairs: list[Pair] = []
    while left[0]:
        first = left[0][0]
        same = [[s for s in side if _same_load(first, s)] for side in left]
        left = [[s for s in side if not _same_load(first, s)] for side in left]
        if same[1]:
            pairs.append((tuple(same[0]), tuple(same[1])))
    used = [{s.spec.index for pair in pairs for s in pair[side]} for side in (0, 1)]
    alone = [
        tuple(s.spec.index for s in _usable(run) if s.spec.index not in used[side])
        for side, run in enumerate((baseline, candidate))
    ]
    return pairs, (alone[0], alone[1])


def _usable(run: Sequence[StageResult]) -> list[StageResult]:
    return [
        s
        for s in sound(run)
        if s.spec.kind is not StageKind.WARM_UP and s.requests >= BATCHES * LEAST_PER_BATCH
    ]


def _same_load(a: StageResult, b: StageResult) -> bool:
    return a.spec.instance_count == b.spec.instance_count and (
        abs(math.log(a.spec.rate_per_s / b.spec.rate_per_s)) <= RATE_TOLERANCE
    )


def _verdict(overall: Sequence[Change]) -> Verdict:
    if any(c.verdict is Verdict.VIOLATED for c in overall):
        return Verdict.VIOLATED
    if all(c.verdict is Verdict.MET for c in overall if c.deciding):
        return Verdict.MET
    return Verdict.INCONCLUSIVE


def _sentence(verdict: Verdict, overall: Sequence[Change], slower_by: float) -> str:
    worse = [c for c in overall if c.verdict is Verdict.VIOLATED]
    deciding = next(c for c in overall if c.deciding)
    if verdict is Verdict.VIOLATED:
        return "Regression: " + "; ".join(f"{c.name} {change_text(c)}" for c in worse) + "."
    shown = f"{deciding.name} {change_text(deciding)}"
    if verdict is Verdict.MET:
        return f"No regression: {shown}, less than the {slower_by:.1%} that counts."
    return (
        f"Not known: {shown}; a slow-down of {slower_by:.1%} can neither be seen nor excluded. "
        "Measure longer stages, or both runs again."
    )


def _stage_change(
    pair: Pair, quantiles: Sequence[float], slo: Slo, slower_by: float, level: float
) -> StageChange:
    """One load by itself, at the level asked for: to look at, not to decide by."""
    changes = (
        latency_change([pair], level, slower_by),
        *(quantile_change([pair], q, level, slower_by) for q in quantiles),
        failure_change([pair], level, slo),
    )
    spec = pair[0][0].spec
    indices = tuple(tuple(s.spec.index for s in side) for side in pair)
    requests = tuple(sum(Window.merge(s.windows).total for s in side) for side in pair)
    return StageChange(
        spec.instance_count,
        spec.rate_per_s,
        (indices[0], indices[1]),
        (requests[0], requests[1]),
        changes,
    )
