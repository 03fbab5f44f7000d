"""What one finished stage says about one objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.types import StageKind, StageResult
from tuner.errors import InsufficientDataError
from tuner.queueing.recovery import Segment
from tuner.slo import LatencyObjective
from tuner.stats.proportions import ShareEstimate, exceedance_interval, share_interval
from tuner.stats.requests import FloatArray, Outcome
from tuner.stats.steady import BACKLOG_LIMIT, TREND_Z_LIMIT, mann_kendall_z, overload_test

RECOVERY_LIMIT = 300_000
"""Requests used to recover the server. A limit of p99.9 still hangs on the slowest of these, and
heavy-tailed work is believed from 100,000 on; more than so many take memory and little else."""

_PASSING = (StageKind.FLOOR, StageKind.WARM_UP, StageKind.RAMP)
_LEAST_AT_LOW = 500
_FAILURE_Z = 4.0

_WORK = (Outcome.OK, Outcome.MODEL_ERROR)
"""Outcomes that kept a worker busy."""


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """Share of a stage's requests over an objective's threshold, failures included.

    ``overloaded``: its latency is no steady state, it only says "above the limit".
    """

    stage: int
    kind: StageKind
    instance_count: int
    rate_per_s: float
    duration_s: float
    share: ShareEstimate
    failures: int
    overloaded: bool

    @property
    def effective_exceedances(self) -> float:
        """Independent slow requests the stage is worth."""
        return self.share.count / self.share.inflation


def sound(results: Sequence[StageResult]) -> tuple[StageResult, ...]:
    """Stages whose generator kept up, that have requests, and whose load was open-loop.

    Closed-loop users send less when answers are slow: their latency is not the one that
    independent callers would see, and no capacity may rest on it.
    """
    return tuple(r for r in results if not r.void and r.requests > 0 and r.health.open_loop)


def measured(results: Sequence[StageResult]) -> tuple[StageResult, ...]:
    """Sound stages with loads that speak about the SLO: no warm-up, no first look."""
    skip = (StageKind.WARM_UP, StageKind.FLOOR)
    return tuple(r for r in sound(results) if r.spec.kind not in skip)


def evidence(result: StageResult, objective: LatencyObjective) -> StageEvidence:
    """Judge one stage; from its requests, or from its windows when they were not kept.

    Raises
    ------
    InsufficientDataError
        If the stage has no requests, or was not kept as the objective needs it.
    """
    spec = result.spec
    return StageEvidence(
        stage=spec.index,
        kind=spec.kind,
        instance_count=spec.instance_count,
        rate_per_s=result.rate_per_instance_per_s,
        duration_s=spec.duration_s,
        share=_share(result, objective),
        failures=result.failures,
        overloaded=overloaded(result),
    )


def overloaded(result: StageResult) -> bool:
    """Whether latency kept growing and requests piled up during the stage."""
    log = result.log
    if log is None:
        return _windows_overloaded(result)
    if len(log) < 20:
        return False
    return overload_test(
        log.latency_s(),
        in_flight_start=result.in_flight_at_start,
        in_flight_end=result.in_flight_at_end,
    ).overloaded


def _windows_overloaded(result: StageResult) -> bool:
    """The same from window medians, for a stage whose requests were not kept."""
    medians = [w.quantile_s(0.5) for w in result.windows if w.total]
    grown = result.in_flight_at_end - result.in_flight_at_start
    return (
        len(medians) >= 5
        and mann_kendall_z(medians) > TREND_Z_LIMIT
        and grown > BACKLOG_LIMIT * math.sqrt(2.0 * result.requests)
    )


def _share(result: StageResult, objective: LatencyObjective) -> ShareEstimate:
    """Share over the threshold; its inflation is that of the observed requests themselves."""
    threshold = objective.threshold_s
    log = result.log
    if log is None:
        if objective.measure.streamed:
            raise needs_requests(objective)
        return share_interval(_slow_in_windows(result, threshold))
    times = log.times_s(objective.measure)
    # A stream that never began is as late as a failure.
    late = np.where(np.isnan(times), np.inf, times)
    own = share_interval(late > threshold)
    return replace(exceedance_interval(late, threshold), inflation=own.inflation)


def needs_requests(objective: LatencyObjective) -> InsufficientDataError:
    """Windows hold whole latencies only: no other time can be judged from them."""
    return InsufficientDataError(
        f"{objective.name} needs every request, and they were not kept",
        hint="raise load.raw_requests_per_stage",
    )


def _slow_in_windows(result: StageResult, threshold_s: float) -> NDArray[np.bool_]:
    """Indicator in time order, for a stage whose requests were not kept one by one."""
    parts: list[NDArray[np.bool_]] = []
    for window in result.windows:
        histogram = window.ok
        late = int(histogram.count[histogram.middles_s() > threshold_s].sum()) + window.failures
        column = np.zeros(window.total, np.bool_)
        column[:late] = True
        parts.append(column)
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Failures:
    """Requests that fail whatever the load, of how many."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """Failures over requests; 0 without requests."""
        return self.count / self.of if self.of else 0.0

    def drawn(self, rng: np.random.Generator) -> float:
        """A share that could have shown these failures; 0 where none was seen."""
        if not self.count:
            return 0.0
        return float(rng.beta(self.count + 0.5, self.of - self.count + 0.5))


def steady_failures(results: Sequence[StageResult]) -> Failures:
    """Failures in stages that were not overloaded.

    Timeouts and refusals that come with load belong to the load, not to the server: where
    higher loads fail more often for certain, only the loads below them count.
    """
    kept = _not_overloaded(results)
    split = _rise(kept)
    return _failures(kept) if split is None else split[0]


def failures_by_load(results: Sequence[StageResult]) -> tuple[Failures, Failures] | None:
    """Failures at lower and at higher loads where they rise with load for certain.

    Steps of the ramp beyond every load that was held are left out: there requests are late
    anyway.
    """
    kept = _not_overloaded(results)
    held = [r.rate_per_instance_per_s for r in kept if r.spec.kind not in _PASSING]
    most = max(held, default=0.0)
    return _rise([r for r in kept if r.rate_per_instance_per_s <= most])


def _not_overloaded(results: Sequence[StageResult]) -> list[StageResult]:
    return sorted(
        (r for r in measured(results) if not overloaded(r)),
        key=lambda r: r.rate_per_instance_per_s,
    )


def _rise(ascending: Sequence[StageResult]) -> tuple[Failures, Failures] | None:
    """The lowest split of the loads above which failures are more frequent for certain."""
    every, low = _failures(ascending), Failures(0, 0)
    for result in ascending:
        low = Failures(low.count + result.failures, low.of + result.requests)
        high = Failures(every.count - low.count, every.of - low.of)
        if low.of < _LEAST_AT_LOW or not high.of:
            continue
        spread = math.sqrt(every.share * (1.0 / low.of + 1.0 / high.of))
        if high.share - low.share > _FAILURE_Z * spread:
            return low, high
    return None


def _failures(results: Sequence[StageResult]) -> Failures:
    return Failures(sum(r.failures for r in results), sum(r.requests for r in results))


def segments(results: Sequence[StageResult]) -> tuple[Segment, ...]:
    """Stretches on one instance from which its work can be recovered."""
    found = []
    for result in sound(results):
        log = result.log
        if log is None or result.spec.instance_count != 1:
            continue
        if result.spec.kind is StageKind.WARM_UP or len(log) < 30:
            continue
        busy = np.isin(log.outcome, [int(o) for o in _WORK])
        if np.mean(~busy) > 0.02:
            continue
        sent, done = log.sent_s[busy], log.done_s[busy]
        order = np.argsort(sent, kind="stable")
        found.append((result, sent[order], done[order], log.payload_class[busy][order]))
    total = sum(len(s) for _, s, _, _ in found)
    keep = min(1.0, RECOVERY_LIMIT / total) if total else 1.0
    result_segments = []
    for result, sent, done, kinds in found:
        upto = max(30, math.ceil(keep * len(sent)))
        begin = _known_from(result, sent, done)
        if begin > sent[0] + 0.4 * (sent[-1] - sent[0]):
            continue
        result_segments.append(
            Segment(sent[:upto], done[:upto], kinds[:upto], begin, result.spec.index)
        )
    return tuple(result_segments)


def _known_from(result: StageResult, sent_s: FloatArray, done_s: FloatArray) -> float:
    """When everything that was in flight at the start has left."""
    if result.in_flight_at_start == 0 and result.spec.settle_s == 0.0:
        return float(sent_s[0])
    return float(max(done_s[: max(30, 2 * result.in_flight_at_start)]))
