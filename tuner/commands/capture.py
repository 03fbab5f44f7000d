"""``tuner capture``: the same load with data capture off and on, at the same time."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.campaign.types import StageKind, StageSpec
from tuner.commands.answer import answer, deliver
from tuner.commands.capture_file import (
    CAPTURE_FILE,
    CaptureMeasured,
    effect_row,
    read_measured,
    write_measured,
)
from tuner.commands.interrupts import terminable, uninterrupted
from tuner.commands.paired import measure_together
from tuner.commands.run import fresh_directory, heed
from tuner.commands.session import Opened, open_endpoint, payloads_of
from tuner.commands.ui import Tick, Ui, duration_text
from tuner.endpoints.protocol import CampaignEstimate, EndpointState
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError, GeneratorError, InputError, RunInterruptedError
from tuner.load.session import LocustSession
from tuner.load.target import aimed_at, marked
from tuner.plan.knobs import DataCaptureTable
from tuner.plan.parse import Plan, load_plan
from tuner.recommend.data_capture import CaptureEffect
from tuner.stats.paired import compare_paired, least_requests
from tuner.stats.requests import RequestLog
from tuner.units import SECONDS_PER_MINUTE, ms_to_s, per_min_to_per_s
from tuner.workload.payloads import PayloadSet

BLOCKS = 60
LEAST_BLOCK_S = 1.0
SETTLE_S = 3.0
TRIES = 3
QUANTILE = 0.99
SAME_LOAD = 0.01
ROOM = 1.1
"""Poisson arrivals may be a few fewer than expected."""
NOT_KEPT = "its requests were not kept; raise load.raw_requests_per_stage"
FLAGS = {"rate": "data_capture.rate_per_s", "minutes": "data_capture.minutes"}


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Compare, write, and answer again where a run is named."""
    overrides: dict[str, Any] = {
        key: value for flag, key in FLAGS.items() if (value := getattr(args, flag)) is not None
    }
    plan = load_plan(Path(args.plan), overrides, traffic=False)
    run = Path(args.run) if args.run else None
    if args.resume and not (run or args.out):
        raise InputError("--resume needs what was begun", hint="name it with --run or --out")
    out = run or (
        Path(args.out) if args.out else fresh_directory(f"{Path(args.plan).stem}-capture")
    )
    begun = read_measured(out / CAPTURE_FILE) if args.resume else None
    where = f"--run {run}" if run is not None else f"--out {out}"
    try:
        measured = measure_capture(
            plan,
            run,
            ui,
            agreed=args.yes_this_is_production,
            begun=None if begun is None else begun[1],
            keep=lambda found: write_measured(
                out / CAPTURE_FILE, plan.data_capture or DataCaptureTable(), found
            ),
        )
    except KeyboardInterrupt:
        raise RunInterruptedError(
            "stopped; every percentage measured to its end is kept",
            value=str(out / CAPTURE_FILE),
            hint=f"tuner capture {args.plan} {where} --resume",
        ) from None
    ui.result("\n".join(effect_row(e) for e in measured.effects))
    if run is None:
        ui.result(f"files:\n  {out / CAPTURE_FILE}")
        return 0
    return deliver(answer(run, ui), ui)


@dataclass(frozen=True, slots=True)
class Side:
    """An endpoint that captures this percentage of its requests."""

    percent: int
    opened: Opened


def measure_capture(
    plan: Plan,
    run: Path | None,
    ui: Ui,
    *,
    agreed: bool = False,
    begun: CaptureMeasured | None = None,
    keep: Callable[[CaptureMeasured], None] = lambda _: None,
) -> CaptureMeasured:
    """Load on both sides for each percentage; nothing of the endpoints is changed.

    Percentages that ``begun`` knows are not measured again. ``keep`` is called with everything
    known after each.

    Raises
    ------
    InputError, EndpointError, GeneratorError
        If there is no rate or no second endpoint, the two are not alike, an instance count
        changed meanwhile, ``begun`` was at another load, or the generator was the limit.
    """
    if plan.endpoint.kind == "http":
        raise InputError("data capture is SageMaker's", allowed="kind = sagemaker or emulator")
    table = plan.data_capture or DataCaptureTable()
    payloads = payloads_of(plan)
    known = {} if begun is None else {e.sampling_percent: e for e in begun.effects}
    percents = tuple(p for p in table.sampling_percent if p > 0)
    ours = plan.endpoint.kind == "emulator" and plan.endpoint.endpoint_url is None
    wanted = [w for p in percents for w in ("--capture-percent", str(p))] if ours else []
    with terminable(), ExitStack() as stack:
        base = stack.enter_context(open_endpoint(plan, ui, wanted))
        sides = tuple(_sides(plan, table, base, percents if ours else ()))
        rate = _rate(plan, table, run, base.state)
        each = rate / base.state.current_instance_count
        same_load(begun, each)
        _long_enough(rate, table.minutes)
        _look(table, [base, *(s.opened for s in sides)], ui, agreed=agreed)
        found = begun or CaptureMeasured((), payloads.mean_bytes, None, each)
        for number, side in enumerate(sides):
            if side.percent in known:
                ui.say(f"capture {side.percent} % was measured before")
                continue
            effect, answer_bytes = _effect(plan, payloads, (base, side), rate, number, ui)
            known[side.percent] = effect
            found = CaptureMeasured(
                tuple(e for _, e in sorted(known.items())),
                payloads.mean_bytes,
                found.response_bytes if answer_bytes is None else answer_bytes,
                each,
            )
            with uninterrupted():
                keep(found)
    return found


