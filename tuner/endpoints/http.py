"""A plain HTTP model server: it answers or it does not, and its count is what the plan says."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from tuner.campaign.types import Routing, ScaleEvent
from tuner.endpoints.protocol import (
    CampaignEstimate,
    EndpointState,
    Finding,
    RecordWriter,
    WaitCallback,
)
from tuner.endpoints.records import RestoreRecord, RestoreReport, ScalingState
from tuner.endpoints.urls import split_http_url
from tuner.errors import EndpointError
from tuner.units import s_to_ms

TIMEOUT_S = 10.0
MAX_BODY_BYTES = 65536


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One answer of the server; ``body`` is untrusted and cut to a few bytes."""

    status: int
    latency_s: float
    body: bytes


class HttpEndpoint:
    """An HTTP endpoint with a fixed number of instances behind it.

    The probe is a GET of ``probe_path`` (default: the URL itself). Any answer below 500
    says that the server is there: model servers answer GET on an invocation path with 405.
    """

    def __init__(
        self,
        url: str,
        instance_count: int = 1,
        *,
        probe_path: str | None = None,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = split_http_url(url)
        if parts is None:
            raise EndpointError(
                "not an HTTP URL",
                value=url,
                allowed="http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH",
            )
        if parts.username or parts.password:
            raise EndpointError(
                "a URL with a password in it would end up in reports",
                value=f"{parts.scheme}://…@{parts.hostname}",
                allowed="a URL without user and password",
                hint="send an Authorization header instead",
            )
        if instance_count < 1:
            raise EndpointError(
                "an HTTP endpoint has at least one instance",
                value=instance_count,
                allowed="1 or more",
            )
        self.url = url
        self._parts = parts
        self._count = instance_count
        self._path = probe_path or (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._clock = clock

    def probe(self) -> HttpAnswer:
        """Ask once.

        Raises
        ------
        EndpointError
            If there is no HTTP answer: unknown host, refused, reset, timed out, TLS.
        """
        host = self._parts.hostname or ""
        connection: http.client.HTTPConnection
        if self._parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, self._parts.port, timeout=self._timeout_s
            )
        else:
            connection = http.client.HTTPConnection(host, self._parts.port, timeout=self._timeout_s)
        started = time.perf_counter()
        try:
            connection.request("GET", self._path, headers={"User-Agent": "tuner"})
            response = connection.getresponse()
            body = response.read(MAX_BODY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error) from error
        finally:
            connection.close()
        return HttpAnswer(response.status, time.perf_counter() - started, body)

    def describe(self) -> EndpointState:
        """The state: InService when the server answers below 500."""
        answer = self.probe()
        if answer.status >= 500:
            raise EndpointError(
                f"{self.url} answers, but with an error",
                value=answer.status,
                allowed="an HTTP status below 500",
                hint=f"look at the server's log; it said {answer.body[:120]!r}",
            )
        return EndpointState(
            name=self.url,
            variant="",
            status="InService",
            current_instance_count=self._count,
            desired_instance_count=self._count,
            instance_type=None,
            routing=Routing.RANDOM,
            config_name=None,
            arn=None,
            variant_count=1,
        )

    def scaling(self) -> ScalingState:
        """Nothing scales a plain HTTP endpoint that tuner knows of."""
        return ScalingState(registered=False)

    def preflight(
        self, estimate: CampaignEstimate, *, production_agreed: bool = False
    ) -> tuple[Finding, ...]:
        """Whether it answers, and whether the planned counts are the one it has."""
        try:
            answer = self.probe()
            self.describe()
        except EndpointError as error:
            value = None if error.value is None else str(error.value)
            return (Finding("stop", "status", error.message, value, error.allowed, error.hint),)
        found = [
            Finding(
                "ok",
                "status",
                f"the server answers {answer.status} in {s_to_ms(answer.latency_s):.1f} ms",
                self.url,
            )
        ]
        if estimate.max_instance_count != self._count:
            found.append(
                Finding(
                    "stop",
                    "planned_count",
                    "tuner cannot change the count of a plain HTTP endpoint",
                    str(estimate.max_instance_count),
                    str(self._count),
                    "plan only the count the endpoint has",
                )
            )
        return tuple(found)

    def freeze(
        self,
        write_record: RecordWriter,
        on_wait: WaitCallback | None = None,
        *,
        earlier: RestoreRecord | None = None,
    ) -> RestoreRecord | None:
        """Nothing is changed, so there is nothing to record."""
        return None

    def set_instance_count(self, count: int, on_wait: WaitCallback | None = None) -> ScaleEvent:
        """Accept the count the endpoint has.

        Raises
        ------
        EndpointError
            For any other count.
        """
        if count != self._count:
            raise EndpointError(
                "the count of a plain HTTP endpoint is fixed",
                value=count,
                allowed=str(self._count),
                hint="change the number of instances yourself and say so in [load] instance_counts",
            )
        now = self._clock()
        return ScaleEvent(count, count, now, now, (("settled", now),))

    def restore(
        self,
        record: RestoreRecord,
        on_wait: WaitCallback | None = None,
        *,
        write_record: RecordWriter | None = None,
    ) -> RestoreReport:
        """Nothing was changed."""
        return RestoreReport(complete=True, actions=())

    def _no_answer(self, error: OSError | http.client.HTTPException) -> EndpointError:
        host = self._parts.hostname
        hint = "start the server, or correct [endpoint] url"
        if isinstance(error, socket.gaierror):
            return EndpointError(
                f"the host name {host} is not known", value=self.url, hint="correct [endpoint] url"
            )
        if isinstance(error, ssl.SSLError):
            return EndpointError(
                f"TLS with {host} failed: {error.reason or error}",
                value=self.url,
                hint="use http:// for a server without TLS, or trust its certificate",
            )
        if isinstance(error, TimeoutError):
            return EndpointError(
                f"no answer within {self._timeout_s:g} s", value=self.url, hint=hint
            )
        if isinstance(error, ConnectionRefusedError):
            return EndpointError("the connection was refused", value=self.url, hint=hint)
        if isinstance(error, (ConnectionResetError, BrokenPipeError)):
            return EndpointError(
                "the server closed the connection without an answer",
                value=self.url,
                hint="look at the server's log",
            )
        if isinstance(error, http.client.HTTPException):
            return EndpointError(
                f"the answer is not HTTP: {type(error).__name__}",
                value=self.url,
                hint="check scheme and port of [endpoint] url",
            )
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        return EndpointError(f"no connection ({name})", value=self.url, hint=hint)
