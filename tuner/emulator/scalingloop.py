"""The control loop of Application Auto Scaling: datapoints in, instance counts out."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.autoscaling.activity import Alarm, ScalingActivity, StatusCode
from tuner.autoscaling.policy import ScalingMetric
from tuner.emulator.account import Account
from tuner.emulator.endpoint import Endpoint, Variant
from tuner.emulator.errors import AwsError
from tuner.emulator.metrics import VariantMetrics
from tuner.emulator.scalable import Registered


class ScalingLoop:
    """Lets the policies of every scalable target act on its variant."""

    def __init__(self, account: Account, publish_delay_s: float) -> None:
        self._account = account
        self._delay_s = publish_delay_s
        self.targets: dict[str, Registered] = {}

    def alarms(self) -> Iterator[tuple[Registered, Alarm]]:
        """Every alarm that target tracking keeps."""
        for found in self.targets.values():
            for alarm in found.target.alarms():
                yield found, alarm

    def tick(self, now_s: float) -> None:
        """Publish datapoints that are due, and let schedules and policies act (control time)."""
        for found in list(self.targets.values()):
            endpoint = self._account.endpoints.get(found.endpoint)
            if endpoint is None or found.variant not in endpoint.variants:
                del self.targets[found.resource_id]
                continue
            variant = endpoint.variants[found.variant]
            self._finish(found, endpoint, now_s)
            moved = found.target.run_schedule(now_s, variant.desired)
            if moved != variant.desired:
                found.pending_count = moved
            self.apply_pending(found)
            self._publish(found, variant.metrics, now_s)
            self._decide(found, endpoint, variant, now_s)

    def _finish(self, found: Registered, endpoint: Endpoint, now_s: float) -> None:
        activity = found.target.in_progress
        if activity is None or endpoint.status != "InService":
            return
        failed = endpoint.failure_reason is not None
        found.target.finish(
            activity.activity_id,
            now_s,
            status=StatusCode.FAILED if failed else StatusCode.SUCCESSFUL,
            message=endpoint.failure_reason,
        )

    def apply_pending(self, found: Registered) -> None:
        """Set a count that bounds or a schedule ask for, once the endpoint can be changed."""
        endpoint = self._account.endpoints[found.endpoint]
        variant = endpoint.variants[found.variant]
        if found.pending_count == variant.desired:
            found.pending_count = None
        if found.pending_count is not None and endpoint.status == "InService":
            count, found.pending_count = found.pending_count, None
            endpoint.failure_reason = None
            self._account.set_counts(endpoint, {variant.name: count})

    def _publish(self, found: Registered, metrics: VariantMetrics, now_s: float) -> None:
        for metric in {p.metric for p in found.policies.values() if p.metric is not None}:
            alarm = metric.alarm
            period_s = alarm.period_s
            last = int((now_s - self._delay_s) // period_s) - 1
            first = found.seen.get(metric, last - 1) + 1
            for index in range(first, last + 1):
                seen = metrics.get(alarm.name, index)
                value = None
                if seen is not None:
                    value = {
                        "Sum": seen.sum,
                        "Maximum": seen.maximum,
                        "Average": seen.total / seen.count,
                    }[alarm.statistic]
                minute = index * period_s // 60
                capacity = metrics.capacity(minute)
                if metric is ScalingMetric.INVOCATIONS:
                    capacity = metrics.served_by(minute) or capacity
                found.target.observe(now_s, metric, value, capacity)
                found.seen[metric] = index

    def _decide(
        self, found: Registered, endpoint: Endpoint, variant: Variant, now_s: float
    ) -> None:
        activity = found.target.evaluate(
            now_s, variant.desired, updating=endpoint.status != "InService"
        )
        if activity is not None:
            self._order(found, endpoint, variant, activity, now_s)

    def trigger_step(self, policy_arn: str, breach: float, now_s: float) -> None:
        """An alarm of the account fires a step policy."""
        for found in self.targets.values():
            for policy in found.policies.values():
                if policy.arn == policy_arn and policy.kind == "StepScaling":
                    endpoint = self._account.endpoints[found.endpoint]
                    variant = endpoint.variants[found.variant]
                    activity = found.target.trigger_step(
                        now_s,
                        policy.name,
                        breach,
                        variant.desired,
                        updating=endpoint.status != "InService",
                    )
                    if activity is not None:
                        self._order(found, endpoint, variant, activity, now_s)

    def _order(
        self,
        found: Registered,
        endpoint: Endpoint,
        variant: Variant,
        activity: ScalingActivity,
        now_s: float,
    ) -> None:
        try:
            kind = variant.config["InstanceType"]
            self._account.check_quota(kind, activity.desired - variant.desired)
        except AwsError as error:
            text = f"Failed to set desired instance count to {activity.desired}. Reason: {error}"
            found.target.finish(activity.activity_id, now_s, status=StatusCode.FAILED, message=text)
            return
        endpoint.failure_reason = None
        self._account.set_counts(endpoint, {variant.name: activity.desired})
