"""One keep-alive HTTP/1.1 connection, driven by callbacks on gevent's own loop.

There is no greenlet per request: the loop calls `_on_readable`, the parser (llhttp) calls
`on_*`, and a finished answer goes straight to the owner. Nothing in here may block.
"""

from __future__ import annotations

import _socket
import errno
import os
import ssl
from array import array
from typing import Any, Protocol

import httptools

from tuner.load.arrival import STAMP_BYTES, WallClock, arrival_s, ask_for_stamps
from tuner.load.eventstream import EventStreamWatch
from tuner.stats.requests import Outcome

READ, WRITE = 1, 2
READ_BYTES = 65536
LOCAL_FAULTS = (errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
"""This machine has no port or memory left: the generator's limit, not the endpoint's."""

ERROR_BODY_BYTES = 4096
NAN = float("nan")


class Owner(Protocol):
    """What a connection needs from its pool."""

    loop: Any
    streaming: bool
    keep_bodies: bool
    local_faults: int
    chunk_gaps: array[float]
    clock: WallClock

    def answered(self, connection: Connection, reusable: bool) -> None:
        """A whole answer has arrived."""
        ...

    def failed(self, connection: Connection, outcome: Outcome, text: str) -> None:
        """The request on this connection failed; the connection is closed."""
        ...

    def lost(self, connection: Connection, text: str) -> None:
        """The connection closed while idle; an empty text is an ordinary close."""
        ...

    def opened(self, connection: Connection) -> None:
        """The connection can carry a request."""
        ...


class Connection:
    """State of one socket and of the request on it, if any."""

    __slots__ = (
        "_incoming", "_last_chunk_s", "_outgoing", "_owner", "_parser", "_reader", "_reusable",
        "_sock", "_tls", "_unsent", "_until_close", "_writer", "arrived_s", "body", "body_bytes",
        "busy", "closed", "complete", "deadline_s", "first_s", "headers", "longest_gap_s",
        "payload", "ready", "recording", "scheduled_s", "sent_s", "served", "status", "stream",
        "touched",
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._sock: Any = None
        self._reader: Any = None
        self._writer: Any = None
        self._tls: ssl.SSLObject | None = None
        self._unsent = b""
        self.ready = False
        self.closed = False
        self.busy = False
        self.served = 0
        self._parser: Any = None
        self.scheduled_s = self.sent_s = self.deadline_s = self.arrived_s = 0.0
        self.payload = 0
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.first_s = self._last_chunk_s = self.longest_gap_s = NAN
        self.complete = False
        self.touched = False
        self.stream: EventStreamWatch | None = None
        self._until_close = False
        self.recording = False

    # -- opening -------------------------------------------------------------------------

    def open(self, family: int, address: Any, tls: ssl.SSLContext | None, host: str) -> None:
        """Begin to connect; `Owner.opened` or `Owner.failed` follows from the loop."""
        sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        ask_for_stamps(sock)
        self._sock = sock
        if tls is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._parser = httptools.HttpResponseParser(self)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self._owner.local_faults += code in LOCAL_FAULTS
            self._owner.loop.run_callback(self._break, f"connect: {os.strerror(code)}")
            return
        self._writer = self._owner.loop.io(sock.fileno(), WRITE)
        self._writer.start(self._on_connected)

    def _on_connected(self) -> None:
        code = self._sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code:
            self._break(f"connect: {os.strerror(code)}")
            return
        self._writer.stop()
        self._reader = self._owner.loop.io(self._sock.fileno(), READ)
        self._reader.start(self._on_readable)
        if self._tls is None:
            self._open()
        else:
            self._handshake()

    def _handshake(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push(self._outgoing.read())
        except ssl.SSLError as error:
            self._push(self._outgoing.read())
            self._break(f"TLS handshake: {error.reason or error}")
        else:
            self._push(self._outgoing.read())
            self._open()

    def _open(self) -> None:
        self.ready = True
        self._owner.opened(self)

    # -- writing -------------------------------------------------------------------------

    def begin(self, wire: bytes) -> None:
        """Write one request; the fields that describe it are set by the owner."""
        self.busy = True
        if self._tls is not None:
            self._tls.write(wire)
            wire = self._outgoing.read()
        self._push(wire)

    def _push(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        if not data:
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._owner.loop.run_callback(self._break, f"send: {error.strerror}")
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._writer.start(self._on_writable)

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(f"send: {error.strerror}")
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._writer.stop()

    # -- reading -------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data, notes, _, _ = self._sock.recvmsg(READ_BYTES, STAMP_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(f"read: {error.strerror}")
            return
        self.arrived_s = arrival_s(self._sock, notes, self._owner.clock, self.sent_s)
        if self._tls is not None:
            self._decrypt(data)
        elif data:
            self._feed(data)
        else:
            self._on_eof()

    def _decrypt(self, data: bytes) -> None:
        tls = self._tls
        assert tls is not None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        if not self.ready:
            if data:
                self._handshake()
            else:
                self._break("closed by the peer during the TLS handshake")
            if not self.ready:
                return
        try:
            while not self.closed:
                plain = tls.read(READ_BYTES)
                if not plain:
                    self._on_eof()
                    return
                self._feed(plain)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._on_eof()
        except ssl.SSLError as error:
            self._break(f"TLS: {error.reason or error}")

    def _feed(self, data: bytes) -> None:
        if not self.busy:
            self._close()
            self._owner.lost(self, "the server sent bytes nobody asked for; connection closed")
            return
        self.touched = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break("the server switched protocols")
        except httptools.HttpParserError as error:
            if self.complete:
                self._finish(False, "the answer is longer than it announced; connection closed")
            else:
                self._break(f"malformed HTTP: {_cause(error)}")
        else:
            if self.complete:
                self._finish(self._reusable, "")

    def _on_eof(self) -> None:
        if not self.busy:
            self._close()
            self._owner.lost(self, "")
        elif self._until_close and self.status:
            # Without a length the end of the connection is the end of the body.
            self.complete = True
            self._finish(False, "")
        elif self.touched:
            self._break("closed by the peer in the middle of an answer")
        else:
            self._break("closed by the peer before an answer")

    def _finish(self, reusable: bool, note: str) -> None:
        self.busy = False
        self.served += 1
        if note:
            self._close()
            self._owner.lost(self, note)
        elif not reusable:
            self._close()
        self._owner.answered(self, reusable and not self.closed)

    def restart(self) -> None:
        """Forget the last answer."""
        self._reset()

    # -- parser callbacks ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            # More than one answer in one read: the next bytes are not ours.
            raise ValueError("an answer nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        headers = self.headers
        self.recording = self._owner.keep_bodies or not 200 <= self.status < 300
        self._until_close = b"content-length" not in headers and b"transfer-encoding" not in headers
        if (
            self._owner.streaming
            and headers.get(b"content-type") == b"application/vnd.amazon.eventstream"
        ):
            self.stream = EventStreamWatch()

    def on_body(self, data: bytes) -> None:
        self.body_bytes += len(data)
        if self._owner.streaming:
            self._on_chunk(data)
        if self.recording and (self._owner.keep_bodies or self.body_bytes <= ERROR_BODY_BYTES):
            self.body.append(data)

    def _on_chunk(self, data: bytes) -> None:
        seen = 1 if self.stream is None else self.stream.feed(data)
        if not seen:
            return
        now = self.arrived_s
        if self.first_s != self.first_s:
            self.first_s = now
            self.longest_gap_s = 0.0
        else:
            gap = now - self._last_chunk_s
            self._owner.chunk_gaps.append(gap)
            self.longest_gap_s = max(self.longest_gap_s, gap)
        # Parts that came in one read follow each other at once.
        self._owner.chunk_gaps.extend([0.0] * (seen - 1))
        self._last_chunk_s = now

    def on_message_complete(self) -> None:
        if self.status >= 200:
            self.complete = True
            # Asked here because the parser forgets the message right after.
            self._reusable = self._parser.should_keep_alive()
        else:
            self.headers.clear()

    # -- ending --------------------------------------------------------------------------

    def abort(self, outcome: Outcome, text: str) -> None:
        """Fail the request on this connection, such as by a timeout."""
        self._break(text, outcome)

    def close(self) -> None:
        """Close without a word to the owner."""
        self._close()

    def _break(self, text: str, outcome: Outcome = Outcome.CONNECTION) -> None:
        if self.closed:
            return
        was_busy = self.busy or not self.ready
        self._close()
        if was_busy:
            self._owner.failed(self, outcome, text)
        else:
            self._owner.lost(self, text)

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._sock.close()


def _cause(error: BaseException) -> str:
    while error.__context__ is not None and isinstance(error, httptools.HttpParserCallbackError):
        error = error.__context__
    return str(error)[:120]
