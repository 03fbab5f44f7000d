"""What stands behind a variant: the simulated fleet on the wall clock."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import numpy as np

from tuner.emulator.modelclient import ModelAnswer
from tuner.emulator.timing import PreciseTimer
from tuner.fleet.model import Completion, Fleet, Phase
from tuner.fleet.models import ModelLoad
from tuner.fleet.spec import FleetSpec


class Call(Protocol):
    """One invocation on its way through a backend."""

    @property
    def body(self) -> bytes:
        """The request body."""
        ...

    @property
    def streamed(self) -> bool:
        """Whether the answer is sent while it is being made."""
        ...

    @property
    def model(self) -> str | None:
        """The model it names, on a multi-model endpoint."""
        ...

    def started(self, started_s: float, work_s: float) -> None:
        """A streamed call is being served; told once, on the monotonic clock."""
        ...

    def model_headers(self) -> dict[str, str]:
        """The headers that a container is given."""
        ...

    def piece(self, data: bytes, content_type: str) -> None:
        """A piece of a streamed answer, as a real model sent it."""
        ...

    def finished(self, completion: Completion, answer: ModelAnswer | None = None) -> None:
        """It ended; times are on the monotonic clock. A real model's answer comes along."""
        ...


class Backend(Protocol):
    """Instances behind one variant."""

    @property
    def in_service(self) -> int:
        """Instances that take traffic."""
        ...

    @property
    def starting(self) -> int:
        """Instances launched and not yet in service."""
        ...

    def invoke(self, call: Call, slowdown: float) -> None:
        """Serve a call; `Call.finished` is called exactly once, perhaps at once."""
        ...

    def set_instance_count(self, count: int) -> None:
        """Launch or take out instances."""
        ...

    def outstanding(self) -> list[int]:
        """Requests in flight on each instance in service."""
        ...

    def loaded_models(self) -> list[int]:
        """Models in the memory of each instance in service; empty for one-model endpoints."""
        ...

    def take_loads(self) -> list[ModelLoad]:
        """Models loaded since the last call; times are on the monotonic clock."""
        ...

    def take_failure(self) -> str | None:
        """Why the last launch failed, told once."""
        ...

    def cpu_seconds(self) -> float | None:
        """Processor seconds used since the last call; None where workers are simulated."""
        ...

    def kill(self, count: int) -> int:
        """Let up to ``count`` instances die with what they hold; returns how many did."""
        ...

    def lose_zone(self, zone: int) -> None:
        """A zone's instances die and are replaced elsewhere."""
        ...

    def open_zone(self, zone: int) -> None:
        """The zone is back."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class FleetBackend:
    """The fleet model driven by the monotonic clock."""

    def __init__(self, spec: FleetSpec, rng: np.random.Generator) -> None:
        self.spec = spec
        self._fleet = Fleet(spec, rng, now=time.monotonic())
        self._timer = PreciseTimer(asyncio.get_running_loop(), self._pump)

    @property
    def in_service(self) -> int:
        """Instances that take traffic."""
        return self._fleet.in_service

    @property
    def starting(self) -> int:
        """Instances launched and not yet in service."""
        return self._fleet.starting

    def invoke(self, call: Call, slowdown: float) -> None:
        """Serve a call."""
        now = time.monotonic()
        self._fleet.submit(
            now, call, len(call.body), slowdown=slowdown, watched=call.streamed, model=call.model
        )
        self._deliver(now)

    def _pump(self) -> None:
        self._deliver(time.monotonic())

    def _deliver(self, now: float) -> None:
        fleet = self._fleet
        ended = fleet.advance(now)
        for start in fleet.take_started():
            start.tag.started(start.started_s, start.work_s)
        for completion in ended:
            completion.tag.finished(completion)
        self._timer.at(fleet.next_event_s())

    def set_instance_count(self, count: int) -> None:
        """Launch or take out instances."""
        now = time.monotonic()
        self._fleet.set_instance_count(now, count)
        self._deliver(now)

    def outstanding(self) -> list[int]:
        """Requests in flight on each instance in service."""
        return [n for _, _, phase, n in self._fleet.instances() if phase is Phase.IN_SERVICE]

    def loaded_models(self) -> list[int]:
        """Models in the memory of each instance in service."""
        return self._fleet.loaded_models()

    def take_loads(self) -> list[ModelLoad]:
        """Models loaded since the last call."""
        return self._fleet.take_loads()

    def take_failure(self) -> str | None:
        """Simulated launches do not fail by themselves."""
        return None

    def cpu_seconds(self) -> float | None:
        """Processor use follows from the workers' busy time."""
        return None

    def kill(self, count: int) -> int:
        """The busiest instances die first: a death with requests in flight is the point."""
        now = time.monotonic()
        alive = [i for i in self._fleet.instances() if i[2] is Phase.IN_SERVICE]
        alive.sort(key=lambda i: -i[3])
        for instance_id, *_ in alive[:count]:
            self._fleet.kill(now, instance_id)
        self._deliver(now)
        return len(alive[:count])

    def lose_zone(self, zone: int) -> None:
        """A zone's instances die and are replaced elsewhere."""
        now = time.monotonic()
        self._fleet.close_zone(now, zone)
        self._deliver(now)

    def open_zone(self, zone: int) -> None:
        """The zone is back."""
        self._fleet.open_zone(zone)

    async def close(self) -> None:
        """Drop the timer; requests still inside are never answered."""
        self._timer.close()
