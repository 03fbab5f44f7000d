"""Compare a recommended policy with what is registered, and register it when told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tuner.autoscaling.policy import (
    INSTANCE_NAMESPACE,
    CapacityBounds,
    ScalingMetric,
    TargetTrackingPolicy,
)
from tuner.endpoints.protocol import RecordWriter
from tuner.endpoints.records import (
    CHANGE_BOUNDS,
    CHANGE_COUNT,
    CHANGE_POLICY,
    CHANGE_TARGET,
    Definition,
    RestoreRecord,
    ScalingState,
)
from tuner.endpoints.restore import VERIFY_READS
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.endpoints.scaling import canonical
from tuner.errors import EndpointError

POLICY_NAME = "tuner-target-tracking"
TARGET_TRACKING = "TargetTrackingScaling"
AWS_COOLDOWN_S = 300
"""What AWS takes for a cooldown that is left out (SageMaker variants)."""

NOT_VISIBLE_YET = frozenset({"ObjectNotFoundException"})
"""What PutScalingPolicy may say of a target registered a moment ago."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the diff: ``action`` is create, update, delete or keep."""

    action: str
    what: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.action == "keep":
            return f"  {self.what}: {self.before}"
        marks = {"create": "+", "update": "~", "delete": "-"}
        return (
            f"{marks[self.action]} {self.what}: {self.before or 'none'} -> {self.after or 'none'}"
        )


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """What would be done, decided from one reading of the endpoint."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    bounds: CapacityBounds
    register: bool
    put: Definition | None
    delete: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether everything is as it should be already."""
        return not self.register and self.put is None and not self.delete


@dataclass(frozen=True, slots=True)
class Today:
    """What scales the variant now, as far as tuner's own words can say it.

    ``others`` names the policies that cannot be expressed as target tracking on one of
    tuner's metrics (step scaling, other metrics, metric math).
    """

    bounds: CapacityBounds | None
    policies: tuple[TargetTrackingPolicy, ...]
    others: tuple[str, ...]
    instance_count: int
    suspended: bool


def today(endpoint: SageMakerEndpoint) -> Today:
    """Read what scales the variant now."""
    count = endpoint.describe().desired_instance_count
    return in_words(endpoint.scaling(), endpoint.name, endpoint.variant, count)


def in_words(scaling: ScalingState, endpoint: str, variant: str, instance_count: int) -> Today:
    """What is registered for a variant in tuner's words, read now or recorded before."""
    bounds = None
    if scaling.min_capacity is not None and scaling.max_capacity is not None:
        bounds = CapacityBounds(scaling.min_capacity, scaling.max_capacity)
    read = [(d, as_policy(d, endpoint, variant)) for d in scaling.policies]
    return Today(
        bounds=bounds,
        policies=tuple(policy for _, policy in read if policy is not None),
        others=tuple(d.name for d, policy in read if policy is None),
        instance_count=instance_count,
        suspended=scaling.suspended.any_suspended,
    )


def as_policy(definition: Definition, endpoint: str, variant: str) -> TargetTrackingPolicy | None:
    """A registered policy in tuner's words, or None when they have none for it."""
    body = definition.arguments.get("TargetTrackingScalingPolicyConfiguration")
    if definition.kind != TARGET_TRACKING or not body:
        return None
    metric = _metric(body, endpoint, variant)
    if metric is None or not body["TargetValue"] > 0:
        return None
    return TargetTrackingPolicy(
        metric=metric,
        target_value=float(body["TargetValue"]),
        scale_out_cooldown_s=int(body.get("ScaleOutCooldown", AWS_COOLDOWN_S)),
        scale_in_cooldown_s=int(body.get("ScaleInCooldown", AWS_COOLDOWN_S)),
        disable_scale_in=bool(body.get("DisableScaleIn", False)),
    )


_NAMED = {m.value: m for m in ScalingMetric if not m.customized}
_USED = {m.value: m for m in ScalingMetric if m.customized}


