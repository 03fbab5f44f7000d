"""Watching an AWS event stream go by, whatever the chunk boundaries."""

from __future__ import annotations

import json
from typing import Any

from botocore.eventstream import EventStreamBuffer, ParserError


class EventStreamWatch:
    """Counts payload parts and remembers an exception event."""

    __slots__ = ("_buffer", "error", "parts")

    def __init__(self) -> None:
        self._buffer = EventStreamBuffer()
        self.parts = 0
        self.error: tuple[str, str] | None = None

    def feed(self, data: bytes) -> int:
        """Take bytes; return how many payload parts they completed."""
        before = self.parts
        if self.error is None:
            try:
                self._buffer.add_data(data)
                messages: Any = self._buffer
                for message in messages:
                    self._take(message.headers, message.payload)
            except ParserError as error:
                self.error = ("Malformed", f"broken event-stream frame: {error}")
        return self.parts - before

    def _take(self, headers: dict[str, object], payload: bytes) -> None:
        kind = headers.get(":message-type")
        if kind == "event":
            if headers.get(":event-type") == "PayloadPart":
                self.parts += 1
        elif kind == "exception":
            self.error = (str(headers.get(":exception-type")), _message(payload))
        elif kind == "error":
            self.error = (str(headers.get(":error-code")), str(headers.get(":error-message")))


def _message(payload: bytes) -> str:
    try:
        data = json.loads(payload)
    except ValueError:
        return payload[:200].decode("utf-8", "replace")
    text = data.get("Message") or data.get("message") if isinstance(data, dict) else data
    return str(text)[:200]
