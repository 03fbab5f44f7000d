"""Application Auto Scaling and CloudWatch over the wire, with stock boto3."""

from __future__ import annotations

import datetime as dt
import threading
import time

import pytest
from botocore.exceptions import ClientError
from emulator_harness import MadeUpTime, Start, ThreadedEmulator, wait_for

FAST = """
minute_seconds = 0.5
publish_delay_s = 0.0
[endpoint]
name = "fast"
launch_lag_s = 30.0
drain_s = 0.1
[instance]
workers = 8
service = { mean_ms = 0.0 }
"""


def resource(emulator: ThreadedEmulator) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{emulator.endpoint}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def tracking(target: float, **more: object) -> dict[str, object]:
    return {
        "TargetValue": target,
        "PredefinedMetricSpecification": {
            "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
        },
        **more,
    }


def current(emulator: ThreadedEmulator) -> tuple[str, int, int]:
    found = emulator.client("sagemaker").describe_endpoint(EndpointName=emulator.endpoint)
    variant = found["ProductionVariants"][0]
    return found["EndpointStatus"], variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]


class Load:
    """Invokes at a steady rate from a thread."""

    def __init__(self, emulator: ThreadedEmulator, rate_per_s: float) -> None:
        self._client = emulator.client("sagemaker-runtime")
        self._name = emulator.endpoint
        self._gap_s = 1.0 / rate_per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._client.invoke_endpoint(EndpointName=self._name, Body=b"{}")["Body"].read()
            due += self._gap_s
            self._stop.wait(max(due - time.monotonic(), 0.0))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def test_target_tracking_scales_out_and_in(start: Start, made_up_time: MadeUpTime) -> None:
    emulator, minute_s = start(FAST), 0.5
    scaling = emulator.client("application-autoscaling")
    scaling.register_scalable_target(**resource(emulator), MinCapacity=1, MaxCapacity=4)
    put = scaling.put_scaling_policy(
        **resource(emulator),
        PolicyName="keep",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=tracking(
            2600.0, ScaleOutCooldown=60, ScaleInCooldown=60
        ),
    )
    assert len(put["Alarms"]) == 2
    runtime = emulator.client("sagemaker-runtime")
    began = made_up_time.time()
    counts = []
    for number in range(300):
        # 120 requests a second are 7200 a minute on every clock: 3 instances at 2600 each.
        made_up_time.move(emulator, 1 / 120)
        runtime.invoke_endpoint(EndpointName=emulator.endpoint, Body=b"{}")["Body"].read()
        if number % 6 == 5:
            counts.append(current(emulator))
    assert list(dict.fromkeys(counts)) == [
        ("InService", 1, 1), ("Updating", 1, 3), ("InService", 3, 3)
    ]  # fmt: skip
    alarms = emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {a["AlarmName"] for a in alarms} == {a["AlarmName"] for a in put["Alarms"]}
    assert {a["Threshold"] for a in alarms} == {2600.0, 2340.0}
    (out,) = scaling.describe_scaling_activities(**resource(emulator))["ScalingActivities"]
    assert out["StatusCode"] == "Successful"
    assert out["Description"] == "Setting desired instance count to 3."
    # Three datapoints above the target, the first perhaps of a minute that had begun.
    ordered = (out["StartTime"].timestamp() - began) / minute_s
    assert 2.0 <= ordered <= 4.2
    # Half a control minute of launch, and a look at it.
    assert 0.5 <= (out["EndTime"] - out["StartTime"]).total_seconds() / minute_s <= 0.7
    # Without traffic the variant publishes zeros; 15 quiet minutes scale it in, no fewer.
    quiet = 0
    while current(emulator)[2] == 3:
        made_up_time.move(emulator, minute_s)
        quiet += 1
        assert quiet < 30
    assert 15 <= quiet <= 17
    made_up_time.move(emulator, minute_s)
    assert current(emulator) == ("InService", 1, 1)


def test_concurrency_policy_scales_out_on_ten_second_datapoints(start: Start) -> None:
    emulator = start(FAST.replace("mean_ms = 0.0", "mean_ms = 200.0").replace("0.5", "4.0"))
    scaling = emulator.client("application-autoscaling")
    scaling.register_scalable_target(**resource(emulator), MinCapacity=1, MaxCapacity=6)
    scaling.put_scaling_policy(
        **resource(emulator),
        PolicyName="busy",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 1.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
            },
        },
    )
    began = time.monotonic()
    with Load(emulator, 1000.0), Load(emulator, 1000.0), Load(emulator, 1000.0):
        wait_for(lambda: current(emulator)[2] == 3)
    # Three or four datapoints of ten control seconds are 2.0 to 2.7 s here; the 60 s metrics
    # would need 12 s.
    assert 1.5 < time.monotonic() - began < 11.0


