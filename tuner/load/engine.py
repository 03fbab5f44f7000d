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
    picks
        Endless payload indices.
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
        self._line: deque[tuple[float, int]] = deque()
        self._check_every = max(TICK_S, min(0.1, target.timeout_s / 20))
        self._next_check = 0.0
        self._next_address = 0

    # -- arrivals ------------------------------------------------------------------------

    def launch(self, scheduled_s: float) -> None:
        """Take one arrival, now."""
        if self.in_flight >= self.target.max_in_flight:
            self._rows.add(scheduled_s, NAN, NAN, NAN, 0, next(self.picks), _DROPPED)
            self.completed += 1
            return
        self.in_flight += 1
        if self.in_flight > self.in_flight_max:
            self.in_flight_max = self.in_flight
        payload = next(self.picks)
        if self._idle:
            self._send(self._idle.pop(), scheduled_s, payload)
        elif len(self._all) < self.target.connections:
            self._open(scheduled_s, payload)
        else:
            self._line.append((scheduled_s, payload))

    def _send(self, connection: Connection, scheduled_s: float, payload: int) -> None:
        connection.restart()
        connection.scheduled_s = scheduled_s
        connection.payload = payload
        connection.sent_s = _now()
        connection.deadline_s = connection.sent_s + self.target.timeout_s
        connection.begin(self._wires.ready[payload])

    def _open(self, scheduled_s: float, payload: int, sent_s: float | None = None) -> None:
        """A new connection for this arrival; its set-up time belongs to the latency."""
        connection = Connection(self)
        connection.scheduled_s = scheduled_s
        connection.payload = payload
        # The generator has done its part when it begins to connect: the rest is the peer's.
        sent = connection.sent_s = _now() if sent_s is None else sent_s
        connection.deadline_s = sent + self.target.timeout_s
        family, address = self.addresses[self._next_address % len(self.addresses)]
        self._next_address += 1
        self._all.add(connection)
        try:
            connection.open(family, address, self._tls, self.target.host)
        except OSError as error:
            self.loop.run_callback(
                self.failed, connection, Outcome.CONNECTION, f"socket: {error.strerror or error}"
            )

    # -- what connections report -----------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Send what the connection was opened for."""
        connection.begin(self._wires.ready[connection.payload])

    def answered(self, connection: Connection, reusable: bool) -> None:
        """Record the answer and give the connection its next request."""
        done = _now()
        if connection.status == 200 and connection.stream is None and self.observe is None:
            outcome = _OK
        else:
            outcome = self._judge(connection)
        self._rows.add(
            connection.scheduled_s,
            connection.sent_s,
            connection.first_s,
            done,
            connection.body_bytes,
            connection.payload,
            outcome,
        )
        self.completed += 1
        self.in_flight -= 1
        if not reusable:
            self._all.discard(connection)
            self._serve_line()
        elif self._line:
            scheduled_s, payload = self._line.popleft()
            self._send(connection, scheduled_s, payload)
        else:
            self._idle.append(connection)

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
        if (
            outcome is Outcome.CONNECTION
            and connection.served
            and not connection.touched
            and not text.startswith("connect")
        ):
            # The server closed an idle connection while this request was on its way: no
            # verdict on the request. It goes out once more, on a fresh connection, with its
            # clock still running from the intended start.
            self.errors.add("sent again: the server closed a kept connection before the request")
            self._open(connection.scheduled_s, connection.payload, connection.sent_s)
            return
        self.errors.add(text)
        self._rows.add(
            connection.scheduled_s,
            connection.sent_s,
            connection.first_s,
            _now(),
            connection.body_bytes,
            connection.payload,
            int(outcome),
        )
        self.completed += 1
        self.in_flight -= 1
        self._serve_line()

    def lost(self, connection: Connection, text: str) -> None:
        """An idle connection is gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if text:
            self.errors.add(text)

    def _serve_line(self) -> None:
        if self._line and len(self._all) < self.target.connections:
            self._open(*self._line.popleft())

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
            for connection in late:
                limit = self.target.timeout_s
                connection.abort(Outcome.TIMEOUT, f"no complete answer within {limit:g} s")

    def abandon(self) -> None:
        """Fail whatever is still in flight."""
        for scheduled_s, payload in self._line:
            self._rows.add(scheduled_s, NAN, NAN, NAN, 0, payload, _DROPPED)
            self.in_flight -= 1
        self._line.clear()
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
