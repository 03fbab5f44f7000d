"""CloudWatch's view of a variant: utilisation and AWS's own latency, in their own units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import botocore.exceptions as boto_errors

from tuner.autoscaling.policy import CUSTOMIZED_METRICS, INSTANCE_NAMESPACE, ScalingMetric
from tuner.endpoints.aws import Aws, map_error
from tuner.endpoints.protocol import AwsError
from tuner.errors import EndpointError

PERIOD_S = 60
HIGH_RESOLUTION_KEPT_S = 3 * 3600.0 - 60.0
SETTLE_S = 120.0
"""The newest minutes are still being counted; sums of them are too low."""

INVOCATION_NAMESPACE = "AWS/SageMaker"
BAD_STATUS = {"Forbidden", "InternalError"}


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """One statistic of one metric, oldest first; minutes without data are left out.

    ``unit`` is AWS's: ``Percent`` of one core (0 to 100 x vCPU for CPU), ``Microseconds``, or
    ``Count``.
    """

    metric: str
    statistic: str
    unit: str
    period_s: int
    at_unix_s: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Mean over the periods, or None without any."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def largest(self) -> float | None:
        """Largest period, or None without any."""
        return max(self.values, default=None)

    @property
    def total(self) -> float | None:
        """Sum over the periods, or None without any."""
        return math.fsum(self.values) if self.values else None


@dataclass(frozen=True, slots=True)
class Utilization:
    """What CloudWatch knows of a stretch of time; a series is empty where AWS has no data."""

    start_unix_s: float
    end_unix_s: float
    cpu_percent: MetricSeries
    memory_percent: MetricSeries
    gpu_percent: MetricSeries
    gpu_memory_percent: MetricSeries
    model_latency_us: MetricSeries
    overhead_latency_us: MetricSeries
    invocations: MetricSeries


QUERIES: tuple[tuple[str, str, str, str, str], ...] = (
    ("cpu_percent", INSTANCE_NAMESPACE, "CPUUtilization", "Average", "Percent"),
    ("memory_percent", INSTANCE_NAMESPACE, "MemoryUtilization", "Average", "Percent"),
    ("gpu_percent", INSTANCE_NAMESPACE, "GPUUtilization", "Average", "Percent"),
    ("gpu_memory_percent", INSTANCE_NAMESPACE, "GPUMemoryUtilization", "Average", "Percent"),
    ("model_latency_us", INVOCATION_NAMESPACE, "ModelLatency", "Average", "Microseconds"),
    ("overhead_latency_us", INVOCATION_NAMESPACE, "OverheadLatency", "Average", "Microseconds"),
    ("invocations", INVOCATION_NAMESPACE, "Invocations", "Sum", "Count"),
)


def read_utilization(
    aws: Aws,
    endpoint: str,
    variant: str,
    start_unix_s: float,
    end_unix_s: float,
    period_s: int = PERIOD_S,
) -> Utilization:
    """The whole minutes between two times; a part of a minute would mix in other load.

    ``period_s`` is shorter only for an emulator on a faster clock.

    Raises
    ------
    EndpointError
        If there is no whole minute between them, or AWS refuses.
    """
    start = math.ceil(start_unix_s / period_s) * period_s
    end = math.floor(end_unix_s / period_s) * period_s
    if end <= start:
        raise EndpointError(
            "there is no whole minute to read CloudWatch for",
            value=f"{start_unix_s:.0f} to {end_unix_s:.0f}",
            allowed="a stretch that covers at least one minute of the clock",
            hint="use stages of 120 s or longer",
        )
    queries = {
        key: metric_query(namespace, metric, statistic, endpoint, variant, period_s)
        for key, namespace, metric, statistic, _ in QUERIES
    }
    data = metric_data(aws, queries, float(start), float(end))
    series = {
        key: MetricSeries(metric, statistic, unit, period_s, *data[key])
        for key, _, metric, statistic, unit in QUERIES
    }
    return Utilization(float(start), float(end), **series)


SIGNALS = {
    ScalingMetric.CONCURRENCY: (INVOCATION_NAMESPACE, "Count"),
    **dict.fromkeys(CUSTOMIZED_METRICS, (INSTANCE_NAMESPACE, "Percent")),
}
"""What a scaling policy may follow besides invocations: its namespace and unit."""


def read_signal_series(
    aws: Aws,
    endpoint: str,
    variant: str,
    start_unix_s: float,
    end_unix_s: float,
    *,
    now_unix_s: float,
) -> dict[ScalingMetric, MetricSeries]:
    """Each of ``SIGNALS`` in the statistic and period that a policy's alarm reads.

    A series is empty where AWS has no data, as of GPUs on an instance without. Datapoints of
    ten seconds are kept for three hours: older ones are left out.

    Raises
    ------
    EndpointError
        If AWS refuses.
    """
    start = math.floor(start_unix_s / PERIOD_S) * PERIOD_S
    end = math.ceil(end_unix_s / PERIOD_S) * PERIOD_S
    found = {}
    for metric, (namespace, unit) in SIGNALS.items():
        read = metric.alarm
        query = metric_query(namespace, read.name, read.statistic, endpoint, variant, read.period_s)
        since = float(start)
        if read.period_s < PERIOD_S:
            kept = now_unix_s - HIGH_RESOLUTION_KEPT_S
            since = max(since, math.ceil(kept / PERIOD_S) * PERIOD_S)
        points: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
        if since < end:
            points = metric_data(aws, {metric.value: query}, since, float(end))[metric.value]
        found[metric] = MetricSeries(read.name, read.statistic, unit, read.period_s, *points)
    return found


def metric_query(
    namespace: str,
    metric: str,
    statistic: str,
    endpoint: str,
    variant: str,
    period_s: int = PERIOD_S,
) -> dict[str, Any]:
    """A ``MetricStat``; both dimensions, since one alone matches nothing."""
    return {
        "Metric": {
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": [
                {"Name": "EndpointName", "Value": endpoint},
                {"Name": "VariantName", "Value": variant},
            ],
        },
        "Period": period_s,
        "Stat": statistic,
    }


def metric_data(
    aws: Aws,
    queries: Mapping[str, Mapping[str, Any]],
    start_unix_s: float,
    end_unix_s: float,
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Times and values under each key, oldest first, all pages together.

    Raises
    ------
    EndpointError
        If AWS refuses the call or says that a result is wrong.
    """
    ids = {f"q{i}": key for i, key in enumerate(queries)}
    arguments: dict[str, Any] = {
        "MetricDataQueries": [
            {"Id": name, "MetricStat": queries[key], "ReturnData": True}
            for name, key in ids.items()
        ],
        "StartTime": datetime.fromtimestamp(start_unix_s, UTC),
        "EndTime": datetime.fromtimestamp(end_unix_s, UTC),
        "ScanBy": "TimestampAscending",
    }
    points: dict[str, dict[float, float]] = {key: {} for key in queries}
    paginator = aws.client("cloudwatch").get_paginator("get_metric_data")
    try:
        for page in paginator.paginate(**arguments):
            _take(page["MetricDataResults"], ids, points)
    except (boto_errors.ClientError, boto_errors.BotoCoreError) as error:
        raise map_error(error, "get_metric_data") from error
    return {key: _columns(found) for key, found in points.items()}


def _take(
    results: Sequence[Mapping[str, Any]],
    ids: Mapping[str, str],
    points: dict[str, dict[float, float]],
) -> None:
    for result in results:
        if result.get("StatusCode") in BAD_STATUS:
            raise AwsError(
                f"CloudWatch could not read a metric: {result['StatusCode']}",
                code=result["StatusCode"],
                operation="GetMetricData",
                transient=result["StatusCode"] == "InternalError",
            )
        times = (moment.timestamp() for moment in result["Timestamps"])
        points[ids[result["Id"]]].update(zip(times, result["Values"], strict=True))


def _columns(found: Mapping[float, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    times = tuple(sorted(found))
    return times, tuple(found[t] for t in times)
