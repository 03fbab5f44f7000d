"""Local mode: every instance is a real model server, a subprocess on its own port.

The command honours SageMaker's container contract: GET /ping answers 200 once it can serve and
as long as it can, POST /invocations answers a request, SIGTERM asks it to end and SIGKILL follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import numpy as np
import psutil

from tuner.emulator.backend import Call
from tuner.emulator.guard import ORPHAN_GRACE_S
from tuner.emulator.modelclient import ModelAnswer, ModelConnection, connect, request_bytes
from tuner.emulator.modelserver import PORTS, ModelServer
from tuner.fleet.model import Completion, Fate, Phase
from tuner.fleet.models import ModelLoad
from tuner.fleet.router import Router, build_router
from tuner.fleet.service import endless_uniform
from tuner.fleet.spec import FleetSpec

STREAM_TIMEOUT_S = 480.0
RELAUNCH_S = 1.0


class LocalBackend:
    """Model servers behind the router of a variant."""

    def __init__(self, spec: FleetSpec, command: tuple[str, ...], rng: np.random.Generator) -> None:
        self.spec = spec
        self._command = command
        self._router: Router[ModelServer] = build_router(spec.routing, endless_uniform(rng))
        self._instances: dict[int, ModelServer] = {}
        self._next_id = 0
        self._failure: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._cpu_seen: dict[int, float] = {}
        self._closed = False
        self.set_instance_count(spec.instance_count)

    # -- instances ------------------------------------------------------------------------

    def _count(self, phase: Phase) -> int:
        return sum(i.phase is phase for i in self._instances.values())

    @property
    def in_service(self) -> int:
        """Instances that take traffic."""
        return self._count(Phase.IN_SERVICE)

    @property
    def starting(self) -> int:
        """Instances launched and not yet in service."""
        return self._count(Phase.STARTING)

    def loaded_models(self) -> list[int]:
        """Unknown: a real server keeps its models to itself."""
        return []

    def take_loads(self) -> list[ModelLoad]:
        """Unknown, as the models themselves."""
        return []

    def take_failure(self) -> str | None:
        """Why the last launch failed, told once."""
        failure, self._failure = self._failure, None
        return failure

    def outstanding(self) -> list[int]:
        """Requests in flight on each instance in service."""
        return [i.outstanding for i in self._instances.values() if i.phase is Phase.IN_SERVICE]

    def set_instance_count(self, count: int) -> None:
        """Launch model servers, or take out the newest."""
        alive = [
            i for i in self._instances.values() if i.phase in (Phase.STARTING, Phase.IN_SERVICE)
        ]
        for _ in range(count - len(alive)):
            self._launch(replacement=False)
        alive.sort(key=lambda i: (i.phase is Phase.STARTING, i.id), reverse=True)
        for instance in alive[: max(len(alive) - count, 0)]:
            self._task(self._take_out(instance))

    def kill(self, count: int) -> int:
        """SIGKILL for the busiest."""
        alive = [i for i in self._instances.values() if i.phase is Phase.IN_SERVICE]
        alive.sort(key=lambda i: -i.outstanding)
        for instance in alive[:count]:
            instance.kill()
        return len(alive[:count])

    def lose_zone(self, zone: int) -> None:
        """The instances that stand in a zone die."""
        for instance in list(self._instances.values()):
            if instance.id % self.spec.zones == zone and instance.phase is Phase.IN_SERVICE:
                instance.kill()

    def open_zone(self, zone: int) -> None:
        """Zones are only names here."""

    def cpu_seconds(self) -> float | None:
        """Processor seconds used by the model servers since the last call."""
        used = 0.0
        seen: dict[int, float] = {}
        for instance in self._instances.values():
            for process in instance.tree():
                try:
                    times = process.cpu_times()
                except psutil.Error:
                    continue
                seen[process.pid] = times.user + times.system
                used += seen[process.pid] - self._cpu_seen.get(process.pid, 0.0)
        self._cpu_seen = seen
        return used

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _launch(self, *, replacement: bool) -> None:
        instance = ModelServer(self._next_id, PORTS.take())
        self._next_id += 1
        self._instances[instance.id] = instance
        self._task(self._live(instance, replacement=replacement))

    async def _live(self, instance: ModelServer, *, replacement: bool) -> None:
        """From launch to end of one model server."""
        try:
            healthy = await instance.start(self._command)
            if healthy and instance.phase is Phase.STARTING:
                instance.phase = Phase.IN_SERVICE
                self._router.add(instance)
                replacement = True
            if healthy:
                await instance.while_healthy()
        finally:
            unwanted = self._closed or instance.phase not in (Phase.STARTING, Phase.IN_SERVICE)
            if not unwanted and not replacement:
                self._failure = (
                    "The primary container for production variant did not pass the ping health "
                    f"check. {instance.log_tail()}"
                )
            self._end(instance)
        if not unwanted and replacement:
            await asyncio.sleep(RELAUNCH_S)
            if not self._closed:
                self._launch(replacement=True)

    async def _take_out(self, instance: ModelServer) -> None:
        """No new requests; when the last is answered, or at the latest after the drain: SIGTERM."""
        if instance.phase is Phase.IN_SERVICE:
            self._router.remove(instance)
        instance.phase = Phase.DRAINING
        deadline = time.monotonic() + self.spec.drain_s
        while instance.outstanding and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        instance.terminate()

    def _end(self, instance: ModelServer) -> None:
        if instance.phase is Phase.IN_SERVICE:
            self._router.remove(instance)
        instance.close()
        self._instances.pop(instance.id, None)

    # -- requests -------------------------------------------------------------------------

    def invoke(self, call: Call, slowdown: float) -> None:
        """Forward a call to a model server."""
        now = time.monotonic()
        instance = self._router.pick()
        if instance is None:
            call.finished(Completion(call, now, now, now, now, Fate.NO_CAPACITY, -1))
            return
        self._task(self._forward(call, instance, slowdown))

    async def _forward(self, call: Call, instance: ModelServer, slowdown: float) -> None:
        arrived = time.monotonic()
        answer = None
        try:
            limit = STREAM_TIMEOUT_S if call.streamed else self.spec.timeout_s
            async with asyncio.timeout(limit):
                answer = await self._exchange(call, instance)
            if slowdown > 1.0:
                await asyncio.sleep((slowdown - 1.0) * (time.monotonic() - arrived))
            fate = Fate.OK
        except TimeoutError:
            fate = Fate.TIMED_OUT
        except OSError:
            fate = Fate.INSTANCE_LOST
        finally:
            self._router.release(instance)
        done = time.monotonic()
        call.finished(
            Completion(call, arrived, arrived, done, done, fate, instance.id, 0.0), answer
        )

    async def _exchange(self, call: Call, instance: ModelServer) -> ModelAnswer:
        request = request_bytes("POST", "/invocations", call.model_headers(), call.body)
        piece = call.piece if call.streamed else None
        while instance.idle:
            connection = instance.idle.pop()
            if not connection.reusable:  # the server has closed it since
                continue
            try:
                return await self._use(connection, instance, request, piece)
            except ConnectionError:
                if connection.touched:  # the answer had begun: this was no stale connection
                    raise
        return await self._use(await connect(instance.port), instance, request, piece)

    async def _use(
        self, connection: ModelConnection, instance: ModelServer, request: bytes, piece: Any
    ) -> ModelAnswer:
        answer = await connection.exchange(request, piece)
        instance.answered += 1
        if connection.reusable and instance.phase is Phase.IN_SERVICE:
            instance.idle.append(connection)
        else:
            connection.close()
        return answer

    async def close(self) -> None:
        """End every model server and wait until all are gone."""
        self._closed = True
        for instance in list(self._instances.values()):
            instance.abandon()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=2.0 * ORPHAN_GRACE_S)
            for task in stuck:
                task.cancel()
            if stuck:
                await asyncio.wait(stuck)
