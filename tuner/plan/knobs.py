"""The optional tables of ``tuner.toml``: one for each further knob of an endpoint."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from tuner.plan.tables import Count, Name, NotNegative, Positive, Table

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


_TIME = r"([01]\d|2[0-3]):[0-5]\d"


class TypeTable(Table):
    """One ``[[types]]``: a further instance type to compare, and where it is measured.

    A campaign of its own runs on it, within the same limits. ``name`` or ``variant`` say which
    endpoint of SageMaker; ``preset``, ``spec`` or ``endpoint_url`` which emulator; ``url`` which
    plain server.
    """

    instance_type: Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
    name: Name | None = None
    variant: Name | None = None
    endpoint_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    preset: str | None = None
    spec: str | None = None
    price_per_hour_usd: Positive | None = None
    vcpus: Count | None = None
    gpus: Count | None = None


class SignalsTable(Table):
    """``[signals]``: scaling metrics to compare, each read from CloudWatch during the stages.

    ``vcpus`` and ``gpus`` of an instance show a target as a share of the machine. ``minute_s``
    is the length of CloudWatch's minute on an emulator that is started for the campaign: less
    than 60 lets short stages hold whole minutes. It is ``endpoint.minute_seconds`` by default.
    """

    metrics: tuple[
        Literal["invocations", "concurrency", "cpu", "gpu", "gpu_memory", "memory"], ...
    ] = ("invocations", "concurrency", "cpu")
    vcpus: Count | None = None
    gpus: Count | None = None
    minute_s: Annotated[float, Field(ge=0.2, le=60, allow_inf_nan=False)] | None = None


class ModelsTable(Table):
    """``[models]``: a multi-model endpoint.

    ``count`` models are named by ``name`` with their number for ``{n}``, or by the ``trace``.
    ``sweep`` gives the numbers of models to try on one instance; empty searches for the limit.
    The load of the sweep is ``rate_per_s``, else ``load_share`` of what one instance carries.
    """

    count: Count | None = None
    name: Annotated[str, Field(min_length=1, max_length=1024)] = "model-{n}.tar.gz"
    popularity: Literal["zipf", "uniform"] = "zipf"
    exponent: NotNegative = 1.0
    trace: str | None = None
    sweep: tuple[Count, ...] = ()
    rate_per_s: Positive | None = None
    load_share: Annotated[float, Field(gt=0, lt=1)] = 0.7


class DataCaptureTable(Table):
    """``[data_capture]``: what recording requests costs, in latency and in money.

    ``endpoint`` is the like endpoint with capture on that `tuner capture` compares with.
    ``request_bytes`` and ``response_bytes`` are mean payload sizes, where they were not measured.
    """

    destination: Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]+(/.*)?$")] | None = None
    sampling_percent: tuple[Annotated[int, Field(ge=0, le=100)], ...] = (5, 20, 100)
    budget_usd_per_month: Positive | None = None
    p99_allowance: Share = 0.05
    retention_days: Count = 30
    endpoint: Name | None = None
    variant: Name | None = None
    rate_per_s: Positive | None = None
    minutes: Annotated[float, Field(ge=0.1, le=1440)] = 5.0
    request_bytes: Positive | None = None
    response_bytes: NotNegative | None = None
    base64: bool = True
    files_per_instance_min: Positive = 1.0
    storage_usd_per_gb_month: Positive | None = None
    put_usd_per_1000: Positive | None = None


class CanaryTable(Table):
    """``[canary]``: how a new variant is let in."""

    variant: Name | None = None
    endpoint: Name | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    rate_per_s: Positive | None = None
    slower_by: Annotated[float, Field(gt=0, le=10)] = 0.05
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    max_minutes: Annotated[int, Field(ge=10, le=1440)] = 120
    minute_s: Annotated[float, Field(ge=1, le=600)] = 60.0
    settle_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    size_percent: Annotated[int, Field(ge=1, le=50)] | None = None
    traffic_per_s: Positive | None = None


class ScheduleTable(Table):
    """``[schedule]``: predictable need, and hours when nothing is needed."""

    timezone: str = "UTC"
    max_actions: Annotated[int, Field(ge=0, le=50)] = 8
    non_production: bool = False
    off_hours: Annotated[str, Field(pattern=rf"^{_TIME}-{_TIME}$")] | None = None
    off_weekends: bool = True

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("is not an IANA time zone such as Europe/Berlin") from None
        return value


KNOBS: dict[str, type[Table]] = {
    "signals": SignalsTable,
    "models": ModelsTable,
    "data_capture": DataCaptureTable,
    "canary": CanaryTable,
    "schedule": ScheduleTable,
}
"""Optional tables; absent means that the knob is left alone. ``[[types]]`` is a list."""