def test_suspended_target_does_not_move(start: Start) -> None:
    emulator = start(FAST)
    scaling = emulator.client("application-autoscaling")
    scaling.register_scalable_target(
        **resource(emulator),
        MinCapacity=1,
        MaxCapacity=4,
        SuspendedState={
            "DynamicScalingInSuspended": True,
            "DynamicScalingOutSuspended": True,
            "ScheduledScalingSuspended": True,
        },
    )
    scaling.put_scaling_policy(
        **resource(emulator),
        PolicyName="keep",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=tracking(600.0),
    )
    cloudwatch = emulator.client("cloudwatch")
    with Load(emulator, 60.0):
        wait_for(
            lambda: any(
                a["StateValue"] == "ALARM" for a in cloudwatch.describe_alarms()["MetricAlarms"]
            )
        )
        time.sleep(1.0)
    assert current(emulator) == ("InService", 1, 1)
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert all(target["SuspendedState"].values())
    # Registering again without bounds keeps bounds and lifts what it names.
    scaling.register_scalable_target(
        **resource(emulator), SuspendedState={"DynamicScalingInSuspended": False}
    )
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    assert target["SuspendedState"] == {
        "DynamicScalingInSuspended": False,
        "DynamicScalingOutSuspended": True,
        "ScheduledScalingSuspended": True,
    }


def test_bounds_move_the_count(start: Start) -> None:
    emulator = start(FAST.replace("launch_lag_s = 30.0", "launch_lag_s = 240.0"))
    scaling = emulator.client("application-autoscaling")
    scaling.register_scalable_target(**resource(emulator), MinCapacity=2, MaxCapacity=4)
    assert current(emulator) == ("Updating", 1, 2)
    wait_for(lambda: current(emulator) == ("InService", 2, 2))


def test_a_user_alarm_fires_a_step_policy(start: Start) -> None:
    emulator = start(FAST)
    scaling = emulator.client("application-autoscaling")
    cloudwatch = emulator.client("cloudwatch")
    scaling.register_scalable_target(**resource(emulator), MinCapacity=1, MaxCapacity=5)
    arn = scaling.put_scaling_policy(
        **resource(emulator),
        PolicyName="step",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 600,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 2}],
        },
    )["PolicyARN"]
    cloudwatch.put_metric_alarm(
        AlarmName="busy",
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[
            {"Name": "EndpointName", "Value": emulator.endpoint},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1000.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[arn],
    )
    with Load(emulator, 40.0):
        wait_for(lambda: current(emulator)[2] == 3)
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["busy"])["MetricAlarms"]
    assert alarm["AlarmActions"] == [arn]
    cloudwatch.delete_alarms(AlarmNames=["busy"])
    assert not cloudwatch.describe_alarms(AlarmNames=["busy"])["MetricAlarms"]


def test_scheduled_action_changes_the_bounds(start: Start) -> None:
    emulator = start(FAST)
    scaling = emulator.client("application-autoscaling")
    scaling.register_scalable_target(**resource(emulator), MinCapacity=1, MaxCapacity=4)
    scaling.put_scheduled_action(
        **resource(emulator),
        ScheduledActionName="up",
        Schedule="rate(1 minute)",
        ScalableTargetAction={"MinCapacity": 3, "MaxCapacity": 4},
    )
    (action,) = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]
    assert action["Schedule"] == "rate(1 minute)"
    wait_for(lambda: current(emulator)[2] == 3)
    scaling.delete_scheduled_action(**resource(emulator), ScheduledActionName="up")


