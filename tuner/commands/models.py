"""The sweep over the number of models on one instance, after a campaign."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tuner.campaign.models import ModelStage, repeated, warm_requests
from tuner.campaign.types import StageKind, StageResult, StageSpec
from tuner.commands.models_file import MODELS_FILE, mix_of, write_sweep
from tuner.commands.recorded import capacity_of, read_run
from tuner.commands.session import Opened, bodies_of
from tuner.commands.ui import Tick, Ui, duration_text
from tuner.endpoints.metrics import PERIOD_S, SETTLE_S
from tuner.endpoints.models import ModelActivity, read_models
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import InputError, InsufficientDataError
from tuner.load.session import LocustSession
from tuner.plan.knobs import ModelsTable
from tuner.plan.parse import Plan
from tuner.recommend.density import LEAST_REQUESTS, Need, next_count
from tuner.units import ms_to_s
from tuner.workload.models import ModelMix, spread

LONGEST_WARM_UP_S = 900.0
TIMES_LEAST = 2.0
"""A stage is made long enough for twice the fewest requests that a decision needs."""


def sweep_models(plan: Plan, opened: Opened, out: Path, ui: Ui) -> None:
    """Measure one instance with more and more models and keep what was seen.

    A campaign without a capacity leaves no load to measure at: that is said, and no sweep is
    made.
    """
    table = plan.models
    if table is None or (out / MODELS_FILE).is_file():
        return
    rate = sweep_rate(plan, table, out, ui)
    if rate is None:
        return
    mix = mix_of(plan, table)
    opened.driver.set_instance_count(1)
    sweep = Sweep(plan, table, mix, opened, rate, ui)
    stages, results = sweep.run()
    activity = _activity(opened, results, ui)
    told = [_with_activity(s, a) for s, a in zip(stages, activity, strict=True)]
    write_sweep(out / MODELS_FILE, mix, told, activity)


def sweep_rate(plan: Plan, table: ModelsTable, out: Path, ui: Ui) -> float | None:
    """Requests per second for the one instance: the plan's, else a share of its capacity."""
    if table.rate_per_s is not None:
        return table.rate_per_s
    try:
        capacity = capacity_of(read_run(out), plan.slo)
    except (InputError, InsufficientDataError) as error:
        ui.warn(f"the number of models was not swept: {error.message}")
        return None
    if not capacity.by_count or not capacity.by_count[0].rate_per_s.low > 0.0:
        ui.warn("the number of models was not swept: no capacity was found to load it by")
        return None
    return table.load_share * capacity.by_count[0].rate_per_s.low


