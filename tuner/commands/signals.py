"""CloudWatch's metrics during the stages: read once after them, fitted at every answer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.autoscaling.policy import ScalingMetric
from tuner.campaign.types import StageKind, StageResult
from tuner.commands.ui import Tick, Ui
from tuner.endpoints.protocol import Endpoint
from tuner.errors import EndpointError
from tuner.plan.parse import Plan
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.signals import FittedSignal, Reading, datapoints, fit_signal
from tuner.simulator.inputs import MetricCurve
from tuner.slo import Verdict
from tuner.store.run import Run
from tuner.units import per_min_to_per_s
from tuner.workload.profile import TrafficProfile

if TYPE_CHECKING:
    from tuner.endpoints.metrics import MetricSeries

SIGNALS = "signals"
AWS_MINUTE_S = 60.0
QUICK_STAGE_S = 8.0
"""The shorter stages of a quick campaign."""


def metrics_of(plan: Plan) -> tuple[ScalingMetric, ...]:
    """The metrics to compare, invocations first; only that without ``[signals]``."""
    if plan.signals is None:
        return (ScalingMetric.INVOCATIONS,)
    named = [m for m in ScalingMetric if key_of(m) in plan.signals.metrics]
    return tuple(dict.fromkeys((ScalingMetric.INVOCATIONS, *named)))


def key_of(metric: ScalingMetric) -> str:
    """A metric's name in plans and runs: ``cpu``, ``gpu_memory``."""
    return metric.name.lower()


def cloudwatch_minute_s(plan: Plan) -> float:
    """Seconds that a minute of CloudWatch lasts: 60, less on an emulator with a faster clock."""
    own = None if plan.signals is None else plan.signals.minute_s
    return plan.endpoint.minute_s if own is None else own


def emulator_arguments(plan: Plan) -> tuple[str, ...]:
    """What makes an emulator's clock run as the plan says."""
    minute_s = cloudwatch_minute_s(plan)
    return () if minute_s == AWS_MINUTE_S else ("--minute-seconds", str(minute_s))


def warn_of_short_stages(plan: Plan, ui: Ui) -> None:
    """Say before the load what CloudWatch cannot tell of short stages."""
    table = plan.signals
    if table is None or len(metrics_of(plan)) < 2:
        return
    needed = 2.0 * cloudwatch_minute_s(plan)
    length = QUICK_STAGE_S if plan.load.quick else plan.load.step_s
    if length < needed:
        ui.warn(
            f"stages of {length:g} s need not hold a whole minute of CloudWatch: give "
            f"load.step_s at least {needed:g}"
        )


def read_signals(run: Run, driver: Endpoint, plan: Plan, ui: Ui) -> None:
    """Keep CloudWatch's datapoints of the campaign in the run.

    Raises
    ------
    EndpointError
        If AWS refuses.
    """
    # boto3 takes long to import, and every answer passes through this module.
    from tuner.endpoints.metrics import SETTLE_S
    from tuner.endpoints.sagemaker import SageMakerEndpoint

    stages = run.stages()
    wanted = len(metrics_of(plan)) > 1
    if not wanted or not stages or not isinstance(driver, SageMakerEndpoint):
        return
    minute_s = cloudwatch_minute_s(plan)
    pace = minute_s / AWS_MINUTE_S
    start = min(s.started_at_unix_s for s in stages)
    end = max(s.started_at_unix_s + s.spec.duration_s for s in stages)
    _wait(end + SETTLE_S * pace + minute_s, ui)
    try:
        series = driver.signal_series(start - minute_s, end + minute_s)
    except EndpointError as error:
        ui.warn(f"CloudWatch could not be read, so signals are not compared: {error.message}")
        return
    run.set_meta(
        SIGNALS,
        {"pace": pace, **{key_of(m): _kept(s) for m, s in series.items()}},
    )


def _wait(until_unix_s: float, ui: Ui) -> None:
    """The newest datapoints are not published yet."""
    begun = time.time()
    while (left := until_unix_s - time.time()) > 0.0:
        whole = max(until_unix_s - begun, 1e-9)
        ui.tick(Tick("waiting for CloudWatch", time.time() - begun, left, 1.0 - left / whole))
        time.sleep(min(left, 1.0))


def _kept(series: MetricSeries) -> dict[str, Any]:
    return {
        "period_s": series.period_s,
        "at_unix_s": list(series.at_unix_s),
        "values": list(series.values),
    }


def readings_of(
    kept: Mapping[str, Any], stages: Sequence[StageResult], metric: ScalingMetric
) -> list[Reading]:
    """One reading for each sound stage that holds a whole datapoint."""
    series = kept.get(key_of(metric))
    if series is None:
        return []
    period_s = float(series["period_s"]) * float(kept["pace"])
    found = []
    for stage in stages:
        if stage.void or stage.spec.kind is StageKind.WARM_UP:
            continue
        start = stage.started_at_unix_s
        values = datapoints(
            series["at_unix_s"], series["values"], period_s, start, start + stage.spec.duration_s
        )
        if values:
            rate, count = stage.rate_per_instance_per_s, stage.spec.instance_count
            found.append(Reading(metric, stage.spec.index, rate, count, values))
    return found


def curves_of(fitted: Mapping[ScalingMetric, FittedSignal]) -> dict[ScalingMetric, MetricCurve]:
    """The relations that could be fitted."""
    return {m: f.curve for m, f in fitted.items() if f.curve is not None}


def fitted_signals(
    meta: Mapping[str, Any],
    stages: Sequence[StageResult],
    plan: Plan,
    capacity: CapacityModel,
    traffic: TrafficProfile,
) -> dict[ScalingMetric, FittedSignal]:
    """Every metric the plan names besides invocations; one that cannot be fitted says why."""
    if capacity.verdict is not Verdict.MET or capacity.table is None:
        return {}
    kept = meta.get(SIGNALS)
    saturation = capacity.table.saturation_rate_per_s
    demand = per_min_to_per_s(traffic.mean_per_min)
    count = max(1, math.ceil(demand / max(capacity.by_count[0].rate_per_s.low, 1e-9)))
    return {
        metric: fit_signal(
            metric,
            readings_of(kept, stages, metric) if kept is not None else (),
            saturation,
            instance_count=count,
            pace=1.0 if kept is None else float(kept["pace"]),
        )
        for metric in metrics_of(plan)[1:]
    }
