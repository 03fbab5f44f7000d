"""The policy that the endpoint has today, to set beside the one recommended."""

from __future__ import annotations

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.commands.inputs import today_of
from tuner.commands.recorded import Recorded


def policy_in_use(recorded: Recorded) -> tuple[TargetTrackingPolicy, CapacityBounds] | None:
    """As the plan gives it, or else as the campaign found it on the endpoint.

    Found is only what can be simulated as it is: one policy, on invocations, with bounds. Where
    several types are compared, each was measured on an endpoint of its own, and only the plan
    can say which of them serves today.
    """
    given = today_of(recorded.plan)
    if given is not None or recorded.plan.types or not recorded.records:
        return given
    # Reading AWS's words takes its client library, which most runs can do without.
    from tuner.endpoints.apply import as_policy
    from tuner.endpoints.records import RestoreRecord

    before = RestoreRecord.from_json(recorded.records[0])
    low, high = before.scaling.min_capacity, before.scaling.max_capacity
    if len(before.scaling.policies) != 1 or low is None or high is None:
        return None
    policy = as_policy(before.scaling.policies[0], before.endpoint, before.variant)
    if policy is None or policy.metric is not ScalingMetric.INVOCATIONS:
        return None
    return policy, CapacityBounds(low, high)