class Sweep:
    """One sweep under way."""

    def __init__(
        self, plan: Plan, table: ModelsTable, mix: ModelMix, opened: Opened, rate: float, ui: Ui
    ) -> None:
        self._plan, self._table, self._mix = plan, table, mix
        self._opened, self._rate, self._ui = opened, rate, ui
        self._bodies = bodies_of(plan)
        self._touched = np.zeros(len(mix), np.bool_)
        self._need = Need(mix, level=plan.load.level)
        self._index = 0

    def run(self) -> tuple[list[ModelStage], list[StageResult]]:
        """Every stage, in the order measured."""
        stages: list[ModelStage] = []
        results: list[StageResult] = []
        given = sorted({min(n, len(self._mix)) for n in self._table.sweep})
        while (count := self._next(given, stages)) is not None:
            stage, result = self._measure(count)
            if result.void:
                # A busy generator says nothing of the endpoint.
                self._ui.warn(f"{count} models: {'; '.join(result.health.void_reasons)}")
                stage, result = self._measure(count)
                if result.void:
                    self._ui.warn("the sweep over models ends: the generator cannot keep up")
                    break
            stages.append(stage)
            results.append(result)
            self._ui.say(_line(stage))
        return stages, results

    def _next(self, given: Sequence[int], stages: Sequence[ModelStage]) -> int | None:
        if given:
            return given[len(stages)] if len(stages) < len(given) else None
        return next_count(stages, self._plan.slo, self._need)

    def _measure(self, count: int) -> tuple[ModelStage, StageResult]:
        plan, mix = self._plan, self._mix.first(count)
        allowed = min((1.0 - o.quantile for o in plan.slo.objectives), default=0.01)
        warm_s = min(warm_requests(mix.shares, allowed) / self._rate, LONGEST_WARM_UP_S)
        least_s = TIMES_LEAST * LEAST_REQUESTS / self._rate
        lag_ms = plan.load.max_send_lag_ms
        with LocustSession(
            self._opened.target,
            spread(self._bodies, mix, class_per_model=True),
            workers=plan.load.workers,
            slo_s=plan.slo.slowest_threshold_s,
            lag_limit_s=None if lag_ms is None else ms_to_s(lag_ms),
            keep_raw_requests=plan.load.raw_requests_per_stage,
        ) as session:
            warm = self._stage(session, StageKind.WARM_UP, count, warm_s)
            assert warm.log is not None
            repeated(warm.log.payload_class, self._touched)
            result = self._stage(session, StageKind.MEASURE, count, max(plan.load.step_s, least_s))
        if result.log is None:
            raise InsufficientDataError(
                "a stage of the sweep over models was too long to keep its requests",
                value=result.requests,
                allowed=f"at most {plan.load.raw_requests_per_stage}",
                hint="raise load.raw_requests_per_stage or shorten load.step_s",
            )
        kept = repeated(result.log.payload_class, self._touched)
        stage = ModelStage(
            count,
            self._rate,
            mix.shares,
            result.log.latency_s()[kept],
            int(np.count_nonzero(~kept)),
        )
        return stage, result

    def _stage(
        self, session: LocustSession, kind: StageKind, count: int, duration_s: float
    ) -> StageResult:
        self._index += 1
        verb = "loading" if kind is StageKind.WARM_UP else "measuring"
        spec = StageSpec(
            index=self._index,
            kind=kind,
            instance_count=1,
            rate_per_s=self._rate,
            duration_s=duration_s,
            settle_s=0.0,
            arrivals=self._plan.load.arrivals,
            seed=self._plan.load.seed * 1000 + self._index,
            purpose=f"{count} models on one instance",
        )
        self._ui.tick(
            Tick(
                f"{verb} {count} models, {self._rate:.4g}/s for {duration_text(duration_s)}",
                0.0, None, 0.0,
            )
        )  # fmt: skip
        return session.measure(spec)


def _activity(opened: Opened, results: Sequence[StageResult], ui: Ui) -> list[ModelActivity | None]:
    """What CloudWatch says of each stage that covers a whole minute."""
    driver = opened.driver
    spans = [(r.started_at_unix_s, r.started_at_unix_s + r.spec.duration_s) for r in results]
    whole = [math.floor(end / PERIOD_S) > math.ceil(start / PERIOD_S) for start, end in spans]
    if not isinstance(driver, SageMakerEndpoint) or not any(whole):
        return [None] * len(results)
    wait_s = max(end for _, end in spans) + SETTLE_S - time.time()
    if wait_s > 0.0:
        ui.say(f"waiting {duration_text(wait_s)} for CloudWatch to count the models")
        time.sleep(wait_s)
    found = []
    for (start, end), enough in zip(spans, whole, strict=True):
        got = None
        if enough:
            got = read_models(driver.aws, opened.state.name, opened.state.variant, start, end)
        found.append(got)
    return found


def _with_activity(stage: ModelStage, activity: ModelActivity | None) -> ModelStage:
    if activity is None or activity.hit_ratio is None:
        return stage
    return replace(
        stage,
        hit_ratio=activity.hit_ratio,
        loaded_models=activity.loaded_models,
        wait_s=activity.wait_s,
    )


def _line(stage: ModelStage) -> str:
    p99 = float(np.quantile(stage.latency_s, 0.99, method="inverted_cdf"))
    text = f"p99 {p99 * 1e3:.4g} ms" if math.isfinite(p99) else "p99 failed"
    return (
        f"     {stage.models:4d} models  {stage.requests:8,d} requests  {text}  "
        f"{stage.first_loads} first requests left out"
    )
