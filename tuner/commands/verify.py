"""``tuner verify``: does the endpoint with its live policy do what was promised of it?

The replay only sends requests: it changes neither the policy nor the count.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.commands.apply import (
    driver_of,
    policy_to_apply,
    read_recommendation,
    refuse_production,
)
from tuner.commands.inputs import constraints_of, price_in, prices_of, traffic_text
from tuner.commands.interrupts import terminable
from tuner.commands.recorded import Question, Recorded, capacity_of, read_run, traffic_for
from tuner.commands.replay import TooManyErrorsError, replay
from tuner.commands.session import Opened, open_endpoint, payloads_of
from tuner.commands.signals import curves_of, fitted_signals
from tuner.commands.ui import Tick, Ui, duration_text
from tuner.commands.unrestored import remind
from tuner.commands.verified import accept, keep
from tuner.endpoints.apply import plan_apply, sentence
from tuner.endpoints.protocol import EndpointState
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError, InputError, InsufficientDataError, RunInterruptedError
from tuner.plan.parse import Plan, load_plan
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.as_json import Document
from tuner.recommend.evaluate import World
from tuner.recommend.replay import Piece, forecast, hardest_piece, replay_minutes
from tuner.recommend.setup import prepare
from tuner.recommend.verify import judge
from tuner.recommend.verify_json import verification_value
from tuner.recommend.verify_types import Comparison, Verification
from tuner.recommend.what_if import what_if
from tuner.slo import Slo, Verdict
from tuner.store.run import Run
from tuner.units import SECONDS_PER_MINUTE, s_to_h

EXIT_CODES = {Verdict.MET: 0, Verdict.VIOLATED: 3, Verdict.INCONCLUSIVE: 4}
WORDS = {Verdict.MET: "PASS", Verdict.VIOLATED: "FAIL", Verdict.INCONCLUSIVE: "INCONCLUSIVE"}


@dataclass(frozen=True, slots=True, eq=False)
class Promise:
    """What the recommendation says of its policy, ready to be simulated."""

    slo: Slo
    capacity: CapacityModel
    policy: TargetTrackingPolicy
    bounds: CapacityBounds
    world: World
    meets: bool


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Replay, compare, keep the result; 0 passed, 3 failed, 4 nobody can say."""
    path = Path(args.run)
    remind(ui, path)
    if args.override:
        ui.result(accept(path).sentence)
        ui.result(f"terraform.tfvars is written again by: tuner recommend {path}")
        return 0
    recorded = read_run(path, _question(args))
    document = read_recommendation(path)
    plan = _plan_beside(recorded.plan, args.plan)
    minute_s = args.minute_seconds or plan.endpoint.minute_s
    with terminable(), Run.open(path) as run:
        refuse_not_live(driver_of(run), document, ui, args)
        try:
            promise = promise_of(recorded, document, _question(args))
            with open_endpoint(plan, ui) as opened:
                found = _verify(promise, plan, opened, ui, args.minutes, minute_s)
        except KeyboardInterrupt:
            run.add_note("interrupted", "a verification was stopped by the user")
            raise RunInterruptedError(
                "stopped; the endpoint and its policy were not changed",
                value=str(path),
                hint=f"tuner verify {path}",
            ) from None
        file = keep(run, found)
    ui.result(
        json.dumps(verification_value(found), indent=2) if args.json else text_of(found, file)
    )
    if found.blocks:
        ui.warn(
            "terraform.tfvars was taken away and is not written again until a verification "
            f"passes, or: tuner verify {path} --override"
        )
    return EXIT_CODES[found.verdict]


def _question(args: argparse.Namespace) -> Question:
    if args.traffic is None:
        return Question()
    file = Path(args.traffic)
    return Question(traffic=(file.name, traffic_text(file)))


def _plan_beside(plan: Plan, given: str | None) -> Plan:
    """The run's plan with paths that lead somewhere: a run directory holds no payload files."""
    if given is None:
        return replace(plan, base_dir=Path.cwd())
    path = Path(given)
    if load_plan(path).text != plan.text:
        raise InputError("the run was made with another plan than this one", value=given)
    return replace(plan, base_dir=path.resolve().parent)


