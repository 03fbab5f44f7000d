"""Application Auto Scaling: the wire over `tuner.autoscaling`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

from tuner.autoscaling.activity import ScalingActivity, SuspendedState
from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.autoscaling.step import StepScalingPolicy
from tuner.autoscaling.target import ScalableTarget
from tuner.emulator.account import Account
from tuner.emulator.endpoint import Endpoint, Variant
from tuner.emulator.errors import AwsError, validation
from tuner.emulator.params import Params
from tuner.emulator.scalable import PolicyRecord, Registered, step_policy, tracking_policy
from tuner.emulator.scalingloop import ScalingLoop
from tuner.errors import InputError

Json = dict[str, Any]

NAMESPACE = "sagemaker"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_RESOURCE = re.compile(r"endpoint/([A-Za-z0-9-]+)/variant/([A-Za-z0-9-]+)")


def _check_scope(params: Params) -> None:
    params.choice("ServiceNamespace", (NAMESPACE,))


class ApplicationAutoScaling:
    """Operations by name; what they register, the control loop acts on."""

    def __init__(self, account: Account, loop: ScalingLoop) -> None:
        self._account = account
        self._loop = loop
        self.delete_alarms: Callable[[str], None] = lambda policy_arn: None
        account.is_scalable = lambda e, v: f"endpoint/{e}/variant/{v}" in loop.targets
        self.operations: dict[str, Callable[[Params], Json | None]] = {
            "RegisterScalableTarget": self._register,
            "DeregisterScalableTarget": self._deregister,
            "DescribeScalableTargets": self._describe_targets,
            "PutScalingPolicy": self._put_policy,
            "DeleteScalingPolicy": self._delete_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "PutScheduledAction": self._put_action,
            "DeleteScheduledAction": self._delete_action,
            "DescribeScheduledActions": self._describe_actions,
            "DescribeScalingActivities": self._describe_activities,
        }

    # -- scalable targets -----------------------------------------------------------------

    def _find(self, params: Params) -> Registered:
        _check_scope(params)
        params.choice("ScalableDimension", (DIMENSION,))
        resource = params.text("ResourceId")
        if resource not in self._loop.targets:
            raise AwsError(
                "ObjectNotFoundException",
                f"No scalable target registered for service namespace: {NAMESPACE}, resource ID: "
                f"{resource}, scalable dimension: {DIMENSION}",
            )
        return self._loop.targets[resource]

    def _locate(self, resource: str) -> tuple[Endpoint, Variant]:
        match = _RESOURCE.fullmatch(resource)
        if match is None:
            raise validation(f"Unsupported resource ID: {resource}")
        self._account.refresh()
        endpoint = self._account.endpoints.get(match[1])
        if endpoint is None or match[2] not in endpoint.variants:
            raise validation(
                f"SageMaker endpoint variant doesn't exist: resource ID: {resource}, scalable "
                f"dimension: {DIMENSION}"
            )
        return endpoint, endpoint.variants[match[2]]

    def _register(self, params: Params) -> Json:
        _check_scope(params)
        params.choice("ScalableDimension", (DIMENSION,))
        resource = params.text("ResourceId")
        endpoint, variant = self._locate(resource)
        known = self._loop.targets.get(resource)
        if known is None and not (params.has("MinCapacity") and params.has("MaxCapacity")):
            raise validation("Both MinCapacity and MaxCapacity must be specified.")
        old = known.target.bounds if known else CapacityBounds(1, 1)
        low = params.integer("MinCapacity", old.min_capacity)
        high = params.integer("MaxCapacity", old.max_capacity)
        if low < 1:
            raise validation("Minimum capacity must be at least 1 for SageMaker variants.")
        if low > high:
            raise validation("Maximum capacity cannot be less than minimum capacity")
        bounds = CapacityBounds(low, high)
        now = self._account.clock.now_control_s()
        if known is None:
            spec = self._account.spec
            tail = uuid.uuid5(uuid.NAMESPACE_URL, resource).hex[:26]
            arn = f"arn:aws:application-autoscaling:{spec.region}:{spec.account_id}"
            role = (
                f"arn:aws:iam::{spec.account_id}:role/aws-service-role/sagemaker.application-"
                "autoscaling.amazonaws.com/"
                "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
            )
            known = Registered(
                resource,
                endpoint.name,
                variant.name,
                f"{arn}:scalable-target/{tail}",
                params.maybe_text("RoleARN") or role,
                self._account.clock.now_unix_s(),
                ScalableTarget(resource, bounds),
            )
            self._loop.targets[resource] = known
        suspended = params.structure("SuspendedState")
        if suspended is not None:
            was = known.target.suspended
            known.target.suspended = SuspendedState(
                suspended.flag("DynamicScalingInSuspended", was.dynamic_scaling_in),
                suspended.flag("DynamicScalingOutSuspended", was.dynamic_scaling_out),
                suspended.flag("ScheduledScalingSuspended", was.scheduled_scaling),
            )
        known.pending_count = known.target.register(now, bounds, variant.desired)
        self._loop.apply_pending(known)
        return {"ScalableTargetARN": known.arn}

    def _deregister(self, params: Params) -> Json:
        found = self._find(params)
        for policy in found.policies.values():
            self.delete_alarms(policy.arn)
        del self._loop.targets[found.resource_id]
        return {}

    def _describe_targets(self, params: Params) -> Json:
        rows = []
        for t in self._scope(params, "ResourceIds"):
            suspended = t.target.suspended
            rows.append(
                {
                    **_scope_members(t),
                    "MinCapacity": t.target.bounds.min_capacity,
                    "MaxCapacity": t.target.bounds.max_capacity,
                    "RoleARN": t.role_arn,
                    "CreationTime": t.created_unix_s,
                    "SuspendedState": {
                        "DynamicScalingInSuspended": suspended.dynamic_scaling_in,
                        "DynamicScalingOutSuspended": suspended.dynamic_scaling_out,
                        "ScheduledScalingSuspended": suspended.scheduled_scaling,
                    },
                    "ScalableTargetARN": t.arn,
                }
            )
        return _page("ScalableTargets", rows, params)

    def _scope(self, params: Params, ids: str | None = None) -> list[Registered]:
        """Targets a Describe call is about."""
        _check_scope(params)
        if params.has("ScalableDimension"):
            params.choice("ScalableDimension", (DIMENSION,))
        wanted = params.texts(ids) if ids is not None else []
        one = params.maybe_text("ResourceId") if ids is None else None
        return [
            t
            for t in self._loop.targets.values()
            if (not wanted or t.resource_id in wanted) and one in (None, t.resource_id)
        ]

    # -- policies -------------------------------------------------------------------------

    def _put_policy(self, params: Params) -> Json:
        found = self._find(params)
        name = params.text("PolicyName", pattern="[ -~]+", longest=256)
        old = found.policies.get(name)
        default = old.kind if old is not None else "StepScaling"
        kind = params.choice("PolicyType", ("StepScaling", "TargetTrackingScaling"), default)
        key = f"{kind}PolicyConfiguration"
        config = params.structure(key)
        if config is None:
            raise validation(f"{key} must be specified for policy type {kind}.")
        policy: TargetTrackingPolicy | StepScalingPolicy
        try:
            policy = (
                tracking_policy(config) if kind == "TargetTrackingScaling" else step_policy(config)
            )
            now = self._account.clock.now_control_s()
            found.target.put_policy(now, name, policy)
        except ValueError as error:
            raise validation(str(error)) from None
        except InputError as error:
            raise validation(error.message) from None
        spec = self._account.spec
        arn = old.arn if old is not None else (
            f"arn:aws:autoscaling:{spec.region}:{spec.account_id}:scalingPolicy:"
            f"{uuid.uuid5(uuid.NAMESPACE_URL, found.resource_id + name)}:resource/{NAMESPACE}/"
            f"{found.resource_id}:policyName/{name}"
        )  # fmt: skip
        metric = policy.metric if isinstance(policy, TargetTrackingPolicy) else None
        found.policies[name] = PolicyRecord(
            name, arn, kind, config.data, self._account.clock.now_unix_s(), metric
        )
        return {"PolicyARN": arn, "Alarms": self._policy_alarms(found, name)}

    def _policy_alarms(self, found: Registered, name: str) -> list[Json]:
        return [
            {"AlarmName": a.name, "AlarmARN": self._account.alarm_arn(a.name)}
            for a in found.target.alarms()
            if a.policy_name == name
        ]

    def _delete_policy(self, params: Params) -> Json:
        found = self._find(params)
        name = params.text("PolicyName")
        if name not in found.policies:
            raise AwsError("ObjectNotFoundException", f"No scaling policy found for name: {name}")
        found.target.delete_policy(name)
        self.delete_alarms(found.policies.pop(name).arn)
        return {}

    def _describe_policies(self, params: Params) -> Json:
        names = params.texts("PolicyNames")
        rows = [
            {
                "PolicyARN": p.arn,
                "PolicyName": p.name,
                **_scope_members(t),
                "PolicyType": p.kind,
                f"{p.kind}PolicyConfiguration": p.config,
                "Alarms": self._policy_alarms(t, p.name),
                "CreationTime": p.created_unix_s,
            }
            for t in self._scope(params)
            for p in t.policies.values()
            if not names or p.name in names
        ]
        return _page("ScalingPolicies", rows, params)

    # -- scheduled actions ----------------------------------------------------------------

    def _put_action(self, params: Params) -> Json:
        found = self._find(params)
        name = params.text("ScheduledActionName", longest=256)
        bounds = params.structure("ScalableTargetAction") or Params({})
        clock = self._account.clock
        start = params.number("StartTime", 0.0) if params.has("StartTime") else None
        end = params.number("EndTime", 0.0) if params.has("EndTime") else None
        try:
            found.target.put_scheduled_action(
                clock.now_control_s(),
                name,
                params.text("Schedule"),
                timezone=params.maybe_text("Timezone") or "UTC",
                min_capacity=_maybe_count(bounds, "MinCapacity"),
                max_capacity=_maybe_count(bounds, "MaxCapacity"),
                start_s=None if start is None else clock.control_s(start),
                end_s=None if end is None else clock.control_s(end),
            )
        except InputError as error:
            raise validation(error.message) from None
        spec = self._account.spec
        found.actions[name] = {
            "ScheduledActionName": name,
            "ScheduledActionARN": (
                f"arn:aws:autoscaling:{spec.region}:{spec.account_id}:scheduledAction:"
                f"{uuid.uuid5(uuid.NAMESPACE_URL, found.resource_id + name)}:resource/{NAMESPACE}/"
                f"{found.resource_id}:scheduledActionName/{name}"
            ),
            **_scope_members(found),
            **{
                key: params.data[key]
                for key in ("Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction")
                if params.has(key)
            },
            "CreationTime": clock.now_unix_s(),
        }
        return {}

    def _delete_action(self, params: Params) -> Json:
        found = self._find(params)
        name = params.text("ScheduledActionName")
        if name not in found.actions:
            raise AwsError("ObjectNotFoundException", f"No scheduled action found for name: {name}")
        found.target.delete_scheduled_action(name)
        del found.actions[name]
        return {}

    def _describe_actions(self, params: Params) -> Json:
        names = params.texts("ScheduledActionNames")
        rows = [
            a
            for t in self._scope(params)
            for a in t.actions.values()
            if not names or a["ScheduledActionName"] in names
        ]
        return _page("ScheduledActions", rows, params)

    # -- activities -----------------------------------------------------------------------

    def _describe_activities(self, params: Params) -> Json:
        with_idle = params.flag("IncludeNotScaledActivities")
        rows = [
            self._activity(t, a)
            for t in self._scope(params)
            for a in t.target.activities(include_not_scaled=with_idle)
        ]
        return _page("ScalingActivities", rows, params)

    def _activity(self, found: Registered, activity: ScalingActivity) -> Json:
        clock = self._account.clock
        row: Json = {
            "ActivityId": activity.activity_id,
            **_scope_members(found),
            "Description": activity.description,
            "Cause": activity.cause,
            "StartTime": clock.unix_s(activity.start_s),
            "StatusCode": activity.status.value,
            "StatusMessage": activity.status_message,
        }
        if activity.end_s is not None:
            row["EndTime"] = clock.unix_s(activity.end_s)
        if activity.details:
            row["Details"] = activity.details
        reasons = []
        for reason in activity.not_scaled:
            shown: Json = {"Code": reason.code.value, "CurrentCapacity": reason.current_capacity}
            if reason.min_capacity is not None:
                shown["MinCapacity"] = reason.min_capacity
            if reason.max_capacity is not None:
                shown["MaxCapacity"] = reason.max_capacity
            reasons.append(shown)
        if reasons:
            row["NotScaledReasons"] = reasons
        return row


def _scope_members(found: Registered) -> Json:
    return {
        "ServiceNamespace": NAMESPACE,
        "ResourceId": found.resource_id,
        "ScalableDimension": DIMENSION,
    }


def _maybe_count(params: Params, key: str) -> int | None:
    return params.integer(key) if params.has(key) else None


def _page(key: str, rows: list[Json], params: Params) -> Json:
    start = 0
    token = params.maybe_text("NextToken")
    if token is not None:
        if not token.isdecimal() or len(token) > 9:
            raise AwsError("InvalidNextTokenException", "The next token is not valid.")
        start = int(token)
    size = params.integer("MaxResults", 50, low=1, high=50)
    answer: Json = {key: rows[start : start + size]}
    if start + size < len(rows):
        answer["NextToken"] = str(start + size)
    return answer