def _long_enough(rate_per_s: float, minutes: float) -> None:
    """Refuse before any load what could not be compared after it."""
    least = ROOM * least_requests(QUANTILE)
    if rate_per_s * minutes * SECONDS_PER_MINUTE < least:
        needed = math.ceil(10.0 * least / rate_per_s / SECONDS_PER_MINUTE) / 10.0
        raise InputError(
            f"{minutes:g} minutes at {rate_per_s:.4g} requests/s are too short to compare p99",
            allowed=f"at least {needed:g} minutes at this rate",
            hint=f"--minutes {needed:g}, or a higher --rate",
        )


def same_load(begun: CaptureMeasured | None, each_per_s: float) -> None:
    """Refuse to go on with a comparison at another load per instance than it was begun at."""
    earlier = None if begun is None else begun.rate_per_instance_per_s
    if earlier is not None and abs(earlier / each_per_s - 1.0) > SAME_LOAD:
        raise InputError(
            "the comparison was begun at another load",
            value=f"{each_per_s:.4g} requests/s per instance",
            allowed=f"{earlier:.4g}",
            hint="go on with the same --rate, or start anew without --resume",
        )


def _sides(
    plan: Plan, table: DataCaptureTable, base: Opened, percents: Sequence[int]
) -> Iterator[Side]:
    """The endpoints with capture on: the emulator's own, or the one that the plan names."""
    driver = base.driver
    assert isinstance(driver, SageMakerEndpoint)
    if base.state.data_capture is not None and base.state.data_capture.enabled:
        raise InputError(
            "data capture is on at the endpoint that should have it off",
            value=base.state.name,
            hint="name the endpoint without data capture in [endpoint], the other one in "
            "[data_capture] endpoint",
        )
    names = [f"{base.state.name}-capture-{p}" for p in percents]
    if not names and table.endpoint is None:
        raise InputError(
            "there is no endpoint with data capture on to compare with",
            allowed="data_capture.endpoint in the plan",
            hint="make a second endpoint of the same model, type and instance count whose "
            "configuration captures data",
        )
    for name in names or [str(table.endpoint)]:
        variant = None if names else table.variant
        other = SageMakerEndpoint(
            name, variant, driver.aws.region, plan.endpoint.profile, driver.aws.endpoint_url
        )
        state = other.describe()
        capture = state.data_capture
        if capture is None or not capture.enabled or capture.sampling_percent == 0:
            raise InputError("data capture is off at this endpoint", value=name)
        aimed = aimed_at(base.target, name, state.variant if state.variant_count > 1 else None)
        yield Side(capture.sampling_percent, Opened(other, state, marked(aimed), base.ours))


def _rate(plan: Plan, table: DataCaptureTable, run: Path | None, state: EndpointState) -> float:
    """Requests per second on either side: given, or as the run's target would load them."""
    if table.rate_per_s is not None:
        return table.rate_per_s
    if run is not None:
        document = json.loads((run / "recommendation.json").read_text("utf-8"))
        policy = document.get("policy") or {}
        capacity = document["capacity"]["per_instance_rate_per_s"]
        if policy.get("metric") == "SageMakerVariantInvocationsPerInstance":
            return per_min_to_per_s(policy["target_value"]) * state.current_instance_count
        if capacity is not None:
            return float(capacity["low"]) * state.current_instance_count
    if plan.load.start_rate_per_s is not None:
        return plan.load.start_rate_per_s
    raise InputError(
        "the rate of the load is not given",
        allowed="data_capture.rate_per_s in the plan, --rate N, or --run RUN",
    )