def promise_of(recorded: Recorded, document: Document, question: Question) -> Promise:
    """The recommendation as a simulation.

    Raises
    ------
    InputError, InsufficientDataError
        If the run holds no policy, or its measurements support no capacity.
    """
    policy, bounds = policy_to_apply(document)
    capacity = capacity_of(recorded, document.slo)
    if capacity.verdict is not Verdict.MET:
        raise InsufficientDataError(
            "the run does not support a capacity, so nothing can be predicted",
            hint="; ".join(g.remedy for g in capacity.gates if g.remedy) or None,
        )
    traffic = traffic_for(recorded, question)
    plan = recorded.plan
    fitted = fitted_signals(recorded.meta, recorded.stages, plan, capacity, traffic)
    curves = curves_of(fitted)
    if policy.metric is not ScalingMetric.INVOCATIONS and policy.metric not in curves:
        raise InsufficientDataError(
            "the run does not say how the policy's metric follows the load, so nothing can be "
            "predicted",
            value=policy.metric.value,
            hint="measure with the metric named in [signals], then recommend, apply and verify",
        )
    constraints = dataclasses.replace(
        constraints_of(plan, recorded.instance_type),
        min_capacity=1,
        max_capacity=None,
        metrics=(ScalingMetric.INVOCATIONS, *curves),
    )
    lag_s, prices = plan.capacity.launch_lag_s, prices_of(plan, recorded.instance_type)
    setup = prepare(
        capacity,
        traffic,
        slo=document.slo,
        constraints=constraints,
        launch_lag_s=lag_s,
        prices=prices,
        seed=plan.load.seed,
        metric_curves=curves,
    )
    prospects = what_if(
        capacity,
        traffic,
        policy,
        bounds,
        slo=document.slo,
        constraints=constraints,
        launch_lag_s=lag_s,
        prices=prices,
        seed=plan.load.seed,
        metric_curves=curves,
    )
    return Promise(document.slo, capacity, policy, bounds, setup.world, prospects.candidate.meets)


def _verify(
    promise: Promise,
    plan: Plan,
    opened: Opened,
    ui: Ui,
    minutes: int | None,
    minute_s: float,
) -> Verification:
    driver = opened.driver
    assert isinstance(driver, SageMakerEndpoint)

    if not promise.meets:
        ui.warn("in simulation this policy does not hold the budgets of the whole traffic")

    def waiting(now: EndpointState, waited_s: float) -> None:
        headline = f"waiting until {now.name} is settled: {now.status}"
        ui.tick(Tick(headline, waited_s, None, 0.0))

    count = driver.take_record(waiting).instance_count
    piece = hardest_piece(
        promise.world,
        promise.policy,
        promise.bounds,
        start_count=count,
        minutes=minutes or replay_minutes(promise.world.launch),
        most_requests=_most_requests(plan, minute_s),
    )
    refuse_beyond_limits(plan, promise, piece, opened, minute_s)
    ui.say(f"replaying {len(piece.requests_per_min)} minutes of {minute_s:g} s: {piece.sentence}")
    begun = time.time()
    result = Verification(
        verdict=Verdict.VIOLATED,
        at_unix_s=begun,
        minute_s=minute_s,
        policy=f"{sentence(promise.policy)}, {promise.bounds.min_capacity} to "
        f"{promise.bounds.max_capacity} instances",
        piece=piece.sentence,
        start_count=count,
        comparisons=(),
        minutes=(),
    )
    try:
        seen, activities = replay(plan, opened, payloads_of(plan), piece, ui, minute_s)
    except TooManyErrorsError as error:
        most = plan.load.max_error_share
        broken = Comparison("errors", Verdict.VIOLATED, None, error.share, most, error.message)
        return replace(result, comparisons=(broken,))
    expected = forecast(promise.world, promise.policy, promise.bounds, seen.requests_per_min, count)
    verdict, comparisons, rows = judge(
        promise.slo, promise.capacity.binding, seen, expected, meets=promise.meets
    )
    return replace(
        result, verdict=verdict, comparisons=comparisons, minutes=rows, activities=activities
    )


