"""A SageMaker endpoint with scaling, made and looked at by stock boto3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import boto3

NAME = "churn-test"
VARIANT = "AllTraffic"
REGION = "eu-west-1"
RESOURCE = f"endpoint/{NAME}/variant/{VARIANT}"
KEY = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": RESOURCE,
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


@dataclass
class Account:
    """Stock boto3 clients against one server."""

    url: str
    region: str = REGION
    sagemaker: Any = field(init=False)
    autoscaling: Any = field(init=False)
    cloudwatch: Any = field(init=False)

    def __post_init__(self) -> None:
        session = boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name=self.region
        )
        self.sagemaker = session.client("sagemaker", endpoint_url=self.url)
        self.autoscaling = session.client("application-autoscaling", endpoint_url=self.url)
        self.cloudwatch = session.client("cloudwatch", endpoint_url=self.url)

    def create(
        self,
        name: str = NAME,
        count: int = 2,
        tags: dict[str, str] | None = None,
        **variant: Any,
    ) -> None:
        self.sagemaker.create_model(
            ModelName=f"{name}-model",
            ExecutionRoleArn="arn:aws:iam::123456789012:role/sm",
            PrimaryContainer={"Image": "image"},
        )
        production = {
            "VariantName": VARIANT,
            "ModelName": f"{name}-model",
            "InstanceType": "ml.m5.xlarge",
            "InitialInstanceCount": count,
            "InitialVariantWeight": 1.0,
            **variant,
        }
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=f"{name}-config",
            ProductionVariants=[{k: v for k, v in production.items() if v is not None}],
        )
        self.sagemaker.create_endpoint(
            EndpointName=name,
            EndpointConfigName=f"{name}-config",
            Tags=[{"Key": k, "Value": v} for k, v in (tags or {}).items()],
        )

    def scale(self, low: int = 2, high: int = 8) -> None:
        """A target, two policies and a schedule."""
        self.autoscaling.register_scalable_target(**KEY, MinCapacity=low, MaxCapacity=high)
        self.autoscaling.put_scaling_policy(
            **KEY,
            PolicyName="by-invocations",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 750.0,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                },
                "ScaleOutCooldown": 60,
                "ScaleInCooldown": 240,
            },
        )
        self.autoscaling.put_scaling_policy(
            **KEY,
            PolicyName="steps",
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
                "Cooldown": 60,
            },
        )
        self.autoscaling.put_scheduled_action(
            **KEY,
            ScheduledActionName="morning",
            Schedule="cron(0 7 * * ? *)",
            ScalableTargetAction={"MinCapacity": 4, "MaxCapacity": 8},
        )

    def snapshot(self, name: str = NAME) -> dict[str, Any]:
        """All that a campaign could disturb, as AWS tells it."""
        endpoint = self.sagemaker.describe_endpoint(EndpointName=name)
        resource = {**KEY, "ResourceId": f"endpoint/{name}/variant/{VARIANT}"}
        targets = self.autoscaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[resource["ResourceId"]]
        )["ScalableTargets"]
        policies = self.autoscaling.describe_scaling_policies(**resource)["ScalingPolicies"]
        actions = self.autoscaling.describe_scheduled_actions(**resource)["ScheduledActions"]
        flags = [{k: bool((t.get("SuspendedState") or {}).get(k)) for k in FLAGS} for t in targets]
        return {
            "status": endpoint["EndpointStatus"],
            "config": endpoint["EndpointConfigName"],
            "counts": [
                (v["CurrentInstanceCount"], v["DesiredInstanceCount"])
                for v in endpoint["ProductionVariants"]
            ],
            "bounds": [(t["MinCapacity"], t["MaxCapacity"]) for t in targets],
            "flags": flags,
            "policies": [without(p, "CreationTime", "Alarms", "PolicyARN") for p in policies],
            "actions": [without(a, "CreationTime") for a in actions],
        }


FLAGS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


def without(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k not in keys}
