"""CloudWatch: metric queries and alarms over the variants' recorders."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tuner.autoscaling.activity import AlarmState
from tuner.emulator.account import Account
from tuner.emulator.errors import AwsError
from tuner.emulator.metricmath import LONGEST_EXPRESSION, evaluate
from tuner.emulator.metrics import GPU_NAMES, METRICS, MODEL_NAMES, Statistics, VariantMetrics
from tuner.emulator.params import Params
from tuner.emulator.scalingloop import ScalingLoop

Json = dict[str, Any]

PLAIN = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda v, t: v > t,
    "GreaterThanOrEqualToThreshold": lambda v, t: v >= t,
    "LessThanThreshold": lambda v, t: v < t,
    "LessThanOrEqualToThreshold": lambda v, t: v <= t,
}
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
MOST_POINTS = 100_800


def statistic(stat: str, values: Statistics) -> float:
    """One statistic of the values of a period.

    Raises
    ------
    AwsError
        If there is no such statistic.
    """
    if stat == "SampleCount":
        return float(values.count)
    if stat == "Average":
        return values.total / values.count
    if stat == "Sum":
        return values.sum
    if stat == "Minimum":
        return values.minimum
    if stat == "Maximum":
        return values.maximum
    match = _PERCENTILE.fullmatch(stat)
    if match is None:
        raise _invalid(f"The value {stat} for parameter Stat is not supported.")
    return values.percentile(float(match[1]) / 100.0)


def _label(query: Params) -> str:
    """The metric's name, or an expression's id."""
    stat = query.structure("MetricStat")
    metric = None if stat is None else stat.structure("Metric")
    return query.text("Id") if metric is None else metric.text("MetricName")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValue", message)


@dataclass(slots=True)
class UserAlarm:
    """An alarm the user put."""

    config: Json
    stat: str
    period_s: int
    state: AlarmState
    updated_unix_s: float
    evaluated: int = -1
    reason: str = "Unchecked: Initial alarm creation"
    actions: list[str] = field(default_factory=list)


class CloudWatch:
    """Operations by name, and `tick`, which evaluates the user's alarms."""

    def __init__(self, account: Account, loop: ScalingLoop, publish_delay_s: float) -> None:
        self._account = account
        self._loop = loop
        self._delay_s = publish_delay_s
        self._alarms: dict[str, UserAlarm] = {}
        account.alarm_state = self.state_of
        self.operations: dict[str, Callable[[Params], Json | None]] = {
            "GetMetricData": self._get_metric_data,
            "GetMetricStatistics": self._get_metric_statistics,
            "ListMetrics": self._list_metrics,
            "DescribeAlarms": self._describe_alarms,
            "PutMetricAlarm": self._put_alarm,
            "DeleteAlarms": self._delete_alarms,
        }

    # -- metrics --------------------------------------------------------------------------

    def _recorder(
        self, namespace: str, name: str, dimensions: list[Params]
    ) -> VariantMetrics | None:
        """The recorder of a metric; CloudWatch matches the exact set of dimensions."""
        kind = METRICS.get(name)
        given = {d.text("Name"): d.text("Value") for d in dimensions}
        if kind is None or kind.namespace != namespace:
            return None
        config = given.pop("EndpointConfigName", None)
        if set(given) != {"EndpointName", "VariantName"}:
            return None
        endpoint = self._account.endpoints.get(given["EndpointName"])
        if endpoint is None:
            return None
        variants = endpoint.variants if config is None else endpoint.variants_of(config)
        variant = variants.get(given["VariantName"])
        if variant is None:
            return None
        return variant.metrics if config is None else variant.own or variant.metrics

    def _points(
        self, recorder: VariantMetrics, name: str, period_s: int, start: float, end: float
    ) -> list[tuple[float, Statistics]]:
        """(wall-clock start, values) of each period in [start, end) that is published."""
        clock = self._account.clock
        base = METRICS[name].period_s
        low, high = clock.control_s(start), clock.control_s(end)
        high = min(high, clock.now_control_s() - self._delay_s - base + 1e-6)
        if not low < high:
            return []
        first = int(low // period_s) * period_s // base
        found: dict[int, Statistics] = {}
        for index, values in recorder.between(name, first, math.ceil(high / base) - 1):
            period = index * base // period_s
            found.setdefault(period, Statistics()).merge(values)
        return [(clock.unix_s(k * period_s), v) for k, v in sorted(found.items())]

    def _period(self, params: Params, name: str) -> int:
        period = params.integer("Period", low=1, high=86_400)
        base = METRICS[name].period_s if name in METRICS else 60
        if period % 60 and period not in (1, 5, 10, 20, 30):
            raise _invalid("Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
        return max(period, base)

    def _range(self, params: Params) -> tuple[float, float]:
        start, end = params.number("StartTime"), params.number("EndTime")
        if not start < end:
            raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
        return start, end

    def _get_metric_statistics(self, params: Params) -> Json:
        namespace, name = params.text("Namespace"), params.text("MetricName")
        start, end = self._range(params)
        period = self._period(params, name)
        stats = params.texts("Statistics")
        extended = params.texts("ExtendedStatistics")
        if not stats and not extended:
            raise AwsError(
                "MissingParameter", "At least one of Statistics and ExtendedStatistics is needed."
            )
        if unknown := [s for s in stats if s not in PLAIN]:
            raise _invalid(f"The value {unknown[0]} for parameter Statistics is not supported.")
        recorder = self._recorder(namespace, name, params.structures("Dimensions"))
        points = [] if recorder is None else self._points(recorder, name, period, start, end)
        rows = []
        for time_s, values in points:
            row: Json = {"Timestamp": time_s, "Unit": METRICS[name].unit}
            row |= {s: statistic(s, values) for s in stats}
            if extended:
                row["ExtendedStatistics"] = {s: statistic(s, values) for s in extended}
            rows.append(row)
        return {"Label": name, "Datapoints": rows}

    def _get_metric_data(self, params: Params) -> Json:
        start, end = self._range(params)
        order = params.choice(
            "ScanBy", ("TimestampDescending", "TimestampAscending"), "TimestampDescending"
        )
        most = params.integer("MaxDatapoints", MOST_POINTS, low=1, high=MOST_POINTS)
        queries = params.structures("MetricDataQueries", required=True)
        if not 1 <= len(queries) <= 500:
            raise _invalid("MetricDataQueries must have between 1 and 500 members.")
        series = self._series_of(queries, start, end)
        results = []
        for query in queries:
            if not query.flag("ReturnData", True):
                continue
            query_id = query.text("Id")
            pairs = sorted(series[query_id].items())[:most]
            if order == "TimestampDescending":
                pairs.reverse()
            results.append(
                {
                    "Id": query_id,
                    "Label": query.maybe_text("Label") or _label(query),
                    "Timestamps": [t for t, _ in pairs],
                    "Values": [v for _, v in pairs],
                    "StatusCode": "Complete",
                }
            )
        return {"MetricDataResults": results, "Messages": []}

    def _series_of(
        self, queries: list[Params], start: float, end: float
    ) -> dict[str, dict[float, float]]:
        """Each query's values by time; expressions may use those before them."""
        series: dict[str, dict[float, float]] = {}
        periods: dict[str, float] = {}
        for query in sorted(queries, key=lambda q: q.has("Expression")):
            query_id = query.text("Id", pattern=r"[a-z][a-zA-Z0-9_]*", longest=255)
            if query_id in series:
                raise _invalid(f"The value {query_id} for parameter Id is used twice.")
            stat = query.structure("MetricStat")
            if (stat is None) is not query.has("Expression"):
                raise _invalid("A MetricDataQuery has either a MetricStat or an Expression.")
            if stat is None:
                expression = query.text("Expression", longest=LONGEST_EXPRESSION)
                series[query_id] = evaluate(query_id, expression, series, periods)
                continue
            metric = stat.structure("Metric") or Params({})
            namespace, name = metric.text("Namespace"), metric.text("MetricName")
            period, which = self._period(stat, name), stat.text("Stat")
            recorder = self._recorder(namespace, name, metric.structures("Dimensions"))
            points = [] if recorder is None else self._points(recorder, name, period, start, end)
            series[query_id] = {t: statistic(which, v) for t, v in points}
            periods[query_id] = float(period)
        return series

    def _list_metrics(self, params: Params) -> Json:
        namespace, wanted = params.maybe_text("Namespace"), params.maybe_text("MetricName")
        rows = [
            {
                "Namespace": kind.namespace,
                "MetricName": name,
                "Dimensions": [
                    {"Name": "EndpointName", "Value": endpoint.name},
                    {"Name": "VariantName", "Value": variant},
                ],
            }
            for endpoint in self._account.endpoints.values()
            for variant, serving in endpoint.variants.items()
            for name, kind in METRICS.items()
            if (name not in MODEL_NAMES or serving.spec.fleet.instance.models is not None)
            and (name not in GPU_NAMES or serving.spec.fleet.instance.meters.gpus)
            and namespace in (None, kind.namespace)
            and wanted in (None, name)
        ]
        return {"Metrics": rows}

    # -- alarms ---------------------------------------------------------------------------

    def _put_alarm(self, params: Params) -> None:
        name = params.text("AlarmName", longest=255)
        params.choice("ComparisonOperator", tuple(COMPARISONS))
        params.integer("EvaluationPeriods", low=1, high=1440)
        params.integer("DatapointsToAlarm", 1, low=1, high=1440)
        params.number("Threshold")
        metric = params.text("MetricName")
        params.text("Namespace")
        params.structures("Dimensions")
        stat = params.maybe_text("ExtendedStatistic") or params.choice("Statistic", PLAIN)
        statistic(stat, _probe())
        self._alarms[name] = UserAlarm(
            params.data,
            stat,
            self._period(params, metric),
            AlarmState.INSUFFICIENT_DATA,
            self._account.clock.now_unix_s(),
            actions=params.texts("AlarmActions"),
        )

    def _delete_alarms(self, params: Params) -> None:
        names = params.texts("AlarmNames")
        if missing := [n for n in names if n not in self._alarms]:
            raise AwsError("ResourceNotFound", f"Alarm {missing[0]} does not exist.", 404)
        for name in names:
            del self._alarms[name]

    def _describe_alarms(self, params: Params) -> Json:
        names, prefix = params.texts("AlarmNames"), params.maybe_text("AlarmNamePrefix")
        state = params.maybe_text("StateValue")
        rows = [*self._tracking_alarms(), *self._user_alarms()]
        rows = [
            r
            for r in sorted(rows, key=lambda r: r["AlarmName"])
            if (not names or r["AlarmName"] in names)
            and (prefix is None or r["AlarmName"].startswith(prefix))
            and state in (None, r["StateValue"])
        ]
        return {"MetricAlarms": rows, "CompositeAlarms": []}

    def _tracking_alarms(self) -> list[Json]:
        rows = []
        for found, alarm in self._loop.alarms():
            policy = found.policies[alarm.policy_name]
            updated = self._account.clock.unix_s(alarm.updated_s)
            rows.append(
                {
                    "AlarmName": alarm.name,
                    "AlarmArn": self._account.alarm_arn(alarm.name),
                    "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy "
                    f"{policy.arn}.",
                    "ActionsEnabled": True,
                    "OKActions": [],
                    "AlarmActions": [policy.arn],
                    "InsufficientDataActions": [],
                    "StateValue": alarm.state.value,
                    "StateReason": alarm.state_reason,
                    "StateUpdatedTimestamp": updated,
                    "AlarmConfigurationUpdatedTimestamp": policy.created_unix_s,
                    "Namespace": METRICS[alarm.metric].namespace,
                    "MetricName": alarm.metric,
                    "Statistic": alarm.statistic,
                    "Dimensions": [
                        {"Name": "EndpointName", "Value": found.endpoint},
                        {"Name": "VariantName", "Value": found.variant},
                    ],
                    "Period": alarm.period_s,
                    "EvaluationPeriods": alarm.evaluation_periods,
                    "Threshold": alarm.threshold,
                    "ComparisonOperator": alarm.comparison,
                }
            )
        return rows

    def _user_alarms(self) -> list[Json]:
        return [
            {
                **alarm.config,
                "AlarmArn": self._account.alarm_arn(name),
                "ActionsEnabled": bool(alarm.config.get("ActionsEnabled", True)),
                "StateValue": alarm.state.value,
                "StateReason": alarm.reason,
                "StateUpdatedTimestamp": alarm.updated_unix_s,
            }
            for name, alarm in self._alarms.items()
        ]

    def state_of(self, name: str) -> AlarmState | None:
        """The state of an alarm of the user's; None when there is none of this name."""
        alarm = self._alarms.get(name)
        return None if alarm is None else alarm.state

    def forget_policy(self, policy_arn: str) -> None:
        """A scaling policy is gone: no alarm fires it any more."""
        for alarm in self._alarms.values():
            alarm.actions = [a for a in alarm.actions if a != policy_arn]

    def tick(self, now_s: float) -> None:
        """Evaluate the user's alarms once per period of theirs (control time)."""
        for alarm in self._alarms.values():
            newest = int((now_s - self._delay_s) // alarm.period_s) - 1
            if newest > alarm.evaluated:
                alarm.evaluated = newest
                self._evaluate(alarm, newest, now_s)

    def _evaluate(self, alarm: UserAlarm, newest: int, now_s: float) -> None:
        params = Params(alarm.config)
        name = params.text("MetricName")
        recorder = self._recorder(params.text("Namespace"), name, params.structures("Dimensions"))
        window = params.integer("EvaluationPeriods")
        needed = params.integer("DatapointsToAlarm", window)
        clock = self._account.clock
        start = clock.unix_s((newest - window + 1) * alarm.period_s)
        end = clock.unix_s((newest + 1) * alarm.period_s)
        points = (
            []
            if recorder is None
            else self._points(recorder, name, alarm.period_s, start, end)[-window:]
        )
        threshold = params.number("Threshold")
        beyond = COMPARISONS[params.text("ComparisonOperator")]
        values = [statistic(alarm.stat, v) for _, v in points]
        breaching = [v for v in values if beyond(v, threshold)]
        state = AlarmState.OK
        if not values:
            state = AlarmState.INSUFFICIENT_DATA
        elif len(breaching) >= needed:
            state = AlarmState.ALARM
        if state is not alarm.state:
            alarm.state = state
            alarm.updated_unix_s = clock.now_unix_s()
        alarm.reason = f"{len(breaching)} of the last {window} datapoints breached {threshold:g}"
        if state is AlarmState.ALARM and params.flag("ActionsEnabled", True):
            for action in alarm.actions:
                self._loop.trigger_step(action, values[-1] - threshold, now_s)


def _probe() -> Statistics:
    """One value, to ask whether a statistic exists."""
    values = Statistics()
    values.add_binned(1.0)
    return values
