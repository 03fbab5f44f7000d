"""Waking up on time: an absolute deadline on the event loop, finer than a millisecond.

libev hands epoll whole milliseconds, so its own timers are up to one late. A Linux timerfd
takes nanoseconds on the monotonic clock and is just another readable descriptor. Elsewhere
the loop's own timer is used (kqueue keeps nanoseconds).
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from tuner.errors import GeneratorError

_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_CLOCK_MONOTONIC = 1


class Deadline(Protocol):
    """Calls back once, at an absolute time of `time.monotonic`."""

    def arm(self, at_s: float) -> None:
        """Call back at this time; a time in the past calls back in the next turn."""
        ...

    def cancel(self) -> None:
        """Do not call back."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class _ITimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_sec", ctypes.c_long),
        ("interval_nsec", ctypes.c_long),
        ("value_sec", ctypes.c_long),
        ("value_nsec", ctypes.c_long),
    )


class TimerfdDeadline:
    """A deadline on a Linux timerfd."""

    def __init__(self, loop: Any, callback: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._fd < 0:
            raise GeneratorError(f"timerfd_create failed: {os.strerror(ctypes.get_errno())}")
        self._settime = libc.timerfd_settime
        self._spec = _ITimerSpec(0, 0, 0, 0)
        self._by_ref = ctypes.byref(self._spec)
        self._watcher = loop.io(self._fd, 1)
        self._watcher.priority = loop.MAXPRI
        self._watcher.start(callback)

    def arm(self, at_s: float) -> None:
        spec = self._spec
        seconds = int(at_s)
        spec.value_sec = seconds
        # A value of zero would disarm the timer; setting it also clears its readiness.
        spec.value_nsec = int((at_s - seconds) * 1e9) or 1
        self._settime(self._fd, _TFD_TIMER_ABSTIME, self._by_ref, None)

    def cancel(self) -> None:
        self._spec.value_sec = self._spec.value_nsec = 0
        self._settime(self._fd, 0, self._by_ref, None)

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        os.close(self._fd)


class LoopDeadline:
    """A deadline on the loop's own timer."""

    def __init__(self, loop: Any, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._watcher: Any = None

    def arm(self, at_s: float) -> None:
        self.cancel()
        self._loop.update_now()
        self._watcher = self._loop.timer(max(0.0, at_s - time.monotonic()))
        self._watcher.start(self._callback)

    def cancel(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def close(self) -> None:
        self.cancel()


def deadline(loop: Any, callback: Callable[[], None]) -> Deadline:
    """The finest deadline this system has."""
    kind = TimerfdDeadline if sys.platform == "linux" else LoopDeadline
    return kind(loop, callback)
