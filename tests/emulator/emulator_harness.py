"""Emulators for the tests, in a thread of this process, and stock clients for them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tuner.emulator import backend, runtime, timing
from tuner.emulator.server import TICK_S, Emulator, Ready, new_event_loop
from tuner.emulator.spec import EmulatorSpec


class MadeUpTime:
    """Stands in for ``time`` in an emulator: its clocks move only when told.

    What a test finds then depends on no machine, and a control hour takes no longer than the
    requests in it.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self._unix_s = time.time() - self.now_s
        self.timers: list[ManualTimer] = []
        for module in (backend, runtime, timing):
            patch.setattr(module, "time", self)
        patch.setattr(backend, "PreciseTimer", self._timer)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        """Seconds of the made-up clock."""
        return self.now_s

    def time(self) -> float:
        """The same as Unix time."""
        return self._unix_s + self.now_s

    def _timer(self, loop: object, fire: Callable[[], None]) -> ManualTimer:
        self.timers.append(ManualTimer(fire))
        return self.timers[-1]

    def move(self, emulator: ThreadedEmulator, seconds: float) -> None:
        """Let this much time pass in an emulator, as its own loop would live through it."""
        emulator.call(self._pass, emulator, self.now_s + seconds)

    def _pass(self, emulator: ThreadedEmulator, until_s: float) -> None:
        while self.now_s < until_s:
            step_s = min(self.now_s + TICK_S, until_s)
            while (first := min(self.timers, key=lambda t: t.when_s)).when_s <= step_s:
                self.now_s = max(self.now_s, first.when_s)
                first.when_s = math.inf
                first.fire()
            self.now_s = step_s
            emulator.emulator.tick()


class ManualTimer:
    """A moment of made-up time; setting an earlier one replaces it."""

    def __init__(self, fire: Callable[[], None]) -> None:
        self.fire = fire
        self.when_s = math.inf

    def at(self, when_s: float) -> None:
        """Fire no later than this."""
        self.when_s = min(self.when_s, when_s)

    def close(self) -> None:
        """Never fire again."""
        self.when_s = math.inf


class ThreadedEmulator:
    """An emulator served from a thread."""

    def __init__(self, spec: EmulatorSpec) -> None:
        self.spec = spec
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ready: Ready | None = None
        self.errors: list[dict[str, Any]] = []
        self._thread.start()
        assert self._up.wait(10), "the emulator did not start"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self._stop = asyncio.Event()
        self.emulator = Emulator(self.spec)
        self.ready = await self.emulator.start("127.0.0.1", 0)
        self._up.set()
        await self._stop.wait()
        await self.emulator.stop()

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Run a function in the emulator's own thread, and wait for it."""

        async def run() -> None:
            function(*arguments)

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    @property
    def url(self) -> str:
        assert self.ready is not None
        return self.ready.url

    @property
    def port(self) -> int:
        assert self.ready is not None
        return self.ready.port

    @property
    def endpoint(self) -> str:
        return self.spec.endpoint_name

    def client(self, service: str) -> Any:
        """A stock boto3 client without retries."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=64),
        )

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self.errors, self.errors


Start = Callable[..., ThreadedEmulator]


def wait_for(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Poll until a condition holds; its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.02)
