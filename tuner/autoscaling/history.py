"""The scaling activities of one target, as DescribeScalingActivities shows them."""

from __future__ import annotations

import uuid
from dataclasses import replace

from tuner.autoscaling.activity import NotScaledReason, ScalingActivity, StatusCode

LONGEST = 10_000


class ActivityHistory:
    """What a target did and why, oldest first; the oldest are forgotten after ten thousand.

    Parameters
    ----------
    resource_id
        Of the target; makes the activities' ids.
    """

    def __init__(self, resource_id: str) -> None:
        self._resource_id = resource_id
        self._activities: list[ScalingActivity] = []
        self._count = 0

    def newest_first(self, *, include_not_scaled: bool = False) -> tuple[ScalingActivity, ...]:
        """The activities; those that changed nothing only when asked for."""
        newest = reversed(self._activities)
        return tuple(a for a in newest if include_not_scaled or not a.not_scaled)

    def begin(self, now_s: float, desired: int, capacity: int, cause: str) -> ScalingActivity:
        """A change of the count that takes time."""
        return self._add(
            ScalingActivity(
                self._next_id(),
                f"Setting desired instance count to {desired}.",
                cause,
                now_s,
                desired,
                capacity,
                StatusCode.IN_PROGRESS,
                f"Setting desired instance count to {desired} is in progress.",
            )
        )

    def end(
        self, activity: ScalingActivity, now_s: float, status: StatusCode, message: str | None
    ) -> None:
        """The end of one that was begun."""
        text = message or f"Successfully set desired instance count to {activity.desired}."
        ended = replace(activity, status=status, status_message=text, end_s=now_s)
        for i in range(len(self._activities) - 1, -1, -1):
            if self._activities[i].activity_id == activity.activity_id:
                self._activities[i] = ended
                return

    def done(self, now_s: float, desired: int, capacity: int, cause: str) -> None:
        """A change that bounds or a schedule made."""
        begun = self.begin(now_s, desired, capacity, cause)
        self.end(begun, now_s, StatusCode.SUCCESSFUL, None)

    def not_scaled(self, now_s: float, policy: str, reason: NotScaledReason) -> None:
        """An alarm fired, and the count stayed."""
        capacity = reason.current_capacity
        self._add(
            ScalingActivity(
                self._next_id(),
                "Attempting to scale due to alarm triggered",
                f"policy {policy} was evaluated and changed nothing",
                now_s,
                capacity,
                capacity,
                StatusCode.UNFULFILLED,
                end_s=now_s,
                not_scaled=(reason,),
            )
        )

    def _next_id(self) -> str:
        self._count += 1
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._resource_id}#{self._count}"))

    def _add(self, activity: ScalingActivity) -> ScalingActivity:
        self._activities.append(activity)
        del self._activities[:-LONGEST]
        return activity
