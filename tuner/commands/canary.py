"""``tuner canary``: paired load on two variants, minute by minute, until the answer is clear."""

from __future__ import annotations

import argparse
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.campaign.canary import CanaryVerdict, Look, look
from tuner.campaign.types import StageKind, StageResult, StageSpec
from tuner.commands.canary_answer import (
    CanaryAnswer,
    answer_canary,
    asked_of,
    client_mean_s,
    deliver_canary,
    objective_of,
    pairs_of,
)
from tuner.commands.interrupts import terminable, uninterrupted
from tuner.commands.paired import measure_together
from tuner.commands.recorded import CANARY
from tuner.commands.run import fresh_directory, heed
from tuner.commands.session import Opened, frozen, open_endpoint, payloads_of
from tuner.commands.ui import Tick, Ui
from tuner.commands.unrestored import remind
from tuner.endpoints.http import HttpEndpoint
from tuner.endpoints.protocol import CampaignEstimate
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError, GeneratorError, InputError, RunInterruptedError
from tuner.load.session import LocustSession
from tuner.load.target import aimed_at
from tuner.plan.knobs import CanaryTable
from tuner.plan.parse import Plan, load_plan
from tuner.store.lock import only_writer
from tuner.store.run import Run
from tuner.units import ms_to_s, us_to_s
from tuner.workload.payloads import PayloadSet

