"""One port for every service: who is asked, and how the answer is written."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from tuner.emulator.cbor import decode, encode
from tuner.emulator.errors import Answer, AwsError, Protocol, render
from tuner.emulator.http import Request
from tuner.emulator.params import Params
from tuner.emulator.query import SHOWN_TIMES

Operation = Callable[[Params], "dict[str, Any] | None"]


class App:
    """Hands each request to the service it is meant for.

    Parameters
    ----------
    json_services
        Target prefix (``SageMaker``, ``AnyScaleFrontendService``...) to its operations.
    query
        Handler of the Query protocol (older CloudWatch clients): form body in, XML out.
    """

    def __init__(
        self,
        json_services: Mapping[str, Mapping[str, Operation]],
        query: Callable[[dict[str, str], str], bytes],
    ) -> None:
        self._json = json_services
        self._query = query
        self.runtime: Callable[[Request], None] | None = None
        self.admin: Callable[[str, str, bytes], dict[str, Any]] | None = None
        self.delay_s: Callable[[str], float] = lambda operation: 0.0
        prefix = secrets.token_hex(4)
        self.request_ids = (
            f"{prefix}-{n >> 32 & 0xFFFF:04x}-4{n >> 20 & 0xFFF:03x}-8000-{n & 0xFFFFF:012x}"
            for n in itertools.count(1)
        )

    def handle(self, request: Request) -> None:
        """Answer one request."""
        if request.target.startswith(b"/endpoints/") and self.runtime is not None:
            self.runtime(request)
        elif request.target.startswith(b"/_tuner/"):
            self._admin(request)
        elif delay_s := self.delay_s(_operation_name(request)):
            asyncio.get_running_loop().call_later(delay_s, self._call, request)
        else:
            self._call(request)

    def _call(self, request: Request) -> None:
        """Answer a call of the control plane in the protocol it speaks."""
        if b"x-amz-target" in request.headers:
            self._json_call(request)
        elif b"smithy-protocol" in request.headers:
            self._cbor_call(request)
        elif b"x-www-form-urlencoded" in request.headers.get(b"content-type", b""):
            self._query_call(request)
        else:
            self.fail(request, AwsError("UnknownOperationException", None, 404), Protocol.JSON)

    def bad_request(self, request: Request, status: int, reason: str) -> None:
        """Answer what is not HTTP, or too large."""
        codes = {
            413: "RequestEntityTooLargeException",
            408: "RequestTimeout",
            500: "InternalFailure",
        }
        code = codes.get(status, "SerializationException")
        self.fail(request, AwsError(code, reason, status), Protocol.JSON)

    def fail(
        self, request: Request, error: AwsError, protocol: Protocol = Protocol.REST_JSON
    ) -> None:
        """Answer with an error."""
        request_id = next(self.request_ids)
        self._send(request, render(error, protocol, request_id), request_id)

    def _send(self, request: Request, answer: Answer, request_id: str) -> None:
        request.answer(answer.status, answer.head(request_id), answer.body)

    def _json_call(self, request: Request) -> None:
        try:
            service, _, name = request.header(b"x-amz-target").partition(".")
            operation = self._json.get(service, {}).get(name)
            if operation is None or request.method != b"POST":
                raise AwsError("UnknownOperationException", None)
            result = operation(Params(_json_body(request.body)))
        except AwsError as error:
            self.fail(request, error, Protocol.JSON)
            return
        body = b"" if result is None else json.dumps(result).encode()
        content_type = request.header(b"content-type", "application/x-amz-json-1.1")
        if not content_type.startswith("application/x-amz-json"):
            content_type = "application/x-amz-json-1.1"
        answer = Answer(200, content_type.split(";")[0], body)
        self._send(request, answer, next(self.request_ids))

    def _cbor_call(self, request: Request) -> None:
        """Smithy rpc-v2-cbor: ``/service/SERVICE/operation/OPERATION``, CBOR both ways."""
        headers: tuple[tuple[str, str], ...] = (("smithy-protocol", "rpc-v2-cbor"),)
        status = 200
        try:
            parts = request.target.decode("latin-1").partition("?")[0].split("/")
            operation = self._json.get(parts[-3] if len(parts) > 3 else "", {}).get(parts[-1])
            if operation is None or request.method != b"POST" or parts[-2] != "operation":
                raise AwsError("UnknownOperationException", None, 404)
            result = operation(Params(decode(request.body) if request.body else {})) or {}
        except AwsError as error:
            result = {"__type": error.code, "message": error.message}
            status = error.status
            headers = (*headers, ("x-amzn-ErrorType", error.code))
        body = encode(result, SHOWN_TIMES)
        answer = Answer(status, "application/cbor", body, headers)
        self._send(request, answer, next(self.request_ids))

    def _query_call(self, request: Request) -> None:
        request_id = next(self.request_ids)
        try:
            try:
                pairs = parse_qsl(request.body.decode("utf-8"), keep_blank_values=True)
            except (UnicodeDecodeError, ValueError):
                raise AwsError("MalformedInput", "The body is not a form.") from None
            body = self._query(dict(pairs), request_id)
        except AwsError as error:
            self.fail(request, error, Protocol.QUERY)
            return
        self._send(request, Answer(200, "text/xml", body), request_id)

    def _admin(self, request: Request) -> None:
        try:
            if self.admin is None:
                raise AwsError("UnknownOperationException", None, 404)
            path = request.target.decode("latin-1").partition("?")[0]
            result = self.admin(request.method.decode(), path, request.body)
        except AwsError as error:
            self.fail(request, error, Protocol.JSON)
            return
        answer = Answer(200, "application/json", json.dumps(result).encode())
        self._send(request, answer, next(self.request_ids))


def _operation_name(request: Request) -> str:
    """The operation that a call names, in whichever protocol; empty when none."""
    target = request.headers.get(b"x-amz-target")
    if target is not None:
        return target.rpartition(b".")[2].decode("latin-1")
    if b"smithy-protocol" in request.headers:
        return request.target.partition(b"?")[0].rpartition(b"/")[2].decode("latin-1")
    action = re.search(rb"(?:^|&)Action=(\w+)", request.body)
    return action[1].decode() if action else ""


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _json_body(body: bytes) -> Any:
    if not body:
        return {}
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise AwsError("SerializationException", "The body is not valid JSON.") from None
