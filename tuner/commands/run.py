"""``tuner run``: measure as the plan says, then recommend."""

from __future__ import annotations

import argparse
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.campaign.search import Finished
from tuner.commands.answer import Answer, answer, deliver
from tuner.commands.controller import Controller
from tuner.commands.inputs import campaign_of, price_in, traffic_of, traffic_text
from tuner.commands.interrupts import terminable
from tuner.commands.legs import Leg, finished, legs_of, require_prices
from tuner.commands.models import sweep_models
from tuner.commands.session import (
    LiveBackend,
    Opened,
    frozen,
    open_endpoint,
    payloads_of,
)
from tuner.commands.signals import emulator_arguments, read_signals, warn_of_short_stages
from tuner.commands.ui import Ui
from tuner.commands.unrestored import REPORTS, remind
from tuner.commands.worker import address_of
from tuner.endpoints.protocol import CampaignEstimate, Finding
from tuner.errors import (
    EndpointError,
    InputError,
    RunDirectoryError,
    RunInterruptedError,
    TunerError,
)
from tuner.load.own_latency import measure_own_latency
from tuner.load.plan import EVERY_INTERFACE
from tuner.load.session import LocustSession
from tuner.plan.parse import Plan, load_plan
from tuner.store.lock import only_writer
from tuner.store.run import JOURNAL, Run
from tuner.units import ms_to_s


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Measure and recommend."""
    remind(ui)
    overrides: dict[str, Any] = {}
    if args.workers is not None:
        overrides["load.workers"] = args.workers
    plan = load_plan(Path(args.plan), overrides)
    out = Path(args.out) if args.out else None
    if args.resume:
        out = out or newest_unfinished(Path(args.plan))
    result = measure_and_answer(
        plan,
        out or fresh_directory(Path(args.plan).stem),
        ui,
        resume=args.resume,
        agreed=args.yes_this_is_production,
        locustfile=Path(args.locustfile) if args.locustfile else None,
        listen=address_of(args.listen) if args.listen else None,
        again=f"tuner run {args.plan}",
    )
    return deliver(result, ui)


def measure_and_answer(
    plan: Plan,
    out: Path,
    ui: Ui,
    *,
    resume: bool = False,
    agreed: bool = False,
    locustfile: Path | None = None,
    listen: tuple[str, int] | None = None,
    again: str,
) -> Answer:
    """The whole job: campaign, capacity, policy, files.

    Raises
    ------
    RunInterruptedError
        On Ctrl-C or SIGTERM; what was measured is in the run directory.
    """
    csv = traffic_text(plan.path(plan.traffic.csv)) if plan.traffic.csv else None
    traffic_of(plan, csv)
    if locustfile is not None and not locustfile.is_file():
        raise InputError("no such locustfile", value=str(locustfile))
    legs = legs_of(plan)
    require_prices(legs)
    with terminable():
        for leg in legs[1:]:
            _look_ahead(leg, ui, agreed=agreed)
        for number, leg in enumerate(legs, start=1):
            if len(legs) > 1:
                if resume and finished(out / leg.directory):
                    continue
                ui.say(f"instance type {number} of {len(legs)}: {leg.name}")
            how = How(agreed, locustfile, listen, f"{again} --out {out} --resume")
            _campaign(leg, out / leg.directory, csv, ui, how, resume=resume)
    return answer(out, ui)


@dataclass(frozen=True, slots=True)
class How:
    """How campaigns are run: what the flags say, and the command that goes on with them."""

    agreed: bool
    locustfile: Path | None
    listen: tuple[str, int] | None
    again: str


def _look_ahead(leg: Leg, ui: Ui, *, agreed: bool) -> None:
    """What would stop a later campaign is said before the first one begins."""
    plan = leg.plan
    if plan.endpoint.kind == "emulator" and plan.endpoint.endpoint_url is None:
        return
    with open_endpoint(plan, ui) as opened:
        _right_type(leg, opened)
        price = price_in(plan, plan.capacity.instance_type)
        check(plan, opened, price.usd_per_hour if price else None, ui, agreed=agreed)


def _right_type(leg: Leg, opened: Opened) -> None:
    found, named = opened.state.instance_type, leg.plan.capacity.instance_type
    if leg.directory and found is not None and found != named and not opened.ours:
        raise InputError(
            f"endpoint {opened.state.name} runs on another instance type than the plan says",
            value=found,
            allowed=named,
            hint="correct instance_type or name in [[types]]",
        )


def _campaign(leg: Leg, out: Path, csv: str | None, ui: Ui, how: How, *, resume: bool) -> None:
    """One campaign into one run directory."""
    plan = leg.plan
    payloads = payloads_of(plan)
    warn_of_short_stages(plan, ui)
    resume = resume and (not leg.directory or (out / JOURNAL).is_file())
    with open_endpoint(plan, ui, emulator_arguments(plan)) as opened:
        _right_type(leg, opened)
        instance_type = plan.capacity.instance_type or opened.state.instance_type
        price = price_in(plan, instance_type)
        config = campaign_of(plan, opened.routing, payloads, price)
        check(plan, opened, price.usd_per_hour if price else None, ui, agreed=how.agreed)
        with (
            _open_run(
                leg, out, opened, payloads.class_names, csv, instance_type, resume=resume
            ) as run,
            only_writer(out),
        ):
            try:
                with (
                    frozen(opened, run, ui),
                    LocustSession(
                        opened.target,
                        payloads,
                        workers=plan.load.workers,
                        locustfile=how.locustfile,
                        listen=how.listen,
                        slo_s=plan.slo.slowest_threshold_s,
                        lag_limit_s=_lag_limit_s(plan),
                        keep_raw_requests=plan.load.raw_requests_per_stage,
                    ) as session,
                ):
                    _start_load(plan, session, ui, how.listen)
                    ui.say(f"measuring {opened.state.name}: {plan.slo.describe()}; run {out}")
                    if "own_latency" not in run.meta():
                        run.set_meta("own_latency", asdict(measure_own_latency(duration_s=1.5)))
                    backend = LiveBackend(opened.driver, session, ui)
                    controller = Controller(config, run, backend, ui, plan.load.max_error_share)
                    ended = controller.drive()
                    run.set_meta("payload_bytes", [payloads.mean_bytes, session.answer_bytes])
                    read_signals(run, opened.driver, plan, ui)
                    sweep_models(plan, opened, out, ui)
                _note_end(run, ended, ui)
            except KeyboardInterrupt:
                run.add_note("interrupted", "stopped by the user")
                raise RunInterruptedError(
                    f"stopped; {len(run.stages())} completed stages are kept",
                    value=str(out),
                    hint=how.again,
                ) from None
            except TunerError as error:
                run.add_note("stopped", error.message)
                ui.warn(f"{len(run.stages())} completed stages are kept; go on with: {how.again}")
                raise


def _start_load(plan: Plan, session: LocustSession, ui: Ui, listen: tuple[str, int] | None) -> None:
    """Start the generator; closed-loop users cannot search a limit: the plan must say the loads.

    Raises
    ------
    InputError
        If it does not.
    """
    if listen is not None:
        wait = "" if plan.load.workers else "; waiting for the first"
        host = platform.node() if listen[0] in EVERY_INTERFACE else listen[0]
        ui.say(f"workers join with: tuner worker --master {host}:{listen[1]}{wait}")
    session.start()
    if session.open_loop:
        return
    if plan.load.rates == "auto":
        raise InputError(
            "the locustfile's users are closed-loop: they wait for answers, so no limit can be "
            "searched with them",
            value="load.rates = auto",
            allowed="a list of rates per second and instance in load.rates",
            hint="or derive the user from tuner.load.users.HttpArrivalUser or SageMakerUser",
        )
    ui.warn("the locustfile's users are closed-loop: no capacity will be worked out from them")


def _lag_limit_s(plan: Plan) -> float | None:
    limit = plan.load.max_send_lag_ms
    return None if limit is None else ms_to_s(limit)


def _note_end(run: Run, finished: Finished, ui: Ui) -> None:
    run.add_note("finished", finished.sentence)
    run.set_meta("finished", finished.reason)
    ui.say(finished.sentence)


def check(
    plan: Plan, opened: Opened, price_per_hour_usd: float | None, ui: Ui, *, agreed: bool
) -> tuple[Finding, ...]:
    """Look at everything the campaign depends on.

    Raises
    ------
    EndpointError
        If something forbids it.
    """
    estimate = CampaignEstimate(
        max_instance_count=max(plan.load.instance_counts),
        duration_s=plan.load.max_minutes * 60.0,
        price_per_hour_usd=price_per_hour_usd,
        cost_limit_usd=plan.load.max_cost_usd,
    )
    findings = opened.driver.preflight(estimate, production_agreed=agreed)
    heed(findings, ui)
    return findings


def heed(findings: Sequence[Finding], ui: Ui) -> None:
    """Show the warnings of a preflight, and stop where it says so.

    Raises
    ------
    EndpointError
        If something forbids it.
    """
    stops = [f for f in findings if f.level == "stop"]
    for finding in findings:
        if finding.level == "warn":
            ui.warn(finding.sentence)
    if stops:
        first = stops[0]
        more = "".join(f"\n{f.sentence}" for f in stops[1:])
        raise EndpointError(
            first.sentence + more, value=first.value, allowed=first.allowed, hint=first.hint
        )


def fresh_directory(stem: str) -> Path:
    """``reports/STEM-20260102-030405``, numbered when two start in one second."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "run"
    base = REPORTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, n = base, 2
    while path.exists():
        path, n = base.with_name(f"{base.name}-{n}"), n + 1
    return path


