"""One scalable target with its policies, alarms, schedules and activities.

A thin shell around the array rules of `kernel` for one lane. It keeps no clock: every call
brings the time (seconds; an accelerated emulator passes accelerated seconds). The owner of
the fleet calls `observe` when a datapoint is published, `evaluate` afterwards, changes the
fleet when an activity comes back, and reports its end with `finish`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tuner.autoscaling import kernel
from tuner.autoscaling.activity import (
    Alarm,
    NotScaledCode,
    NotScaledReason,
    ScalingActivity,
    StatusCode,
    SuspendedState,
)
from tuner.autoscaling.alarms import PolicyAlarms
from tuner.autoscaling.history import ActivityHistory
from tuner.autoscaling.kernel import Reason
from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.autoscaling.schedule import Schedule, parse_schedule
from tuner.autoscaling.step import StepScalingPolicy
from tuner.errors import InputError

_NOT_SCALED = {
    Reason.ALREADY_AT_MAX: NotScaledCode.AT_MAX,
    Reason.ALREADY_AT_MIN: NotScaledCode.AT_MIN,
    Reason.ALREADY_AT_DESIRED: NotScaledCode.AT_DESIRED,
    Reason.ANTICIPATED_FLAPPING: NotScaledCode.ANTICIPATED_FLAPPING,
    Reason.UPDATING: NotScaledCode.UNSCALABLE,
}


@dataclass(frozen=True, slots=True)
class ScheduledAction:
    """A change of the bounds on a schedule; None leaves a bound alone."""

    name: str
    schedule: Schedule
    min_capacity: int | None = None
    max_capacity: int | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(slots=True)
class _Pending:
    """The activity that is running, and the cooldown it starts when it succeeds."""

    activity: ScalingActivity
    cooldown_s: float | None
    scale_out: bool


class ScalableTarget:
    """Policies on one variant's ``DesiredInstanceCount``.

    Parameters
    ----------
    resource_id
        ``endpoint/NAME/variant/VARIANT``; names the alarms.
    bounds
        ``MinCapacity`` and ``MaxCapacity``.
    """

    def __init__(self, resource_id: str, bounds: CapacityBounds) -> None:
        self.resource_id = resource_id
        self.bounds = bounds
        self.suspended = SuspendedState()
        self._policies: dict[str, TargetTrackingPolicy | StepScalingPolicy] = {}
        self._alarms: dict[str, PolicyAlarms] = {}
        self._actions: dict[str, tuple[ScheduledAction, float | None]] = {}
        self._history = ActivityHistory(resource_id)
        self._pending: _Pending | None = None
        self._cooldowns = kernel.Cooldowns.none(1)
        self._fresh = False

    # -- what is registered --------------------------------------------------------------

    @property
    def policies(self) -> dict[str, TargetTrackingPolicy | StepScalingPolicy]:
        """Policies by name."""
        return dict(self._policies)

    @property
    def scheduled_actions(self) -> tuple[ScheduledAction, ...]:
        """Scheduled actions by name."""
        return tuple(action for action, _ in self._actions.values())

    def register(self, now_s: float, bounds: CapacityBounds, capacity: int) -> int:
        """Set the bounds; returns the capacity moved inside them (cooldowns play no part)."""
        self.bounds = bounds
        moved = min(max(capacity, bounds.min_capacity), bounds.max_capacity)
        if moved != capacity:
            self._history.done(
                now_s,
                moved,
                capacity,
                "scalable target was registered or updated with new capacity bounds",
            )
        return moved

    def put_policy(
        self, now_s: float, name: str, policy: TargetTrackingPolicy | StepScalingPolicy
    ) -> tuple[Alarm, ...]:
        """Create or replace a policy; returns the two alarms of a target-tracking policy.

        Raises
        ------
        InputError
            If another target-tracking policy already follows the same metric.
        """
        if isinstance(policy, TargetTrackingPolicy):
            rivals = [
                n
                for n, p in self._policies.items()
                if n != name and isinstance(p, TargetTrackingPolicy) and p.metric is policy.metric
            ]
            if rivals:
                raise InputError(
                    f"policy {rivals[0]} already tracks this metric",
                    value=policy.metric.value,
                    allowed="one target-tracking policy per metric on a scalable target",
                )
            old = self._alarms.get(name)
            if old is None or old.policy != policy:
                self._alarms[name] = PolicyAlarms(self.resource_id, name, policy, now_s)
        self._policies[name] = policy
        return self._alarms[name].describe() if name in self._alarms else ()

    def delete_policy(self, name: str) -> None:
        """Remove a policy and its alarms.

        Raises
        ------
        KeyError
            If there is no such policy.
        """
        del self._policies[name]
        self._alarms.pop(name, None)

    def put_scheduled_action(
        self,
        now_s: float,
        name: str,
        expression: str,
        *,
        timezone: str = "UTC",
        min_capacity: int | None = None,
        max_capacity: int | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> ScheduledAction:
        """Create or replace a scheduled action.

        Raises
        ------
        InputError
            If the expression or time zone is not understood, or neither bound is given.
        """
        if min_capacity is None and max_capacity is None:
            raise InputError("a scheduled action must change MinCapacity or MaxCapacity")
        anchor_s = now_s if start_s is None else start_s
        schedule = parse_schedule(expression, timezone, anchor_s=anchor_s)
        action = ScheduledAction(name, schedule, min_capacity, max_capacity, start_s, end_s)
        after_s = now_s if start_s is None else max(now_s, start_s - 1e-6)
        self._actions[name] = (action, schedule.next_after(after_s))
        return action

    def delete_scheduled_action(self, name: str) -> None:
        """Remove a scheduled action.

        Raises
        ------
        KeyError
            If there is no such action.
        """
        del self._actions[name]

    # -- the loop ------------------------------------------------------------------------

    def observe(
        self, now_s: float, metric: ScalingMetric, value: float | None, measured_capacity: float
    ) -> None:
        """Publish one datapoint of a metric.

        ``value`` None or NaN is a missing datapoint. ``measured_capacity`` is the mean number
        of instances in service while it was measured. Concurrency comes every 10 s, the
        others every 60 s.
        """
        number = float("nan") if value is None else value
        for alarms in self._alarms.values():
            if alarms.policy.metric is metric:
                alarms.observe(now_s, number, measured_capacity)
                self._fresh = True

    def evaluate(self, now_s: float, capacity: int, *, updating: bool) -> ScalingActivity | None:
        """Act on the datapoints observed since the last call; the new activity, if any.

        ``capacity`` is the desired count, ``updating`` whether the endpoint is updating for
        any reason. The fleet's owner changes the count to ``activity.desired``.
        """
        if not self._fresh or not self._alarms:
            self._fresh = False
            return None
        self._fresh = False
        names = list(self._alarms)
        alarms = list(self._alarms.values())
        high = np.array([[a.high] for a in alarms])
        low = np.array([[a.low] for a in alarms])
        count = np.array([capacity], dtype=np.int64)
        busy = np.array([updating or self._pending is not None])
        rules = self._rules()
        wanted = np.array([[a.wanted] for a in alarms])
        moves = kernel.decide(now_s, high, low, wanted, count, busy, self._cooldowns, rules)
        reason = Reason(int(kernel.explain(moves, high, low, count, busy, rules)[0]))
        name = names[int(moves.policy[0])]
        policy = self._alarms[name].policy
        desired = int(moves.desired[0])
        if reason is Reason.SCALE_OUT:
            return self._start(now_s, name, desired, capacity, policy.scale_out_cooldown_s)
        if reason is Reason.SCALE_IN:
            return self._start(now_s, name, desired, capacity, policy.scale_in_cooldown_s)
        if reason in _NOT_SCALED:
            self._not_scaled(now_s, name, capacity, _NOT_SCALED[reason])
        return None

    def trigger_step(
        self, now_s: float, name: str, breach: float, capacity: int, *, updating: bool
    ) -> ScalingActivity | None:
        """Fire a step policy: its alarm breached by ``breach`` (datapoint - threshold).

        During the cooldown of a scale-out the instances already added count towards the
        next: after +2, a step of +3 adds one. A scale-in cooldown blocks only scale-in.
        """
        policy = self._policies[name]
        if not isinstance(policy, StepScalingPolicy):
            raise InputError("not a step scaling policy", value=name)
        goal = policy.adjusted(capacity, breach)
        if goal is None:
            return None
        if goal > capacity and now_s < self._cooldowns.out_until_s[0]:
            goal = max(capacity, goal - int(self._cooldowns.out_added[0]))
        goal = min(max(goal, self.bounds.min_capacity), self.bounds.max_capacity)
        if goal == capacity:
            return None
        stopped = (
            self.suspended.dynamic_scaling_out
            if goal > capacity
            else self.suspended.dynamic_scaling_in or now_s < self._cooldowns.in_until_s[0]
        )
        if stopped:
            return None
        if updating or self._pending is not None:
            self._not_scaled(now_s, name, capacity, NotScaledCode.UNSCALABLE)
            return None
        return self._start(now_s, name, goal, capacity, policy.cooldown_s)

    def run_schedule(self, now_s: float, capacity: int) -> int:
        """Apply every scheduled action due by ``now_s``; the capacity inside the new bounds.

        Cooldowns are neither respected nor started. A suspended schedule lets its firings
        pass.
        """
        due: list[tuple[float, str]] = []
        for name, (action, first_s) in self._actions.items():
            fires_s = first_s
            while fires_s is not None and fires_s <= now_s:
                if action.end_s is None or fires_s <= action.end_s:
                    due.append((fires_s, name))
                fires_s = action.schedule.next_after(fires_s)
            self._actions[name] = (action, fires_s)
        for fires_s, name in sorted(due):
            if not self.suspended.scheduled_scaling:
                capacity = self._apply(fires_s, self._actions[name][0], capacity)
        return capacity

    def finish(
        self,
        activity_id: str,
        now_s: float,
        *,
        status: StatusCode = StatusCode.SUCCESSFUL,
        message: str | None = None,
    ) -> None:
        """Report the end of an activity; a successful one starts its cooldown now."""
        pending = self._pending
        if pending is None or pending.activity.activity_id != activity_id:
            raise InputError("no such activity in progress", value=activity_id)
        self._pending = None
        activity = pending.activity
        self._history.end(activity, now_s, status, message)
        if status is not StatusCode.SUCCESSFUL or pending.cooldown_s is None:
            return
        here = np.array([True])
        until_s = now_s + pending.cooldown_s
        if pending.scale_out:
            added = activity.desired - activity.capacity_before
            self._cooldowns = kernel.scaled_out(self._cooldowns, here, added, until_s)
        else:
            self._cooldowns = kernel.scaled_in(self._cooldowns, here, until_s)

    # -- what it shows -------------------------------------------------------------------

    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm with its state, high before low, in the order of the policies."""
        return tuple(a for alarms in self._alarms.values() for a in alarms.describe())

    def activities(self, *, include_not_scaled: bool = False) -> tuple[ScalingActivity, ...]:
        """Scaling activities, newest first."""
        return self._history.newest_first(include_not_scaled=include_not_scaled)

    @property
    def in_progress(self) -> ScalingActivity | None:
        """The activity that has not finished."""
        return None if self._pending is None else self._pending.activity

    # -- inside --------------------------------------------------------------------------

    def _rules(self) -> kernel.Rules:
        policies = [a.policy for a in self._alarms.values()]
        return kernel.Rules(
            np.array([[p.target_value] for p in policies]),
            np.array([[float(p.scale_out_cooldown_s)] for p in policies]),
            np.array([[float(p.scale_in_cooldown_s)] for p in policies]),
            np.array([[p.disable_scale_in] for p in policies]),
            np.array([self.bounds.min_capacity]),
            np.array([self.bounds.max_capacity]),
            np.array([self.suspended.dynamic_scaling_out]),
            np.array([self.suspended.dynamic_scaling_in]),
        )

    def _start(
        self, now_s: float, name: str, desired: int, capacity: int, cooldown_s: float
    ) -> ScalingActivity:
        out = desired > capacity
        alarms = self._alarms.get(name)
        alarm = f"monitor alarm {alarms.name(high=out)} in state ALARM " if alarms else "alarm "
        activity = self._history.begin(now_s, desired, capacity, f"{alarm}triggered policy {name}")
        self._pending = _Pending(activity, float(cooldown_s), out)
        if out:
            here = np.array([True])
            self._cooldowns = replace(
                self._cooldowns, in_until_s=np.where(here, -np.inf, self._cooldowns.in_until_s)
            )
        return activity

    def _not_scaled(self, now_s: float, name: str, capacity: int, code: NotScaledCode) -> None:
        reason = NotScaledReason(
            code,
            capacity,
            self.bounds.min_capacity if code is NotScaledCode.AT_MIN else None,
            self.bounds.max_capacity if code is NotScaledCode.AT_MAX else None,
        )
        self._history.not_scaled(now_s, name, reason)

    def _apply(self, fires_s: float, action: ScheduledAction, capacity: int) -> int:
        low = self.bounds.min_capacity if action.min_capacity is None else action.min_capacity
        high = self.bounds.max_capacity if action.max_capacity is None else action.max_capacity
        if low > high:
            # A lone bound drags the other along rather than leave the target without a range.
            low, high = (low, low) if action.max_capacity is None else (high, high)
        self.bounds = CapacityBounds(low, high)
        moved = min(max(capacity, low), high)
        if moved != capacity:
            cause = f"scheduled action {action.name} was triggered"
            self._history.done(fires_s, moved, capacity, cause)
        return moved
