"""What is driven and how: values the parent hands to the generator process."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

from tuner.errors import InputError

TARGET_VARIANT = "X-Amzn-SageMaker-Target-Variant"
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
LOAD_MARK = "tuner-load"
"""Inference id of every request of a load test on an endpoint that captures data: captured records
with it are not production's."""
TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
TIMEOUT_TIMES_SLO = 4.0
"""A client timeout below four times the SLO would make the SLO unfalsifiable."""


@dataclass(frozen=True, slots=True)
class Signing:
    """SigV4 by botocore's credential chain, looked up inside the generator process.

    Parameters
    ----------
    service
        Signing name; SageMaker's runtime signs as ``sagemaker``.
    profile
        Named profile of the AWS configuration; None takes the default chain.
    """

    region: str
    service: str = "sagemaker"
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class InvokeTarget:
    """Where requests go and the limits they live under.

    Parameters
    ----------
    url
        Full URL of the invocation, http or https.
    headers
        Sent with every request beside Host, Content-Type and Content-Length.
    signing
        None sends unsigned requests.
    streaming
        The answer is streamed; AWS event-stream framing is recognised by its content type.
    timeout_s
        From the send to the last byte.
    connections
        Most connections open at once (one request each); arrivals beyond wait in line.
    max_in_flight
        Arrivals sent or in line; beyond it an arrival is DROPPED and the stage is void.
    client
        ``"fast"``, or ``"boto3"`` for cross-checking.
    endpoint_name, variant
        For SageMaker; the boto3 client addresses the endpoint by name.
    ca_file
        PEM file of extra trusted authorities; None trusts the system's.

    Raises
    ------
    InputError
        If a field cannot be used.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    signing: Signing | None = None
    streaming: bool = False
    timeout_s: float = 60.0
    connections: int = 2048
    max_in_flight: int = 4096
    client: str = "fast"
    endpoint_name: str | None = None
    variant: str | None = None
    ca_file: str | None = None
    method: str = field(default="POST")

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                "the endpoint's URL cannot be used",
                value=self.url,
                allowed="http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH",
            )
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise InputError(
                "the client timeout cannot be used", value=self.timeout_s, allowed="seconds above 0"
            )
        if self.connections < 1 or self.max_in_flight < self.connections:
            raise InputError(
                "connections and max_in_flight do not fit together",
                value=(self.connections, self.max_in_flight),
                allowed="1 <= connections <= max_in_flight",
            )
        if self.client not in ("fast", "boto3"):
            raise InputError("unknown client", value=self.client, allowed="fast, boto3")
        if self.client == "boto3" and self.endpoint_name is None:
            raise InputError("the boto3 client needs the endpoint's name")
        for name, value in self.headers:
            if any(c in name + value for c in "\r\n\0"):
                raise InputError("a header holds a line break", value=(name, value))

    def headers_for(self, target_model: str | None) -> tuple[tuple[str, str], ...]:
        """The headers of a request that names this model; None leaves them as they are."""
        if target_model is None:
            return self.headers
        kept = (h for h in self.headers if h[0].lower() != TARGET_MODEL.lower())
        return (*kept, (TARGET_MODEL, target_model))

    @property
    def host(self) -> str:
        """Host name, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def origin(self) -> str:
        """Scheme, host and port, as Locust's ``--host`` takes them."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def port(self) -> int:
        """Port, or the scheme's."""
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def tls(self) -> bool:
        """Whether the URL is https."""
        return urlsplit(self.url).scheme == "https"

    @property
    def path(self) -> str:
        """Path and query as sent on the request line."""
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    @property
    def name(self) -> str:
        """Name of the request in Locust's statistics."""
        return self.endpoint_name or urlsplit(self.url).path or "/"

    def to_json(self) -> dict[str, Any]:
        """For the pipe; holds no secret."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        signing = data["signing"]
        return cls(
            **{
                **data,
                "headers": tuple((k, v) for k, v in data["headers"]),
                "signing": None if signing is None else Signing(**signing),
            }
        )


def sagemaker_target(
    endpoint_name: str,
    region: str,
    *,
    endpoint_url: str | None = None,
    variant: str | None = None,
    profile: str | None = None,
    streaming: bool = False,
    signed: bool = True,
    headers: tuple[tuple[str, str], ...] = (),
    **limits: Any,
) -> InvokeTarget:
    """The target of InvokeEndpoint, or of its streaming sibling.

    ``endpoint_url`` replaces AWS's own host, for an emulator.
    """
    base = (endpoint_url or f"https://runtime.sagemaker.{region}.amazonaws.com").rstrip("/")
    verb = "invocations-response-stream" if streaming else "invocations"
    extra = ((TARGET_VARIANT, variant),) if variant else ()
    return InvokeTarget(
        url=f"{base}/endpoints/{endpoint_name}/{verb}",
        headers=(*headers, *extra),
        signing=Signing(region, profile=profile) if signed else None,
        streaming=streaming,
        endpoint_name=endpoint_name,
        variant=variant,
        **limits,
    )


def aimed_at(target: InvokeTarget, endpoint_name: str, variant: str | None) -> InvokeTarget:
    """The same load at another variant or endpoint of the same account.

    Raises
    ------
    InputError
        If the target is not a SageMaker endpoint.
    """
    if target.endpoint_name is None:
        raise InputError("only a SageMaker endpoint has variants", value=target.url)
    named = f"/endpoints/{target.endpoint_name}/"
    headers = tuple((k, v) for k, v in target.headers if k != TARGET_VARIANT)
    return replace(
        target,
        url=target.url.replace(named, f"/endpoints/{endpoint_name}/"),
        headers=(*headers, *(((TARGET_VARIANT, variant),) if variant else ())),
        endpoint_name=endpoint_name,
        variant=variant,
    )


def marked(target: InvokeTarget) -> InvokeTarget:
    """The same load with every request marked by the inference id `LOAD_MARK`."""
    headers = tuple((k, v) for k, v in target.headers if k != INFERENCE_ID)
    return replace(target, headers=(*headers, (INFERENCE_ID, LOAD_MARK)))


def require_timeout(timeout_s: float, slo_s: float) -> None:
    """Refuse a client timeout that would hide a violation of the SLO.

    Raises
    ------
    InputError
        If the timeout is below four times the SLO.
    """
    if timeout_s < TIMEOUT_TIMES_SLO * slo_s:
        raise InputError(
            "the client timeout is too short for this SLO: slow answers would be cut off, "
            "not measured",
            value=f"{timeout_s:g} s",
            allowed=f"at least {TIMEOUT_TIMES_SLO * slo_s:g} s (four times the SLO)",
        )
