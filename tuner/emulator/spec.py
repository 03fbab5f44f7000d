"""What an emulator serves, as values."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tuner.errors import InputError
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec

SHORTEST_MINUTE_S, LONGEST_MINUTE_S = 0.2, 600.0
DEFAULT_PAYLOAD_LIMIT = 25 * 1024 * 1024
"""SageMaker's FAQ of 2026 says 25 MB for real-time endpoints; older models say 6 MiB."""


class FaultKind(StrEnum):
    """What can be made to go wrong.

    The first group is drawn per request with probability ``share``; the second changes the
    fleet or the endpoint once, when the fault begins; the third lasts and concerns launches; the
    fourth is drawn per call of the control plane.
    """

    ERROR = "error"
    THROTTLE = "throttle"
    RESET = "reset"
    DRIP = "drip"
    SLOW = "slow"
    KILL_INSTANCE = "kill_instance"
    LOSE_ZONE = "lose_zone"
    FAIL_ENDPOINT = "fail_endpoint"
    DELETE_ENDPOINT = "delete_endpoint"
    NO_CAPACITY = "no_capacity"
    ROLLBACK = "rollback"
    STUCK_LAUNCH = "stuck_launch"
    CONTROL_ERROR = "control_error"
    CONTROL_DELAY = "control_delay"


PER_REQUEST = frozenset(
    {FaultKind.ERROR, FaultKind.THROTTLE, FaultKind.RESET, FaultKind.DRIP, FaultKind.SLOW}
)
ONCE = frozenset(
    {
        FaultKind.KILL_INSTANCE,
        FaultKind.LOSE_ZONE,
        FaultKind.FAIL_ENDPOINT,
        FaultKind.DELETE_ENDPOINT,
    }
)
PER_LAUNCH = frozenset({FaultKind.NO_CAPACITY, FaultKind.ROLLBACK, FaultKind.STUCK_LAUNCH})
PER_CALL = frozenset({FaultKind.CONTROL_ERROR, FaultKind.CONTROL_DELAY})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong between two moments of wall time.

    Parameters
    ----------
    kind
        What.
    from_s, until_s
        Seconds since the emulator started.
    share
        Probability for each request or call (the kinds drawn for each).
    status
        Error: the HTTP status; 424 answers a ModelError whose original status is 500. Control
        error: the HTTP status.
    drip_s
        Drip: how long the answer takes to trickle out.
    factor
        Slow: multiplies the service time.
    count
        Kill: how many instances.
    zone
        Lose zone: which.
    endpoint
        Only this endpoint; empty for all.
    operation
        Control error and delay: only calls of this operation; empty for all.
    code
        Control error: AWS's code.
    applied
        Control error: the call is carried out all the same, only its answer is lost.
    delay_s
        Control delay: how long the answer takes.
    """

    kind: FaultKind
    from_s: float = 0.0
    until_s: float = float("inf")
    share: float = 1.0
    status: int = 500
    drip_s: float = 5.0
    factor: float = 10.0
    count: int = 1
    zone: int = 0
    endpoint: str = ""
    operation: str = ""
    code: str = "ThrottlingException"
    applied: bool = False
    delay_s: float = 30.0

    def active(self, elapsed_s: float) -> bool:
        """Whether it is on."""
        return self.from_s <= elapsed_s < self.until_s


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """What the emulated model answers.

    ``stream_chunks`` payload parts are sent on the streaming call: the first after
    ``first_chunk_share`` of the service time, the others evenly over the rest.
    """

    body: str = '{"predictions": [0.5]}'
    content_type: str = "application/json"
    stream_chunks: int = 16
    first_chunk_share: float = 0.25


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """What capturing a request takes from the instance, and endpoints that do it from the start.

    Parameters
    ----------
    service_share
        A captured request's service takes this share longer: the truth a measurement of data
        capture has to find.
    sampling_percents
        For each, a further endpoint like the first, named ``NAME-capture-PERCENT``.
    """

    service_share: float = 0.0
    sampling_percents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A production variant and the fleet behind it."""

    name: str
    instance_type: str
    fleet: FleetSpec
    weight: float = 1.0
    price_per_hour_usd: float = 0.23


@dataclass(frozen=True, slots=True)
class EmulatorSpec:
    """A whole emulated account with one endpoint InService.

    ``publish_delay_s`` is how long after its end a metric period can be seen (control time).

    Endpoints created later behave like the first variant whose instance type they name, else
    like the first of all.
    """

    name: str
    endpoint_name: str
    variants: tuple[VariantSpec, ...]
    description: str = ""
    response: ResponseSpec = field(default_factory=ResponseSpec)
    faults: tuple[Fault, ...] = ()
    region: str = "us-east-1"
    account_id: str = "123456789012"
    seed: int = 1
    minute_seconds: float = 60.0
    instance_quota: int = 1000
    publish_delay_s: float = 60.0
    max_payload_bytes: int = DEFAULT_PAYLOAD_LIMIT
    local_command: tuple[str, ...] = ()
    capture: CaptureSpec = field(default_factory=CaptureSpec)

    @property
    def variant_name(self) -> str:
        """The first variant's name."""
        return self.variants[0].name

    def with_capture(self, sampling_percents: tuple[int, ...]) -> EmulatorSpec:
        """The same with a further endpoint for each sampling percentage."""
        return replace(self, capture=replace(self.capture, sampling_percents=sampling_percents))

    def with_local_command(self, command: str) -> EmulatorSpec:
        """The same with every instance a real model server that ``command`` starts.

        Raises
        ------
        InputError
            If the command does not say where the port goes.
        """
        try:
            parts = tuple(shlex.split(command))
        except ValueError as error:
            raise InputError(f"the command cannot be split: {error}", value=command) from None
        if not any("{port}" in part for part in parts):
            raise InputError(
                "the command of local mode must use {port}",
                value=command,
                allowed="for example: gunicorn --bind 127.0.0.1:{port} app:app",
            )
        at_once = ServiceTime.deterministic(0.0)
        variants = tuple(
            replace(v, fleet=replace(v.fleet, launch_lag=at_once)) for v in self.variants
        )
        return replace(self, local_command=parts, variants=variants)

    def with_minute_seconds(self, minute_seconds: float) -> EmulatorSpec:
        """The same with another length of the control minute.

        Raises
        ------
        InputError
            If it is not in the range that can be served.
        """
        if not SHORTEST_MINUTE_S <= minute_seconds <= LONGEST_MINUTE_S:
            raise InputError(
                "a control minute cannot last that long",
                value=minute_seconds,
                allowed=f"{SHORTEST_MINUTE_S:g} to {LONGEST_MINUTE_S:g} seconds",
            )
        return replace(self, minute_seconds=minute_seconds)
