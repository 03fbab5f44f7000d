"""Offering arrivals on the event loop, at their time, whatever happens to earlier ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from tuner.load.timing import deadline
from tuner.stats.requests import FloatArray

MAX_BATCH = 16
"""Arrivals offered in one turn of the loop: answers must be read in between."""

_now = time.monotonic


class Schedule:
    """Calls ``launch(intended_start)`` for each arrival of a stream.

    Times handed to ``launch`` are absolute on the monotonic clock. The stream may be
    replaced while running, which is how the rate is changed.
    """

    def __init__(
        self, loop: Any, launch: Callable[[float], None], finished: Callable[[], None]
    ) -> None:
        self._launch = launch
        self._finished = finished
        self._deadline = deadline(loop, self._due)
        self._times: Iterator[float] = iter(())
        self._next = 0.0
        self._end = float("inf")
        self.running = False

    def start(
        self, chunks: Iterator[FloatArray], origin_s: float, end_s: float = float("inf")
    ) -> None:
        """Offer the stream, its zero at ``origin_s``; stop before ``end_s`` (both absolute)."""
        self._times = _absolute(chunks, origin_s)
        self._end = end_s
        self.running = True
        self._advance()

    def _advance(self) -> None:
        self._next = next(self._times, float("inf"))
        if self._next >= self._end or self._next == float("inf"):
            self.stop()
            self._finished()
        else:
            self._deadline.arm(self._next)

    def stop(self) -> None:
        """Offer no more."""
        self.running = False
        self._times = iter(())
        self._deadline.cancel()

    def close(self) -> None:
        """Stop and give the timer back."""
        self.stop()
        self._deadline.close()

    def _due(self) -> None:
        launch, times, end = self._launch, self._times, self._end
        due = self._next
        for _ in range(MAX_BATCH):
            if due > _now():
                break
            launch(due)
            if not self.running or times is not self._times:
                return
            due = next(times, end)
            if due >= end:
                self.stop()
                self._finished()
                return
        self._next = due
        self._deadline.arm(due)


def _absolute(chunks: Iterator[FloatArray], origin_s: float) -> Iterator[float]:
    for chunk in chunks:
        yield from (chunk + origin_s).tolist()