def refuse_not_live(
    driver: SageMakerEndpoint, document: Document, ui: Ui, args: argparse.Namespace
) -> None:
    """Only the recommended policy, acting freely, can be verified; and not on production unasked.

    Raises
    ------
    EndpointError, InputError
        If it is not what scales the endpoint now, or AWS is told of a faster clock.
    """
    if args.minute_seconds not in (None, SECONDS_PER_MINUTE) and not driver.aws.local:
        raise InputError(
            "AWS has real minutes", value=args.minute_seconds, allowed="60 (--minute-seconds)"
        )
    diff = plan_apply(driver, *policy_to_apply(document))
    if not diff.empty:
        changes = "; ".join(str(c) for c in diff.changes if c.action != "keep")
        raise EndpointError(
            "the recommended policy is not live on the endpoint",
            value=changes,
            hint=f"tuner apply {args.run} --yes",
        )
    suspended = driver.scaling().suspended
    if suspended.any_suspended:
        raise EndpointError(
            "scaling of the endpoint is suspended, so the policy does not act",
            value=str(suspended),
            hint=f"resume it, or put the endpoint back with: tuner restore {args.run}",
        )
    refuse_production(driver, agreed=args.yes_this_is_production)
    for warning in diff.warnings:
        ui.warn(warning)


def _most_requests(plan: Plan, minute_s: float) -> float:
    """Requests per real minute, summed over control minutes, that the plan's limits allow."""
    most = min(plan.load.max_requests, plan.load.raw_requests_per_stage or plan.load.max_requests)
    return most * SECONDS_PER_MINUTE / minute_s


def refuse_beyond_limits(
    plan: Plan, promise: Promise, piece: Piece, opened: Opened, minute_s: float
) -> None:
    """The plan's limits of time and money hold for a verification too.

    Raises
    ------
    InputError
        If the replay would pass one.
    """
    minutes = len(piece.requests_per_min)
    if minutes * minute_s > plan.load.max_minutes * SECONDS_PER_MINUTE:
        raise InputError(
            "the replay takes longer than load.max_minutes allows",
            value=duration_text(minutes * minute_s),
            allowed=f"{plan.load.max_minutes:g} min",
            hint="replay fewer minutes: --minutes N",
        )
    limit = plan.load.max_cost_usd
    price = price_in(plan, plan.capacity.instance_type or opened.state.instance_type)
    if limit is None or price is None:
        return
    hours = s_to_h(minutes * minute_s) * promise.bounds.max_capacity
    if hours * price.usd_per_hour > limit:
        raise InputError(
            "the replay may cost more than load.max_cost_usd allows",
            value=f"${hours * price.usd_per_hour:.2f} at the policy's maximum capacity",
            allowed=f"${limit:.2f}",
            hint="replay fewer minutes: --minutes N",
        )


def text_of(found: Verification, file: Path) -> str:
    """The result for the terminal."""
    lines = [f"{WORDS[found.verdict]}: {found.policy}", f"  replayed  {found.piece}"]
    marks = {Verdict.MET: "ok  ", Verdict.VIOLATED: "FAIL", Verdict.INCONCLUSIVE: "?   "}
    lines += [f"  {marks[c.verdict]}  {c.sentence}" for c in found.comparisons]
    lines += [f"  scaled    {a}" for a in found.activities]
    counts = [(m.instances, m.predicted_instances) for m in found.minutes]
    seen = " ".join("?" if a is None else str(a) for a, _ in counts)
    lines.append(f"  instances {seen}")
    lines.append(f"  expected  {' '.join(f'{b:.0f}' for _, b in counts)}")
    lines.append(f"files:\n  {file}")
    return "\n".join(lines)
