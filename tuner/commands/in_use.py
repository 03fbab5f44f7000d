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
    from tuner.endpoints.apply import in_words
    from tuner.endpoints.records import RestoreRecord

    before = RestoreRecord.from_json(recorded.records[0])
    found = in_words(before.scaling, before.endpoint, before.variant, before.instance_count)
    if found.bounds is None or found.others or len(found.policies) != 1:
        return None
    (policy,) = found.policies
    return (policy, found.bounds) if policy.metric is ScalingMetric.INVOCATIONS else None
