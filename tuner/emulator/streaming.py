"""InvokeEndpointWithResponseStream: AWS event-stream framing."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import time
import zlib

from tuner.emulator.http import Request
from tuner.emulator.spec import ResponseSpec

_STRING = 7


def event_message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of ``application/vnd.amazon.eventstream``.

    Prelude (total length, header length, CRC of both), headers, payload, CRC of all.
    """
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode()
        + struct.pack("!BH", _STRING, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )  # fmt: skip
    total = 16 + len(packed) + len(payload)
    prelude = struct.pack("!II", total, len(packed))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    message = prelude + packed + payload
    return message + struct.pack("!I", zlib.crc32(message))


def payload_part(data: bytes) -> bytes:
    """A PayloadPart event."""
    return event_message(
        {
            ":event-type": "PayloadPart",
            ":content-type": "application/octet-stream",
            ":message-type": "event",
        },
        data,
    )


def stream_error(code: str, message: str) -> bytes:
    """A ModelStreamError exception event."""
    return event_message(
        {
            ":exception-type": "ModelStreamError",
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        json.dumps({"Message": message, "ErrorCode": code}).encode(),
    )


class Stream:
    """One streamed answer: the response body cut into payload parts."""

    __slots__ = (
        "_first_share",
        "_parts",
        "_request",
        "_sent",
        "_variant",
        "begun",
        "content_type",
    )

    def __init__(self, request: Request, response: ResponseSpec, variant: str) -> None:
        self._request = request
        self.content_type = response.content_type
        self._variant = variant
        self._first_share = response.first_chunk_share
        body = response.body.encode()
        count = min(response.stream_chunks, max(len(body), 1))
        edges = [len(body) * i // count for i in range(count + 1)]
        self._parts = [body[a:b] for a, b in itertools.pairwise(edges)]
        self._sent = 0
        self.begun = False

    def pace(self, started_s: float, work_s: float) -> None:
        """Send parts as the work goes on; the last waits for `complete`."""
        loop = asyncio.get_running_loop()
        gaps = max(len(self._parts) - 1, 1)
        spread = (1.0 - self._first_share) / gaps

        def send() -> None:
            if self._request.open and self._sent < len(self._parts) - 1:
                self.send_next()
                plan()

        def plan() -> None:
            due = started_s + work_s * (self._first_share + spread * self._sent)
            loop.call_later(max(due - time.monotonic(), 0.0), send)

        plan()

    def send_next(self) -> None:
        """Send the next of the simulated parts."""
        if self._sent < len(self._parts):
            self.send(self._parts[self._sent])
            self._sent += 1

    def send(self, data: bytes) -> None:
        """Send one part, the head before the first."""
        if not self.begun:
            self.begun = True
            head = (
                "Content-Type: application/vnd.amazon.eventstream\r\n"
                f"X-Amzn-SageMaker-Content-Type: {self.content_type}\r\n"
                f"x-Amzn-Invoked-Production-Variant: {self._variant}\r\n"
            )
            self._request.begin(200, head.encode("latin-1", "replace"))
        if data:
            self._request.chunk(payload_part(data))

    def complete(self, *, simulated: bool) -> None:
        """Send what is left and end."""
        while simulated and self._sent < len(self._parts):
            self.send_next()
        if not self.begun:
            self.send(b"")
        self._request.end()

    def broken(self, message: str) -> None:
        """End a begun stream with an error event."""
        self._request.chunk(stream_error("StreamBroken", message))
        self._request.end()
