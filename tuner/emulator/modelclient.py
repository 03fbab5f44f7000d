"""An HTTP client for the model servers of local mode: one exchange at a time, kept alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model server answered."""

    status: int
    content_type: str
    custom_attributes: str
    body: bytes


class ModelConnection(asyncio.Protocol):
    """One connection to a model server."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._answer: asyncio.Future[ModelAnswer] | None = None
        self._piece: Callable[[bytes, str], None] | None = None
        self.reusable = True
        self.touched = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server hung up."""
        self._transport = None
        self.reusable = False
        until_closed = (
            self.touched
            and b"content-length" not in self._headers
            and b"transfer-encoding" not in self._headers
        )
        if until_closed and exc is None:
            self._resolve()
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the model server hung up"))

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.reusable = False
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(ConnectionError(f"not an HTTP answer: {error}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self.touched = True
        if not self._parser.should_keep_alive():
            self.reusable = False

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._piece is not None and self._parser.get_status_code() < 300:
            self._piece(body, self._content_type())
        else:
            self._parts.append(body)

    def _content_type(self) -> str:
        value = self._headers.get(b"content-type", b"application/octet-stream")
        return value.decode("latin-1")

    def on_message_complete(self) -> None:
        """The answer is complete."""
        self._resolve()

    def _resolve(self) -> None:
        if self._answer is not None and not self._answer.done():
            attributes = self._headers.get(b"x-amzn-sagemaker-custom-attributes", b"")
            self._answer.set_result(
                ModelAnswer(
                    self._parser.get_status_code(),
                    self._content_type(),
                    attributes.decode("latin-1"),
                    b"".join(self._parts),
                )
            )

    async def exchange(
        self, request: bytes, piece: Callable[[bytes, str], None] | None = None
    ) -> ModelAnswer:
        """Send a request and wait for its answer; ``piece`` gets the body as it comes.

        Raises
        ------
        ConnectionError
            If the server hangs up or does not speak HTTP.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the model server hung up")
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._parts, self._piece = {}, [], piece
        self.touched = False
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            if not self._answer.done() or self._answer.cancelled():
                self.reusable = False
                self.close()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


async def connect(port: int) -> ModelConnection:
    """Connect to a model server on loopback.

    Raises
    ------
    OSError
        If nobody listens.
    """
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(ModelConnection, HOST, port)
    return connection


def request_bytes(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request in HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body
