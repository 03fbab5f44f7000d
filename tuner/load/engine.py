"""The open-loop engine: arrivals in, rows out, one thread, no greenlet per request.

An arrival takes an idle connection, or opens one, or waits in line; whatever happens its
latency counts from the intended start. Every arrival becomes exactly one row.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tuner.load.connection import NAN, Connection
from tuner.load.engine_base import TICK_S, EngineBase
from tuner.load.outcomes import classify, of_stream_error
from tuner.load.rows import Rows
from tuner.load.target import InvokeTarget
from tuner.load.wires import Wires
from tuner.stats.requests import Outcome

CONNECTING = 64
"""Connections being opened at a time: a storm of handshakes would hit the peer's backlog."""

_OK, _DROPPED = int(Outcome.OK), int(Outcome.DROPPED)
_now = time.monotonic


class HttpEngine(EngineBase):
    """A pool of connections that carries arrivals.

    Parameters
    ----------
    loop
        gevent's loop of this thread.
    wires
        Ready requests, one per payload.
    sink
        Takes rows in batches; times are absolute on the monotonic clock.
    """

    def __init__(
        self,
        loop: Any,
        target: InvokeTarget,
        wires: Wires,
        sink: Callable[[Rows], None],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(loop, target, sink)
        self.keep_bodies = False
        self.observe: Callable[[int, dict[bytes, bytes], bytes], None] | None = None
        self._wires = wires
        self._tls = tls
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._connecting = 0
        # (intended start, payload, moment the generator had done its part or NaN, deadline)
        self._line: deque[tuple[float, int, float, float]] = deque()
        self._check_every = max(TICK_S, min(0.1, target.timeout_s / 20))
        self._next_check = 0.0
        self._next_address = 0

    # -- arrivals ------------------------------------------------------------------------

    def launch(self, scheduled_s: float) -> None:
        """Take one arrival, now."""
        if self.in_flight >= self.target.max_in_flight:
            self._rows.add(scheduled_s, NAN, NAN, NAN, NAN, 0, next(self.picks), _DROPPED)
            self.completed += 1
            return
        self.in_flight += 1
        if self.in_flight > self.in_flight_max:
            self.in_flight_max = self.in_flight
        payload = next(self.picks)
        if self._idle:
            now = _now()
            self._send(self._idle.pop(), (scheduled_s, payload, now, now + self.target.timeout_s))
        else:
            self._wait(scheduled_s, payload)

    def _wait(self, scheduled_s: float, payload: int) -> None:
        """Stand in line for whichever comes first: a new connection or one that gets free."""
        now = _now()
        # Waiting for the peer to accept is the peer's time; waiting because the generator
        # may open no more connections is the generator's, and shows as send lag.
        sent = now
        if len(self._all) >= self.target.connections:
            sent = NAN
            self.without_connection += 1
        self._line.append((scheduled_s, payload, sent, now + self.target.timeout_s))
        self._connect_for_line()

    def _send(self, connection: Connection, request: tuple[float, int, float, float]) -> None:
        connection.restart()
        scheduled_s, payload, sent, deadline = request
        connection.scheduled_s = scheduled_s
        connection.payload = payload
        if sent != sent:
            sent = _now()
            deadline = sent + self.target.timeout_s
        connection.sent_s = sent
        connection.deadline_s = deadline
        connection.begin(self._wires.ready[payload])

    def _connect_for_line(self) -> None:
        """Open connections while requests wait, a bounded number at a time."""
        while (
            self._connecting < min(len(self._line), CONNECTING)
            and len(self._all) < self.target.connections
        ):
            connection = Connection(self)
            connection.deadline_s = _now() + self.target.timeout_s
            self._connecting += 1
            self._all.add(connection)
            family, address = self.addresses[self._next_address % len(self.addresses)]
            self._next_address += 1
            try:
                connection.open(family, address, self._tls, self.target.host)
            except OSError as error:
                self.local_faults += 1
                text = f"socket: {error.strerror or error}"
                self.loop.run_callback(self.failed, connection, Outcome.CONNECTION, text)

    # -- what connections report -----------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """A new connection serves the head of the line."""
        self._connecting -= 1
        self._next_for(connection)

    def _next_for(self, connection: Connection) -> None:
        if self._line:
            self._send(connection, self._line.popleft())
            self._connect_for_line()
        else:
            self._idle.append(connection)

    def answered(self, connection: Connection, reusable: bool) -> None:
        """Record the answer and give the connection its next request."""
        if connection.status == 200 and connection.stream is None and self.observe is None:
            outcome = _OK
        else:
            outcome = self._judge(connection)
        self._rows.add(
            connection.scheduled_s,
            connection.sent_s,
            connection.first_s,
            connection.arrived_s,
            connection.longest_gap_s,
            connection.body_bytes,
            connection.payload,
            outcome,
        )
        self.completed += 1
        self.in_flight -= 1
        if reusable:
            self._next_for(connection)
        else:
            self._all.discard(connection)
            self._connect_for_line()

    def _judge(self, connection: Connection) -> int:
        body = b"".join(connection.body)
        outcome, text, refused = classify(connection.status, connection.headers, body)
        fault = None if connection.stream is None else connection.stream.error
        if outcome is Outcome.OK and fault is not None:
            outcome, text = of_stream_error(*fault)
        if text:
            self.errors.add(text)
        if refused:
            self.credentials_refused += 1
            self._wires.distrust()
        if self.observe is not None:
            self.observe(connection.status, connection.headers, body)
        return int(outcome)

    def failed(self, connection: Connection, outcome: Outcome, text: str) -> None:
        """Record a failure with the time it took."""
        self._all.discard(connection)
        if not connection.ready:
            self._not_opened(outcome, text)
        elif outcome is Outcome.CONNECTION and connection.served and not connection.touched:
            # The server closed an idle connection while this request was on its way: no
            # verdict on the request. It goes out once more, its clock still running.
            self.errors.add("sent again: the server closed a kept connection before the request")
            self._line.appendleft(
                (
                    connection.scheduled_s,
                    connection.payload,
                    connection.sent_s,
                    connection.deadline_s,
                )
            )
        else:
            self.errors.add(text)
            request = (connection.scheduled_s, connection.payload, connection.sent_s, 0.0)
            self._fail(request, outcome, connection.first_s, connection.body_bytes)
        self._connect_for_line()

    def _not_opened(self, outcome: Outcome, text: str) -> None:
        """A connection that did not come about costs the request that waited for it.

        Not so for a timeout: requests in line have deadlines of their own.
        """
        self._connecting -= 1
        self.errors.add(text)
        if self._line and outcome is Outcome.CONNECTION:
            self._fail(self._line.popleft(), outcome)

    def _fail(
        self,
        request: tuple[float, int, float, float],
        outcome: Outcome,
        first_s: float = NAN,
        body_bytes: int = 0,
    ) -> None:
        scheduled_s, payload, sent, _ = request
        self._rows.add(scheduled_s, sent, first_s, _now(), NAN, body_bytes, payload, int(outcome))
        self.completed += 1
        self.in_flight -= 1

    def lost(self, connection: Connection, text: str) -> None:
        """An idle connection is gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if text:
            self.errors.add(text)

    # -- housekeeping ----------------------------------------------------------------------

    def on_tick(self, now: float) -> None:
        """Fail what has waited too long."""
        if now >= self._next_check:
            self._next_check = now + self._check_every
            late = [
                c
                for c in self._all
                if (c.busy or not c.ready) and c.deadline_s <= now and not c.closed
            ]
            text = f"no complete answer within {self.target.timeout_s:g} s"
            for connection in late:
                connection.abort(Outcome.TIMEOUT, text)
            while self._line and self._line[0][3] <= now:
                self.errors.add(text)
                self._fail(self._line.popleft(), Outcome.TIMEOUT)

    def abandon(self) -> None:
        """Fail whatever is still in flight."""
        while self._line:
            self._fail(self._line.popleft(), Outcome.TIMEOUT)
        for connection in list(self._all):
            if connection.busy or not connection.ready:
                connection.abort(Outcome.TIMEOUT, "given up at the end of the stage")

    def close(self) -> None:
        """Close every connection."""
        super().close()
        for connection in list(self._all):
            connection.close()
        self._all.clear()
        self._idle.clear()