def _metric(body: Mapping[str, Any], endpoint: str, variant: str) -> ScalingMetric | None:
    predefined = body.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    if predefined is not None:
        return _NAMED.get(predefined)
    custom = body.get("CustomizedMetricSpecification", {})
    dimensions = {d["Name"]: d["Value"] for d in custom.get("Dimensions", ())}
    of_the_variant = (
        custom.get("Namespace") == INSTANCE_NAMESPACE
        and custom.get("Statistic") == "Average"
        and dimensions == {"EndpointName": endpoint, "VariantName": variant}
    )
    return _USED.get(custom.get("MetricName")) if of_the_variant else None


def as_definition(
    policy: TargetTrackingPolicy, name: str, endpoint: str, variant: str
) -> Definition:
    """The arguments of PutScalingPolicy; both cooldowns always written."""
    body: dict[str, Any] = {
        "TargetValue": policy.target_value,
        "ScaleOutCooldown": policy.scale_out_cooldown_s,
        "ScaleInCooldown": policy.scale_in_cooldown_s,
        "DisableScaleIn": policy.disable_scale_in,
    }
    if policy.metric.customized:
        body["CustomizedMetricSpecification"] = {
            "MetricName": policy.metric.value,
            "Namespace": INSTANCE_NAMESPACE,
            "Dimensions": [
                {"Name": "EndpointName", "Value": endpoint},
                {"Name": "VariantName", "Value": variant},
            ],
            "Statistic": "Average",
            "Unit": "Percent",
        }
    else:
        body["PredefinedMetricSpecification"] = {"PredefinedMetricType": policy.metric.value}
    arguments = {
        "PolicyName": name,
        "PolicyType": TARGET_TRACKING,
        "TargetTrackingScalingPolicyConfiguration": body,
    }
    return Definition(name, TARGET_TRACKING, canonical(arguments))


def plan_apply(
    endpoint: SageMakerEndpoint,
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    *,
    replace_others: bool = False,
) -> ApplyPlan:
    """What applying a policy would change; nothing is changed.

    A registered target-tracking policy on the same metric is updated under its own name,
    since AWS allows one per metric. Other policies stay, with a warning, unless
    ``replace_others``; step policies always stay, as their alarms are not tuner's.

    Raises
    ------
    EndpointError
        If the endpoint cannot be read, or the minimum is below one instance.
    """
    if bounds.min_capacity < 1:
        raise EndpointError(
            "a real-time variant on instances cannot scale to zero",
            value=bounds.min_capacity,
            allowed="min_capacity of at least 1",
        )
    scaling = endpoint.scaling()
    return decide(scaling, policy, bounds, endpoint.name, endpoint.variant, replace_others)


def decide(
    scaling: ScalingState,
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    endpoint: str,
    variant: str,
    replace_others: bool,
) -> ApplyPlan:
    """The plan for one reading of what is registered."""
    read = {d.name: as_policy(d, endpoint, variant) for d in scaling.policies}
    same = [d for d in scaling.policies if _follows(read[d.name], policy.metric)]
    name = same[0].name if same else POLICY_NAME
    wanted = as_definition(policy, name, endpoint, variant)
    changes = [_bounds_change(scaling, bounds)]
    register = changes[0].action != "keep"
    put: Definition | None = None
    if same and read[name] == policy:
        changes.append(Change("keep", f"policy {name}", sentence(read[name]), None))
    else:
        put = wanted
        before = next((d for d in scaling.policies if d.name == name), None)
        text = None if before is None else sentence(read[name]) or before.kind
        changes.append(
            Change("update" if before else "create", f"policy {name}", text, sentence(policy))
        )
    others = [d for d in scaling.policies if d.name != name]
    delete = tuple(d.name for d in others if replace_others and d.kind == TARGET_TRACKING)
    for other in others:
        action = "delete" if other.name in delete else "keep"
        text = sentence(read[other.name]) or other.kind
        changes.append(Change(action, f"policy {other.name}", text, None))
    kept = tuple(d.name for d in others if d.name not in delete)
    return ApplyPlan(tuple(changes), _warnings(scaling, kept), bounds, register, put, delete)


