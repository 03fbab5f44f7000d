"""When an answer's bytes arrived, by the kernel's clock and not by when they were read.

After a stall of the server thousands of answers come at once. Reading them one after another
takes the generator tens of milliseconds, and the last would seem that much slower than it was.
Linux notes when each segment arrived; elsewhere the time of reading has to do.
"""

from __future__ import annotations

import _socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

STAMP_BYTES = 32
LATE_READ_S = 0.001
"""A segment read this soon after it came needs no second look."""

_SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("@qq")
_TCP_INFO_BYTES = 232
_OUT_OF_ORDER = slice(224, 228)
"""``tcpi_rcv_ooopack`` of Linux' ``struct tcp_info``: segments that came before an earlier one."""

_CLOSE_READINGS_S = 2e-5
_now = time.monotonic


def ask_for_stamps(sock: Any) -> None:
    """Have the kernel note when each segment of this socket arrives, where it can."""
    if sys.platform == "linux":
        sock.setsockopt(_socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


class WallClock:
    """How far the kernel's stamps (wall clock) are ahead of the monotonic clock."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        self.ahead_s = min((_reading() for _ in range(5)), key=lambda r: r[1])[0]

    def look(self) -> None:
        """Follow the wall clock, which may be set while this runs."""
        ahead_s, doubt_s = _reading()
        if doubt_s < _CLOSE_READINGS_S:
            self.ahead_s = ahead_s


def _reading() -> tuple[float, float]:
    before, wall, after = _now(), time.time(), _now()
    return wall - (before + after) / 2, after - before


def arrival_s(sock: Any, notes: Sequence[Any], clock: WallClock, since_s: float) -> float:
    """When the bytes just read had all arrived, on the monotonic clock.

    Parameters
    ----------
    notes
        Ancillary data of ``recvmsg``.
    since_s
        Nothing can have arrived earlier: a stamp before this is of a clock that was set.
    """
    now = _now()
    if not notes:
        return now
    seconds, nanoseconds = _STAMP.unpack(notes[0][2])
    at: float = seconds + nanoseconds * 1e-9 - clock.ahead_s
    if now - LATE_READ_S < at <= now:
        return at
    # The stamp is of the last byte. Where segments changed places, an earlier byte came later.
    if since_s <= at <= now and not _reordered(sock):
        return at
    return now


def _reordered(sock: Any) -> bool:
    """Whether segments of this connection ever came out of order, or that is not known."""
    info: bytes = sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _TCP_INFO_BYTES)
    return len(info) < _OUT_OF_ORDER.stop or any(info[_OUT_OF_ORDER])
