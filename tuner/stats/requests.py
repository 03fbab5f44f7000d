"""Every request of a stage, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.slo import Measure

FloatArray = NDArray[np.float64]


class Outcome(IntEnum):
    """How a request ended. Everything but OK counts as infinitely slow.

    ``DROPPED`` is an arrival the generator could not send (in-flight cap reached); it is
    recorded, never shed in silence, and it voids a stage.
    """

    OK = 0
    THROTTLED = 1
    MODEL_ERROR = 2
    TIMEOUT = 3
    CONNECTION = 4
    OTHER = 5
    DROPPED = 6


@dataclass(frozen=True, slots=True, eq=False)
class RequestLog:
    """Requests of one stage in order of their intended start.

    All arrays have shape (n,). Times are seconds since the stage's measuring window opened;
    the generator's clock is monotonic and shared by all workers of one machine.

    Parameters
    ----------
    scheduled_s
        Intended start, ascending. Latency counts from here.
    sent_s
        When the request was handed to the socket; NaN for DROPPED.
    first_chunk_s
        When the first body chunk of a streamed answer arrived; NaN where not streamed.
    done_s
        When the last byte arrived, or the failure was known; NaN for DROPPED.
    outcome
        `Outcome` values, uint8.
    payload_class
        Index into the plan's payload classes, uint16.
    worker
        Index of the generator worker that sent the request, uint16.
    longest_gap_s
        Longest time between two chunks of a streamed answer, 0 for a single chunk; NaN where
        not streamed, which is all of them when left out.
    """

    scheduled_s: FloatArray
    sent_s: FloatArray
    first_chunk_s: FloatArray
    done_s: FloatArray
    outcome: NDArray[np.uint8]
    payload_class: NDArray[np.uint16]
    worker: NDArray[np.uint16]
    longest_gap_s: FloatArray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        n = self.scheduled_s.shape
        if not self.longest_gap_s.size:
            object.__setattr__(self, "longest_gap_s", np.full(n, np.nan))
        if len(n) != 1 or any(c.shape != n for c in self.columns().values()):
            shapes = {k: c.shape for k, c in self.columns().items()}
            raise ValueError(f"request columns differ in shape: {shapes}")

    def columns(self) -> dict[str, NDArray[Any]]:
        """Name to column, in storage order."""
        return {
            "scheduled_s": self.scheduled_s,
            "sent_s": self.sent_s,
            "first_chunk_s": self.first_chunk_s,
            "done_s": self.done_s,
            "outcome": self.outcome,
            "payload_class": self.payload_class,
            "worker": self.worker,
            "longest_gap_s": self.longest_gap_s,
        }

    @classmethod
    def from_times(
        cls,
        scheduled_s: FloatArray,
        done_s: FloatArray,
        *,
        sent_s: FloatArray | None = None,
        first_chunk_s: FloatArray | None = None,
        outcome: NDArray[np.uint8] | None = None,
        payload_class: NDArray[np.uint16] | None = None,
        worker: NDArray[np.uint16] | None = None,
        longest_gap_s: FloatArray | None = None,
    ) -> RequestLog:
        """Build a log from two columns; what is left out is sent on time, OK, class 0.

        Rows are put in order of intended start.
        """
        n = len(scheduled_s)
        order = np.argsort(scheduled_s, kind="stable")
        sent = scheduled_s if sent_s is None else sent_s
        first = np.full(n, np.nan) if first_chunk_s is None else first_chunk_s
        return cls(
            np.asarray(scheduled_s, dtype=np.float64)[order],
            np.asarray(sent, dtype=np.float64)[order],
            np.asarray(first, dtype=np.float64)[order],
            np.asarray(done_s, dtype=np.float64)[order],
            (np.zeros(n, np.uint8) if outcome is None else outcome.astype(np.uint8))[order],
            (np.zeros(n, np.uint16) if payload_class is None else payload_class)[order],
            (np.zeros(n, np.uint16) if worker is None else worker)[order],
            np.full(n, np.nan) if longest_gap_s is None else longest_gap_s[order],
        )

    def __len__(self) -> int:
        return len(self.scheduled_s)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which requests succeeded, shape (n,)."""
        return np.equal(self.outcome, np.uint8(Outcome.OK))

    def latency_s(self) -> FloatArray:
        """Latency from the intended start, shape (n,); infinite for every failure."""
        return np.where(self.ok, self.done_s - self.scheduled_s, np.inf)

    def times_s(self, measure: Measure) -> FloatArray:
        """The times an objective is about, shape (n,); infinite for failures.

        NaN for a success without such a time, which is an answer that was not streamed.
        """
        if measure is Measure.LATENCY:
            return self.latency_s()
        if measure is Measure.TTFT:
            return np.where(self.ok, self.first_chunk_s - self.scheduled_s, np.inf)
        return np.where(self.ok, self.longest_gap_s, np.inf)

    def send_lag_s(self) -> FloatArray:
        """Actual minus intended start, shape (n,); NaN for requests never sent."""
        return self.sent_s - self.scheduled_s

    def count(self, outcome: Outcome) -> int:
        """How many requests ended this way."""
        return int(np.count_nonzero(self.outcome == outcome))

    @property
    def error_rate(self) -> float:
        """Share of requests that failed; NaN for an empty log."""
        return float(np.mean(~self.ok)) if len(self) else float("nan")

    def between(self, start_s: float, end_s: float) -> RequestLog:
        """The requests whose intended start lies in [start_s, end_s)."""
        lo, hi = np.searchsorted(self.scheduled_s, [start_s, end_s], side="left")
        return RequestLog(*(c[lo:hi] for c in self.columns().values()))
