"""The tables of ``tuner.toml`` as frozen, strictly typed values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tuner.slo import LatencyObjective, Measure, Slo
from tuner.units import SECONDS_PER_MINUTE, ms_to_s

CLIENT_TIMEOUT_FACTOR = 4.0
"""A client timeout below four times the SLO hides the slow tail it is meant to measure."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10_000)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")]
"""AWS's rule for endpoint and variant names."""


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EndpointTable(Table):
    """``[endpoint]``: what is measured."""

    kind: Literal["sagemaker", "emulator", "http"]
    name: Name | None = None
    variant: Name | None = None
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    profile: str | None = None
    endpoint_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    preset: str | None = None
    spec: str | None = None
    instance_count: Count = 1
    routing: Literal["RANDOM", "LEAST_OUTSTANDING_REQUESTS"] | None = None
    streaming: bool = False
    minute_seconds: Annotated[float, Field(ge=0.2, le=600, allow_inf_nan=False)] | None = None

    @property
    def minute_s(self) -> float:
        """Seconds of a minute of the endpoint's control plane: 60 but on an emulator."""
        return self.minute_seconds or SECONDS_PER_MINUTE


class SloTable(Table):
    """``[slo]``: what has to hold."""

    p50_ms: Positive | None = None
    p90_ms: Positive | None = None
    p95_ms: Positive | None = None
    p99_ms: Positive | None = None
    p99_9_ms: Positive | None = None
    ttft_p50_ms: Positive | None = None
    ttft_p90_ms: Positive | None = None
    ttft_p95_ms: Positive | None = None
    ttft_p99_ms: Positive | None = None
    chunk_gap_p50_ms: Positive | None = None
    chunk_gap_p90_ms: Positive | None = None
    chunk_gap_p95_ms: Positive | None = None
    chunk_gap_p99_ms: Positive | None = None
    max_error_rate: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    budget_requests: Annotated[float, Field(gt=0, lt=1)] | None = None
    budget_minutes: Annotated[float, Field(gt=0, lt=1)] = 0.005

    def slo(self) -> Slo:
        """The objectives as a value."""
        return slo_of(self.model_dump())


class PayloadTable(Table):
    """One entry of ``load.payloads``."""

    file: str
    payload_class: Annotated[str, Field(alias="class", min_length=1, max_length=40)] = "default"
    weight: Positive = 1.0
    kind: Literal["auto", "file", "jsonl", "data-capture"] = "auto"
    content_type: str | None = None


class LoadTable(Table):
    """``[load]``: what is sent, how hard, how long."""

    body: str | None = None
    payloads: tuple[PayloadTable, ...] = ()
    content_type: str = "application/json"
    accept: str | None = None
    target_model: str | None = None
    custom_attributes: str | None = None
    arrivals: Literal["poisson", "constant"] = "poisson"
    instance_counts: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2)
    rates: Literal["auto"] | Annotated[tuple[Positive, ...], Field(min_length=1)] = "auto"
    start_rate_per_s: Positive | None = None
    step_s: Annotated[float, Field(ge=1, le=7200)] = 120.0
    warm_up_s: Annotated[float, Field(ge=0, le=7200)] = 120.0
    settle_s: Annotated[float, Field(ge=0, le=600)] = 15.0
    timeout_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    connections: Annotated[int, Field(ge=1, le=60_000)] = 2048
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    client: Literal["fast", "boto3"] = "fast"
    max_minutes: Positive = 120.0
    max_requests: Annotated[int, Field(ge=1)] = 20_000_000
    max_cost_usd: Positive | None = None
    max_send_lag_ms: Positive | None = None
    max_error_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    precision: Annotated[float, Field(ge=0.005, le=0.5)] = 0.05
    level: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    raw_requests_per_stage: Annotated[int, Field(ge=0)] = 5_000_000
    quick: bool = False


class TrafficTable(Table):
    """``[traffic]``: what production will ask for."""

    csv: str | None = None
    peak_per_min: Positive | None = None
    trough_per_min: NotNegative | None = None
    shape: Literal[
        "constant", "diurnal", "weekly", "flash_crowd", "ramp", "launch_step", "sample_day"
    ] = "diurnal"
    days: Annotated[int, Field(ge=1, le=400)] = 14
    growth: Annotated[float, Field(gt=0, le=1000)] = 1.0
    peak_override_per_min: Positive | None = None
    mix: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)


class CapacityTable(Table):
    """``[capacity]``: what may be bought, and what may be lost."""

    instance_type: Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")] | None = None
    price_per_hour_usd: Positive | None = None
    zones: Annotated[int, Field(ge=1, le=6)] = 3
    lose: Annotated[str, Field(pattern=r"^(none|[1-9]\d* instances?|1 zone of [2-6]|1 zone)$")] = (
        "1 instance"
    )
    min_capacity: Count = 1
    max_capacity: Count = 100
    launch_lag_s: Positive | None = None
    quota: Count | None = None
    today_target_per_min: Positive | None = None
    today_min_capacity: Count | None = None
    today_max_capacity: Count | None = None


TABLES: dict[str, type[Table]] = {
    "endpoint": EndpointTable,
    "slo": SloTable,
    "load": LoadTable,
    "traffic": TrafficTable,
    "capacity": CapacityTable,
}


def slo_of(values: Mapping[str, Any]) -> Slo:
    """Objectives from ``p99_ms``-like keys; keys that are absent or None are skipped."""
    objectives = []
    for key, value in values.items():
        if value is None or not key.endswith("_ms"):
            continue
        label = key.removesuffix("_ms")
        measure = next((m for m in Measure if label.startswith(f"{m.value}_")), Measure.LATENCY)
        number = label.removeprefix(f"{measure.value}_").removeprefix("p").replace("_", ".")
        objectives.append(LatencyObjective(float(number) / 100, ms_to_s(float(value)), measure))
    return Slo(tuple(objectives), values.get("max_error_rate"))