def newest_unfinished(plan: Path) -> Path:
    """The newest run of this plan under reports/ that has no end.

    Raises
    ------
    RunDirectoryError
        If there is none.
    """
    text = plan.read_text("utf-8")
    directories = [leg.directory for leg in legs_of(load_plan(plan))]
    found = sorted(REPORTS.glob(f"*/{JOURNAL}"), key=lambda p: p.stat().st_mtime, reverse=True)
    for journal in found:
        with Run.open(journal.parent) as run:
            meta = run.meta()
        whole = all(finished(journal.parent / directory) for directory in directories)
        if meta.get("plan") == text and not whole:
            return journal.parent
    raise RunDirectoryError(
        "no unfinished run of this plan was found",
        value=str(REPORTS),
        hint="name it with --out, or start anew without --resume",
    )


def _open_run(
    leg: Leg,
    out: Path,
    opened: Opened,
    payload_classes: tuple[str, ...],
    csv: str | None,
    instance_type: str | None,
    *,
    resume: bool,
) -> Run:
    plan = leg.plan
    if resume:
        run = Run.open(out)
        if run.meta().get("plan") != plan.text:
            run.close()
            raise RunDirectoryError(
                "the run was made with another plan than this one",
                value=str(out),
                hint="resume with the plan it was started with (see `plan` in its journal), "
                "or start a new run",
            )
        return run
    state = opened.state
    return Run.create(
        out,
        {
            "plan": plan.text,
            "plan_source": Path(plan.source).name,
            "traffic_csv": csv,
            "seed": plan.load.seed,
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "endpoint": {
                "kind": plan.endpoint.kind,
                "name": state.name,
                "variant": state.variant,
                "instance_type": instance_type,
                "routing": opened.routing.value,
                "config": state.config_name,
                "profile": plan.endpoint.profile,
            },
            "payload_classes": list(payload_classes),
            **({"overrides": dict(leg.overrides)} if leg.overrides else {}),
        },
    )
