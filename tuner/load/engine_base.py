"""What every engine counts: requests in flight, faults, and how late the event loop runs."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tuner.load.arrival import WallClock
from tuner.load.outcomes import ErrorTexts
from tuner.load.rows import RowBuffer, Rows
from tuner.load.target import InvokeTarget
from tuner.stats.histogram import LatencyHistogram

TICK_S = 0.01
_now = time.monotonic

Addresses = list[tuple[int, Any]]
"""Resolved (family, socket address) pairs."""


class EngineBase:
    """Counters, the row buffer and a regular tick on the loop.

    ``picks`` yields payload indices without end. ``tick_lags`` holds how late each tick was,
    ``local_faults`` counts sockets this machine would not give, ``without_connection``
    arrivals that found every allowed connection busy, ``chunk_gaps`` takes the times
    between parts of streamed answers, which `flush` counts into ``gaps``, ``clock`` follows the
    wall clock that the kernel notes arrivals by.
    """

    def __init__(self, loop: Any, target: InvokeTarget, sink: Callable[[Rows], None]) -> None:
        self.loop = loop
        self.target = target
        self.streaming = target.streaming
        self.addresses: Addresses = []
        self.errors = ErrorTexts()
        self.picks: Iterator[int] = iter(())
        self.in_flight = 0
        self.in_flight_max = 0
        self.credentials_refused = 0
        self.local_faults = 0
        self.without_connection = 0
        self.chunk_gaps = array("d")
        self.gaps = LatencyHistogram.of([])
        self.completed = 0
        self.tick_lags = array("d")
        self.clock = WallClock()
        self._rows = RowBuffer(sink)
        self._last_tick = _now()
        self._ticker = loop.timer(TICK_S, TICK_S)
        self._ticker.start(self._tick)

    def _tick(self) -> None:
        now = _now()
        self.tick_lags.append(max(0.0, now - self._last_tick - TICK_S))
        self._last_tick = now
        self.clock.look()
        self.on_tick(now)

    def on_tick(self, now: float) -> None:
        """Called every `TICK_S`."""

    def flush(self) -> None:
        """Hand on the rows so far."""
        self._rows.flush()
        if self.chunk_gaps:
            fresh = LatencyHistogram.of(np.asarray(self.chunk_gaps))
            self.gaps = LatencyHistogram.merge([self.gaps, fresh])
            del self.chunk_gaps[:]

    def close(self) -> None:
        """Stop ticking."""
        self._ticker.stop()
        self._ticker.close()
