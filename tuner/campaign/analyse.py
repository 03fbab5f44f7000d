"""From the journal to capacity: one pure function, for the campaign's SLO or another one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.campaign.counts import SUPPORT, at_every_count
from tuner.campaign.direct import DirectEstimate, direct, held_up_to
from tuner.campaign.errors_limit import error_limit
from tuner.campaign.evidence import measured, sound, steady_failures
from tuner.campaign.families import held_capacity
from tuner.campaign.mix import offered_shares, production_shares
from tuner.campaign.model_based import estimate
from tuner.campaign.refusals import (
    beyond_reach,
    late_alone,
    mix_needs_model,
    not_streamed,
    nothing_measured,
    reach_gate,
    unreachable_gate,
    void_stages,
    warnings,
    width_gate,
)
from tuner.campaign.server import EFFECT_LIMIT, P_LIMIT, ServerFit, drifts, fit_server
from tuner.campaign.tables import curve_of_server
from tuner.campaign.types import Routing, ScaleEvent, StageResult
from tuner.campaign.verify import verification
from tuner.queueing.capacity import CapacityModel, CountCapacity, Gate, ViolationTable
from tuner.queueing.latency_curve import LatencyCurve, demand_quantiles
from tuner.slo import LatencyObjective, Measure, Slo, Verdict
from tuner.stats.requests import FloatArray

MEMBERS = 48
OTHER_THRESHOLDS = (0.8, 1.2)
"""How the answer hangs on the SLO's threshold is told at these factors of it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """Capacity for one objective: everything of CapacityModel that depends on the track."""

    objective: LatencyObjective
    method: str
    by_count: tuple[CountCapacity, ...]
    log_members: FloatArray
    curve: LatencyCurve | None
    supported: int
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    """The question and the stages it is asked of."""

    results: tuple[StageResult, ...]
    routing: Routing
    level: float
    seed: int
    count_cap: int | None

    def rng(self, branch: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, branch]))


def analyse(
    slo: Slo,
    results: Sequence[StageResult],
    *,
    routing: Routing,
    instance_counts_max: int | None = None,
    launch_events: Sequence[ScaleEvent] = (),
    classes: Sequence[str] = (),
    mix: Mapping[str, float] | None = None,
    level: float = 0.95,
    precision: float = 0.05,
    seed: int = 0,
) -> CapacityModel:
    """Say what an instance carries inside the SLO, or why that is not known.

    Parameters
    ----------
    slo
        The campaign's or any other: the requests on record are judged afresh.
    results
        Finished stages, in order; void ones are left out.
    routing
        How the endpoint spreads requests.
    instance_counts_max
        No count above this is wanted; None is every count the data support.
    launch_events
        Scale changes seen, for the launch lag.
    classes, mix
        Names of payload classes by index, and production shares by name.
    level, precision
        Confidence of the intervals, and the half-width that was aimed at.
    seed
        Of every resample and simulation.

    Raises
    ------
    InputError, InsufficientDataError
        For a mix that names an unknown or unmeasured class.
    """
    used = measured(results)
    case = _Case(used, routing, level, seed, instance_counts_max)
    weights = None
    if mix:
        weights = production_shares(classes, mix, offered_shares(used, len(classes)))
    blank = replace(_blank(slo, routing, results, launch_events), warnings=void_stages(results))
    if not used:
        return replace(blank, gates=(nothing_measured(results),))
    silent = not_streamed(slo, used)
    if silent is not None:
        return replace(blank, binding=silent[0], gates=(silent[1],))
    beyond = beyond_reach(slo, sound(results))
    if beyond is None and weights is None:
        beyond = late_alone(slo, results)
    if beyond is not None:
        return replace(blank, verdict=Verdict.VIOLATED, binding=beyond[0], gates=(beyond[1],))
    fit, gates = fit_server(results, weights)
    answers: list[_Answer] = []
    unknown: list[tuple[LatencyObjective, tuple[Gate, ...]]] = []
    for i, objective in enumerate(slo.objectives):
        answer, more = _answer(case, fit, objective, 10 * i, weighted=weights is not None)
        if answer is not None:
            answers.append(answer)
            gates = gates + more
        elif _unreachable(more):
            return replace(
                blank, verdict=Verdict.VIOLATED, binding=objective, gates=(*gates, *more)
            )
        else:
            unknown.append((objective, more))
    for objective, more in unknown:
        held = None if weights is not None else _held_beyond(case, objective, answers)
        if held is None:
            return replace(blank, binding=objective, gates=(*gates, *more))
        gates = (*gates, held)
    model = _combined(slo, case, answers, blank, fit)
    return replace(model, gates=gates, warnings=warnings(model, gates, precision, results))


