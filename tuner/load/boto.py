"""The cross-checking client: stock boto3, one greenlet per request, retries off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
import gevent
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from gevent.lock import BoundedSemaphore

from tuner.load.engine_base import EngineBase
from tuner.load.outcomes import CREDENTIAL_CODES, classify, of_stream_error
from tuner.load.rows import Rows
from tuner.load.target import INFERENCE_ID, TARGET_MODEL, TARGET_VARIANT, InvokeTarget
from tuner.stats.requests import Outcome
from tuner.workload.payloads import Payload

NAN = float("nan")
PARAMETERS = {
    "accept": "Accept",
    "x-amzn-sagemaker-custom-attributes": "CustomAttributes",
    TARGET_MODEL.lower(): "TargetModel",
    TARGET_VARIANT.lower(): "TargetVariant",
    INFERENCE_ID.lower(): "InferenceId",
}
"""boto3's own names for what the fast client sends as headers."""

_now = time.monotonic


def runtime_client(target: InvokeTarget) -> Any:
    """A sagemaker-runtime client that sends each request once."""
    parts = urlsplit(target.url)
    signing = target.signing
    session = boto3.session.Session(profile_name=signing.profile if signing else None)
    return session.client(
        "sagemaker-runtime",
        region_name=signing.region if signing else "us-east-1",
        endpoint_url=f"{parts.scheme}://{parts.netloc}",
        verify=target.ca_file,
        config=Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=target.connections,
            connect_timeout=target.timeout_s,
            read_timeout=target.timeout_s,
            signature_version=None if signing else UNSIGNED,
        ),
    )


@dataclass(slots=True)
class _Seen:
    """What has come of an answer so far."""

    first_s: float = NAN
    longest_gap_s: float = NAN
    size: int = 0


class BotoEngine(EngineBase):
    """Carries arrivals through boto3, for comparison with the fast engine."""

    def __init__(
        self,
        loop: Any,
        target: InvokeTarget,
        payloads: Sequence[Payload],
        sink: Callable[[Rows], None],
    ) -> None:
        super().__init__(loop, target, sink)
        self.observe: Callable[[int, dict[bytes, bytes], bytes], None] | None = None
        self._payloads = payloads
        self._client = runtime_client(target)
        self._slots = BoundedSemaphore(target.connections)
        self._running: set[gevent.Greenlet] = set()

    def launch(self, scheduled_s: float) -> None:
        """Take one arrival, now."""
        payload = next(self.picks)
        if self.in_flight >= self.target.max_in_flight:
            self._rows.add(scheduled_s, NAN, NAN, NAN, NAN, 0, payload, int(Outcome.DROPPED))
            self.completed += 1
            return
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        greenlet = gevent.spawn(self._carry, scheduled_s, payload)
        self._running.add(greenlet)
        greenlet.link(self._running.discard)

    def _carry(self, scheduled_s: float, payload: int) -> None:
        sent, seen = NAN, _Seen()
        outcome, text = Outcome.DROPPED, ""
        try:
            with self._slots:
                sent = _now()
                outcome, text = Outcome.TIMEOUT, "given up at the end of the stage"
                with gevent.Timeout(self.target.timeout_s):
                    self._invoke(self._payloads[payload], seen)
                outcome, text = Outcome.OK, ""
        except (gevent.Timeout, ReadTimeoutError, ConnectTimeoutError):
            outcome = Outcome.TIMEOUT
            text = f"no complete answer within {self.target.timeout_s:g} s"
        except ClientError as error:
            outcome, text = self._of_client_error(error)
        except (BotoConnectionError, HTTPClientError) as error:
            outcome, text = Outcome.CONNECTION, str(error)
        except BotoCoreError as error:
            outcome, text = Outcome.OTHER, str(error)
            self.credentials_refused += 1
        finally:
            done = _now() if sent == sent else NAN
            gap = seen.longest_gap_s if outcome is Outcome.OK else NAN
            self._rows.add(
                scheduled_s, sent, seen.first_s, done, gap, seen.size, payload, int(outcome)
            )
            self.completed += 1
            self.in_flight -= 1
            if text:
                self.errors.add(text)

    def _invoke(self, payload: Payload, seen: _Seen) -> None:
        headers = self.target.headers_for(payload.target_model)
        call = {
            "EndpointName": self.target.endpoint_name,
            "Body": payload.body,
            "ContentType": payload.content_type,
            **{PARAMETERS[name.lower()]: value for name, value in headers},
        }
        if self.streaming:
            self._stream(self._client.invoke_endpoint_with_response_stream(**call), seen)
            return
        answer = self._client.invoke_endpoint(**call)
        body = answer["Body"].read()
        if self.observe is not None:
            meta = answer["ResponseMetadata"]
            fields = {k.encode(): v.encode() for k, v in meta["HTTPHeaders"].items()}
            self.observe(meta["HTTPStatusCode"], fields, body)
        seen.size = len(body)

    def _stream(self, answer: Any, seen: _Seen) -> None:
        last = NAN
        with contextlib.closing(answer["Body"]) as events:
            for event in events:
                part = event.get("PayloadPart")
                if part is None:
                    continue
                now = _now()
                seen.size += len(part["Bytes"])
                if seen.first_s != seen.first_s:
                    seen.first_s, seen.longest_gap_s = now, 0.0
                else:
                    self.chunk_gaps.append(now - last)
                    seen.longest_gap_s = max(seen.longest_gap_s, now - last)
                last = now

    def _of_client_error(self, error: ClientError) -> tuple[Outcome, str]:
        answer: Any = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        message = str(answer.get("Error", {}).get("Message", ""))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 200))
        if code in CREDENTIAL_CODES:
            self.credentials_refused += 1
        if status == 200:
            return of_stream_error(code, message)
        headers = {b"x-amzn-errortype": code.encode()}
        outcome, text, _ = classify(status, headers, message.encode())
        return outcome, text

    def abandon(self) -> None:
        """Fail whatever is still in flight."""
        gevent.killall(list(self._running), block=True, timeout=1.0)

    def close(self) -> None:
        """Close the client."""
        super().close()
        self._client.close()
