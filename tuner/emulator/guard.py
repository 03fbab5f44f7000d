"""Runs one command and ends it, with everything it started, when its owner is gone.

``python -m tuner.emulator.guard LIFE_FD GRACE_S COMMAND...``: the command gets a session of
its own. On SIGTERM its process group gets SIGTERM and, ``GRACE_S`` later, SIGKILL: what
SageMaker does to a container. When the pipe ``LIFE_FD`` closes, because the owner stopped or
died, nobody waits for answers any more and SIGKILL follows after ``ORPHAN_GRACE_S``.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

START_FAILED = 127
ORPHAN_GRACE_S = 2.0


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    life_fd, grace_s, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write)
    # Servers keep locks in the temporary folder: like a container, each has its own.
    with tempfile.TemporaryDirectory(prefix="tuner-model-", ignore_cleanup_errors=True) as folder:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "TMPDIR": folder},
            )
        except OSError as error:
            sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
            return START_FAILED
        return _watch(child, life_fd, wake_read, grace_s, lambda: stopping)


def _watch(
    child: subprocess.Popen[bytes],
    life_fd: int,
    wake_read: int,
    grace_s: float,
    stopping: Callable[[], bool],
) -> int:
    """Wait for the end of the command, or bring it about."""
    deadline = float("inf")
    orphaned = False
    while child.poll() is None:
        watched = [wake_read] if orphaned else [wake_read, life_fd]
        left_s = max(min(deadline - time.monotonic(), 3600.0), 0.0)
        ready, _, _ = select.select(watched, [], [], left_s)
        if wake_read in ready:
            os.read(wake_read, 4096)
        if (stopping() or life_fd in ready) and deadline == float("inf"):
            _signal_group(child, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
        if life_fd in ready:
            orphaned = True
            deadline = min(deadline, time.monotonic() + ORPHAN_GRACE_S)
        if time.monotonic() >= deadline:
            _signal_group(child, signal.SIGKILL)
            child.wait()
    _signal_group(child, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
