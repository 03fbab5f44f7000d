"""Application Auto Scaling of one variant: read all of it, and put parts of it back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tuner.endpoints.aws import Aws, call, pages
from tuner.endpoints.records import Definition, ScalingState, SuspendedState

NAMESPACE: Final[Literal["sagemaker"]] = "sagemaker"
DIMENSION: Final[Literal["sagemaker:variant:DesiredInstanceCount"]] = (
    "sagemaker:variant:DesiredInstanceCount"
)

POLICY_BODIES = (
    "TargetTrackingScalingPolicyConfiguration",
    "StepScalingPolicyConfiguration",
    "PredictiveScalingPolicyConfiguration",
)
ACTION_ARGUMENTS = ("Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction")
SERVICE_LINKED_ROLE = ":role/aws-service-role/"


@dataclass(frozen=True, slots=True)
class ScalingActivity:
    """One entry of the scaling history, newest first. Times in unix seconds."""

    started_at_unix_s: float
    ended_at_unix_s: float | None
    status: str
    description: str
    cause: str
    message: str
    not_scaled_reasons: tuple[str, ...] = ()


class VariantScaling:
    """The scalable target of one variant, its policies and scheduled actions."""

    def __init__(self, aws: Aws, endpoint: str, variant: str) -> None:
        self._client = aws.autoscaling
        self.resource_id = f"endpoint/{endpoint}/variant/{variant}"
        self._key = {
            "ServiceNamespace": NAMESPACE,
            "ResourceId": self.resource_id,
            "ScalableDimension": DIMENSION,
        }

    def read(self) -> ScalingState:
        """Everything registered, as values that can be put again."""
        targets = call(
            self._client.describe_scalable_targets,
            ServiceNamespace=NAMESPACE,
            ResourceIds=[self.resource_id],
            ScalableDimension=DIMENSION,
        )["ScalableTargets"]
        policies = self._policies()
        if not targets:
            return ScalingState(registered=False, policies=policies)
        target = targets[0]
        suspended = target.get("SuspendedState") or {}
        role_arn = target.get("RoleARN")
        return ScalingState(
            registered=True,
            min_capacity=target["MinCapacity"],
            max_capacity=target["MaxCapacity"],
            suspended=SuspendedState(
                dynamic_scaling_in=bool(suspended.get("DynamicScalingInSuspended")),
                dynamic_scaling_out=bool(suspended.get("DynamicScalingOutSuspended")),
                scheduled_scaling=bool(suspended.get("ScheduledScalingSuspended")),
            ),
            policies=policies,
            scheduled_actions=self._scheduled_actions(),
            role_arn=None if not role_arn or SERVICE_LINKED_ROLE in role_arn else role_arn,
        )

    def _policies(self) -> tuple[Definition, ...]:
        policies = pages(self._client, "describe_scaling_policies", "ScalingPolicies", **self._key)
        return _sorted(_policy_definition(p) for p in policies)

    def _scheduled_actions(self) -> tuple[Definition, ...]:
        actions = pages(self._client, "describe_scheduled_actions", "ScheduledActions", **self._key)
        return _sorted(_action_definition(a) for a in actions)

    def activities(self, limit: int = 50) -> tuple[ScalingActivity, ...]:
        """The newest scaling activities, those that did not scale included."""
        page = call(
            self._client.describe_scaling_activities,
            ServiceNamespace=NAMESPACE,
            ResourceId=self.resource_id,
            ScalableDimension=DIMENSION,
            IncludeNotScaledActivities=True,
            MaxResults=limit,
        )
        return tuple(_activity(a) for a in page["ScalingActivities"])

    def suspend(self, suspended: SuspendedState) -> None:
        """Set the three switches, leaving bounds and policies as they are."""
        call(
            self._client.register_scalable_target,
            ServiceNamespace=NAMESPACE,
            ResourceId=self.resource_id,
            ScalableDimension=DIMENSION,
            SuspendedState={
                "DynamicScalingInSuspended": suspended.dynamic_scaling_in,
                "DynamicScalingOutSuspended": suspended.dynamic_scaling_out,
                "ScheduledScalingSuspended": suspended.scheduled_scaling,
            },
        )

    def register(self, min_capacity: int, max_capacity: int) -> None:
        """Register the target, or move its bounds; switches stay as they are."""
        call(
            self._client.register_scalable_target,
            ServiceNamespace=NAMESPACE,
            ResourceId=self.resource_id,
            ScalableDimension=DIMENSION,
            MinCapacity=min_capacity,
            MaxCapacity=max_capacity,
        )

    def deregister(self) -> None:
        """Take the target away, and with it its policies and scheduled actions."""
        call(
            self._client.deregister_scalable_target,
            ServiceNamespace=NAMESPACE,
            ResourceId=self.resource_id,
            ScalableDimension=DIMENSION,
        )

    def put_policy(self, definition: Definition) -> None:
        """Create the policy, or replace the one of the same name."""
        arguments: Any = definition.arguments
        call(
            self._client.put_scaling_policy,
            ServiceNamespace=NAMESPACE,
            ResourceId=self.resource_id,
            ScalableDimension=DIMENSION,
            **arguments,
        )

    def delete_policy(self, name: str) -> None:
        """Take one policy away."""
        call(
            self._client.delete_scaling_policy,
            PolicyName=name,
            ServiceNamespace=NAMESPACE,
            ResourceId=self.resource_id,
            ScalableDimension=DIMENSION,
        )


def _sorted(definitions: Iterable[Definition]) -> tuple[Definition, ...]:
    return tuple(sorted(definitions, key=lambda d: d.name))


def _policy_definition(policy: Mapping[str, Any]) -> Definition:
    arguments: dict[str, Any] = {
        "PolicyName": policy["PolicyName"],
        "PolicyType": policy["PolicyType"],
    }
    arguments.update({key: policy[key] for key in POLICY_BODIES if policy.get(key)})
    return Definition(policy["PolicyName"], policy["PolicyType"], canonical(arguments))


def _action_definition(action: Mapping[str, Any]) -> Definition:
    arguments: dict[str, Any] = {"ScheduledActionName": action["ScheduledActionName"]}
    arguments.update({key: action[key] for key in ACTION_ARGUMENTS if action.get(key)})
    return Definition(action["ScheduledActionName"], "ScheduledAction", canonical(arguments))


def canonical(arguments: Mapping[str, Any]) -> str:
    """JSON with sorted keys and UTC times, so that equal definitions are equal text."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"), default=_utc)


def _utc(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"not a JSON value: {value!r}")


def _activity(activity: Mapping[str, Any]) -> ScalingActivity:
    ended = activity.get("EndTime")
    return ScalingActivity(
        started_at_unix_s=activity["StartTime"].timestamp(),
        ended_at_unix_s=None if ended is None else ended.timestamp(),
        status=activity["StatusCode"],
        description=activity.get("Description", ""),
        cause=activity.get("Cause", ""),
        message=activity.get("StatusMessage", ""),
        not_scaled_reasons=tuple(r["Code"] for r in activity.get("NotScaledReasons", ())),
    )
