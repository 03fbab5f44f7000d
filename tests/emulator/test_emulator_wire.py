"""SageMaker Runtime and the control plane over the wire, with stock boto3 and the AWS CLI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from emulator_harness import Start, ThreadedEmulator, wait_for

from tuner.emulator.spec import Fault, FaultKind

SMALL = """
minute_seconds = 1.0
[endpoint]
name = "small"
launch_lag_s = 45.0
drain_s = 0.2
[instance]
workers = 2
service = { mean_ms = 5.0 }
"""


def error(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int, str]:
    response = caught.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return response["Error"]["Code"], status, response["Error"]["Message"]


def test_invoke_endpoint(null_emulator: ThreadedEmulator) -> None:
    answer = null_emulator.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=null_emulator.endpoint,
        Body=b'{"instances": [[1.0]]}',
        ContentType="application/json",
        CustomAttributes="trace=1",
    )
    assert json.loads(answer["Body"].read()) == {"predictions": [0.5]}
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ContentType"] == "application/json"
    assert answer["CustomAttributes"] == "trace=1"
    assert answer["ResponseMetadata"]["RequestId"]


def test_unknown_endpoint_and_variant(null_emulator: ThreadedEmulator) -> None:
    client = null_emulator.client("sagemaker-runtime")
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint(EndpointName="nowhere", Body=b"")
    assert error(caught) == (
        "ValidationError",
        400,
        "Endpoint nowhere of account 123456789012 not found.",
    )
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint(EndpointName=null_emulator.endpoint, Body=b"", TargetVariant="Other")
    assert error(caught)[:2] == ("ValidationError", 400)


def test_response_stream_is_paced_and_framed(start: Start) -> None:
    emulator = start(
        SMALL.replace("mean_ms = 5.0", "mean_ms = 1200.0")
        + '[response]\nbody = "abcdefghijklmnopqrst"\nstream_chunks = 5\nfirst_chunk_share = 0.25\n'
    )
    client = emulator.client("sagemaker-runtime")
    began = time.monotonic()
    answer = client.invoke_endpoint_with_response_stream(EndpointName="small", Body=b"{}")
    parts, at = [], []
    for event in answer["Body"]:
        parts.append(event["PayloadPart"]["Bytes"])
        at.append(time.monotonic() - began)
    assert b"".join(parts) == b"abcdefghijklmnopqrst"
    assert len(parts) == 5
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ContentType"] == "application/json"
    # First part after a quarter of 1.2 s, the last with the end of the work: nine tenths of a
    # second apart, of which a busy machine may take most.
    assert at[0] >= 0.3
    assert at[-1] >= 1.2
    assert at[-1] - at[0] > 0.15


def test_scale_out_shows_desired_before_current(start: Start) -> None:
    emulator = start(SMALL)
    client = emulator.client("sagemaker")

    def counts() -> tuple[str, int, int]:
        found = client.describe_endpoint(EndpointName="small")
        variant = found["ProductionVariants"][0]
        return (
            found["EndpointStatus"],
            variant["CurrentInstanceCount"],
            variant["DesiredInstanceCount"],
        )

    def order(count: int) -> None:
        client.update_endpoint_weights_and_capacities(
            EndpointName="small",
            DesiredWeightsAndCapacities=[
                {"VariantName": "AllTraffic", "DesiredInstanceCount": count}
            ],
        )

    assert counts() == ("InService", 1, 1)
    order(3)
    assert counts() == ("Updating", 1, 3)
    with pytest.raises(ClientError) as caught:
        order(4)
    assert error(caught)[:2] == ("ValidationException", 400)
    assert "in-progress" in error(caught)[2]
    emulator.client("sagemaker-runtime").invoke_endpoint(EndpointName="small", Body=b"{}")
    wait_for(lambda: counts() == ("InService", 3, 3), timeout_s=8)
    order(1)
    wait_for(lambda: counts() == ("InService", 1, 1), timeout_s=8)
    for bad in ({"DesiredInstanceCount": 0}, {}):
        with pytest.raises(ClientError) as caught:
            client.update_endpoint_weights_and_capacities(
                EndpointName="small",
                DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", **bad}],
            )
        assert error(caught)[0] == "ValidationException"


def test_quota(start: Start) -> None:
    emulator = start("instance_quota = 3\n" + SMALL)
    with pytest.raises(ClientError) as caught:
        emulator.client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName="small",
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 4}],
        )
    assert error(caught)[:2] == ("ResourceLimitExceeded", 400)
    quotas = emulator.client("service-quotas").list_service_quotas(ServiceCode="sagemaker")
    (quota,) = quotas["Quotas"]
    assert (quota["QuotaName"], quota["Value"]) == ("ml.m5.xlarge for endpoint usage", 3.0)


def test_prices(start: Start) -> None:
    emulator = start("gpu-batch")

    def products(kind: str) -> list[str]:
        return emulator.client("pricing").get_products(
            ServiceCode="AmazonSageMaker",
            FormatVersion="aws_v1",
            Filters=[
                {"Type": "TERM_MATCH", "Field": "instanceName", "Value": kind},
                {"Type": "TERM_MATCH", "Field": "component", "Value": "Hosting"},
            ],
        )["PriceList"]

    (text,) = products("ml.g5.xlarge")
    (term,) = json.loads(text)["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    assert (dimension["unit"], float(dimension["pricePerUnit"]["USD"])) == ("Hrs", 1.408)
    assert products("ml.m5.xlarge") == []


def make(client: object, name: str, *, count: int = 1, kind: str = "ml.m5.xlarge") -> None:
    client.create_model(  # type: ignore[attr-defined]
        ModelName=f"{name}-model",
        PrimaryContainer={"Image": "1.dkr.ecr.us-east-1.amazonaws.com/x:1"},
        ExecutionRoleArn="arn:aws:iam::123456789012:role/role",
    )
    client.create_endpoint_config(  # type: ignore[attr-defined]
        EndpointConfigName=f"{name}-config",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": f"{name}-model",
                "InstanceType": kind,
                "InitialInstanceCount": count,
            }
        ],
    )


def test_life_of_an_endpoint(start: Start) -> None:
    emulator = start(SMALL)
    client = emulator.client("sagemaker")
    runtime = emulator.client("sagemaker-runtime")

    def status() -> str:
        return client.describe_endpoint(EndpointName="mine")["EndpointStatus"]

    make(client, "mine", count=2)
    client.create_endpoint(
        EndpointName="mine", EndpointConfigName="mine-config", Tags=[{"Key": "team", "Value": "ml"}]
    )
    assert status() == "Creating"
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint(EndpointName="mine", Body=b"")
    assert error(caught)[0] == "ValidationError"
    wait_for(lambda: status() == "InService", timeout_s=8)
    assert runtime.invoke_endpoint(EndpointName="mine", Body=b"")["Body"].read()
    arn = client.describe_endpoint(EndpointName="mine")["EndpointArn"]
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "ml"}]
    with pytest.raises(ClientError) as caught:
        client.create_endpoint(EndpointName="mine", EndpointConfigName="mine-config")
    assert "already existing" in error(caught)[2]

    make(client, "next", count=3)
    client.update_endpoint(
        EndpointName="mine", EndpointConfigName="next-config", RetainAllVariantProperties=True
    )
    found = client.describe_endpoint(EndpointName="mine")
    assert found["EndpointStatus"] == "Updating"
    assert found["EndpointConfigName"] == "mine-config"
    assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "next-config"
    wait_for(lambda: status() == "InService", timeout_s=8)
    found = client.describe_endpoint(EndpointName="mine")
    assert found["EndpointConfigName"] == "next-config"
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 2  # retained

    names = {e["EndpointName"] for e in client.list_endpoints()["Endpoints"]}
    assert names == {"small", "mine"}
    client.delete_endpoint(EndpointName="mine")
    assert wait_for(lambda: len(client.list_endpoints()["Endpoints"]) == 1)
    with pytest.raises(ClientError) as caught:
        status()
    assert "Could not find endpoint" in error(caught)[2]
    client.delete_endpoint_config(EndpointConfigName="mine-config")
    client.delete_model(ModelName="mine-model")
    with pytest.raises(ClientError) as caught:
        client.describe_model(ModelName="mine-model")
    assert error(caught)[0] == "ValidationException"


def test_a_failed_update_rolls_back(start: Start) -> None:
    emulator = start(SMALL)
    client = emulator.client("sagemaker")
    make(client, "next", count=2)
    emulator.emulator.faults.add(Fault(FaultKind.NO_CAPACITY))
    client.update_endpoint(EndpointName="small", EndpointConfigName="next-config")

    def seen() -> dict:
        return client.describe_endpoint(EndpointName="small")

    assert seen()["EndpointStatus"] == "Updating"
    wait_for(lambda: seen()["EndpointStatus"] == "InService", timeout_s=8)
    after = seen()
    assert after["EndpointConfigName"] == "small-config"
    assert "PendingDeploymentSummary" not in after
    assert "InsufficientInstanceCapacity" in after["FailureReason"]
    assert after["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    client.create_endpoint(EndpointName="never", EndpointConfigName="next-config")
    wait_for(
        lambda: client.describe_endpoint(EndpointName="never")["EndpointStatus"] == "Failed",
        timeout_s=8,
    )


def test_instance_type_of_a_scalable_target_cannot_change(start: Start) -> None:
    emulator = start(SMALL)
    client = emulator.client("sagemaker")
    make(client, "big", kind="ml.c5.4xlarge")
    emulator.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/small/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=2,
    )
    with pytest.raises(ClientError) as caught:
        client.update_endpoint(EndpointName="small", EndpointConfigName="big-config")
    assert "scalable target" in error(caught)[2]


def test_lists_are_paged(start: Start) -> None:
    client = start(SMALL).client("sagemaker")
    for number in range(13):
        client.create_model(
            ModelName=f"m-{number:02d}",
            PrimaryContainer={"Image": "x"},
            ExecutionRoleArn="arn:aws:iam::123456789012:role/role",
        )
    pages = client.get_paginator("list_models").paginate(
        NameContains="m-", SortBy="Name", SortOrder="Ascending"
    )
    names = [m["ModelName"] for page in pages for m in page["Models"]]
    assert names == [f"m-{n:02d}" for n in range(13)]


def test_traffic_follows_variant_weights(start: Start) -> None:
    emulator = start(
        'seed = 5\n[endpoint]\nname = "two"\nvariant = "a"\nweight = 3.0\n'
        "[instance]\nservice = { mean_ms = 0.0 }\n"
        '[[variants]]\nvariant = "b"\nweight = 1.0\n'
    )
    client = emulator.client("sagemaker-runtime")
    seen = [
        client.invoke_endpoint(EndpointName="two", Body=b"")["InvokedProductionVariant"]
        for _ in range(200)
    ]
    assert seen.count("a") == pytest.approx(150, abs=25)  # four standard deviations
    answer = client.invoke_endpoint(EndpointName="two", Body=b"", TargetVariant="b")
    assert answer["InvokedProductionVariant"] == "b"


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ('kind = "throttle"', "ThrottlingException", 400),
        ('kind = "error"', "InternalFailure", 500),
        ('kind = "error"\nstatus = 503', "ServiceUnavailable", 503),
        ('kind = "error"\nstatus = 424', "ModelError", 424),
        ('kind = "error"\nstatus = 400', "ModelError", 424),
    ],
)
def test_faults_have_aws_forms(start: Start, fault: str, code: str, status: int) -> None:
    emulator = start(SMALL + f"[[faults]]\n{fault}\n")
    with pytest.raises(ClientError) as caught:
        emulator.client("sagemaker-runtime").invoke_endpoint(EndpointName="small", Body=b"{}")
    assert error(caught)[:2] == (code, status)
    if code == "ModelError":
        original = 500 if "424" in fault else 400
        assert caught.value.response["OriginalStatusCode"] == original
        assert caught.value.response["OriginalMessage"]
        assert caught.value.response["LogStreamArn"].startswith("arn:aws:logs:")


def test_slow_model_times_out_as_a_model_error(start: Start) -> None:
    emulator = start(
        SMALL.replace("drain_s = 0.2", "drain_s = 0.2\ntimeout_s = 0.1").replace("5.0 }", "900.0 }")
    )
    began = time.monotonic()
    with pytest.raises(ClientError) as caught:
        emulator.client("sagemaker-runtime").invoke_endpoint(EndpointName="small", Body=b"{}")
    assert error(caught)[:2] == ("ModelError", 424)
    assert 0.1 <= time.monotonic() - began < 0.9


def test_full_queue_is_a_model_error_with_503_inside(start: Start) -> None:
    emulator = start(
        SMALL.replace("workers = 2", "workers = 1\nqueue_limit = 0").replace("5.0 }", "500.0 }")
    )
    from concurrent.futures import ThreadPoolExecutor

    client = emulator.client("sagemaker-runtime")

    def invoke(_: int) -> int:
        try:
            client.invoke_endpoint(EndpointName="small", Body=b"")
        except ClientError as caught:
            return int(caught.response["OriginalStatusCode"])
        return 200

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(invoke, range(3))) == [200, 503, 503]


def aws(emulator: ThreadedEmulator, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    command = Path(sys.executable).with_name("aws")
    return subprocess.run(
        [sys.executable, str(command), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_aws_cli_through_the_environment(null_emulator: ThreadedEmulator, tmp_path: Path) -> None:
    name = null_emulator.endpoint
    out = tmp_path / "out.json"
    done = aws(null_emulator, tmp_path, "sagemaker-runtime", "invoke-endpoint",
               "--endpoint-name", name, "--body", "e30=", str(out))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["InvokedProductionVariant"] == "AllTraffic"
    assert json.loads(out.read_text()) == {"predictions": [0.5]}
    done = aws(null_emulator, tmp_path, "sagemaker", "describe-endpoint", "--endpoint-name", "no")
    assert done.returncode != 0
    assert "(ValidationException)" in done.stderr
    done = aws(null_emulator, tmp_path, "cloudwatch", "get-metric-statistics",
               "--namespace", "AWS/SageMaker", "--metric-name", "Invocations",
               "--start-time", "2026-01-01T00:00:00Z", "--end-time", "2026-01-02T00:00:00Z",
               "--period", "60", "--statistics", "Sum")  # fmt: skip
    assert json.loads(done.stdout) == {"Label": "Invocations", "Datapoints": []}