def _answer(
    case: _Case,
    fit: ServerFit | None,
    objective: LatencyObjective,
    branch: int,
    *,
    weighted: bool,
) -> tuple[_Answer | None, tuple[Gate, ...]]:
    """Track A where the server is understood, else track B."""
    gates: tuple[Gate, ...] = ()
    if fit is not None and fit.passed and objective.measure is Measure.LATENCY:
        answer, gates = _by_model(case, fit, objective, branch, weighted=weighted)
        if answer is not None or _unreachable(gates) or _too_flat(case, objective, gates):
            return answer, gates
    if weighted:
        return None, (*gates, mix_needs_model())
    drawn = (case.level, MEMBERS, case.rng(branch + 6))
    near, seen = held_capacity(fit, case.results, objective, case.routing, *drawn)
    gates = (*gates, *seen)
    if near is not None:
        method, limit = near
        answer, more = _by_load(case, limit, branch)
        return replace(answer, method=method), gates + more
    found, more = direct(
        case.results,
        objective,
        case.routing,
        level=case.level,
        members=MEMBERS,
        rng=case.rng(branch + 2),
    )
    if found is None or drifts(fit):
        return None, gates + more
    held, others = _by_load(case, found, branch)
    return held, gates + more + others


def _too_flat(case: _Case, objective: LatencyObjective, gates: Sequence[Gate]) -> bool:
    """Whether the server is understood and its limit hangs on few requests, not on load: windows
    held around such a limit know no more, unless some load held the objective for certain."""
    names = {g.name for g in gates if not g.passed}
    if "near_unloaded" in names:
        held = held_up_to(case.results, objective, case.routing)
        return not any(rate > 0.0 for rate in held.values())
    return "precision" in names


def _held_beyond(
    case: _Case, objective: LatencyObjective, answers: Sequence[_Answer]
) -> Gate | None:
    """An objective that no load missed still has its say: it held where another one gives way.

    None where it is not certain to, at some count that is answered.
    """
    held = held_up_to(case.results, objective, case.routing)
    least = min(held.values(), default=0.0)
    elsewhere = least if case.routing is Routing.RANDOM else 0.0
    limits: dict[int, float] = {}
    for count in (c for a in answers for c in a.by_count):
        n = count.instance_count
        limits[n] = min(count.rate_per_s.mid, limits.get(n, math.inf))
    if not limits or any(held.get(n, elsewhere) < limit for n, limit in limits.items()):
        return None
    return Gate(
        f"held_{objective.name}",
        True,
        least,
        f">= {max(limits.values()):.4g}/s per instance",
        f"{objective.name} holds up to {least:.4g}/s per instance, where another objective has "
        "given way",
    )


def _by_model(
    case: _Case, fit: ServerFit, objective: LatencyObjective, branch: int, *, weighted: bool
) -> tuple[_Answer | None, tuple[Gate, ...]]:
    seen = max(r.spec.instance_count for r in case.results)
    counts = tuple(range(1, SUPPORT * seen + 1))
    found = estimate(fit, objective, counts, case.routing, case.rng(branch), members=MEMBERS)
    if found is None:
        return None, (unreachable_gate(fit, objective),)
    # Stages were offered the campaign's own mix: that is what they are compared with.
    offered, asked = fit, found
    if weighted:
        offered = fit.as_offered()
        seen_counts = tuple(sorted({1, *(r.spec.instance_count for r in case.results)}))
        same = estimate(offered, objective, seen_counts, case.routing, case.rng(branch + 4))
        if same is None:
            return None, (unreachable_gate(offered, objective),)
        asked = same
    near = reach_gate(offered, asked.rate(1), case.results)
    if not near.passed:
        return None, (near,)
    gates, verified = verification(offered, asked, case.results, case.routing, case.rng(branch + 1))
    if not all(g.passed for g in gates):
        return None, gates
    supported = SUPPORT * max(verified) if verified else seen
    if case.count_cap is not None:
        supported = min(supported, max(case.count_cap, 1))
    found = found.doubted(_tolerated(fit))
    wide = width_gate(found.interval(min(seen, supported), case.level), len(fit.work.demand_s))
    if not wide.passed:
        return None, (*gates, wide)
    members = found.members(case.rng(branch + 5))
    by_count = []
    for n in counts[:supported]:
        interval = found.interval(n, case.level)
        requests = sum(r.requests for r in case.results if r.spec.instance_count == n)
        source = "verified" if n in verified else "predicted"
        by_count.append(CountCapacity(n, interval, source, requests))
    curve = curve_of_server(fit, found, supported, case.routing)
    stages = tuple(r.spec.index for r in case.results)
    return (
        _Answer(
            objective,
            "work_recovery",
            tuple(by_count),
            members[:, :supported],
            curve,
            supported,
            stages,
        ),
        gates,
    )


