"""An emulator in a process of its own, which never outlives the one that started it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tuner.errors import TunerError

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


class EmulatorProcess:
    """Starts ``python -m tuner.emulator`` and waits until it serves.

    The child reads a pipe whose other end only this process holds: when this process ends,
    however it ends, the pipe closes and the child stops.

    Parameters
    ----------
    preset
        Name of a preset; exactly one of ``preset`` and ``spec_path``.
    spec_path
        A TOML file instead.
    port
        0 for a free one.
    minute_seconds
        Length of the control minute, when not as in the specification.
    arguments
        Further arguments of ``python -m tuner.emulator``.

    Raises
    ------
    TunerError
        From ``start`` (and on entering the context), if the emulator does not come up.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        spec_path: Path | None = None,
        port: int = 0,
        minute_seconds: float | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        chosen = ["--preset", preset] if preset is not None else []
        chosen += ["--spec", str(spec_path)] if spec_path is not None else []
        if minute_seconds is not None:
            chosen += ["--minute-seconds", str(minute_seconds)]
        self._arguments = [*chosen, "--port", str(port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._life: int | None = None
        self._errors: IO[bytes] | None = None
        self.url = ""
        self.endpoint_name = ""
        self.variant_name = ""

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> EmulatorProcess:
        """Start and wait until it serves."""
        watched, self._life = os.pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        command = [sys.executable, "-m", "tuner.emulator", *self._arguments]
        command += ["--announce", "--stop-fd", str(watched)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=(watched,),
                start_new_session=True,  # Ctrl-C is for the parent, which stops the child itself
            )
        finally:
            os.close(watched)
        ready = self._read_ready()
        self.url = str(ready["url"])
        self.endpoint_name = str(ready["endpoint_name"])
        self.variant_name = str(ready["variant_name"])
        return self

    def _read_ready(self) -> dict[str, object]:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + READY_TIMEOUT_S
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self._process.stdout], [], [], max(left, 0.0))
            piece = os.read(self._process.stdout.fileno(), 4096) if readable else b""
            if not piece:
                self._fail(timed_out=not readable)
            line += piece
        ready: dict[str, object] = json.loads(line)
        return ready

    def _fail(self, *, timed_out: bool) -> None:
        assert self._process is not None
        if timed_out:
            self._process.kill()
        self._process.wait()
        text = self.error_text()
        self._release()
        what = "did not come up in time" if timed_out else "could not start"
        raise TunerError(f"the emulator {what}", value=text[-2000:] or None)

    def error_text(self) -> str:
        """What the child has written to its standard error."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace").strip()

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it is not running."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._release()

    def _release(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdout is not None:
            process.stdout.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        life, self._life = self._life, None
        if life is not None:
            with contextlib.suppress(OSError):
                os.close(life)

    def __enter__(self) -> EmulatorProcess:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
