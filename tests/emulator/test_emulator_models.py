"""A multi-model endpoint over the wire: TargetModel, cold loads, 429 and the metrics of models."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from emulator_harness import Start, ThreadedEmulator, wait_for

from tuner.emulator.specfile import parse_spec
from tuner.errors import PlanError

MODELS = """
minute_seconds = 0.5
publish_delay_s = 0
[endpoint]
name = "many"
[instance]
workers = 4
service = { mean_ms = 5.0 }
[models]
memory_mib = 200
model_mib = 100
download = { mean_ms = 60.0 }
load = { mean_ms = 40.0 }
unload = { mean_ms = 10.0 }
"""


def invoke(emulator: ThreadedEmulator, model: str) -> float:
    client = emulator.client("sagemaker-runtime")
    begun = time.monotonic()
    client.invoke_endpoint(EndpointName="many", Body=b"{}", TargetModel=model)["Body"].read()
    return time.monotonic() - begun


def metric(emulator: ThreadedEmulator, namespace: str, name: str) -> list[dict[str, Any]]:
    now = dt.datetime.now(dt.UTC)
    points: list[dict[str, Any]] = emulator.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[
            {"Name": "EndpointName", "Value": "many"},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ],
        StartTime=now - dt.timedelta(hours=1),
        EndTime=now + dt.timedelta(hours=1),
        Period=60,
        Statistics=["Sum", "SampleCount", "Maximum"],
    )["Datapoints"]
    return points


def total(emulator: ThreadedEmulator, name: str, what: str = "Sum") -> float:
    return float(sum(p[what] for p in metric(emulator, "AWS/SageMaker", name)))


def test_cold_loads_hits_and_evictions_reach_cloudwatch(start: Start) -> None:
    emulator = start(MODELS)
    # Two fit; c pushes a out; a comes back from disk, pushing b out.
    took = [invoke(emulator, m) for m in ("a", "b", "b", "c", "a")]
    assert min(took[0], took[1], took[3]) > 0.1
    assert took[4] > 0.05
    wait_for(lambda: total(emulator, "ModelCacheHit", "SampleCount") == 5, 10)
    wait_for(lambda: total(emulator, "ModelLoadingTime", "SampleCount") == 4, 10)
    assert total(emulator, "ModelCacheHit") == 1
    assert total(emulator, "ModelLoadingTime") == pytest.approx(4 * 40_000)
    assert total(emulator, "ModelDownloadingTime") == pytest.approx(3 * 60_000)
    assert total(emulator, "ModelUnloadingTime") == pytest.approx(2 * 10_000)
    assert total(emulator, "ModelLoadingWaitTime", "SampleCount") == 4
    assert total(emulator, "ModelLoadingWaitTime") == pytest.approx(360_000, rel=0.02)
    held = metric(emulator, "/aws/sagemaker/Endpoints", "LoadedModelCount")
    assert max(p["Maximum"] for p in held) == 2


def test_a_slow_load_answers_429_and_the_model_is_there_later(start: Start) -> None:
    slow = "wait_limit_s = 0.2\nload = { mean_ms = 500.0 }"
    emulator = start(MODELS.replace("load = { mean_ms = 40.0 }", slow, 1))
    with pytest.raises(ClientError) as caught:
        invoke(emulator, "a")
    response: Any = caught.value.response
    assert response["Error"]["Code"] == "ModelNotReadyException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    wait_for(lambda: total(emulator, "ModelLoadingTime", "SampleCount") == 1, 10)
    assert invoke(emulator, "a") < 0.2


def test_a_request_without_a_model_is_refused(start: Start) -> None:
    emulator = start("multi-model")
    with pytest.raises(ClientError, match="TargetModel") as caught:
        emulator.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=emulator.endpoint, Body=b"{}"
        )
    response: Any = caught.value.response
    assert response["Error"]["Code"] == "ValidationError"
    model = emulator.client("sagemaker").describe_model(ModelName=f"{emulator.endpoint}-model")
    assert model["PrimaryContainer"]["Mode"] == "MultiModel"


def test_other_endpoints_publish_no_metrics_of_models(null_emulator: ThreadedEmulator) -> None:
    listed = null_emulator.client("cloudwatch").list_metrics()["Metrics"]
    assert "ModelCacheHit" not in {m["MetricName"] for m in listed}


def test_a_model_larger_than_memory_is_a_problem_of_the_specification() -> None:
    with pytest.raises(PlanError, match="does not fit"):
        parse_spec("[models]\nmemory_mib = 100\nmodel_mib = 200\n", "test")
    with pytest.raises(PlanError, match="affinity"):
        parse_spec('[models]\naffinity = "yes"\n', "test")