def _tolerated(fit: ServerFit) -> float:
    """Size of the dependences that are real but small enough to tolerate."""
    tests = (fit.work.state, fit.work.future, fit.work.time)
    tolerated = [t.effect for t in tests if t.p_value < P_LIMIT and t.effect <= EFFECT_LIMIT]
    return math.sqrt(sum(e * e for e in tolerated))


def _by_load(case: _Case, found: DirectEstimate, branch: int) -> tuple[_Answer, tuple[Gate, ...]]:
    """Counts as measured, and what they say of the others."""
    rng = case.rng(branch + 3)
    every = at_every_count(case.results, found, case.routing, rng, count_cap=case.count_cap)
    supported = max(c.instance_count for c in every.by_count)
    answer = _Answer(
        found.objective,
        "local_regression",
        every.by_count,
        every.log_members,
        every.curve,
        supported,
        found.stages,
    )
    return answer, every.gates


def _combined(
    slo: Slo,
    case: _Case,
    answers: Sequence[_Answer],
    blank: CapacityModel,
    fit: ServerFit | None,
) -> CapacityModel:
    """At every count the objective that binds; the ensemble is taken member by member."""
    shared = sorted(set.intersection(*({c.instance_count for c in a.by_count} for a in answers)))
    by_count = []
    columns = []
    for n in shared:
        options = [next(c for c in a.by_count if c.instance_count == n) for a in answers]
        by_count.append(min(options, key=lambda c: c.rate_per_s.mid))
        logs = [a.log_members[:, _position(a, n)] for a in answers]
        columns.append(np.min(np.stack(logs), axis=0))
    first = min(answers, key=lambda a: a.by_count[_position(a, shared[0])].rate_per_s.mid)
    errors = (
        error_limit(slo.max_error_rate, case.results, case.level) if slo.max_error_rate else None
    )
    binding: LatencyObjective | None = first.objective
    ensemble = np.exp(np.column_stack(columns))
    if errors is not None and errors.mid < by_count[0].rate_per_s.mid:
        binding = None
        by_count = [replace(c, rate_per_s=errors, source="measured") for c in by_count]
        drawn = case.rng(7).triangular(errors.low, errors.mid, errors.high, len(ensemble))
        ensemble = np.repeat(drawn[:, None], len(shared), axis=1)
    understood = first.method == "work_recovery" and fit is not None
    table, others = _tables(answers, shared, steady_failures(case.results).share)
    return replace(
        blank,
        verdict=Verdict.MET,
        binding=binding,
        method=first.method,
        by_count=tuple(by_count),
        ensemble=ensemble,
        table=table,
        other_thresholds=others,
        floor_s=fit.model.floor_s if understood and fit else blank.floor_s,
        demand_quantile_s=demand_quantiles(fit.model.demand_s, 200)
        if understood and fit
        else np.zeros(0),
        workers=fit.model.workers if understood and fit else 0,
        max_supported_count=max(shared),
        requests_used=sum(r.requests for r in case.results),
        stages_used=tuple(sorted({s for a in answers for s in a.stages})),
    )


def _position(answer: _Answer, count: int) -> int:
    return next(i for i, c in enumerate(answer.by_count) if c.instance_count == count)


def _tables(
    answers: Sequence[_Answer], counts: Sequence[int], failures: float
) -> tuple[ViolationTable | None, tuple[tuple[float, ViolationTable], ...]]:
    """The table of the objective that binds at one instance, and those at other thresholds."""
    first = next(
        (
            (a.curve, a.objective)
            for a in sorted(answers, key=lambda a: a.by_count[0].rate_per_s.mid)
            if a.curve is not None
        ),
        None,
    )
    if first is None:
        return None, ()
    curve, objective = first

    def at(factor: float) -> ViolationTable:
        other = replace(objective, threshold_s=objective.threshold_s * factor)
        return curve.violation_table(other, max(counts), failures)

    return at(1.0), tuple((f, at(f)) for f in OTHER_THRESHOLDS)


def _blank(
    slo: Slo,
    routing: Routing,
    results: Sequence[StageResult],
    launch_events: Sequence[ScaleEvent],
) -> CapacityModel:
    lags = tuple(e.lag_s for e in launch_events if e.to_count > e.from_count)
    fastest = [r.log.latency_s() for r in sound(results) if r.log is not None and len(r.log)]
    floor = min((float(x.min()) for x in fastest if np.isfinite(x).any()), default=0.0)
    return CapacityModel(
        verdict=Verdict.INCONCLUSIVE,
        binding=slo.objectives[0],
        routing=routing.value,
        method="none",
        by_count=(),
        gates=(),
        ensemble=np.zeros((0, 0)),
        table=None,
        floor_s=floor,
        demand_quantile_s=np.zeros(0),
        workers=0,
        max_supported_count=0,
        requests_used=0,
        stages_used=(),
        launch_lag_s=lags,
    )


def _unreachable(gates: Sequence[Gate]) -> bool:
    return any(g.name == "unreachable" for g in gates)
