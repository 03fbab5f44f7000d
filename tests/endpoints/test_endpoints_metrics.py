"""CloudWatch and the Price List: units, pages, gaps and the answers that are not there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fake_aws import NAME, VARIANT, Clock, FakeAws, Fault, serve
from moto_account import NAME as MOTO_NAME
from moto_account import Account

from tuner.autoscaling.policy import ScalingMetric
from tuner.endpoints.aws import Aws
from tuner.endpoints.history import read_history
from tuner.endpoints.prices import read_prices
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError, TrafficError

MINUTE = 60
NOON = 1_763_812_800
"""2025-11-22 12:00 UTC."""


def test_utilisation_is_read_in_awss_units_over_whole_minutes() -> None:
    fake = FakeAws(Clock().time)
    cpu = {NOON + i * MINUTE: v for i, v in enumerate([310.0, 320.0, 330.0, 90.0])}
    fake.metrics = {
        ("CPUUtilization", "Average"): cpu,
        ("OverheadLatency", "Average"): {NOON + MINUTE: 2500.0},
        ("Invocations", "Sum"): dict.fromkeys(cpu, 1200.0),
    }
    fake.metric_page = 1
    with serve(fake) as url:
        endpoint = SageMakerEndpoint(NAME, endpoint_url=url)
        seen = endpoint.utilization(NOON - 30.0, NOON + 3 * MINUTE + 30.0)
    assert (seen.start_unix_s, seen.end_unix_s) == (NOON, NOON + 3 * MINUTE)
    assert seen.cpu_percent.values == (310.0, 320.0, 330.0)
    assert seen.cpu_percent.mean == pytest.approx(320.0)
    assert seen.cpu_percent.largest == 330.0
    assert seen.overhead_latency_us.unit == "Microseconds"
    assert seen.overhead_latency_us.mean == 2500.0
    assert seen.invocations.total == 3600.0
    # No data is not zero.
    assert seen.gpu_percent.mean is None
    assert seen.gpu_percent.total is None
    assert seen.gpu_percent.largest is None


def test_signals_are_read_in_the_statistic_of_the_alarms() -> None:
    clock = Clock()
    clock.now = NOON + 600.0
    fake = FakeAws(clock.time)
    fake.metrics = {
        ("CPUUtilization", "Average"): {NOON + i * MINUTE: 100.0 + i for i in range(5)},
        ("CPUUtilization", "Maximum"): {NOON: 399.0},
        ("GPUUtilization", "Average"): {NOON + MINUTE: 205.0},
        ("MemoryUtilization", "Average"): {NOON + MINUTE: 31.0},
        ("ConcurrentRequestsPerModel", "Maximum"): {NOON + i * 10: float(i) for i in range(12)},
    }
    with serve(fake) as url:
        endpoint = SageMakerEndpoint(NAME, endpoint_url=url, clock=clock.time)
        seen = endpoint.signal_series(NOON + 70.0, NOON + 130.0)
    assert seen[ScalingMetric.CPU].values == (101.0, 102.0)
    assert seen[ScalingMetric.CONCURRENCY].period_s == 10
    assert seen[ScalingMetric.GPU].values == (205.0,)
    assert seen[ScalingMetric.GPU_MEMORY].values == ()
    assert seen[ScalingMetric.MEMORY].values == (31.0,)
    assert seen[ScalingMetric.CONCURRENCY].values == tuple(float(i) for i in range(6, 12))


def test_ten_second_datapoints_older_than_three_hours_are_not_asked_for() -> None:
    clock = Clock()
    clock.now = NOON + 4 * 3600.0
    fake = FakeAws(clock.time)
    fake.metrics = {
        ("CPUUtilization", "Average"): {NOON: 100.0},
        ("ConcurrentRequestsPerModel", "Maximum"): {NOON: 9.0, NOON + 2 * 3600: 5.0},
    }
    with serve(fake) as url:
        endpoint = SageMakerEndpoint(NAME, endpoint_url=url, clock=clock.time)
        early = endpoint.signal_series(NOON, NOON + 60.0)
        later = endpoint.signal_series(NOON, NOON + 2 * 3600 + 60.0)
    assert early[ScalingMetric.CPU].values == (100.0,)
    assert early[ScalingMetric.CONCURRENCY].values == ()
    assert later[ScalingMetric.CONCURRENCY].values == (5.0,)


def test_a_stretch_without_a_whole_minute_is_refused() -> None:
    with serve(FakeAws(Clock().time)) as url:
        endpoint = SageMakerEndpoint(NAME, endpoint_url=url)
        with pytest.raises(EndpointError, match="no whole minute"):
            endpoint.utilization(NOON + 10.0, NOON + 110.0)


def test_scaling_activities() -> None:
    fake = FakeAws(Clock().time)
    fake.activities = [
        {
            "ActivityId": "1",
            "ServiceNamespace": "sagemaker",
            "ResourceId": "r",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
            "Description": "Setting desired instance count to 4.",
            "Cause": "monitor alarm in state ALARM",
            "StartTime": float(NOON),
            "EndTime": float(NOON + 200),
            "StatusCode": "Successful",
        },
        {
            "ActivityId": "2",
            "ServiceNamespace": "sagemaker",
            "ResourceId": "r",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
            "Description": "",
            "Cause": "",
            "StartTime": float(NOON),
            "StatusCode": "Failed",
            "StatusMessage": "ResourceLimitExceeded",
            "NotScaledReasons": [{"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 8}],
        },
    ]
    with serve(fake) as url:
        first, second = SageMakerEndpoint(NAME, endpoint_url=url).scaling_activities()
    assert (first.status, first.started_at_unix_s, first.ended_at_unix_s) == (
        "Successful",
        NOON,
        NOON + 200,
    )
    assert second.ended_at_unix_s is None
    assert second.message == "ResourceLimitExceeded"
    assert second.not_scaled_reasons == ("AlreadyAtMaxCapacity",)


def history(fake: FakeAws, start: float, end: float, now: float) -> Any:
    with serve(fake) as url:
        return read_history(
            Aws(endpoint_url=url, attempts=1),
            NAME,
            VARIANT,
            start_unix_s=start,
            end_unix_s=end,
            now_unix_s=now,
        )


def test_history_keeps_gaps_as_gaps_and_zeros_as_zeros() -> None:
    fake = FakeAws(Clock().time)
    recorded = {0: 900.0, 1: 0.0, 4: 950.0}
    fake.metrics[("Invocations", "Sum")] = {NOON + i * MINUTE: v for i, v in recorded.items()}
    got = history(fake, NOON, NOON + 5 * MINUTE, NOON + 3600)
    assert got.epoch_minutes == tuple(NOON // MINUTE + i for i in recorded)
    assert got.counts == (900.0, 0.0, 950.0)
    assert got.missing == 2
    assert any("gaps" in note for note in got.notes)


def test_minutes_of_a_faster_clock_keep_their_rate() -> None:
    fake = FakeAws(Clock().time)
    fake.metrics[("Invocations", "Sum")] = {NOON + 3 * i: 5.0 + 10.0 * (i % 2) for i in range(40)}
    got = history(fake, NOON, NOON + 2 * MINUTE, NOON + 3600)
    assert got.counts == (10.0, 10.0)


def test_history_reads_fifteen_days_in_pages() -> None:
    fake = FakeAws(Clock().time)
    days = 15
    counts = {NOON - (i + 1) * MINUTE: float(i) for i in range(days * 1440)}
    fake.metrics[("Invocations", "Sum")] = counts
    fake.metric_page = 5000
    got = history(fake, NOON - 20 * 86400, NOON, NOON)
    assert fake.calls.count("GetMetricData") == 5
    assert len(got.counts) == days * 1440 - 2
    assert got.missing == 0
    assert list(got.epoch_minutes) == sorted(got.epoch_minutes)
    assert got.counts[-1] == 2.0
    assert [n.split(";")[0][:22] for n in got.notes] == [
        "CloudWatch keeps one-m",
        "the last 120 s are sti",
    ]


def test_no_history_is_an_error_and_not_zero_traffic() -> None:
    with pytest.raises(TrafficError, match="no invocations"):
        history(FakeAws(Clock().time), NOON, NOON + 600, NOON + 3600)
    with pytest.raises(TrafficError, match="no whole minute"):
        history(FakeAws(Clock().time), NOON - 90 * 86400, NOON - 89 * 86400, NOON)


def test_a_refused_metric_is_an_error() -> None:
    fake = FakeAws(Clock().time)
    fake.fault = lambda index, operation: Fault("denied")
    with pytest.raises(EndpointError) as caught:
        history(fake, NOON, NOON + 600, NOON + 3600)
    assert caught.value.value == "AccessDeniedException"


def test_history_of_metrics_that_stock_boto3_put_into_moto(account: Account) -> None:
    account.create()
    now = int(datetime.now(UTC).timestamp()) // MINUTE * MINUTE
    put = {now - 10 * MINUTE: [5.0, 7.0], now - 8 * MINUTE: [11.0]}
    for at, values in put.items():
        for value in values:
            account.cloudwatch.put_metric_data(
                Namespace="AWS/SageMaker",
                MetricData=[
                    {
                        "MetricName": "Invocations",
                        "Dimensions": [
                            {"Name": "EndpointName", "Value": MOTO_NAME},
                            {"Name": "VariantName", "Value": VARIANT},
                        ],
                        "Timestamp": datetime.fromtimestamp(at + 5, UTC),
                        "Value": value,
                    }
                ],
            )
    got = read_history(
        Aws(region=account.region, endpoint_url=account.url),
        MOTO_NAME,
        VARIANT,
        start_unix_s=now - 20 * MINUTE,
        end_unix_s=now,
        now_unix_s=float(now),
    )
    assert dict(zip(got.epoch_minutes, got.counts, strict=True)) == {
        at // MINUTE: sum(values) for at, values in put.items()
    }


def product(
    sku: str, usd: str, *, component: str = "Hosting", unit: str = "Hrs", region: str = "us-east-1"
) -> dict[str, Any]:
    """In the form of the Price List."""
    return {
        "product": {
            "productFamily": "ML Instance",
            "sku": sku,
            "attributes": {
                "instanceName": "ml.m5.xlarge",
                "instanceType": f"ml.m5.xlarge-{component}",
                "regionCode": region,
                "component": component,
                "platoinstancetype": component,
            },
        },
        "terms": {
            "OnDemand": {
                f"{sku}.JRTCKXETXF": {
                    "effectiveDate": "2026-09-01T00:00:00Z",
                    "priceDimensions": {
                        f"{sku}.JRTCKXETXF.6YS6EN2CT7": {
                            "unit": unit,
                            "pricePerUnit": {"USD": usd},
                        }
                    },
                }
            }
        },
    }


def prices(*products: dict[str, Any]) -> Any:
    fake = FakeAws(Clock().time, products=list(products))
    with serve(fake) as url:
        return read_prices(Aws(endpoint_url=url), ["ml.m5.xlarge"], "us-east-1")


def test_the_hosting_price_and_not_another_components() -> None:
    (price,) = prices(
        product("TRAIN", "0.9", component="Training"),
        product("IRE", "0.257", region="eu-west-1"),
        product("FREE", "0.0000000000"),
        product("HOST", "0.2300000000"),
    )
    assert price.usd_per_hour == 0.23
    assert (price.sku, price.effective_date, price.region) == ("HOST", "2026-09-01", "us-east-1")


def test_an_unknown_type_is_a_question_and_never_zero() -> None:
    for products in ((), (product("FREE", "0.0"),), (product("X", "0.2", unit="GB-Mo"),)):
        with pytest.raises(EndpointError, match="no hosting price") as caught:
            prices(*products)
        assert caught.value.value == "ml.m5.xlarge"
        assert "price_per_hour_usd" in (caught.value.hint or "")


def test_two_prices_are_a_question() -> None:
    with pytest.raises(EndpointError, match="several"):
        prices(product("A", "0.23"), product("B", "0.25"))
    assert prices(product("A", "0.23"), product("B", "0.23"))[0].sku == "A"
