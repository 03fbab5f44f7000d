"""HTTP/1.1 on asyncio: just enough server to be fast, strict and hard to hang.

One request of a connection is in hand at a time; pipelined ones wait their turn, so answers
leave in order. What cannot be parsed is answered with the error the caller supplies, and the
connection is closed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import httptools

MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINE = 64
REQUEST_TIMEOUT_S = 60.0
"""How long a client may take to send one request."""

_REASONS = {int(s): s.phrase for s in HTTPStatus} | {530: "Site Is Frozen"}
_STATUS_LINES: dict[int, bytes] = {
    code: f"HTTP/1.1 {code} {_REASONS.get(code, 'Other')}\r\n".encode() for code in range(200, 600)
}


class DateHeader:
    """The Date header's bytes, made once a second."""

    __slots__ = ("_second", "_value")

    def __init__(self) -> None:
        self._second = -1
        self._value = b""

    def __call__(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._value = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        return self._value


date_header = DateHeader()


class Request:
    """One parsed request and the way to answer it, exactly once."""

    __slots__ = ("_chunked", "_connection", "answered", "body", "headers", "keep_alive", "method",
                 "on_lost", "target")  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunked = False
        self.answered = False
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True
        self.on_lost: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """Whether the client is still there and waits for an answer."""
        return not self.answered and self._connection.transport is not None

    def header(self, name: bytes, default: str = "") -> str:
        """A header as text; ``name`` in lower case."""
        value = self.headers.get(name)
        return default if value is None else value.decode("latin-1")

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer. ``head`` is header lines, each ending in CRLF."""
        if not self.open:
            return
        self._write(
            b"%b%b%bContent-Length: %d\r\n\r\n%b"
            % (_STATUS_LINES[status], head, date_header(), len(body), body)
        )
        self._over()

    def begin(self, status: int, head: bytes) -> None:
        """Start an answer sent in chunks."""
        if self.open:
            self._chunked = True
            self._write(
                b"%b%b%bTransfer-Encoding: chunked\r\n\r\n"
                % (_STATUS_LINES[status], head, date_header())
            )

    def chunk(self, data: bytes) -> None:
        """Send one chunk of a begun answer."""
        if self.open and data:
            self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """Finish a begun answer."""
        if self.open:
            self._write(b"0\r\n\r\n")
            self._over()

    def raw(self, data: bytes, *, last: bool) -> None:
        """Send bytes as they are (an answer that drips out)."""
        if self.open:
            self._write(data)
            if last:
                self._over()

    def reset(self) -> None:
        """Drop the connection without an answer."""
        transport = self._connection.transport
        self.answered = True
        if transport is not None:
            transport.abort()

    def _write(self, data: bytes) -> None:
        transport = self._connection.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def _over(self) -> None:
        self.answered = True
        self._connection.answered(self)


Handler = Callable[[Request], None]
BadRequest = Callable[[Request, int, str], None]
"""``bad_request(request, status, reason)`` answers what is not HTTP, or too large."""


class Connection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_active",
        "_bad",
        "_begun_s",
        "_head_bytes",
        "_in_head",
        "_limit",
        "_parser",
        "_parts",
        "_request",
        "_server",
        "_size",
        "_waiting",
        "transport",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limit = server.max_body_bytes
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request(self)
        self._parts: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._in_head = True
        self._begun_s = math.inf
        self._active: Request | None = None
        self._waiting: deque[Request] = deque()
        self._bad: tuple[int, str] | None = None

    # -- asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody waits for the answer any more."""
        self.transport = None
        self._server.connections.discard(self)
        self._waiting.clear()
        active = self._active
        self._active = None
        if active is not None and active.on_lost is not None:
            active.on_lost()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._bad is not None:
            return
        was_in_head = self._in_head
        try:
            self._parser.feed_data(data)
            if was_in_head and self._in_head:
                self._count_head(len(data))
        except httptools.HttpParserUpgrade:
            self._refuse(400, "Protocol upgrades are not supported.")
        except httptools.HttpParserCallbackError as error:
            if self._bad is None:
                self._broken(error)
        except httptools.HttpParserError as error:
            if self._bad is None:
                self._refuse(400, f"The request could not be parsed: {error}")

    # -- httptools -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        self._request = Request(self)
        self._parts = []
        self._size = 0
        self._begun_s = time.monotonic()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._request.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        request = self._request
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive()
        headers = request.headers
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > self._limit:
            self._stop(413, "Request exceeded the maximum payload size.")
        expects = b"expect" in headers and headers[b"expect"].lower() == b"100-continue"
        if expects and self.transport is not None and self._active is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._size += len(body)
        if self._size > self._limit:
            self._stop(413, "Request exceeded the maximum payload size.")
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """A whole request is here."""
        self._in_head = True
        self._head_bytes = 0
        self._begun_s = math.inf
        request = self._request
        parts = self._parts
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._active is None:
            self._active = request
            self._server.handler(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= MAX_PIPELINE and self.transport is not None:
                self.transport.pause_reading()

    def expire(self, before_s: float) -> None:
        """Refuse a request that began before ``before_s`` and is still not complete."""
        if self._begun_s < before_s and self._bad is None:
            self._refuse(408, "The request was not complete in time.")

    # -- inside ----------------------------------------------------------------------------

    def answered(self, request: Request) -> None:
        """The request in hand has its answer: close, or take up the next."""
        if self._active is not request:
            return
        self._active = None
        if not request.keep_alive or (self._bad is not None and not self._waiting):
            if self._bad is not None:
                self._answer_bad()
            elif self.transport is not None:
                self.transport.close()
            return
        if self._waiting:
            self._active = self._waiting.popleft()
            if not self._waiting and self.transport is not None:
                self.transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._take_up, self._active)

    def _take_up(self, request: Request) -> None:
        if self._active is request and self.transport is not None:
            self._server.handler(request)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._stop(400, "The request head is too large.")

    def _stop(self, status: int, reason: str) -> None:
        """Refuse from inside a parser callback: raising makes the parser stop."""
        self._refuse(status, reason)
        raise httptools.HttpParserError(reason)

    def _refuse(self, status: int, reason: str) -> None:
        self._bad = (status, reason)
        if self.transport is not None:
            self.transport.pause_reading()
        if self._active is None:
            self._answer_bad()

    def _broken(self, error: httptools.HttpParserCallbackError) -> None:
        """A handler failed: say so to the client and to whoever runs the loop, and hang up."""
        context = {"message": "a request broke its handler", "exception": error.__context__}
        asyncio.get_running_loop().call_exception_handler(context)
        self._active = None
        self._refuse(500, "The request could not be served.")

    def _answer_bad(self) -> None:
        assert self._bad is not None
        request = self._request
        request.keep_alive = False
        request.answered = False
        self._active = None
        self._server.bad_request(request, *self._bad)
        if self.transport is not None:
            self.transport.close()


class HttpServer:
    """Listens on one address and hands every request to one handler."""

    def __init__(self, handler: Handler, bad_request: BadRequest, max_body_bytes: int) -> None:
        self.handler = handler
        self.bad_request = bad_request
        self.max_body_bytes = max_body_bytes
        self.request_timeout_s = REQUEST_TIMEOUT_S
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (chosen by the system when ``port`` is 0).

        Raises
        ------
        OSError
            If the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), host, port, backlog=4096, reuse_address=True
        )
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    def sweep(self) -> None:
        """Refuse what has been incomplete for too long; call it now and then."""
        before_s = time.monotonic() - self.request_timeout_s
        for connection in list(self.connections):
            connection.expire(before_s)

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await self._server.wait_closed()
