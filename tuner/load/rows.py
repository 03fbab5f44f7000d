"""Requests as fixed rows of bytes: written one by one in a callback, read as columns."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tuner.stats.requests import RequestLog

ROW = struct.Struct("<4dfIIBB")
ROW_DTYPE = np.dtype(
    [
        ("scheduled_s", "<f8"),
        ("sent_s", "<f8"),
        ("first_chunk_s", "<f8"),
        ("done_s", "<f8"),
        ("longest_gap_s", "<f4"),
        ("body_bytes", "<u4"),
        ("payload", "<u4"),
        ("outcome", "u1"),
        ("worker", "u1"),
    ]
)
CHUNK_ROWS = 2048
Rows = NDArray[np.void]


class RowBuffer:
    """A preallocated buffer of rows that hands itself on when full."""

    __slots__ = ("_buffer", "_limit", "_offset", "_sink")

    def __init__(self, sink: Callable[[Rows], None], rows: int = CHUNK_ROWS) -> None:
        self._buffer = bytearray(rows * ROW.size)
        self._limit = rows * ROW.size
        self._offset = 0
        self._sink = sink

    def add(
        self,
        scheduled: float,
        sent: float,
        first: float,
        done: float,
        gap: float,
        body_bytes: int,
        payload: int,
        outcome: int,
    ) -> None:
        """Write one row; moments are absolute on the monotonic clock."""
        offset = self._offset
        ROW.pack_into(
            self._buffer, offset, scheduled, sent, first, done, gap, body_bytes, payload, outcome, 0
        )
        offset += ROW.size
        self._offset = offset
        if offset == self._limit:
            self.flush()

    def flush(self) -> None:
        """Hand on what there is."""
        if self._offset:
            rows = np.frombuffer(bytes(self._buffer[: self._offset]), dtype=ROW_DTYPE).copy()
            self._offset = 0
            self._sink(rows)


def decode(blob: bytes) -> Rows:
    """Rows from the wire."""
    return np.frombuffer(blob, dtype=ROW_DTYPE)


def to_log(rows: Rows, class_index: NDArray[np.uint16]) -> RequestLog:
    """Columns in order of intended start.

    ``class_index`` maps payload to class; with a single entry every payload has that class.
    """
    ordered = rows[np.argsort(rows["scheduled_s"], kind="stable")]
    return RequestLog(
        ordered["scheduled_s"].copy(),
        ordered["sent_s"].copy(),
        ordered["first_chunk_s"].copy(),
        ordered["done_s"].copy(),
        ordered["outcome"].copy(),
        class_index[ordered["payload"] if len(class_index) > 1 else np.zeros(len(rows), int)],
        ordered["worker"].astype(np.uint16),
        ordered["longest_gap_s"].astype(np.float64),
    )
