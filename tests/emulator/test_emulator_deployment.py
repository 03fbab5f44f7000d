"""UpdateEndpoint with a deployment configuration: traffic moves as it says, or comes back."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from botocore.exceptions import ClientError
from emulator_harness import Start, ThreadedEmulator, wait_for

from tuner.emulator.deployment import Deployment, deployment_of
from tuner.emulator.errors import AwsError
from tuner.emulator.params import Params

FAST = """
minute_seconds = 0.5
publish_delay_s = 0
[endpoint]
name = "shop"
instance_count = 4
launch_lag_s = 1.0
drain_s = 0.0
[instance]
service = { shape = "deterministic", mean_ms = 0.0 }
"""


def blue_green(kind: str, wait_s: int, **more: Any) -> dict[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": kind,
                "WaitIntervalInSeconds": wait_s,
                **more,
            },
        }
    }


def size(kind: str, value: int) -> dict[str, Any]:
    return {"Type": kind, "Value": value}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, Deployment()),
        (blue_green("ALL_AT_ONCE", 60), Deployment((1.0,), 60)),
        (
            blue_green("CANARY", 60, CanarySize=size("CAPACITY_PERCENT", 30)),
            Deployment((0.3, 1.0), 60),
        ),
        (
            blue_green("CANARY", 60, CanarySize=size("INSTANCE_COUNT", 1)),
            Deployment((0.25, 1.0), 60),
        ),
        (
            blue_green("LINEAR", 0, LinearStepSize=size("CAPACITY_PERCENT", 40)),
            Deployment((0.4, 0.8, 1.0), 0),
        ),
    ],
)
def test_shifts(config: dict[str, Any] | None, expected: Deployment) -> None:
    assert deployment_of(None if config is None else Params(config), 4) == expected


@pytest.mark.parametrize(
    "config",
    [
        {"RollingUpdatePolicy": {}},
        blue_green("CANARY", 60),
        blue_green("CANARY", 60, CanarySize=size("INSTANCE_COUNT", 3)),
        blue_green("LINEAR", 60, LinearStepSize=size("CAPACITY_PERCENT", 5)),
        blue_green("LINEAR", 4000, LinearStepSize=size("CAPACITY_PERCENT", 20)),
        blue_green("SIDEWAYS", 60),
    ],
)
def test_what_is_not_possible_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(AwsError) as caught:
        deployment_of(Params(config), 4)
    assert caught.value.code == "ValidationException"


def next_config(emulator: ThreadedEmulator) -> Any:
    client = emulator.client("sagemaker")
    client.create_endpoint_config(
        EndpointConfigName="next",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": "shop-model",
                "InstanceType": "ml.m5.xlarge",
                "InitialInstanceCount": 4,
            }
        ],
    )
    return client


def share(emulator: ThreadedEmulator) -> float:
    rollout = emulator.emulator.account.endpoints["shop"].rollout
    return 0.0 if rollout is None else rollout.share


def test_a_canary_takes_its_share_then_everything(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start(FAST)
    client, runtime = next_config(emulator), emulator.client("sagemaker-runtime")
    config = blue_green("CANARY", 240, CanarySize=size("CAPACITY_PERCENT", 50))
    client.update_endpoint(EndpointName="shop", EndpointConfigName="next", DeploymentConfig=config)
    wait_for(lambda: share(emulator) == 0.5)
    found = client.describe_endpoint(EndpointName="shop")
    assert found["EndpointStatus"] == "Updating"
    (coming,) = found["PendingDeploymentSummary"]["ProductionVariants"]
    assert coming["VariantStatus"][0]["Status"] == "Baking"
    served: list[int] = []
    backend = emulator.emulator.account.endpoints["shop"].fleets[1].backend
    invoke = backend.invoke
    monkeypatch.setattr(backend, "invoke", lambda *call: (served.append(1), invoke(*call)))
    sent = 0
    while sent < 60 and share(emulator) == 0.5:
        runtime.invoke_endpoint(EndpointName="shop", Body=b"")
        sent += 1
    assert served
    assert sent < 20 or len(served) <= sent - 2  # both fleets serve: odds of a million to one
    wait_for(lambda: client.describe_endpoint(EndpointName="shop")["EndpointStatus"] == "InService")
    found = client.describe_endpoint(EndpointName="shop")
    assert found["EndpointConfigName"] == "next"
    assert found["LastDeploymentConfig"] == config
    assert "PendingDeploymentSummary" not in found
    # The new fleet's requests are told apart by its configuration, as its alarms need it.
    wait_for(lambda: answered(emulator, EndpointConfigName="next") >= len(served))
    assert answered(emulator) >= sent
    assert answered(emulator, EndpointConfigName="other") == 0


def answered(emulator: ThreadedEmulator, **more: str) -> float:
    dimensions = {"EndpointName": "shop", "VariantName": "AllTraffic"} | more
    now = dt.datetime.now(dt.UTC)
    points = emulator.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()],
        StartTime=now - dt.timedelta(hours=1),
        EndTime=now + dt.timedelta(hours=1),
        Period=60,
        Statistics=["SampleCount"],
    )["Datapoints"]
    return float(sum(p["SampleCount"] for p in points))


def test_an_alarm_takes_the_deployment_back(start: Start) -> None:
    emulator = start(FAST)
    client, cloudwatch = next_config(emulator), emulator.client("cloudwatch")
    config = blue_green("ALL_AT_ONCE", 3600)
    config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": "many"}]}

    def update() -> None:
        client.update_endpoint(
            EndpointName="shop", EndpointConfigName="next", DeploymentConfig=config
        )

    with pytest.raises(ClientError, match="Could not find the CloudWatch alarm many"):
        update()
    cloudwatch.put_metric_alarm(
        AlarmName="many",
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[
            {"Name": "EndpointName", "Value": "shop"},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ],
        Statistic="SampleCount",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    update()

    def seen() -> dict[str, Any]:
        return client.describe_endpoint(EndpointName="shop")  # type: ignore[no-any-return]

    wait_for(lambda: seen()["EndpointStatus"] in ("RollingBack", "InService"))
    wait_for(lambda: seen()["EndpointStatus"] == "InService")
    found = seen()
    assert found["EndpointConfigName"] == "shop-config"
    assert "alarm many tripped" in found["FailureReason"]
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 4
