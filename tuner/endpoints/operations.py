"""Every AWS operation tuner's control clients may call, with why, and what undoes it.

The clients made by :mod:`tuner.endpoints.aws` refuse any operation that is not in this file,
so a reviewer who has read :data:`WRITES` has seen all that tuner can change in an account.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Write:
    """One operation that changes something: why it is made and what puts it back."""

    operation: str
    iam_action: str
    why: str
    undone_by: str


WRITES: tuple[Write, ...] = (
    Write(
        "UpdateEndpointWeightsAndCapacities",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        "set the instance count of one variant for a stage",
        "the same call with the recorded count",
    ),
    Write(
        "RegisterScalableTarget",
        "application-autoscaling:RegisterScalableTarget",
        "suspend scaling during a campaign; register or change bounds in `tuner apply`",
        "the same call with the recorded flags and bounds, or DeregisterScalableTarget",
    ),
    Write(
        "PutScalingPolicy",
        "application-autoscaling:PutScalingPolicy",
        "put the recommended policy in `tuner apply`",
        "the same call with the recorded definition, or DeleteScalingPolicy",
    ),
    Write(
        "DeleteScalingPolicy",
        "application-autoscaling:DeleteScalingPolicy",
        "take away a policy that `tuner apply` created or was told to replace",
        "PutScalingPolicy with the recorded definition",
    ),
    Write(
        "DeregisterScalableTarget",
        "application-autoscaling:DeregisterScalableTarget",
        "take away a scalable target that `tuner apply` registered (only in `tuner restore`)",
        "not undone: there was none before",
    ),
)
"""All that tuner can change."""

READS: tuple[tuple[str, str], ...] = (
    ("DescribeEndpoint", "sagemaker:DescribeEndpoint"),
    ("DescribeEndpointConfig", "sagemaker:DescribeEndpointConfig"),
    ("ListTags", "sagemaker:ListTags"),
    ("DescribeScalableTargets", "application-autoscaling:DescribeScalableTargets"),
    ("DescribeScalingPolicies", "application-autoscaling:DescribeScalingPolicies"),
    ("DescribeScheduledActions", "application-autoscaling:DescribeScheduledActions"),
    ("DescribeScalingActivities", "application-autoscaling:DescribeScalingActivities"),
    ("GetMetricData", "cloudwatch:GetMetricData"),
    ("ListServiceQuotas", "servicequotas:ListServiceQuotas"),
    ("ListAWSDefaultServiceQuotas", "servicequotas:ListAWSDefaultServiceQuotas"),
    ("GetProducts", "pricing:GetProducts"),
)
"""Operations that only look, with their IAM action."""

ALARM_ACTIONS = (
    "cloudwatch:PutMetricAlarm",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:DeleteAlarms",
)
"""Application Auto Scaling makes the alarms of a policy with the caller's rights."""

ALLOWED = frozenset(w.operation for w in WRITES) | frozenset(name for name, _ in READS)


def iam_policy(*, apply: bool = True) -> str:
    """An IAM policy document (JSON) with exactly the actions tuner needs.

    With ``apply`` false it leaves out what only ``tuner apply`` and ``verify`` use.
    """
    campaign = {"UpdateEndpointWeightsAndCapacities", "RegisterScalableTarget"}
    writes = [w.iam_action for w in WRITES if apply or w.operation in campaign]
    actions = [*(action for _, action in READS), *writes, *(ALARM_ACTIONS if apply else ())]
    actions.append("sagemaker:InvokeEndpoint")
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}],
    }
    return json.dumps(document, indent=2) + "\n"
