"""CloudWatch in the protocols of other SDKs, written and read by botocore's own codecs."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import time
from typing import Any
from urllib.parse import urlencode

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from emulator_harness import Start, ThreadedEmulator
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.emulator.cbor import decode
from tuner.emulator.errors import AwsError

PROTOCOLS = ["query", "smithy-rpc-v2-cbor", "json"]


def call(emulator: ThreadedEmulator, protocol: str, name: str, **members: Any) -> dict[str, Any]:
    """One CloudWatch operation in a protocol of choice."""
    model = botocore.session.get_session().get_service_model("cloudwatch")
    operation = model.operation_model(name)
    request = create_serializer(protocol).serialize_to_request(members, operation)
    body = request["body"]
    headers = dict(request["headers"])
    if isinstance(body, dict):
        body = urlencode(body)
        headers["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=10)
    connection.request("POST", request["url_path"], body, headers)
    answer = connection.getresponse()
    parsed = create_parser(protocol).parse(
        {"status_code": answer.status, "headers": dict(answer.headers), "body": answer.read()},
        operation.output_shape,
    )
    connection.close()
    return parsed


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metrics_and_alarms_in_every_protocol(start: Start, protocol: str) -> None:
    emulator = start(
        'minute_seconds = 0.5\npublish_delay_s = 0.0\n[endpoint]\nname = "p"\n'
        "[instance]\nservice = { mean_ms = 4.0 }\n"
    )
    for _ in range(5):
        emulator.client("sagemaker-runtime").invoke_endpoint(EndpointName="p", Body=b"")
    time.sleep(1.1)
    now = dt.datetime.now(dt.UTC)
    dimensions = [
        {"Name": "EndpointName", "Value": "p"},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]
    when = {"StartTime": now - dt.timedelta(minutes=5), "EndTime": now}
    found = call(
        emulator,
        protocol,
        "GetMetricStatistics",
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Dimensions=dimensions,
        Period=60,
        Statistics=["SampleCount", "Average"],
        **when,
    )["Datapoints"]
    assert sum(p["SampleCount"] for p in found) == 5
    assert all(p["Average"] == pytest.approx(4000.0) for p in found)
    assert all(when["StartTime"] <= p["Timestamp"] <= now for p in found)
    metric = {
        "Namespace": "AWS/SageMaker",
        "MetricName": "Invocations",
        "Dimensions": dimensions,
    }
    query = {"Id": "a", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}
    (data,) = call(emulator, protocol, "GetMetricData", MetricDataQueries=[query], **when)[
        "MetricDataResults"
    ]
    # A control minute of half a second: sums are of real minutes.
    assert sum(data["Values"]) == pytest.approx(5 * 120)
    assert all(isinstance(t, dt.datetime) for t in data["Timestamps"])
    call(
        emulator,
        protocol,
        "PutMetricAlarm",
        AlarmName="quiet & <low>",
        ComparisonOperator="LessThanThreshold",
        EvaluationPeriods=2,
        Threshold=1.5,
        Period=60,
        Statistic="Sum",
        ActionsEnabled=False,
        **metric,
    )
    (alarm,) = call(emulator, protocol, "DescribeAlarms")["MetricAlarms"]
    assert alarm["AlarmName"] == "quiet & <low>"
    assert alarm["Threshold"] == 1.5
    assert alarm["ActionsEnabled"] is False
    assert alarm["Dimensions"] == dimensions
    assert isinstance(alarm["StateUpdatedTimestamp"], dt.datetime)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_in_every_protocol(null_emulator: ThreadedEmulator, protocol: str) -> None:
    now = dt.datetime.now(dt.UTC)
    answer = call(
        null_emulator,
        protocol,
        "GetMetricStatistics",
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        StartTime=now,
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "InvalidParameterValue" in answer["Error"]["Code"]
    assert "StartTime must be less" in answer["Error"]["Message"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=60))
def test_cbor_reader_never_breaks(data: bytes) -> None:
    with contextlib.suppress(AwsError):
        decode(data)
