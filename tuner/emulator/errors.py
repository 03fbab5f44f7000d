"""AWS's errors in the exact forms its clients read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import Enum

_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


class Protocol(Enum):
    """How a service writes its errors."""

    REST_JSON = "rest-json"
    JSON = "json"
    QUERY = "query"


class AwsError(Exception):
    """An answer that is an AWS error: its code, HTTP status, message and further members."""

    def __init__(
        self, code: str, message: str | None, status: int = 400, **members: object
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members


def validation(message: str) -> AwsError:
    """SageMaker's ValidationException (control plane and Application Auto Scaling)."""
    return AwsError("ValidationException", message)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: HTTP status, content type, body, further header lines."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = field(default=())

    def head(self, request_id: str) -> bytes:
        """The header lines as bytes."""
        lines = [f"x-amzn-RequestId: {request_id}", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n").encode("latin-1", "replace")


def render(error: AwsError, protocol: Protocol, request_id: str) -> Answer:
    """The error as ``protocol`` writes it.

    The REST protocol names the code in a header, the JSON protocols in the body: both are
    always sent, because clients of each look only at their own place.
    """
    if protocol is Protocol.QUERY:
        side = "Receiver" if error.status >= 500 else "Sender"
        text = (
            '<ErrorResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><Error>'
            f"<Type>{side}</Type><Code>{escape(error.code)}</Code>"
            f"<Message>{escape(error.message or '')}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return Answer(error.status, "text/xml", text.encode())
    body: dict[str, object] = {"message": error.message, **error.members}
    if protocol is Protocol.JSON:
        body = {"__type": error.code, **body}
    content_type = (
        "application/json" if protocol is Protocol.REST_JSON else "application/x-amz-json-1.1"
    )
    headers = (("x-amzn-ErrorType", error.code),)
    return Answer(error.status, content_type, json.dumps(body).encode(), headers)


def escape(text: str) -> str:
    """Text inside an XML element; characters that XML cannot hold become question marks."""
    return _NOT_XML.sub("?", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
