"""A limit from published sums: per load a rate, a number of requests, and percentiles.

Sums do not show how requests depend on each other, so that has to be assumed; the answer is a
bracket between a load that holds for certain and one that misses for certain, or a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.campaign.evidence import StageEvidence
from tuner.campaign.regression import Bracket, bracket
from tuner.campaign.types import StageKind
from tuner.interval import Interval
from tuner.queueing.capacity import Gate
from tuner.slo import LatencyObjective, Measure
from tuner.stats.proportions import ShareEstimate, clopper_pearson

TYPICAL_INFLATION = 15.0
"""Variance of the late share over that of independent requests: 2 to 46 were seen on single
instances near their limits."""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What was published of one load.

    ``quantiles`` are (quantile, latency in seconds); ``late`` the requests over the objective
    in question, when they were counted.
    """

    instance_count: int
    rate_per_s: float
    requests: int
    quantiles: tuple[tuple[float, float], ...] = ()
    late: int | None = None
    measure: Measure = Measure.LATENCY

    def late_share(self, objective: LatencyObjective) -> tuple[float, float]:
        """The least and the most that the share over the threshold can have been."""
        if self.late is not None:
            return self.late / self.requests, self.late / self.requests
        low, high = 0.0, 1.0
        for quantile, latency_s in self.quantiles:
            if latency_s <= objective.threshold_s:
                high = min(high, 1.0 - quantile)
            else:
                low = max(low, 1.0 - quantile)
        return low, max(low, high)


def limit_of_summaries(
    loads: Sequence[LoadSummary],
    objective: LatencyObjective,
    *,
    inflation: float = TYPICAL_INFLATION,
    level: float = 0.95,
) -> tuple[Interval | None, Gate]:
    """The limit per instance at one count, or why it is not known.

    Parameters
    ----------
    loads
        Sums of loads on one instance count.
    objective
        What must hold.
    inflation
        Assumed variance of the late share over that of independent requests.
    level
        Confidence of each load's own verdict.

    Raises
    ------
    ValueError
        For an inflation below 1.
    """
    if not inflation >= 1.0:
        raise ValueError(f"inflation must be at least 1: {inflation}")
    seen = [_evidence(i, load, objective, inflation, level) for i, load in enumerate(loads)]
    span = bracket(seen, objective.allowance)
    gate = Gate(
        "published",
        span.bounded,
        float(sum(s.requests for s in loads)),
        "a load that holds for certain and one that misses for certain",
        *_said(span, loads, objective, inflation, level),
    )
    if not span.bounded:
        return None, gate
    return Interval(span.passed_per_s, span.mid_per_s, span.failed_per_s, level), gate


def _evidence(
    index: int, load: LoadSummary, objective: LatencyObjective, inflation: float, level: float
) -> StageEvidence:
    least, most = load.late_share(objective)
    worth = load.requests / inflation
    low = clopper_pearson(least * worth, worth, level)[0]
    high = clopper_pearson(most * worth, worth, level)[1]
    mid = 0.5 * (least + most)
    return StageEvidence(
        stage=index,
        kind=StageKind.MEASURE,
        instance_count=load.instance_count,
        rate_per_s=load.rate_per_s / load.instance_count,
        duration_s=load.requests / load.rate_per_s,
        share=ShareEstimate(
            Interval(min(low, mid), mid, max(high, mid), level),
            round(mid * load.requests),
            load.requests,
            inflation,
        ),
        failures=0,
        overloaded=False,
    )


def _said(
    span: Bracket,
    loads: Sequence[LoadSummary],
    objective: LatencyObjective,
    inflation: float,
    level: float,
) -> tuple[str, str | None]:
    name = f"{objective.name} <= {objective.threshold_s * 1e3:g} ms"
    assumed = (
        f"requests are taken to be worth one in {inflation:g} independent ones: sums do not show it"
    )
    if span.bounded:
        return (
            f"{span.passed_per_s:.4g}/s per instance holds {name} for certain and "
            f"{span.failed_per_s:.4g}/s misses it; {assumed}",
            None,
        )
    if span.passed_per_s == 0.0 and not _beyond(loads, objective):
        return (
            f"no load can hold {name} for certain: nothing was published beyond {objective.name}, "
            f"and {objective.name} under its limit only says that up to "
            f"{objective.allowance:.3g} of the requests were late",
            "give a percentile further out, the number of late requests, or the requests",
        )
    need = math.ceil(inflation * math.log(0.5 - level / 2.0) / math.log1p(-objective.allowance))
    most = max(s.requests for s in loads)
    if span.passed_per_s == 0.0:
        return (
            f"no load holds {name} for certain: the largest has {most:,} requests, and without a "
            f"single late one {need:,} are needed; {assumed}",
            f"measure with {need:,} requests a load or more, or give the requests one by one",
        )
    return (
        f"no load misses {name} for certain; {span.passed_per_s:.4g}/s per instance still holds "
        f"it; {assumed}",
        f"measure above {span.passed_per_s:.4g}/s per instance",
    )


def _beyond(loads: Sequence[LoadSummary], objective: LatencyObjective) -> bool:
    """Whether a share below the allowance could have been seen at all."""
    return any(
        load.late is not None or any(q > objective.quantile for q, _ in load.quantiles)
        for load in loads
    )
