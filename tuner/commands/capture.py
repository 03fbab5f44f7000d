"""``tuner capture``: the same load with data capture off and on, at the same time."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.campaign.types import StageKind, StageResult, StageSpec
from tuner.commands.answer import answer, deliver
from tuner.commands.capture_file import CAPTURE_FILE, CaptureMeasured, effect_row, write_measured
from tuner.commands.interrupts import terminable
from tuner.commands.run import fresh_directory, heed
from tuner.commands.session import Opened, open_endpoint, payloads_of
from tuner.commands.ui import Ui, duration_text
from tuner.endpoints.protocol import CampaignEstimate, EndpointState
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError, GeneratorError, InputError
from tuner.load.session import LocustSession
from tuner.load.target import aimed_at, marked
from tuner.plan.knobs import DataCaptureTable
from tuner.plan.parse import Plan, load_plan
from tuner.recommend.data_capture import CaptureEffect
from tuner.stats.paired import compare_paired
from tuner.units import SECONDS_PER_MINUTE, ms_to_s, per_min_to_per_s

BLOCKS = 60
LEAST_BLOCK_S = 1.0
SETTLE_S = 3.0
TRIES = 3
QUANTILE = 0.99
FLAGS = {"rate": "data_capture.rate_per_s", "minutes": "data_capture.minutes"}


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Compare, write, and answer again where a run is named."""
    overrides: dict[str, Any] = {
        key: value for flag, key in FLAGS.items() if (value := getattr(args, flag)) is not None
    }
    plan = load_plan(Path(args.plan), overrides, traffic=False)
    run = Path(args.run) if args.run else None
    out = run or (
        Path(args.out) if args.out else fresh_directory(f"{Path(args.plan).stem}-capture")
    )
    measured = measure_capture(plan, run, ui, agreed=args.yes_this_is_production)
    write_measured(out / CAPTURE_FILE, plan.data_capture or DataCaptureTable(), measured)
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
    plan: Plan, run: Path | None, ui: Ui, *, agreed: bool = False
) -> CaptureMeasured:
    """Load on both sides for each percentage; nothing of the endpoints is changed.

    Raises
    ------
    InputError, EndpointError, GeneratorError
        If there is no rate or no second endpoint, the two are not alike, an instance count
        changed meanwhile, or the generator was the limit.
    """
    if plan.endpoint.kind == "http":
        raise InputError("data capture is SageMaker's", allowed="kind = sagemaker or emulator")
    table = plan.data_capture or DataCaptureTable()
    percents = tuple(p for p in table.sampling_percent if p > 0)
    ours = plan.endpoint.kind == "emulator" and plan.endpoint.endpoint_url is None
    wanted = [w for p in percents for w in ("--capture-percent", str(p))] if ours else []
    with terminable(), ExitStack() as stack:
        base = stack.enter_context(open_endpoint(plan, ui, wanted))
        sides = tuple(_sides(plan, table, base, percents if ours else ()))
        rate = _rate(plan, table, run, base.state)
        _look(table, [base, *(s.opened for s in sides)], ui, agreed=agreed)
        answers: list[float] = []
        effects = tuple(
            _effect(plan, table, base, side, rate, number, ui, answers)
            for number, side in enumerate(sides)
        )
    each = rate / base.state.current_instance_count
    mean_answer = float(np.mean(answers)) if answers else None
    return CaptureMeasured(effects, payloads_of(plan).mean_bytes, mean_answer, each)


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
    table: DataCaptureTable,
    base: Opened,
    side: Side,
    rate: float,
    number: int,
    ui: Ui,
    answers: list[float],
) -> CaptureEffect:
    seconds = table.minutes * SECONDS_PER_MINUTE
    ui.say(
        f"capture off against {side.percent} %: {rate:.4g} requests/s on either for "
        f"{duration_text(seconds)}"
    )
    stage = StageSpec(
        index=number,
        kind=StageKind.VERIFY,
        instance_count=base.state.current_instance_count,
        rate_per_s=rate,
        duration_s=seconds,
        settle_s=SETTLE_S,
        arrivals=plan.load.arrivals,
        seed=plan.load.seed + number,
        purpose="data capture off and on",
    )
    # The mark is part of every request here: both sides carry the same bytes.
    pair = (replace(base, target=marked(base.target)), side.opened)
    results = _together(plan, pair, stage, ui, answers)
    logs = [r.log for r in results]
    assert logs[0] is not None
    assert logs[1] is not None
    compared = compare_paired(
        logs[0],
        logs[1],
        quantile=QUANTILE,
        block_s=max(LEAST_BLOCK_S, seconds / BLOCKS),
        rng=np.random.default_rng([plan.load.seed, number]),
    )
    return CaptureEffect(
        side.percent,
        compared.quantile_ratio,
        compared.mean_ratio,
        compared.p_value,
        compared.requests,
        rate / base.state.current_instance_count,
    )


def _together(
    plan: Plan, pair: tuple[Opened, Opened], stage: StageSpec, ui: Ui, answers: list[float]
) -> list[StageResult]:
    """Both at once; again when the generator was the limit.

    Raises
    ------
    GeneratorError
        If it always was.
    """
    reasons: tuple[str, ...] = ()
    limit_ms = plan.load.max_send_lag_ms
    for attempt in range(TRIES):
        with ExitStack() as stack:
            sessions = [
                stack.enter_context(
                    LocustSession(
                        one.target,
                        payloads_of(plan),
                        workers=plan.load.workers,
                        slo_s=plan.slo.slowest_threshold_s,
                        lag_limit_s=None if limit_ms is None else ms_to_s(limit_ms),
                    )
                )
                for one in pair
            ]
            pool = stack.enter_context(ThreadPoolExecutor(len(sessions)))
            results = list(pool.map(lambda s: s.measure(stage), sessions))
            answers += [s.answer_bytes for s in sessions if s.answer_bytes is not None]
        for one in pair:
            now = one.driver.describe().current_instance_count
            if now != one.state.current_instance_count:
                raise EndpointError(
                    f"the instance count of {one.state.name} changed during the comparison",
                    value=now,
                    allowed=str(one.state.current_instance_count),
                    hint="suspend its scaling, or load it less, and compare again",
                )
        reasons = tuple(r for x in results for r in x.health.void_reasons)
        if not reasons:
            return results
        ui.warn(f"attempt {attempt + 1} is void: {reasons[0]}")
    raise GeneratorError(
        "the load generator was the limit in every attempt",
        value=reasons[0],
        hint="a lower --rate, or a machine with more free cores",
    )