VOIDS_TO_GIVE_UP = 5
FLAGS = {
    "variant": "canary.variant",
    "endpoint": "canary.endpoint",
    "rate": "canary.rate_per_s",
    "slower_by": "canary.slower_by",
    "max_minutes": "canary.max_minutes",
}


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Compare, decide, write."""
    remind(ui)
    overrides: dict[str, Any] = {
        key: value for flag, key in FLAGS.items() if (value := getattr(args, flag)) is not None
    }
    plan = load_plan(Path(args.plan), overrides, traffic=False)
    if args.resume and not args.out:
        raise InputError("--resume needs the run directory", hint="name it with --out DIR")
    out = Path(args.out) if args.out else fresh_directory(f"{Path(args.plan).stem}-canary")
    again = f"tuner canary {args.plan} --out {out} --resume"
    found = run_canary(
        plan, out, ui, resume=args.resume, agreed=args.yes_this_is_production, again=again
    )
    return deliver_canary(found, ui, as_json=args.json, junit=args.junit)


def run_canary(
    plan: Plan, out: Path, ui: Ui, *, resume: bool = False, agreed: bool = False, again: str
) -> CanaryAnswer:
    """The whole job: two endpoints, minutes, decision, files.

    Raises
    ------
    RunInterruptedError
        On Ctrl-C or SIGTERM; the minutes so far are kept.
    """
    table = plan.canary or CanaryTable()
    rate = _rate(plan, table)
    payloads = payloads_of(plan)
    with terminable(), ExitStack() as stack:
        baseline = stack.enter_context(open_endpoint(plan, ui))
        candidate = candidate_of(plan, table, baseline)
        _preflight(table, (baseline, candidate), ui, agreed=agreed)
        run = stack.enter_context(
            _open_run(plan, table, out, (baseline, candidate), payloads, rate, resume=resume)
        )
        stack.enter_context(only_writer(out))
        for opened in (baseline, candidate):
            stack.enter_context(frozen(opened, run, ui))
        sessions = tuple(
            stack.enter_context(
                LocustSession(
                    opened.target,
                    payloads,
                    workers=plan.load.workers,
                    slo_s=plan.slo.slowest_threshold_s,
                    lag_limit_s=_lag_limit_s(plan),
                    keep_raw_requests=plan.load.raw_requests_per_stage,
                )
            )
            for opened in (baseline, candidate)
        )
        ui.say(
            f"{baseline.state.name}/{baseline.state.variant} against "
            f"{candidate.state.name}/{candidate.state.variant}: {rate:g} requests/s on either; "
            f"run {out}"
        )
        drive = Drive(plan, table, rate, run, (baseline, candidate), sessions, ui)
        try:
            seen = drive.until_clear()
        except KeyboardInterrupt:
            run.add_note("interrupted", "stopped by the user")
            raise RunInterruptedError(
                "stopped; the minutes so far are kept", value=str(out), hint=again
            ) from None
        run.set_meta("finished", seen.verdict.value)
        run.set_meta("beyond_model_s", _beyond_model_s(baseline, run))
    return answer_canary(out, ui)


def _rate(plan: Plan, table: CanaryTable) -> float:
    rate = table.rate_per_s or plan.load.start_rate_per_s
    if rate is None:
        raise InputError(
            "the rate of the paired load is not given",
            allowed="canary.rate_per_s in the plan, or --rate N",
            hint="take what one fleet of this size gets in production, such as three quarters of "
            "what tuner run found it to carry",
        )
    return rate


def _lag_limit_s(plan: Plan) -> float | None:
    limit = plan.load.max_send_lag_ms
    return None if limit is None else ms_to_s(limit)


def candidate_of(plan: Plan, table: CanaryTable, baseline: Opened) -> Opened:
    """The other side: another URL, another endpoint, or another variant of the same one.

    Raises
    ------
    InputError
        If the plan does not say which.
    """
    if plan.endpoint.kind == "http":
        if table.url is None:
            raise InputError("the candidate is not named", allowed="canary.url for kind = http")
        http = HttpEndpoint(table.url, plan.endpoint.instance_count)
        return Opened(http, http.describe(), replace(baseline.target, url=table.url))
    if table.url is not None:
        raise InputError("canary.url is only for kind = http", value=table.url)
    driver = baseline.driver
    assert isinstance(driver, SageMakerEndpoint)
    name, variant = table.endpoint or baseline.state.name, table.variant
    if table.endpoint is None and variant is None:
        others = [v for v in baseline.state.variant_names if v != baseline.state.variant]
        if len(others) != 1:
            raise InputError(
                "the candidate is not named",
                allowed=", ".join(others) or "canary.endpoint, the endpoint has no other variant",
                hint="give canary.variant or canary.endpoint in the plan, or --variant NAME",
            )
        variant = others[0]
    other = SageMakerEndpoint(
        name, variant, driver.aws.region, plan.endpoint.profile, driver.aws.endpoint_url
    )
    state = other.describe()
    if (state.name, state.variant) == (baseline.state.name, baseline.state.variant):
        raise InputError("baseline and candidate are the same variant", value=state.variant)
    aimed = aimed_at(baseline.target, name, state.variant if state.variant_count > 1 else None)
    return Opened(other, state, aimed, ours=baseline.ours)


def _preflight(table: CanaryTable, sides: tuple[Opened, Opened], ui: Ui, *, agreed: bool) -> None:
    for opened in sides:
        estimate = CampaignEstimate(
            max_instance_count=max(1, opened.state.current_instance_count),
            duration_s=table.max_minutes * (table.minute_s + table.settle_s),
        )
        findings = opened.driver.preflight(estimate, production_agreed=agreed)
        # That there are several variants is the point of a canary.
        heed([f for f in findings if f.code != "variant"], ui)
    counts = [o.state.current_instance_count for o in sides]
    if 0 in counts:
        raise EndpointError("a variant has no instance", value=counts, allowed="at least one each")
    if counts == [1, 1] and not sides[0].ours:
        ui.warn(
            "with one instance each, an unlucky instance cannot be told from a slower variant: "
            "two or more tell more"
        )
    if counts[0] != counts[1]:
        ui.warn(
            f"the variants have {counts[0]} and {counts[1]} instances: the same load is not the "
            "same load per instance"
        )


def _open_run(
    plan: Plan,
    table: CanaryTable,
    out: Path,
    sides: tuple[Opened, Opened],
    payloads: PayloadSet,
    rate_per_s: float,
    *,
    resume: bool,
) -> Run:
    settings = {**table.model_dump(), "rate_per_s": rate_per_s}
    if resume:
        run = Run.open(out)
        meta = run.meta()
        if meta.get("plan") != plan.text or meta.get(CANARY) != settings:
            run.close()
            raise InputError(
                "the canary was begun with another plan or other flags",
                value=str(out),
                hint="resume with the same, or start anew without --resume",
            )
        return run
    return Run.create(
        out,
        {
            "kind": CANARY,
            "plan": plan.text,
            "plan_source": Path(plan.source).name,
            "seed": plan.load.seed,
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "endpoint": _about(plan, sides[0]),
            "candidate": _about(plan, sides[1]),
            "payload_classes": list(payloads.class_names),
            CANARY: settings,
        },
    )


def _about(plan: Plan, opened: Opened) -> dict[str, Any]:
    state = opened.state
    return {
        "kind": plan.endpoint.kind,
        "name": state.name,
        "variant": state.variant,
        "instance_type": state.instance_type,
        "instance_count": state.current_instance_count,
        "routing": opened.routing.value,
        "config": state.config_name,
        "profile": plan.endpoint.profile,
    }


@dataclass(slots=True)
class Drive:
    """Minutes of paired load, each decided on before the next."""

    plan: Plan
    table: CanaryTable
    rate_per_s: float
    run: Run
    sides: tuple[Opened, Opened]
    sessions: tuple[LocustSession, ...]
    ui: Ui

    def until_clear(self) -> Look:
        """Run minutes until the answer is clear or the time is over.

        Raises
        ------
        GeneratorError
            If most minutes are void.
        """
        objective, test = objective_of(self.plan.slo), asked_of(self.plan, self.table)
        stages = self.run.stages()
        pairs = pairs_of(stages, objective)
        number = max((s.spec.index // 2 + 1 for s in stages), default=0)
        voids = number - len(pairs)
        started = time.monotonic()
        seen = look(pairs, test)
        with self.ui.live():
            while seen.verdict is CanaryVerdict.OPEN and len(pairs) < test.max_minutes:
                results = self._minute(number, seen, started)
                with uninterrupted():
                    kept = tuple(self.run.add_stage(r) for r in results)
                number += 1
                fresh = pairs_of(kept, objective)
                pairs += fresh
                voids += not fresh
                self._tell_voids(kept, voids, number)
                seen = look(pairs, test)
                self.ui.say(_line(number, kept, seen))
        return seen

    def _minute(self, number: int, seen: Look, started: float) -> tuple[StageResult, StageResult]:
        """The same arrivals on both sides at once."""
        specs = [self._spec(number, side) for side in (0, 1)]
        baseline, candidate = measure_together(
            self.sessions,
            specs,
            lambda: self._tick(number, seen, started),
            last_first=number % 2 == 1,
        )
        return baseline, candidate

    def _spec(self, number: int, side: int) -> StageSpec:
        return StageSpec(
            index=2 * number + side,
            kind=StageKind.MEASURE,
            instance_count=self.sides[side].state.current_instance_count,
            rate_per_s=self.rate_per_s,
            duration_s=self.table.minute_s,
            settle_s=self.table.settle_s,
            arrivals=self.plan.load.arrivals,
            # One seed for both sides: the same arrivals and payloads at the same moments.
            seed=(self.plan.load.seed * 1_000_003 + number) % 2**32,
            purpose=f"{('baseline', 'candidate')[side]}, minute {number + 1}",
        )

    def _tick(self, number: int, seen: Look, started: float) -> None:
        each = self.table.minute_s + self.table.settle_s
        elapsed = time.monotonic() - started
        needed = seen.minutes_needed or self.table.max_minutes
        left = max(0.0, (needed - number) * each)
        headline = f"minute {number + 1} of about {needed}: {seen.sentence}"
        self.ui.tick(Tick(headline, elapsed, left, (elapsed % each) / each))

    def _tell_voids(self, kept: tuple[StageResult, ...], voids: int, number: int) -> None:
        reasons = [r for s in kept for r in s.health.void_reasons]
        for reason in dict.fromkeys(reasons):
            self.ui.warn(f"minute {number} is void: {reason}")
        if reasons and voids >= VOIDS_TO_GIVE_UP and 2 * voids > number:
            remedy = next((s.health.remedy for s in kept if s.health.remedy), None)
            raise GeneratorError(
                f"the load generator was the limit in {voids} of {number} minutes: {reasons[0]}",
                hint=remedy,
            )


def _line(number: int, kept: tuple[StageResult, ...], seen: Look) -> str:
    requests = " + ".join(f"{s.requests:,}" for s in kept)
    return f"{number:4d}  {requests} requests  {seen.sentence}"


def _beyond_model_s(baseline: Opened, run: Run) -> float | None:
    """What clients waited beyond CloudWatch's ModelLatency, in seconds; None where not known."""
    stages = [s for s in run.stages() if s.spec.index % 2 == 0 and not s.void]
    if not isinstance(baseline.driver, SageMakerEndpoint) or not stages:
        return None
    begin = stages[0].started_at_unix_s
    end = stages[-1].started_at_unix_s + stages[-1].spec.duration_s
    try:
        known = baseline.driver.utilization(begin, end).model_latency_us.mean
    except EndpointError:
        # No whole minute, or not allowed to read CloudWatch: thresholds are then wider.
        return None
    if known is None:
        return None
    return client_mean_s(stages) - us_to_s(known)
