"""Findings of ``tuner check`` for what moto cannot show: quotas, capture, odd variants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_aws import NAME, Clock, FakeAws, Fault, serve

from tuner.endpoints.protocol import CampaignEstimate, Finding
from tuner.endpoints.sagemaker import SageMakerEndpoint

TYPE = "ml.m5.xlarge for endpoint usage"


def findings(planned: int = 4, **state: Any) -> dict[str, Finding]:
    fault: Callable[[int, str], Fault | None] = state.pop("fault", lambda i, op: None)
    status = state.pop("status", "InService")
    fake = FakeAws(Clock().time, **state)
    fake.status = status
    fake.fault = fault
    before = fake.snapshot()
    with serve(fake) as url:
        endpoint = SageMakerEndpoint(NAME, endpoint_url=url, attempts=1)
        found = endpoint.preflight(CampaignEstimate(max_instance_count=planned))
    assert fake.snapshot() == before
    assert not {c for c in fake.calls if c.startswith(("Update", "Register", "Put", "Delete"))}
    return {f.code: f for f in found}


@pytest.mark.parametrize(
    ("applied", "default", "level"),
    [
        ({TYPE: 20.0}, {}, "ok"),
        ({TYPE: 8.0}, {}, "ok"),
        ({TYPE: 7.0}, {}, "warn"),
        ({TYPE: 4.0}, {}, "warn"),
        ({TYPE: 3.0}, {}, "stop"),
        ({TYPE: 0.0}, {TYPE: 20.0}, "stop"),
        ({}, {TYPE: 3.0}, "stop"),
        ({}, {TYPE: 20.0}, "ok"),
        ({"ml.m5.xlarge for training job usage": 1.0}, {}, "warn"),
        ({}, {}, "warn"),
    ],
)
def test_the_quota_against_the_planned_maximum(
    applied: dict[str, float], default: dict[str, float], level: str
) -> None:
    finding = findings(4, quotas=applied, default_quotas=default)["quota"]
    assert finding.level == level
    if level == "stop":
        assert finding.value == "4"
        assert TYPE in (finding.allowed or "")


def test_a_quota_that_may_not_be_read_is_a_warning() -> None:
    found = findings(fault=lambda i, op: Fault("denied") if "Quotas" in op else None)
    assert found["quota"].level == "warn"
    assert "servicequotas:ListServiceQuotas" in (found["quota"].hint or "")


def test_tags_that_may_not_be_read_are_a_warning() -> None:
    found = findings(fault=lambda i, op: Fault("denied") if op == "ListTags" else None)
    assert found["production"].level == "warn"


def test_scaling_that_may_not_be_read_stops() -> None:
    found = findings(fault=lambda i, op: Fault("denied") if "Scalable" in op else None)
    assert found["scaling"].level == "stop"
    assert found["scaling"].value == "AccessDeniedException"
    assert "quota" in found


@pytest.mark.parametrize(
    ("capture", "level"),
    [
        (None, "ok"),
        (
            {"EnableCapture": False, "CaptureStatus": "Stopped", "CurrentSamplingPercentage": 9},
            "ok",
        ),
        (
            {"EnableCapture": True, "CaptureStatus": "Started", "CurrentSamplingPercentage": 25},
            "warn",
        ),
    ],
)
def test_data_capture(capture: dict[str, Any] | None, level: str) -> None:
    if capture is not None:
        capture |= {"CurrentSamplingPercentage": 25, "DestinationS3Uri": "s3://bucket/x"}
        capture |= {"KmsKeyId": ""}
    found = findings(extra_endpoint={"DataCaptureConfig": capture} if capture else {})
    assert found["data_capture"].level == level
    if level == "warn":
        assert "25 %" in found["data_capture"].sentence
        assert found["data_capture"].value == "s3://bucket/x"


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ({"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}, "serverless"),
        ({"ModelName": None}, "inference components"),
        ({"InstancePools": [{"InstanceType": "ml.m5.xlarge", "Priority": 1}]}, "pools"),
    ],
)
def test_variants_without_a_count_of_their_own_stop(extra: dict[str, Any], word: str) -> None:
    found = findings(extra_variant=extra)
    assert found["kind"].level == "stop"
    assert word in found["kind"].sentence


def test_an_asynchronous_endpoint_stops() -> None:
    config = {"OutputConfig": {"S3OutputPath": "s3://bucket/x"}}
    assert findings(extra_endpoint={"AsyncInferenceConfig": config})["kind"].level == "stop"


@pytest.mark.parametrize(
    ("strategy", "level"),
    [
        (None, "ok"),
        ("RANDOM", "ok"),
        ("LEAST_OUTSTANDING_REQUESTS", "ok"),
        ("PREFIX_AWARE", "stop"),
    ],
)
def test_routing(strategy: str | None, level: str) -> None:
    extra = {"RoutingConfig": {"RoutingStrategy": strategy}} if strategy else {}
    assert findings(extra_variant=extra)["routing"].level == level


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("InService", "ok"),
        ("Updating", "warn"),
        ("SystemUpdating", "warn"),
        ("Creating", "warn"),
        ("RollingBack", "warn"),
        ("Failed", "stop"),
        ("OutOfService", "stop"),
        ("UpdateRollbackFailed", "stop"),
        ("Deleting", "stop"),
    ],
)
def test_status(status: str, level: str) -> None:
    finding = findings(status=status)["status"]
    assert finding.level == level
    if level == "stop":
        assert finding.hint


def test_what_scales_it_is_told() -> None:
    assert "within 2 to 8" in findings()["scaling"].sentence
    assert "by-invocations" in (findings()["scaling"].value or "")
    assert "no scalable target" in findings(registered=False, policies={})["scaling"].sentence


def test_scaling_that_is_suspended_already_points_to_restore() -> None:
    suspended = {"DynamicScalingInSuspended": True}
    found = findings(suspended=suspended)
    assert found["suspended"].level == "warn"
    assert "tuner restore" in (found["suspended"].hint or "")
    assert "suspended" not in findings()


def test_counts_outside_the_bounds_are_told() -> None:
    assert findings(planned=9)["planned_count"].level == "warn"
    assert findings(count=1)["bounds"].level == "warn"
    assert not {"planned_count", "bounds"} & findings(planned=8).keys()


def test_a_deleted_configuration_leaves_the_type_open() -> None:
    found = findings(instance_type=None)
    assert found["kind"].level == "warn"
    assert found["quota"].level == "warn"