def _warnings(scaling: ScalingState, kept: tuple[str, ...]) -> tuple[str, ...]:
    warnings = [
        f"the policy {name} stays: with several policies the largest capacity wins, "
        "and scaling in needs all of them"
        for name in kept
    ]
    if scaling.suspended.any_suspended:
        warnings.append(f"{scaling.suspended}: the policy will not act so")
    if scaling.scheduled_actions:
        names = ", ".join(a.name for a in scaling.scheduled_actions)
        warnings.append(f"scheduled actions will move the bounds again: {names}")
    return tuple(warnings)


def _follows(policy: TargetTrackingPolicy | None, metric: ScalingMetric) -> bool:
    return policy is not None and policy.metric is metric


def _bounds_change(scaling: ScalingState, bounds: CapacityBounds) -> Change:
    after = f"{bounds.min_capacity} to {bounds.max_capacity} instances"
    if not scaling.registered:
        return Change("create", "scalable target", None, after)
    before = f"{scaling.min_capacity} to {scaling.max_capacity} instances"
    if before == after:
        return Change("keep", "scalable target", before, None)
    return Change("update", "scalable target", before, after)


def sentence(policy: TargetTrackingPolicy | None) -> str:
    """A policy in a few words, or nothing."""
    if policy is None:
        return ""
    text = (
        f"{policy.metric.value} at {policy.target_value:g}, "
        f"out {policy.scale_out_cooldown_s} s, in {policy.scale_in_cooldown_s} s"
    )
    return f"{text}, no scale-in" if policy.disable_scale_in else text


def apply_plan(
    endpoint: SageMakerEndpoint, plan: ApplyPlan, write_record: RecordWriter
) -> RestoreRecord:
    """Carry the plan out; the record is durable before the first change.

    Returns
    -------
    RestoreRecord
        With which ``endpoint.restore`` takes all of it back.

    Raises
    ------
    EndpointError
        If AWS refuses a step, or does not show the policy afterwards.
    """
    record = endpoint.take_record()
    if plan.register:
        record = record.with_change(CHANGE_BOUNDS if record.scaling.registered else CHANGE_TARGET)
        if not plan.bounds.min_capacity <= record.instance_count <= plan.bounds.max_capacity:
            # AWS pulls the count inside the new bounds at once.
            record = record.with_change(CHANGE_COUNT)
    for name in (*plan.delete, *((plan.put.name,) if plan.put else ())):
        record = record.with_change(f"{CHANGE_POLICY}{name}")
    write_record(record)
    scaling, pace = endpoint.variant_scaling, endpoint.pace
    low, high = plan.bounds.min_capacity, plan.bounds.max_capacity
    if plan.register:
        pace.persist(lambda: scaling.register(low, high))
    for name in plan.delete:
        pace.persist(partial(scaling.delete_policy, name))
    if plan.put is not None:
        pace.persist(partial(scaling.put_policy, plan.put), NOT_VISIBLE_YET)
    _verify(endpoint, plan)
    return record


def _verify(endpoint: SageMakerEndpoint, plan: ApplyPlan) -> None:
    """See what was applied: registering and putting are eventually consistent."""
    for _ in range(VERIFY_READS):
        now = endpoint.pace.persist(endpoint.scaling)
        if _shows(now, plan, endpoint.name, endpoint.variant):
            return
        endpoint.pace.sleep(endpoint.pace.poll_interval_s)
    names = ", ".join(sorted(d.name for d in now.policies)) or "no policies"
    raise EndpointError(
        "AWS accepted the policy but shows something else",
        value=f"{now.min_capacity} to {now.max_capacity} instances, {names}",
        hint="look again with the dry run; `tuner restore` takes the change back",
    )


def _shows(now: ScalingState, plan: ApplyPlan, endpoint: str, variant: str) -> bool:
    shown = {d.name: as_policy(d, endpoint, variant) for d in now.policies}
    bounds = (now.min_capacity, now.max_capacity)
    return (
        bounds == (plan.bounds.min_capacity, plan.bounds.max_capacity)
        and not shown.keys() & set(plan.delete)
        and (plan.put is None or shown.get(plan.put.name) == as_policy(plan.put, endpoint, variant))
    )
