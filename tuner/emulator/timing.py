"""Clocks and a timer finer than the event loop's."""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import struct
import sys
import time
from collections.abc import Callable

CONTROL_MINUTE_S = 60.0


class ControlClock:
    """Minutes of metrics, alarms, cooldowns and launches, which may run faster than real ones.

    Control time starts as the Unix time of construction and runs ``speed`` times as fast; at
    speed 1 the two are the same. What clients see and say stays on the wall clock.
    """

    def __init__(self, minute_seconds: float = CONTROL_MINUTE_S) -> None:
        self.minute_seconds = minute_seconds
        self.speed = CONTROL_MINUTE_S / minute_seconds
        self._origin_s = time.time()
        self._offset_s = self._origin_s - time.monotonic()

    def now_unix_s(self) -> float:
        """The wall clock, free of steps."""
        return time.monotonic() + self._offset_s

    def now_control_s(self) -> float:
        """The control clock."""
        return self.control_at(time.monotonic())

    def control_at(self, monotonic_s: float) -> float:
        """Monotonic clock to control time."""
        return self.control_s(monotonic_s + self._offset_s)

    def control_s(self, unix_s: float) -> float:
        """Wall clock to control time."""
        return self._origin_s + (unix_s - self._origin_s) * self.speed

    def unix_s(self, control_s: float) -> float:
        """Control time to wall clock."""
        return self._origin_s + (control_s - self._origin_s) / self.speed

    def wall_duration_s(self, control_duration_s: float) -> float:
        """How long a stretch of control time lasts on the wall clock."""
        return control_duration_s / self.speed


class _TimerFd:
    """Linux ``timerfd``: event loops round their own timers to whole milliseconds."""

    _SETTIME_ABSOLUTE = 1

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._settime = self._libc.timerfd_settime
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._buffer = ctypes.create_string_buffer(32)
        self._loop = loop
        self._fire = fire
        loop.add_reader(self._fd, self._ready)

    def _ready(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._fire()

    def set(self, when_s: float) -> None:
        """Fire at ``when_s`` of the monotonic clock."""
        seconds = int(when_s)
        nanoseconds = int((when_s - seconds) * 1e9) or 1
        struct.pack_into("qqqq", self._buffer, 0, 0, 0, seconds, nanoseconds)
        self._settime(self._fd, self._SETTIME_ABSOLUTE, self._buffer, None)

    def close(self) -> None:
        """Give the descriptor back."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class _LoopTimer:
    """The event loop's own timer, where ``timerfd`` does not exist (precision 1 ms)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._loop = loop
        self._fire = fire
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when_s: float) -> None:
        """Fire at ``when_s`` of the monotonic clock."""
        self.close()
        delay = max(when_s - time.monotonic(), 0.0)
        self._handle = self._loop.call_later(delay, self._fire)

    def close(self) -> None:
        """Cancel what is set."""
        if self._handle is not None:
            self._handle.cancel()


class PreciseTimer:
    """One pending moment of the monotonic clock; setting an earlier one replaces it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        kind = _TimerFd if sys.platform == "linux" else _LoopTimer
        self._timer = kind(loop, self._fired)
        self._fire = fire
        self._when_s = math.inf

    def _fired(self) -> None:
        self._when_s = math.inf
        self._fire()

    def at(self, when_s: float) -> None:
        """Fire no later than ``when_s``; infinite is ignored."""
        if when_s < self._when_s:
            self._when_s = when_s
            self._timer.set(when_s)

    def close(self) -> None:
        """Never fire again."""
        self._timer.close()
