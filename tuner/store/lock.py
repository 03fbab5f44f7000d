"""One writer for each run directory; the lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.errors import RunDirectoryError

_LOCK = ".lock"


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Keep every other writer of this run out.

    Raises
    ------
    RunDirectoryError
        While another process has it.
    """
    with (run / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunDirectoryError(
                "another tuner is writing to this run",
                value=str(run),
                hint="wait for it, or stop it with Ctrl-C: it puts the endpoint back itself",
            ) from None
        yield


def has_writer(run: Path) -> bool:
    """Whether some process is writing to this run now."""
    path = run / _LOCK
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
