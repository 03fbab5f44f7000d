"""What tuner needs to know of an endpoint, and the Protocol every driver keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from tuner.campaign.types import Routing, ScaleEvent
from tuner.endpoints.records import RestoreRecord, RestoreReport, ScalingState
from tuner.errors import EndpointError

Level = Literal["ok", "warn", "stop"]


class AwsError(EndpointError):
    """AWS refused or did not answer; ``code`` is AWS's own error code."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        operation: str,
        transient: bool = False,
        allowed: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, value=code, allowed=allowed, hint=hint)
        self.code = code
        self.operation = operation
        self.transient = transient


class TaintedError(EndpointError):
    """The endpoint moved under the campaign: a rollback, or somebody else's change."""


class GoneError(EndpointError):
    """There is no such endpoint."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``tuner check``. ``stop`` findings forbid a campaign."""

    level: Level
    code: str
    sentence: str
    value: str | None = None
    allowed: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class DataCapture:
    """The endpoint's data capture: whether on, how much of the requests, and where to."""

    enabled: bool
    sampling_percent: int
    destination: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointState:
    """A variant of an endpoint as it stands. Counts are instances.

    ``status`` is AWS's ``EndpointStatus`` (``InService`` for a plain HTTP endpoint that
    answers). ``routing`` is None for a strategy tuner does not know; ``routing_name`` is AWS's
    word. ``production_reason`` says why the endpoint is taken for production.
    """

    name: str
    variant: str
    status: str
    current_instance_count: int
    desired_instance_count: int
    instance_type: str | None
    routing: Routing | None
    config_name: str | None
    arn: str | None
    variant_count: int
    routing_name: str = Routing.RANDOM.value
    variant_names: tuple[str, ...] = ()
    serverless: bool = False
    asynchronous: bool = False
    inference_components: bool = False
    instance_pools: bool = False
    data_capture: DataCapture | None = None
    tags: tuple[tuple[str, str], ...] | None = None
    production_reason: str | None = None
    failure_reason: str | None = None

    @property
    def production(self) -> bool:
        """Whether a campaign needs an explicit yes."""
        return self.production_reason is not None

    @property
    def settled(self) -> bool:
        """InService and no change of the count on its way."""
        return (
            self.status == "InService"
            and self.current_instance_count == self.desired_instance_count
        )


@dataclass(frozen=True, slots=True)
class CampaignEstimate:
    """What a plan is going to take, for the preflight."""

    max_instance_count: int
    duration_s: float | None = None
    requests: int | None = None
    instance_hours: float | None = None
    price_per_hour_usd: float | None = None
    cost_limit_usd: float | None = None


RecordWriter = Callable[[RestoreRecord], None]
"""Makes a record durable before it returns."""

WaitCallback = Callable[[EndpointState, float], None]
"""Told of every poll while waiting: the state, and the seconds waited so far."""


class Endpoint(Protocol):
    """Something that serves requests and whose instance count a campaign may set."""

    def describe(self) -> EndpointState:
        """Return the state now.

        Raises
        ------
        EndpointError
            If the endpoint is not there or does not answer.
        """
        ...

    def scaling(self) -> ScalingState:
        """Return what is registered to scale the variant."""
        ...

    def preflight(
        self, estimate: CampaignEstimate, *, production_agreed: bool = False
    ) -> tuple[Finding, ...]:
        """Look at everything a campaign depends on, without changing anything."""
        ...

    def freeze(
        self,
        write_record: RecordWriter,
        on_wait: WaitCallback | None = None,
        *,
        earlier: RestoreRecord | None = None,
    ) -> RestoreRecord | None:
        """Write the record, then stop scaling; None when there is nothing to put back.

        ``earlier`` is the record of an interrupted run that is gone on with.
        """
        ...

    def set_instance_count(self, count: int, on_wait: WaitCallback | None = None) -> ScaleEvent:
        """Set the count and wait until the endpoint is settled."""
        ...

    def restore(
        self,
        record: RestoreRecord,
        on_wait: WaitCallback | None = None,
        *,
        write_record: RecordWriter | None = None,
    ) -> RestoreReport:
        """Put back what the record says was changed; safe to call again.

        ``write_record`` is told of each thing that is back.
        """
        ...