def test_metrics_have_aws_units_and_dimensions(start: Start) -> None:
    gpus = "gpus = 2\ngpu_share = 0.5\ngpu_memory_share = 0.4\n"
    emulator = start(FAST.replace("mean_ms = 0.0", "mean_ms = 10.0") + gpus)
    runtime = emulator.client("sagemaker-runtime")
    for _ in range(20):
        runtime.invoke_endpoint(EndpointName=emulator.endpoint, Body=b"{}")
    time.sleep(1.2)
    cloudwatch = emulator.client("cloudwatch")
    now = dt.datetime.now(dt.UTC)
    dimensions = [
        {"Name": "EndpointName", "Value": emulator.endpoint},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]

    def statistics(name: str, namespace: str = "AWS/SageMaker", **kw: object) -> list[dict]:
        return cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=kw.pop("dimensions", dimensions),
            StartTime=now - dt.timedelta(hours=1),
            EndTime=now,
            Period=60,
            **kw,
        )["Datapoints"]

    invocations = statistics("Invocations", Statistics=["Sum"])
    # A control minute of half a second: every request stands for 120 in a real minute.
    assert sum(p["Sum"] for p in invocations) == pytest.approx(20 * 120)
    assert all(now - dt.timedelta(hours=1) <= p["Timestamp"] <= now for p in invocations)
    per_instance = statistics("InvocationsPerInstance", Statistics=["Sum"])
    assert sum(p["Sum"] for p in per_instance) == pytest.approx(20 * 120)
    latency = statistics(
        "ModelLatency", Statistics=["Minimum", "SampleCount"], ExtendedStatistics=["p50"]
    )
    assert sum(p["SampleCount"] for p in latency) == 20
    assert {p["Unit"] for p in latency} == {"Microseconds"}
    assert all(p["Minimum"] == pytest.approx(10_000, rel=1e-6) for p in latency)
    assert all(p["ExtendedStatistics"]["p50"] == pytest.approx(10_000, rel=0.01) for p in latency)
    cpu = statistics("CPUUtilization", "/aws/sagemaker/Endpoints", Statistics=["Maximum"])
    # 20 requests of 10 ms on 8 workers and 4 vCPU: at most 4 x 100 % x 0.2 s / (8 x 0.5 s).
    assert 0.0 < max(p["Maximum"] for p in cpu) <= 20.5
    # Two GPUs, of which half work when all workers do: a quarter of what four cores show.
    gpu = statistics("GPUUtilization", "/aws/sagemaker/Endpoints", Statistics=["Maximum"])
    assert max(p["Maximum"] for p in gpu) == pytest.approx(max(p["Maximum"] for p in cpu) / 4.0)
    used = statistics("GPUMemoryUtilization", "/aws/sagemaker/Endpoints", Statistics=["Average"])
    assert [p["Average"] for p in used] == pytest.approx([80.0] * len(used))
    assert not statistics("Invocations", Statistics=["Sum"], dimensions=dimensions[:1])
    data = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {
                "Id": "m",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/SageMaker",
                        "MetricName": "Invocations",
                        "Dimensions": dimensions,
                    },
                    "Period": 60,
                    "Stat": "Sum",
                },
            }
        ],
        StartTime=now - dt.timedelta(hours=1),
        EndTime=now,
    )["MetricDataResults"][0]
    assert sum(data["Values"]) == pytest.approx(20 * 120)
    assert data["Timestamps"] == sorted(data["Timestamps"], reverse=True)
    names = {m["MetricName"] for m in cloudwatch.list_metrics()["Metrics"]}
    assert {"Invocations", "ModelLatency", "CPUUtilization", "GPUUtilization"} <= names


@pytest.mark.parametrize(
    ("call", "arguments", "code"),
    [
        ("deregister_scalable_target", {}, "ObjectNotFoundException"),
        ("register_scalable_target", {"MinCapacity": 1}, "ValidationException"),
        ("register_scalable_target", {"MinCapacity": 0, "MaxCapacity": 3}, "ValidationException"),
        ("register_scalable_target", {"MinCapacity": 5, "MaxCapacity": 3}, "ValidationException"),
    ],
)
def test_scaling_errors(
    null_emulator: ThreadedEmulator, call: str, arguments: dict[str, object], code: str
) -> None:
    client = null_emulator.client("application-autoscaling")
    with pytest.raises(ClientError) as caught:
        getattr(client, call)(**resource(null_emulator), **arguments)
    assert caught.value.response["Error"]["Code"] == code


def test_quota_stops_a_scale_out(start: Start) -> None:
    emulator = start("instance_quota = 2\n" + FAST)
    scaling = emulator.client("application-autoscaling")
    scaling.register_scalable_target(**resource(emulator), MinCapacity=1, MaxCapacity=10)
    scaling.put_scaling_policy(
        **resource(emulator),
        PolicyName="keep",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=tracking(600.0),
    )
    with Load(emulator, 60.0):
        (failed, *_) = wait_for(
            lambda: [
                a
                for a in scaling.describe_scaling_activities(**resource(emulator))[
                    "ScalingActivities"
                ]
                if a["StatusCode"] == "Failed"
            ]
        )
    assert "ResourceLimitExceeded" in failed["StatusMessage"]
    assert current(emulator)[2] == 1
