"""One model server of local mode: a subprocess on its own port, pinged as SageMaker pings."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
import tempfile
import time

import psutil

from tuner.emulator.modelclient import HOST, ModelConnection, connect, request_bytes
from tuner.errors import InputError
from tuner.fleet.model import Phase

START_TIMEOUT_S = 240.0
"""SageMaker's default health check: /ping must pass within four minutes."""
START_PING_EVERY_S = 0.1
PING_TIMEOUT_S = 2.0
PING_EVERY_S = 5.0
MOST_FAILED_PINGS = 3
"""In a row, for a server in service. Not documented by AWS, which does go on pinging."""
KILL_AFTER_S = 30.0
LOG_TAIL = 2000
FIRST_PORT, LAST_PORT, PORT_STEP = 18_000, 32_000, 10


class ModelServer:
    """One model server; the router keeps ``outstanding`` and ``slot``."""

    def __init__(self, number: int, port: int) -> None:
        self.id = number
        self.port = port
        self.phase = Phase.STARTING
        self.outstanding = 0
        self.answered = 0
        self.slot = -1
        self.idle: list[ModelConnection] = []
        self._process: asyncio.subprocess.Process | None = None
        self._life: int | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the server

    def log_tail(self) -> str:
        """The end of what the server wrote."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(size - LOG_TAIL, 0))
        return self._log.read().decode("utf-8", "replace").strip()

    async def start(self, command: tuple[str, ...]) -> bool:
        """Run the command and ping it until it is healthy; False if it never is."""
        watched, self._life = os.pipe()
        guard = [sys.executable, "-m", "tuner.emulator.guard", str(watched), str(KILL_AFTER_S)]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *guard,
                *(part.replace("{port}", str(self.port)) for part in command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(watched,),
                env={**os.environ, "SAGEMAKER_BIND_TO_PORT": str(self.port)},
                start_new_session=True,
            )
        finally:
            os.close(watched)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.returncode is None:
            if await self._ping():
                return True
            await asyncio.sleep(START_PING_EVERY_S)
        return False

    async def _ping(self) -> bool | None:
        """Whether it says that it can serve; None when it says nothing in time."""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                connection = await connect(self.port)
                try:
                    answer = await connection.exchange(request_bytes("GET", "/ping", {}, b""))
                finally:
                    connection.close()
        except TimeoutError:
            return None
        except OSError:
            return False
        return answer.status == 200

    async def while_healthy(self) -> None:
        """Returns when the process has ended, or /ping fails again and again.

        Pings may wait behind requests: a server that answers those is not taken for dead.
        """
        failed = 0
        while failed < MOST_FAILED_PINGS:
            answered = self.answered
            if await self._ended_within(PING_EVERY_S):
                return
            healthy = self.phase is not Phase.IN_SERVICE or await self._ping()
            busy = healthy is None and self.answered > answered
            failed = 0 if healthy or busy else failed + 1

    async def _ended_within(self, seconds: float) -> bool:
        assert self._process is not None
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    def tree(self) -> list[psutil.Process]:
        """The server's processes that run."""
        if self._process is None:
            return []
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        for process in self.tree():
            try:
                process.kill()
            except psutil.Error:
                continue

    def terminate(self) -> None:
        """SIGTERM, and SIGKILL when it does not end by itself."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def abandon(self) -> None:
        """Close the guard's pipe: what is left of the server is killed soon."""
        if self._life is not None:
            os.close(self._life)
            self._life = None

    def close(self) -> None:
        """Let go of everything."""
        self.phase = Phase.GONE
        self.terminate()
        for connection in self.idle:
            connection.close()
        self.idle.clear()
        self.abandon()
        self._log.close()


class Ports:
    """Ports for model servers, each tried before it is given out.

    They lie below the range from which systems take ports for outgoing connections, and below
    32768, the most that multi-model-server accepts; the gaps are for servers that open a
    second port beside the first.
    """

    def __init__(self) -> None:
        slots = (LAST_PORT - FIRST_PORT) // PORT_STEP
        first = os.getpid() % slots
        self._order = itertools.cycle(
            FIRST_PORT + PORT_STEP * ((first + k) % slots) for k in range(slots)
        )
        self._slots = slots

    def take(self) -> int:
        """The next port nobody listens on.

        Raises
        ------
        InputError
            If none is free.
        """
        for port in itertools.islice(self._order, self._slots):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    continue
            return port
        raise InputError("no free port for a model server", allowed=f"{FIRST_PORT}-{LAST_PORT}")


PORTS = Ports()
