"""SigV4 requests made by botocore itself, used again for the same payload for a short while.

Signing costs more than sending. A signature covers the payload and a date that AWS accepts
for minutes, so each payload's signed bytes are kept and renewed one at a time in the
background. For SageMaker the bytes are what boto3's own pipeline was about to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import BotoCoreError, NoCredentialsError

from tuner.errors import EndpointError, PayloadError
from tuner.load.boto import runtime_client
from tuner.load.target import InvokeTarget
from tuner.load.wires import USER_AGENT, Ages, encode, host_header
from tuner.workload.payloads import Payload

SIGNATURE_LIFE_S = 30.0
"""AWS refuses a date five minutes off; thirty seconds leaves room for a wrong clock."""

LONGEST_LIFE_S = 240.0
RENEWALS_PER_S = 50.0
MAX_PAYLOADS = 50_000
"""A signature takes half a millisecond of the generator's time."""

RETRY_S = 2.0


def life_s(count: int) -> float:
    """How long signatures are kept: longer for many payloads, so that signing stays cheap."""
    return min(LONGEST_LIFE_S, max(SIGNATURE_LIFE_S, count / RENEWALS_PER_S))


def as_text(headers: HTTPHeaders) -> list[tuple[str, str]]:
    """Header values as text; botocore holds some as bytes."""
    return [
        (name, value.decode("latin-1") if isinstance(value, bytes) else str(value))
        for name, value in dict[str, Any](headers.items()).items()
    ]


class SignedWires:
    """Signed requests, one per payload.

    Raises
    ------
    EndpointError
        If there are no credentials, or the chain fails.
    PayloadError
        If there are too many payloads to sign in time.
    """

    def __init__(self, target: InvokeTarget, payloads: Sequence[Payload]) -> None:
        assert target.signing is not None
        if len(payloads) > MAX_PAYLOADS:
            raise PayloadError(
                "there are too many payloads to keep signed",
                value=len(payloads),
                allowed=f"at most {MAX_PAYLOADS}",
                hint="take a sample of them",
            )
        self.fault = ""
        self._target = target
        self._signing = target.signing
        self._payloads = payloads
        self._ages = Ages(len(payloads), life_s(len(payloads)))
        try:
            self._sign = (
                _BotoSigner(target).sign if target.endpoint_name else _PlainSigner(target).sign
            )
            self.ready = [self._sign(p) for p in payloads]
        except BotoCoreError as error:
            raise EndpointError(
                f"requests cannot be signed: {error}",
                hint="check the AWS profile, environment or role of this machine",
            ) from None
        self._ages.spread()

    def refresh_one(self) -> bool:
        number = self._ages.next_due()
        if number is None:
            return False
        try:
            self.fault = ""
            self.ready[number] = self._sign(self._payloads[number])
        except BotoCoreError as error:
            # The old signature stays: the server will say whether it still holds.
            self.fault = f"credentials could not be renewed: {error}"
            self._ages.put_off(RETRY_S)
            return False
        self._ages.renewed()
        return True

    def distrust(self) -> None:
        self._ages.expire()


class _BotoSigner:
    """Lets boto3 prepare a request and takes it off the wire before it is sent."""

    def __init__(self, target: InvokeTarget) -> None:
        self._target = target
        self._client = runtime_client(target)
        self._caught: AWSPreparedRequest | None = None
        self._model: str | None = None
        events = self._client.meta.events
        events.register("before-sign.sagemaker-runtime", self._add_headers)
        events.register("before-send.sagemaker-runtime", self._catch)
        self._call = (
            self._client.invoke_endpoint_with_response_stream
            if target.streaming
            else self._client.invoke_endpoint
        )

    def _add_headers(self, request: AWSRequest, **_: object) -> None:
        for name, value in self._target.headers_for(self._model):
            del request.headers[name]
            request.headers[name] = value

    def _catch(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        self._caught = request
        return AWSResponse(request.url, 200, HTTPHeaders(), _Nothing())

    def sign(self, payload: Payload) -> bytes:
        self._model = payload.target_model
        self._call(
            EndpointName=self._target.endpoint_name,
            Body=payload.body,
            ContentType=payload.content_type,
        )
        assert self._caught is not None
        headers = as_text(self._caught.headers)
        # urllib3 puts these two in front of what botocore hands it.
        front = [("Host", host_header(self._target)), ("Accept-Encoding", "identity")]
        return encode("POST", self._target.path, front + headers, payload.body)


class _Nothing:
    """An empty body for the answer that never came."""

    def stream(self, *_: object, **__: object) -> list[bytes]:
        return []

    def read(self, *_: object) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is open."""


class _PlainSigner:
    """Signs requests to anything else that takes SigV4, such as API Gateway."""

    def __init__(self, target: InvokeTarget) -> None:
        assert target.signing is not None
        self._target = target
        self._signing = target.signing
        session = botocore.session.Session(profile=target.signing.profile)
        self._credentials = session.get_credentials()

    def sign(self, payload: Payload) -> bytes:
        headers = dict(self._target.headers_for(payload.target_model)) | {
            "Content-Type": payload.content_type
        }
        request = AWSRequest(self._target.method, self._target.url, headers, payload.body)
        if self._credentials is None:
            raise NoCredentialsError
        frozen = self._credentials.get_frozen_credentials()
        SigV4Auth(frozen, self._signing.service, self._signing.region).add_auth(request)
        head = [("Host", host_header(self._target)), ("User-Agent", USER_AGENT)]
        tail = [("Content-Length", str(len(payload.body)))]
        signed = [*head, *as_text(request.headers), *tail]
        return encode(self._target.method, self._target.path, signed, payload.body)
