"""Why there is no answer, or only a weak one: sentences with what would settle it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tuner.campaign.alone import hopeless
from tuner.campaign.evidence import evidence, measured
from tuner.campaign.server import ServerFit
from tuner.campaign.types import StageKind, StageResult
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel, Gate
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.proportions import ShareEstimate, independent_share

LEAST_AT_TOP = 50
NEAR_REACH = 0.8
FAR_REACH = 0.6
FAR_WAITED = 1000
"""Requests that waited from which service in random order was told from order of arrival in
20 of 20 campaigns; from 600 in 14 of 20."""
ANCHOR_REQUESTS = 2000
WIDEST = 0.5
"""Half-width in ln rate beyond which a prediction is no answer."""
USABLE = 0.15
"""Half-width that is worth load even where the precision asked for is out of reach."""
_WORST = 1.5
_BEYOND = 1.1
"""An SLO is called out of reach when the service alone takes this much more than it allows: the
demands of a server that is not quite the one assumed are off by some per cent."""


def nothing_measured(results: Sequence[StageResult]) -> Gate:
    void = [r for r in results if r.void]
    closed = [r for r in results if not r.health.open_loop and not r.void]
    if closed:
        return Gate(
            "closed_loop",
            False,
            float(len(closed)),
            "open-loop arrivals",
            "the load was closed-loop: users of the locustfile waited for answers before they "
            "sent again, which hides stalls; latencies are shown, and no capacity rests on them",
            "leave --locustfile out, or let the locustfile's user derive from "
            "tuner.load.users.HttpArrivalUser or SageMakerUser",
        )
    if void:
        reason = void[-1].health.void_reasons[0]
        remedy = void[-1].health.remedy or "run the generator on a larger machine, or offer less"
        sentence = f"every stage was limited by the generator: {reason}"
        return Gate("generator", False, float(len(void)), "no void stage", sentence, remedy)
    return Gate(
        "measured",
        False,
        0.0,
        ">= 1 finished stage under load",
        "no load was measured yet",
        "run the campaign, or resume it",
    )


def not_streamed(slo: Slo, results: Sequence[StageResult]) -> tuple[LatencyObjective, Gate] | None:
    """An objective on the chunks of answers when no answer came in chunks."""
    logs = [r.log for r in results if r.log is not None]
    for objective in slo.objectives:
        if not objective.measure.streamed:
            continue
        if any(np.isfinite(log.times_s(objective.measure)).any() for log in logs):
            continue
        return objective, Gate(
            "streaming",
            False,
            0.0,
            "answers that came in chunks",
            f"{objective.name} is about the chunks of streamed answers, and no answer on record "
            "was streamed",
            "measure with response streaming, or set the objective on latency",
        )
    return None


def beyond_reach(
    slo: Slo, results: Sequence[StageResult]
) -> tuple[LatencyObjective | None, Gate] | None:
    """An objective that the lowest load on record misses for certain, and no load holds.

    The lowest load is also the first: where a higher one held the objective, it was cold, and
    a first look before the warm-up counts only where what came after it is as late.
    """
    lowest = min(results, key=lambda r: r.rate_per_instance_per_s)
    warm = [r for r in measured(results) if r is not lowest]
    share = lowest.failures / lowest.requests
    for objective in slo.objectives:
        seen = evidence(lowest, objective)
        if seen.overloaded or seen.share.interval.low <= objective.allowance:
            continue
        if lowest.spec.kind is StageKind.FLOOR and warm:
            after = evidence(min(warm, key=lambda r: r.rate_per_instance_per_s), objective)
            if not after.overloaded and after.share.interval.low <= objective.allowance:
                continue
        others = [r for r in results if r.rate_per_instance_per_s > lowest.rate_per_instance_per_s]
        held = (evidence(r, objective).share.interval.high <= objective.allowance for r in others)
        if others and not any(held):
            failed = f", {share:.1%} failed" if share else ""
            return objective, Gate(
                "unloaded",
                False,
                seen.share.interval.low,
                f"<= {objective.allowance:g} of requests over {objective.threshold_s * 1e3:g} ms",
                f"at the lowest load measured, {seen.rate_per_s:.4g}/s per instance, "
                f"{seen.share.interval.mid:.1%} of requests miss {objective.name} <= "
                f"{objective.threshold_s * 1e3:g} ms{failed}",
                "relax the objective, or serve with a faster instance type or model",
            )
    return None


def late_alone(slo: Slo, results: Sequence[StageResult]) -> tuple[LatencyObjective, Gate] | None:
    """An objective that requests miss too often though they have the endpoint to themselves."""
    for objective in slo.objectives:
        found = hopeless(results, objective)
        if found is None:
            continue
        share, lowest_per_s = found
        return objective, Gate(
            "unloaded",
            False,
            share.interval.low,
            f"<= {objective.allowance:g} of requests over {objective.threshold_s * 1e3:g} ms",
            f"of {share.n:,} requests that had the endpoint to themselves, at loads from "
            f"{lowest_per_s:.4g}/s per instance, {share.interval.mid:.1%} miss {objective.name} "
            f"<= {objective.threshold_s * 1e3:g} ms: no lower load would help",
            "relax the objective, or serve with a faster instance type or model",
        )
    return None


def late_without_waiting(fit: ServerFit, objective: LatencyObjective) -> ShareEstimate:
    """Share of requests that need longer than the threshold when nothing waits."""
    n = len(fit.work.demand_s)
    return independent_share(round(fit.model.unloaded_share(objective.threshold_s) * n), n)


def unreachable_gate(fit: ServerFit, objective: LatencyObjective) -> Gate:
    slow = fit.model.unloaded_share(objective.threshold_s)
    if late_without_waiting(fit, objective).interval.low <= _BEYOND * objective.allowance:
        return Gate(
            "near_unloaded",
            False,
            slow,
            f"<= {objective.allowance:g}",
            f"{slow:.2%} of requests seem to need longer than {objective.threshold_s * 1e3:g} ms "
            f"even when nothing waits, too near the {objective.allowance:.2%} that "
            f"{objective.name} allows to tell whether any load holds it",
            "hold low loads for longer, or relax the objective",
        )
    return Gate(
        "unreachable",
        False,
        slow,
        f"<= {objective.allowance:g}",
        f"{slow:.2%} of requests need longer than {objective.threshold_s * 1e3:g} ms even when "
        f"nothing waits, and {objective.name} allows {objective.allowance:.2%}",
        "relax the objective, or serve with a faster instance type or model",
    )


def reach_gate(fit: ServerFit, limit_per_s: float, results: Sequence[StageResult]) -> Gate:
    """Was any load close enough to the predicted limit for the prediction to be believed?

    From loads far below it, requests served in another order or slowed by each other look
    like a server with more room than it has.
    """
    held = [r.rate_per_instance_per_s for r in results if r.requests >= LEAST_AT_TOP]
    share = max(held, default=0.0) / limit_per_s
    waited = round(fit.work.waited_share * len(fit.work.demand_s))
    passed = share >= NEAR_REACH or (share >= FAR_REACH and waited >= FAR_WAITED)
    load = 0.9 * limit_per_s
    return Gate(
        "reach",
        passed,
        share,
        f">= {NEAR_REACH:g} of the predicted limit, or {FAR_REACH:g} with {FAR_WAITED} requests "
        "that waited",
        f"the highest load was {share:.0%} of the predicted limit and {waited:,} requests had to "
        "wait" + ("" if passed else ": too far and too few to rule out another kind of server"),
        None
        if passed
        else f"hold load near {load:.3g}/s per instance for {ANCHOR_REQUESTS:,} more requests "
        f"(about {max(ANCHOR_REQUESTS / load, 1.0):.0f} s)",
    )


def width_gate(interval: Interval, requests: int) -> Gate:
    """Is the predicted limit known well enough to be an answer at all?

    Few requests of which the slowest decide leave it open by a factor; a number with such an
    interval would be read without it.

    Parameters
    ----------
    interval
        Of the limit at the largest count that was measured.
    requests
        Those on one instance, from which the server was recovered.
    """
    low, mid, high = interval.low, interval.mid, interval.high
    half = max(math.log(high / mid), math.log(mid / low) if low > 0.0 else math.inf)
    passed = half <= WIDEST
    wanted = requests * ((min(half, _WORST) / USABLE) ** 2 - 1.0)
    return Gate(
        "precision",
        passed,
        half,
        f"an interval within a factor of {math.exp(WIDEST):.2g}",
        f"{requests:,} requests on one instance leave the limit between {low:.3g} and "
        f"{high:.3g}/s per instance"
        + ("" if passed else ": the few slowest of them decide it, and that is no answer"),
        None
        if passed
        else f"measure about {wanted:,.0f} more requests on one instance, at up to "
        f"{0.85 * mid:.3g}/s, or set an SLO on a lower percentile",
    )


def mix_needs_model() -> Gate:
    return Gate(
        "mix",
        False,
        0.0,
        "a recovered server",
        "the measurements cannot be re-weighted to another payload mix: the demand of single "
        "requests could not be recovered",
        "measure with the payload mix of production",
    )


def void_stages(results: Sequence[StageResult]) -> tuple[str, ...]:
    """How many stages the generator was the limit of, and what would help."""
    void = [r for r in results if r.void]
    if not void:
        return ()
    stages = f"{len(void)} stage{'s' if len(void) > 1 else ''} limited by the generator, not used"
    return (f"{stages}: {void[-1].health.remedy}",)


def warnings(
    model: CapacityModel, gates: Sequence[Gate], precision: float, results: Sequence[StageResult]
) -> tuple[str, ...]:
    said = []
    if model.by_count:
        held = [c for c in model.by_count if c.source != "predicted"] or model.by_count[:1]
        half = held[-1].rate_per_s.relative_half_width
        # A half-width that rounds to the one asked for is the one asked for.
        if half > 1.02 * precision:
            said.append(
                f"capacity is known to {half:.1%}, not to the {precision:.0%} asked for; about "
                f"{(half / precision) ** 2:.1f} times the requests would do"
            )
        if not any(c.source != "predicted" for c in model.by_count):
            said.append("no load was held near the predicted limit: the answer is the model's")
    said.extend(void_stages(results))
    closed = sum(not r.health.open_loop for r in results)
    if closed:
        said.append(f"{closed} stage{'s' if closed > 1 else ''} with closed-loop users, not used")
    said.extend(g.sentence for g in gates if not g.passed and model.verdict is Verdict.MET)
    return tuple(said)
