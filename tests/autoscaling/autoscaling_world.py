"""An endpoint in made-up time around one scalable target."""

from __future__ import annotations

from collections.abc import Callable

from tuner.autoscaling.activity import ScalingActivity
from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.autoscaling.target import ScalableTarget

RESOURCE = "endpoint/demo/variant/AllTraffic"
INVOCATIONS = ScalingMetric.INVOCATIONS


def tracking(target_value: float = 1000.0, **fields: object) -> TargetTrackingPolicy:
    settings: dict[str, object] = {"scale_out_cooldown_s": 0, "scale_in_cooldown_s": 0, **fields}
    metric = settings.pop("metric", INVOCATIONS)
    return TargetTrackingPolicy(metric, target_value, **settings)  # type: ignore[arg-type]


class World:
    """Requests per minute in, instance counts out; instances arrive ``lag_s`` after the order."""

    def __init__(
        self,
        *policies: TargetTrackingPolicy,
        count: int = 4,
        bounds: tuple[int, int] = (1, 50),
        lag_s: float = 0.0,
    ) -> None:
        self.target = ScalableTarget(RESOURCE, CapacityBounds(*bounds))
        for i, policy in enumerate(policies):
            self.target.put_policy(0.0, f"p{i}", policy)
        self.now_s = 0.0
        self.desired = self.in_service = count
        self.lag_s = lag_s
        self.ready_s: float | None = None
        self.updating = False

    @property
    def minute(self) -> int:
        return round(self.now_s / 60.0)

    def settle(self) -> None:
        """Instances whose lag is over take traffic; their activity is successful."""
        if self.ready_s is not None and self.now_s >= self.ready_s:
            self.in_service = self.desired
            running = self.target.in_progress
            if running is not None:
                self.target.finish(running.activity_id, self.ready_s)
            self.ready_s = None

    def order(self, count: int) -> None:
        if count < self.in_service:
            self.in_service = count
        self.desired = count
        self.ready_s = self.now_s + (self.lag_s if count > self.in_service else 0.0)
        self.settle()

    def set_by_hand(self, count: int) -> None:
        self.desired = self.in_service = count

    def minutes(
        self, number: int, requests: float | None, metric: ScalingMetric = INVOCATIONS
    ) -> list[ScalingActivity]:
        """Let minutes pass under this load (None: no datapoint); activities begun."""
        return self.run(number, lambda n: None if requests is None else requests / n, metric=metric)

    def run(
        self,
        periods: int,
        value: Callable[[int], float | None],
        *,
        metric: ScalingMetric = INVOCATIONS,
        period_s: float = 60.0,
    ) -> list[ScalingActivity]:
        begun = []
        for _ in range(periods):
            counted = self.in_service
            self.now_s += period_s
            self.settle()
            self.target.observe(self.now_s, metric, value(counted), counted)
            busy = self.updating or self.in_service < self.desired
            activity = self.target.evaluate(self.now_s, self.desired, updating=busy)
            if activity is not None:
                begun.append(activity)
                self.order(activity.desired)
        return begun

    def reasons(self) -> list[str]:
        """Codes of what was evaluated and did not scale, oldest first."""
        shown = self.target.activities(include_not_scaled=True)
        return [r.code.value for a in reversed(shown) for r in a.not_scaled]
