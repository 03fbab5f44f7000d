"""A control plane that refuses, hangs, loses answers, and endpoints that break."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from emulator_harness import Start, ThreadedEmulator, wait_for

QUICK = """
[endpoint]
name = "quick"
instance_count = 2
launch_lag_s = 0.05
drain_s = 0.0
[instance]
service = { shape = "deterministic", mean_ms = 0.0 }
"""


@pytest.fixture
def emulator(start: Start) -> ThreadedEmulator:
    return start(QUICK)


def fault(emulator: ThreadedEmulator, **members: object) -> None:
    body = json.dumps(members).encode()
    request = urllib.request.Request(f"{emulator.url}/_tuner/faults", data=body, method="POST")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def clear(emulator: ThreadedEmulator) -> None:
    request = urllib.request.Request(f"{emulator.url}/_tuner/faults", method="DELETE")
    urllib.request.urlopen(request).close()


def refusal(call: Callable[..., Any], **members: object) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response


def order(emulator: ThreadedEmulator, count: int) -> None:
    emulator.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName="quick",
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": count}],
    )


def counts(emulator: ThreadedEmulator) -> tuple[str, int, int]:
    found = emulator.client("sagemaker").describe_endpoint(EndpointName="quick")
    (variant,) = found["ProductionVariants"]
    return (
        found["EndpointStatus"],
        variant["CurrentInstanceCount"],
        variant["DesiredInstanceCount"],
    )


@pytest.mark.parametrize(
    ("service", "operation", "members"),
    [
        ("sagemaker", "list_endpoints", {}),
        ("application-autoscaling", "describe_scalable_targets", {"ServiceNamespace": "sagemaker"}),
        ("cloudwatch", "describe_alarms", {}),
        ("service-quotas", "list_service_quotas", {"ServiceCode": "sagemaker"}),
    ],
)
def test_every_service_refuses_in_its_own_form(
    emulator: ThreadedEmulator, service: str, operation: str, members: dict[str, Any]
) -> None:
    call = getattr(emulator.client(service), operation)
    call(**members)
    fault(emulator, kind="control_error", code="AccessDeniedException")
    response = refusal(call, **members)
    assert response["Error"]["Code"] == "AccessDeniedException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    clear(emulator)
    call(**members)


def test_one_operation_fails_and_its_neighbour_does_not(emulator: ThreadedEmulator) -> None:
    client = emulator.client("sagemaker")
    fault(emulator, kind="control_error", operation="ListEndpoints", code="InternalFailure",
          status=500)  # fmt: skip
    response = refusal(client.list_endpoints)
    assert response["Error"]["Code"] == "InternalFailure"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 500
    client.describe_endpoint(EndpointName="quick")


def test_a_call_may_be_carried_out_and_its_answer_lost(emulator: ThreadedEmulator) -> None:
    fault(emulator, kind="control_error", operation="UpdateEndpointWeightsAndCapacities",
          applied=True)  # fmt: skip
    assert refusal(order, emulator=emulator, count=3)["Error"]["Code"] == "ThrottlingException"
    wait_for(lambda: counts(emulator) == ("InService", 3, 3))


def test_an_answer_may_be_late(emulator: ThreadedEmulator) -> None:
    fault(emulator, kind="control_delay", delay_s=0.3)
    begun = time.monotonic()
    emulator.client("sagemaker").list_endpoints()
    assert time.monotonic() - begun >= 0.3


def test_a_stuck_launch_goes_on_when_the_fault_ends(emulator: ThreadedEmulator) -> None:
    fault(emulator, kind="stuck_launch")
    order(emulator, 4)
    time.sleep(0.2)  # four times the launch lag
    assert counts(emulator) == ("Updating", 2, 4)
    clear(emulator)
    wait_for(lambda: counts(emulator) == ("InService", 4, 4))


def test_an_endpoint_may_fail_or_be_deleted(emulator: ThreadedEmulator) -> None:
    scaling = emulator.client("application-autoscaling")
    scaling.register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/quick/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=5,
    )
    client, runtime = emulator.client("sagemaker"), emulator.client("sagemaker-runtime")
    fault(emulator, kind="fail_endpoint")
    found = client.describe_endpoint(EndpointName="quick")
    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"]
    invoked = refusal(runtime.invoke_endpoint, EndpointName="quick", Body=b"")
    assert invoked["Error"]["Code"] == "ValidationError"
    fault(emulator, kind="delete_endpoint")
    gone = refusal(client.describe_endpoint, EndpointName="quick")
    assert gone["Error"]["Code"] == "ValidationException"
    assert "Could not find" in gone["Error"]["Message"]
    wait_for(
        lambda: (
            not scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        )
    )