def _look(table: DataCaptureTable, opened: Sequence[Opened], ui: Ui, *, agreed: bool) -> None:
    minutes = table.minutes * (len(opened) - 1)
    for one in opened:
        estimate = CampaignEstimate(
            max_instance_count=max(1, one.state.current_instance_count),
            duration_s=minutes * SECONDS_PER_MINUTE,
        )
        findings = one.driver.preflight(estimate, production_agreed=agreed)
        # Data capture is what is measured here: it is no surprise.
        heed([f for f in findings if f.code != "data_capture" or f.level == "stop"], ui)
    kinds = {(o.state.instance_type, o.state.current_instance_count) for o in opened}
    if len(kinds) > 1:
        raise InputError(
            "the endpoints are not alike",
            value="; ".join(f"{count} x {kind}" for kind, count in sorted(kinds, key=str)),
            allowed="the same instance type and count",
        )


def _effect(
    plan: Plan,
    payloads: PayloadSet,
    pair: tuple[Opened, Side],
    rate: float,
    number: int,
    ui: Ui,
) -> tuple[CaptureEffect, float | None]:
    """What one percentage takes, and the mean size of an answer in bytes."""
    base, side = pair
    count = base.state.current_instance_count
    seconds = (plan.data_capture or DataCaptureTable()).minutes * SECONDS_PER_MINUTE
    ui.say(
        f"capture off against {side.percent} %: {rate:.4g} requests/s on either for "
        f"{duration_text(seconds)}"
    )
    stage = StageSpec(
        index=number,
        kind=StageKind.VERIFY,
        instance_count=count,
        rate_per_s=rate,
        duration_s=seconds,
        settle_s=SETTLE_S,
        arrivals=plan.load.arrivals,
        seed=plan.load.seed + number,
        purpose=f"data capture off and at {side.percent} %",
    )
    # The mark is part of every request here: both sides carry the same bytes.
    both = (replace(base, target=marked(base.target)), side.opened)
    logs, answers = _together(plan, payloads, both, stage, ui)
    compared = compare_paired(
        *logs,
        quantile=QUANTILE,
        block_s=max(LEAST_BLOCK_S, seconds / BLOCKS),
        rng=np.random.default_rng([plan.load.seed, number]),
    )
    effect = CaptureEffect(
        side.percent,
        compared.quantile_ratio,
        compared.mean_ratio,
        compared.p_value,
        compared.requests,
        rate / count,
    )
    return effect, float(np.mean(answers)) if answers else None


def _together(
    plan: Plan, payloads: PayloadSet, pair: tuple[Opened, Opened], stage: StageSpec, ui: Ui
) -> tuple[tuple[RequestLog, RequestLog], list[float]]:
    """Both at once, and the sizes of answers; again when the generator was the limit.

    Raises
    ------
    GeneratorError
        If it always was.
    """
    reasons: tuple[str, ...] = ()
    for attempt in range(TRIES):
        with ExitStack() as stack:
            sessions = [stack.enter_context(_session(plan, payloads, one)) for one in pair]
            with ui.live():
                results = measure_together(sessions, (stage, stage), _ticker(stage, ui))
            answers = [s.answer_bytes for s in sessions if s.answer_bytes is not None]
        _same_counts(pair)
        reasons = tuple(r for x in results for r in x.health.void_reasons)
        first, second = (r.log for r in results)
        if not reasons and first is not None and second is not None:
            return (first, second), answers
        ui.warn(f"attempt {attempt + 1} is void: {(*reasons, NOT_KEPT)[0]}")
    raise GeneratorError(
        "no attempt can be used",
        value=(*reasons, NOT_KEPT)[0],
        hint="a lower --rate, or a machine with more free cores",
    )


def _session(plan: Plan, payloads: PayloadSet, one: Opened) -> LocustSession:
    limit_ms = plan.load.max_send_lag_ms
    return LocustSession(
        one.target,
        payloads,
        workers=plan.load.workers,
        slo_s=plan.slo.slowest_threshold_s,
        lag_limit_s=None if limit_ms is None else ms_to_s(limit_ms),
        keep_raw_requests=plan.load.raw_requests_per_stage,
    )


def _ticker(stage: StageSpec, ui: Ui) -> Callable[[], None]:
    started, whole = time.monotonic(), stage.settle_s + stage.duration_s

    def tick() -> None:
        elapsed = time.monotonic() - started
        left = max(0.0, whole - elapsed)
        ui.tick(Tick(stage.purpose, elapsed, left, min(1.0, elapsed / whole)))

    return tick


def _same_counts(pair: tuple[Opened, Opened]) -> None:
    for one in pair:
        now = one.driver.describe().current_instance_count
        if now != one.state.current_instance_count:
            raise EndpointError(
                f"the instance count of {one.state.name} changed during the comparison",
                value=now,
                allowed=str(one.state.current_instance_count),
                hint="suspend its scaling, or load it less, and compare again",
            )
