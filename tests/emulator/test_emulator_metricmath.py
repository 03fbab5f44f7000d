"""Metric math: arithmetic on series as CloudWatch's user guide describes it."""

from __future__ import annotations

import datetime as dt

import pytest
from botocore.exceptions import ClientError
from emulator_harness import ThreadedEmulator

from tuner.emulator.errors import AwsError
from tuner.emulator.metricmath import evaluate

SERIES = {"m1": {0.0: 6.0, 60.0: 0.0, 120.0: 9.0}, "m2": {0.0: 3.0, 60.0: 0.0, 180.0: 5.0}}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("m1 + 1", {0.0: 7.0, 60.0: 1.0, 120.0: 10.0}),
        ("m1 / m2", {0.0: 2.0}),  # no value where it divides by zero or one is missing
        ("-(m1 - 2) * 3", {0.0: -12.0, 60.0: 6.0, 120.0: -21.0}),
        ("2 * m1 ^ 2", {0.0: 72.0, 60.0: 0.0, 120.0: 162.0}),
        ("m1 / PERIOD(m1)", {0.0: 0.1, 60.0: 0.0, 120.0: 0.15}),
        ("FILL(m2, 0)", {0.0: 3.0, 60.0: 0.0, 120.0: 0.0, 180.0: 5.0}),
        ("FILL(m1, REPEAT)", {0.0: 6.0, 60.0: 0.0, 120.0: 9.0, 180.0: 9.0}),
        ("SUM([m1, m2])", {0.0: 9.0, 60.0: 0.0, 120.0: 9.0, 180.0: 5.0}),
        ("MAX(METRICS())", {0.0: 6.0, 60.0: 0.0, 120.0: 9.0, 180.0: 5.0}),
        ("m1 - AVG(m1)", {0.0: 1.0, 60.0: -5.0, 120.0: 4.0}),
        ("CEIL(m2 / 2)", {0.0: 2.0, 60.0: 0.0, 180.0: 3.0}),
    ],
)
def test_expressions(expression: str, expected: dict[float, float]) -> None:
    found = evaluate("e1", expression, SERIES, {"m1": 60.0, "m2": 60.0})
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "expression",
    ["", "m1 +", "m3", "1 + 1", "AVG(m1)", "__import__('os')", "m1.x", "SEARCH('{A}', 'Sum')",
     "[m1]", "(" * 500, "SUM(1)", "FILL(m1)", "m1 if m2 else m1", "9 ^ 9 ^ 9 ^ 9 * m1 +"],
)  # fmt: skip
def test_what_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises(AwsError, match="Error in expression 'e1'") as caught:
        evaluate("e1", expression, SERIES, {})
    assert caught.value.code == "ValidationError"


def test_over_the_wire(null_emulator: ThreadedEmulator) -> None:
    client = null_emulator.client("cloudwatch")
    now = dt.datetime.now(dt.UTC)
    span = {"StartTime": now - dt.timedelta(minutes=5), "EndTime": now}
    metric = {
        "Namespace": "AWS/SageMaker",
        "MetricName": "Invocations",
        "Dimensions": [
            {"Name": "EndpointName", "Value": null_emulator.endpoint},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ],
    }
    queries = [
        {"Id": "rate", "Expression": "m1 / PERIOD(m1)"},
        {
            "Id": "m1",
            "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"},
            "ReturnData": False,
        },
    ]
    (found,) = client.get_metric_data(MetricDataQueries=queries, **span)["MetricDataResults"]
    assert (found["Id"], found["Label"], found["StatusCode"]) == ("rate", "rate", "Complete")
    assert len(found["Values"]) == len(found["Timestamps"])
    with pytest.raises(ClientError) as caught:
        client.get_metric_data(MetricDataQueries=[{"Id": "e1", "Expression": "m9"}], **span)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert "no query with the id m9" in caught.value.response["Error"]["Message"]
