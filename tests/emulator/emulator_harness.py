"""Emulators for the tests, in a thread of this process, and stock clients for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config

from tuner.emulator.server import Emulator, Ready, new_event_loop
from tuner.emulator.spec import EmulatorSpec


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
