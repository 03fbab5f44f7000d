"""Export as an HdrHistogram log, for people's existing viewers.

Log format 1.3, one line per window and outcome, values in nanoseconds with three digits,
encoding V2 (zigzag LEB128 counts, zlib, base64), as the HdrHistogram projects define them.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.types import StageResult
from tuner.stats.histogram import LatencyHistogram, Window
from tuner.stats.requests import FloatArray, Outcome, RequestLog

NS = 1e9
_DIGITS = 3
_SUB_BITS = 11
_HALF = 1 << (_SUB_BITS - 1)
_COOKIE = 0x1C849303 | 0x10
_COMPRESSED_COOKIE = 0x1C849304 | 0x10
HEADER = (
    "#[Histogram log format version 1.3]\n"
    "#[StartTime: {start:.3f} (seconds since epoch)]\n"
    '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
)


def hdr_log(results: Iterable[StageResult]) -> str:
    """All stages as one log; tags name stage and outcome."""
    stages = sorted(results, key=lambda r: r.started_at_unix_s)
    if not stages:
        return HEADER.format(start=0.0)
    base = stages[0].started_at_unix_s
    lines = [HEADER.format(start=base)]
    for result in stages:
        offset = result.started_at_unix_s - base
        for start, length, outcome, values, counts in _intervals(result):
            tag = f"stage{result.spec.index}-{outcome.name.lower()}"
            top = float(values.max()) * 1e3
            text = encode(values, counts).decode()
            lines.append(f"Tag={tag},{offset + start:.3f},{length:.3f},{top:.3f},{text}\n")
        gaps = result.chunk_gaps
        if gaps is not None and gaps.total:
            lines.append(_gap_line(result, offset, gaps))
    return "".join(lines)


def _gap_line(result: StageResult, offset_s: float, gaps: LatencyHistogram) -> str:
    """Times between the parts of streamed answers, over the whole stage."""
    middles = gaps.middles_s()
    tag, length = f"stage{result.spec.index}-chunk_gap", result.spec.duration_s
    text = encode(middles, gaps.count).decode()
    return f"Tag={tag},{offset_s:.3f},{length:.3f},{float(middles.max()) * 1e3:.3f},{text}\n"


Interval = tuple[float, float, Outcome, FloatArray, NDArray[np.int64]]


def _intervals(result: StageResult) -> Iterator[Interval]:
    """Windows as values and counts: exact where the columns were kept."""
    for window in result.windows:
        if result.log is not None:
            end = window.start_s + window.length_s
            yield from _exact(window, result.log.between(window.start_s, end))
            continue
        for outcome, histogram in window.by_outcome:
            if outcome is not Outcome.DROPPED:
                middles = histogram.middles_s()
                yield window.start_s, window.length_s, outcome, middles, histogram.count


def _exact(window: Window, log: RequestLog) -> Iterator[Interval]:
    took = log.done_s - log.scheduled_s
    for outcome, _ in window.by_outcome:
        mine = took[log.outcome == outcome]
        if outcome is not Outcome.DROPPED and mine.size:
            counts = np.ones(mine.size, np.int64)
            yield window.start_s, window.length_s, outcome, mine, counts


def encode(values_s: FloatArray, counts: NDArray[np.int64]) -> bytes:
    """A V2 compressed histogram of latencies, base64.

    Parameters
    ----------
    values_s
        Latencies in seconds, shape (n,), n >= 1.
    counts
        How often each occurs, shape (n,).
    """
    values = np.maximum(np.rint(values_s * NS), 1.0).astype(np.int64)
    highest = int(values.max()) * 2
    index = _index(values)
    table = np.zeros(int(index.max()) + 1, np.int64)
    np.add.at(table, index, counts)
    payload = _leb128(_runs(table))
    head = struct.pack(">iiiiqqd", _COOKIE, len(payload), 0, _DIGITS, 1, highest, 1.0)
    packed = zlib.compress(head + payload)
    return base64.b64encode(struct.pack(">ii", _COMPRESSED_COOKIE, len(packed)) + packed)


def _index(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each value in the counts array."""
    # frexp gives the position of the top bit exactly for integers below 2**53.
    top_bit = np.frexp((values | (2 * _HALF - 1)).astype(np.float64))[1]
    bucket = top_bit.astype(np.int64) - _SUB_BITS
    return (bucket + 1) * _HALF + ((values >> bucket) - _HALF)


def _runs(table: NDArray[np.int64]) -> Iterator[int]:
    """Counts, with a run of k zeros as -k."""
    zeros = 0
    for count in table.tolist():
        if count == 0:
            zeros += 1
            continue
        if zeros:
            yield -zeros
            zeros = 0
        yield count


def _leb128(numbers: Iterable[int]) -> bytes:
    """Zigzag LEB128, as HdrHistogram packs words."""
    out = bytearray()
    for number in numbers:
        word = (number << 1) ^ (number >> 63)
        while word > 0x7F:
            out.append(word & 0x7F | 0x80)
            word >>= 7
        out.append(word)
    return bytes(out)
