"""The models that an instance of a multi-model endpoint holds in memory.

A model is loaded at its first request, stays while there is room, and is unloaded when
another needs its memory and it is the one unused for longest. What was downloaded once stays
on the instance's disk. Times are model times, as everywhere in the fleet.

References
----------
AWS, SageMaker AI Developer Guide, "How multi-model endpoints work".
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tuner.fleet.servers import Job, Schedule
from tuner.fleet.service import endless
from tuner.fleet.spec import ModelsSpec


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """One model brought into an instance's memory; times in seconds.

    ``evicted`` models went for it, which took ``unload_s`` altogether. ``loaded`` is False
    for a load that was given up.
    """

    model: str
    instance_id: int
    began_s: float
    done_s: float
    download_s: float
    load_s: float
    evicted: int
    unload_s: float
    loaded: bool = True


@dataclass(slots=True)
class Times:
    """Endless draws of the times of a load."""

    download: Iterator[float]
    load: Iterator[float]
    unload: Iterator[float]


@dataclass(slots=True, eq=False)
class Loading:
    """A model on its way into memory, and the requests that wait for it."""

    model: str
    size: float
    waiting: list[Job] = field(default_factory=list)
    report: ModelLoad | None = None


class ModelMemory:
    """The models of one instance, least recently used first.

    Parameters
    ----------
    schedule
        The fleet's clockwork.
    ready
        Called with the time and each job whose model is there.
    moved
        Called with a model and whether this instance holds it (or is about to) or not.
    loaded
        Called with the report of every finished load.
    """

    def __init__(
        self,
        spec: ModelsSpec,
        instance_id: int,
        times: Times,
        schedule: Schedule,
        ready: Callable[[float, Job], None],
        moved: Callable[[str, bool], None],
        loaded: Callable[[ModelLoad], None],
    ) -> None:
        self._spec = spec
        self._instance_id = instance_id
        self._times = times
        self._schedule = schedule
        self._ready = ready
        self._moved = moved
        self._loaded = loaded
        self._held: OrderedDict[str, float] = OrderedDict()
        self._used: dict[str, int] = {}
        self._on_disk: set[str] = set()
        self._pending: dict[str, Loading] = {}
        self._queue: deque[Loading] = deque()
        self._taken = 0.0
        self._busy = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, model: str) -> bool:
        return model in self._held

    def ask(self, now: float, job: Job, model: str, size: float) -> bool:
        """Whether the model is there; if not, it is loaded and ``ready`` is called later."""
        if model in self._held:
            self._held.move_to_end(model)
            self._used[model] = self._used.get(model, 0) + 1
            return True
        found = self._pending.get(model)
        if found is None:
            found = self._pending[model] = Loading(model, size)
            self._queue.append(found)
            self._moved(model, True)
        found.waiting.append(job)
        self._start(now)
        return False

    def release(self, now: float, model: str) -> None:
        """A request of the model is over."""
        left = self._used[model] - 1
        if left:
            self._used[model] = left
            return
        del self._used[model]
        self._start(now)

    def forget(self, job: Job, model: str) -> None:
        """The job waits no longer."""
        found = self._pending.get(model)
        if found is not None and job in found.waiting:
            found.waiting.remove(job)

    def _start(self, now: float) -> None:
        """Begin the loads there are loaders and memory for, in order of the first request."""
        while self._queue and self._busy < self._spec.loaders:
            head = self._queue[0]
            victims = self._victims(head.size)
            if victims is None:
                return
            self._queue.popleft()
            unload_s = 0.0
            for model in victims:
                self._taken -= self._held.pop(model)
                self._moved(model, False)
                unload_s += next(self._times.unload)
            self._taken += head.size
            self._busy += 1
            self._schedule_load(now, head, len(victims), unload_s)

    def _schedule_load(self, now: float, head: Loading, evicted: int, unload_s: float) -> None:
        download_s = 0.0 if head.model in self._on_disk else next(self._times.download)
        load_s = next(self._times.load)
        took = unload_s + download_s + load_s
        given_up = took > self._spec.load_limit_s
        done = now + min(took, self._spec.load_limit_s)
        head.report = ModelLoad(
            head.model, self._instance_id, now, done, download_s, load_s, evicted, unload_s,
            not given_up,
        )  # fmt: skip
        self._schedule(done, self._done, head)

    def _victims(self, size: float) -> list[str] | None:
        """The unused models to unload so that ``size`` fits; None while that is impossible."""
        free = self._spec.memory_bytes - self._taken
        victims = []
        for model, held in self._held.items():
            if free >= size:
                break
            if model not in self._used:
                victims.append(model)
                free += held
        return victims if free >= size else None

    def _done(self, now: float, head: Any) -> None:
        if self.closed:
            return
        self._busy -= 1
        del self._pending[head.model]
        if head.report.loaded:
            self._on_disk.add(head.model)
            self._held[head.model] = head.size
            if head.waiting:
                self._used[head.model] = len(head.waiting)
        else:
            self._taken -= head.size
            self._moved(head.model, False)
        self._loaded(head.report)
        for job in head.waiting if head.report.loaded else ():
            self._ready(now, job)
        self._start(now)


class Holder(Protocol):
    """An instance as far as models are concerned."""

    @property
    def outstanding(self) -> int:
        """Requests in flight on it."""
        ...


class ModelHosting:
    """Which instances hold which models, for the whole fleet.

    Parameters
    ----------
    rng
        Source of load times and model sizes.
    workers
        Of an instance: from so many requests in flight on, a model is taken to another one.
    """

    def __init__(self, spec: ModelsSpec, rng: np.random.Generator, workers: int) -> None:
        download, load, unload, self._sizes_rng = rng.spawn(4)
        self.spec = spec
        self._times = Times(
            endless(spec.download, download), endless(spec.load, load), endless(spec.unload, unload)
        )
        self._spill = workers if spec.spill is None else spec.spill
        self._sizes: dict[str, float] = {}
        self._homes: dict[str, dict[Any, None]] = {}
        self._loads: list[ModelLoad] = []

    def size(self, model: str) -> float:
        """Bytes of a model, drawn when it is first seen and never above the memory."""
        size = self._sizes.get(model)
        if size is None:
            size = self.spec.model_bytes
            if self.spec.size_cv > 0.0:
                sigma2 = math.log1p(self.spec.size_cv**2)
                size *= math.exp(self._sizes_rng.normal(-0.5 * sigma2, math.sqrt(sigma2)))
            size = self._sizes[model] = min(size, self.spec.memory_bytes)
        return size

    def memory(
        self,
        instance_id: int,
        holder: Holder,
        schedule: Schedule,
        ready: Callable[[float, Job], None],
    ) -> ModelMemory:
        """The empty memory of a new instance."""

        def moved(model: str, here: bool) -> None:
            homes = self._homes.setdefault(model, {})
            if here:
                homes[holder] = None
            else:
                homes.pop(holder, None)

        return ModelMemory(
            self.spec, instance_id, self._times, schedule, ready, moved, self._loads.append
        )

    def gone(self, holder: Holder) -> None:
        """The instance takes no traffic any more."""
        for homes in self._homes.values():
            homes.pop(holder, None)

    def home(self, model: str) -> Any | None:
        """The least loaded instance that holds the model and has room, or None."""
        homes = self._homes.get(model) if self.spec.affinity else None
        if not homes:
            return None
        best = min(homes, key=lambda i: i.outstanding)
        return best if best.outstanding < self._spill else None

    def take_loads(self) -> list[ModelLoad]:
        """Loads that ended since the last call."""
        loads = self._loads[:]
        self._loads.clear()
        return loads
