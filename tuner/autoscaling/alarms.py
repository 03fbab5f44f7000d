"""The two alarms that a target-tracking policy keeps."""

from __future__ import annotations

import math
import uuid

import numpy as np

from tuner.autoscaling import kernel
from tuner.autoscaling.activity import Alarm, AlarmState
from tuner.autoscaling.policy import ScalingMetric, TargetTrackingPolicy


class PolicyAlarms:
    """AlarmHigh (3 of 3) and AlarmLow (15 of 15 below 0.9 x target) of one policy.

    The high alarm of a high-resolution metric counts 10 s datapoints. Scale-in is no faster
    than with a standard metric, so the low alarm counts whole minutes (their Maximum).
    """

    def __init__(
        self, resource_id: str, policy_name: str, policy: TargetTrackingPolicy, now_s: float
    ) -> None:
        self.policy = policy
        self.policy_name = policy_name
        self._resource_id = resource_id
        self._runs = np.zeros((2, 1), np.uint8)
        self._states = [AlarmState.INSUFFICIENT_DATA, AlarmState.INSUFFICIENT_DATA]
        self._updated_s = [now_s, now_s]
        self._minute: int | None = None
        self._minute_values: list[float] = []
        self._last = (math.nan, 0.0)

    @property
    def high(self) -> bool:
        """Whether AlarmHigh is in state ALARM."""
        return self._states[0] is AlarmState.ALARM

    @property
    def low(self) -> bool:
        """Whether AlarmLow is in state ALARM."""
        return self._states[1] is AlarmState.ALARM

    @property
    def wanted(self) -> float:
        """Capacity the last datapoint asks for; NaN when it is missing."""
        value, capacity = self._last
        return float(kernel.wanted_capacity(capacity, value, self.policy.target_value))

    def observe(self, now_s: float, value: float, capacity: float) -> None:
        """One datapoint; NaN is missing data and returns the alarms to INSUFFICIENT_DATA."""
        self._last = (value, capacity)
        self._count(0, now_s, value)
        if self.policy.metric is not ScalingMetric.CONCURRENCY:
            self._count(1, now_s, value)
            return
        # A datapoint published at the full minute closes that minute.
        minute = math.ceil(now_s / kernel.STANDARD_PERIOD_S - 1e-9)
        if self._minute is not None and minute != self._minute:
            known = [v for v in self._minute_values if not math.isnan(v)]
            self._count(1, now_s, max(known, default=math.nan))
            self._minute_values = []
        self._minute = minute
        self._minute_values.append(value)

    def _count(self, which: int, now_s: float, value: float) -> None:
        limit = (kernel.OUT_DATAPOINTS, kernel.IN_DATAPOINTS)[which]
        breaching = kernel.breaches(np.array([value]), self.policy.target_value)[which]
        kernel.count_run(self._runs[which], breaching, limit)
        if math.isnan(value):
            state = AlarmState.INSUFFICIENT_DATA
        else:
            state = AlarmState.ALARM if self._runs[which, 0] >= limit else AlarmState.OK
        if state is not self._states[which]:
            self._states[which] = state
            self._updated_s[which] = now_s

    def name(self, *, high: bool) -> str:
        """The alarm's name, the same in every run."""
        side = "AlarmHigh" if high else "AlarmLow"
        base = f"TargetTracking-{self._resource_id}-{side}-"
        return base + str(uuid.uuid5(uuid.NAMESPACE_URL, base + self.policy_name))

    def describe(self) -> tuple[Alarm, Alarm]:
        """AlarmHigh and AlarmLow as CloudWatch shows them."""
        metric = self.policy.metric.alarm
        sides = (
            (
                "GreaterThanThreshold",
                self.policy.target_value,
                metric.period_s,
                kernel.OUT_DATAPOINTS,
            ),
            (
                "LessThanThreshold",
                kernel.IN_THRESHOLD * self.policy.target_value,
                kernel.STANDARD_PERIOD_S,
                kernel.IN_DATAPOINTS,
            ),
        )
        made = []
        for which, (comparison, threshold, period_s, periods) in enumerate(sides):
            state = self._states[which]
            run = int(self._runs[which, 0])
            text = (
                "no recent datapoints"
                if state is AlarmState.INSUFFICIENT_DATA
                else f"{run} of the last {periods} datapoints breached {threshold:g}"
            )
            made.append(
                Alarm(
                    self.name(high=which == 0),
                    self.policy_name,
                    metric.name,
                    metric.statistic,
                    comparison,
                    threshold,
                    period_s,
                    periods,
                    state,
                    text,
                    self._updated_s[which],
                )
            )
        return made[0], made[1]
