"""The edge to botocore: credentials, regions, error codes, and the list of operations."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import botocore.session
import pytest
from botocore.stub import Stubber
from fake_aws import NAME, Clock, FakeAws, Fault, serve

from tuner.endpoints.aws import Aws, call
from tuner.endpoints.operations import ALLOWED, READS, WRITES, iam_policy
from tuner.endpoints.protocol import AwsError, CampaignEstimate
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.endpoints.urls import is_loopback
from tuner.errors import EndpointError

SERVICES = (
    "sagemaker",
    "application-autoscaling",
    "cloudwatch",
    "service-quotas",
    "pricing",
)


def test_every_listed_operation_exists_and_reads_only_look() -> None:
    session = botocore.session.get_session()
    known = {n for s in SERVICES for n in session.get_service_model(s).operation_names}
    assert known >= ALLOWED
    assert all(name.startswith(("Describe", "List", "Get")) for name, _ in READS)
    assert not any(w.operation.startswith(("Describe", "List", "Get")) for w in WRITES)
    assert all(w.why and w.undone_by for w in WRITES)


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("sagemaker", "delete_endpoint", {"EndpointName": NAME}),
        ("sagemaker", "update_endpoint", {"EndpointName": NAME, "EndpointConfigName": "x"}),
        ("cloudwatch", "delete_alarms", {"AlarmNames": ["x"]}),
        ("service-quotas", "get_service_quota", {"ServiceCode": "x", "QuotaCode": "y"}),
    ],
)
def test_nothing_unlisted_can_be_called(
    service: str, operation: str, arguments: dict[str, object]
) -> None:
    fake = FakeAws(Clock().time)
    with serve(fake) as url:
        client = Aws(endpoint_url=url).client(service)
        with pytest.raises(EndpointError, match="must not call"):
            getattr(client, operation)(**arguments)
    assert fake.calls == []


def test_a_campaign_needs_no_more_than_its_iam_policy() -> None:
    clock = Clock()
    fake = FakeAws(clock.time)
    with serve(fake) as url:
        endpoint = SageMakerEndpoint(
            NAME, endpoint_url=url, poll_interval_s=5.0, clock=clock.time, sleep=clock.sleep
        )
        records = [endpoint.freeze(lambda r: None)]
        endpoint.preflight(CampaignEstimate(max_instance_count=4))
        endpoint.set_instance_count(4)
        endpoint.restore(records[0].with_change("instance_count"))
    actions = json.loads(iam_policy(apply=False))["Statement"][0]["Action"]
    granted = {a.split(":")[1] for a in actions}
    assert set(fake.calls) <= granted
    assert "PutScalingPolicy" not in granted
    assert "DeleteEndpoint" not in json.dumps(actions)
    assert "application-autoscaling:PutScalingPolicy" in iam_policy()


def test_no_region_is_a_clear_question() -> None:
    with pytest.raises(EndpointError, match="no AWS region") as caught:
        SageMakerEndpoint(NAME)
    assert caught.value.hint is not None
    assert caught.value.exit_code == 2


def test_no_credentials_is_a_clear_message() -> None:
    endpoint = SageMakerEndpoint(NAME, region="eu-west-1")
    with pytest.raises(EndpointError, match="no AWS credentials"):
        endpoint.describe()
    findings = endpoint.preflight(CampaignEstimate(max_instance_count=2))
    assert [(f.code, f.level) for f in findings] == [("credentials", "stop")]


def test_half_a_pair_of_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    with pytest.raises(EndpointError, match="no AWS credentials"):
        SageMakerEndpoint(NAME, region="eu-west-1").describe()


@pytest.mark.parametrize("region", ["not a region", "eu_west", "x/y"])
def test_a_malformed_region(region: str) -> None:
    with pytest.raises(EndpointError):
        SageMakerEndpoint(NAME, region=region).describe()


@pytest.mark.parametrize("url", ["model", "http://[::1", "http://127.0.0.1:port"])
def test_a_malformed_url(url: str) -> None:
    with pytest.raises(EndpointError):
        SageMakerEndpoint(NAME, region="eu-west-1", endpoint_url=url).describe()


def test_an_unknown_profile() -> None:
    with pytest.raises(EndpointError, match="profile") as caught:
        SageMakerEndpoint(NAME, region="eu-west-1", profile="nobody")
    assert caught.value.value == "nobody"


def test_the_profile_gives_the_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[profile team]\nregion = ap-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert SageMakerEndpoint(NAME, profile="team").aws.region == "ap-south-1"


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_environment_gives_the_region(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "sa-east-1")
    assert SageMakerEndpoint(NAME).aws.region == "sa-east-1"
    assert SageMakerEndpoint(NAME, region="eu-west-1").aws.region == "eu-west-1"


def test_a_profile_of_the_environment_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "gone")
    with pytest.raises(EndpointError, match="profile") as caught:
        SageMakerEndpoint(NAME, region="eu-west-1")
    assert caught.value.value == "gone"


def test_a_broken_aws_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[profile\nregion ap-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(EndpointError, match="AWS configuration"):
        SageMakerEndpoint(NAME)


def test_an_emulator_needs_neither_credentials_nor_region() -> None:
    with serve(FakeAws(Clock().time)) as url:
        endpoint = SageMakerEndpoint(NAME, endpoint_url=url)
        assert endpoint.describe().status == "InService"
        assert endpoint.aws.region == "us-east-1"


def test_the_environment_names_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(FakeAws(Clock().time)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        endpoint = SageMakerEndpoint(NAME)
        assert endpoint.take_record().endpoint_url == url


def test_a_refused_connection_names_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(AwsError) as caught:
        SageMakerEndpoint(NAME, endpoint_url=url, attempts=1).describe()
    assert caught.value.transient
    assert url in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "code", "transient", "hint"),
    [
        ("throttle", "ThrottlingException", True, "throttles"),
        ("internal", "InternalFailure", True, "internal error"),
        ("unavailable", "ServiceUnavailable", True, "internal error"),
        ("denied", "AccessDeniedException", False, "grant"),
    ],
)
def test_codes_of_aws_stay_readable(kind: str, code: str, transient: bool, hint: str) -> None:
    fake = FakeAws(Clock().time)
    fake.fault = lambda index, operation: Fault(kind)
    with serve(fake) as url, pytest.raises(AwsError) as caught:
        SageMakerEndpoint(NAME, endpoint_url=url, attempts=1).describe()
    assert (caught.value.code, caught.value.transient) == (code, transient)
    assert caught.value.operation == "DescribeEndpoint"
    assert hint in (caught.value.hint or "")


def test_expired_credentials_say_log_in_again() -> None:
    client = Aws(endpoint_url="http://127.0.0.1:1").sagemaker
    with Stubber(client) as stub:
        stub.add_client_error(
            "describe_endpoint", "ExpiredTokenException", "The security token is expired", 400
        )
        with pytest.raises(AwsError, match="expired") as caught:
            call(client.describe_endpoint, EndpointName=NAME)
    assert "log in again" in (caught.value.hint or "")
    assert not caught.value.transient


def test_normal_retries_are_on() -> None:
    fake = FakeAws(Clock().time)
    fake.fault = lambda index, operation: Fault("internal") if index == 0 else None
    with serve(fake) as url:
        assert SageMakerEndpoint(NAME, endpoint_url=url, attempts=2).describe().settled
    assert fake.calls[:2] == ["DescribeEndpoint", "DescribeEndpoint"]


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://localhost:5000", True),
        ("http://[::1]:5000", True),
        ("http://sagemaker.localhost:5000", True),
        ("https://127.0.0.1.example.com", False),
        ("http://10.0.0.1:5000", False),
        ("https://sagemaker.us-east-1.amazonaws.com", False),
        (None, False),
        ("", False),
    ],
)
def test_loopback(url: str | None, local: bool) -> None:
    assert is_loopback(url) is local
