"""A fleet of instances driven by whoever owns the clock.

The simulator hands in made-up times, the emulator the wall clock. Times are seconds on any
axis that never runs backwards; what happens between two calls happens at its exact model
time, however late the second call is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import numpy as np

from tuner.fleet.models import ModelHosting, ModelLoad
from tuner.fleet.parts import Completion, Fate, Instance, Phase, Started
from tuner.fleet.router import Router, build_router
from tuner.fleet.servers import Hooks, Job, build_server
from tuner.fleet.service import endless, endless_uniform
from tuner.fleet.spec import FleetSpec

__all__ = ["Completion", "Fate", "Fleet", "Phase", "Started"]


class Fleet:
    """Instances, a router and their life from launch to drain.

    Parameters
    ----------
    spec
        What the fleet is made of.
    rng
        Source of all chance; the same state gives the same fleet.
    now
        Time at which the initial instances are in service.
    """

    def __init__(self, spec: FleetSpec, rng: np.random.Generator, *, now: float = 0.0) -> None:
        service, routing, overhead, lag, order = rng.spawn(5)
        instance = spec.instance
        self.spec = spec
        self._work = endless(instance.service, service)
        self._overhead = (
            None if instance.overhead.always_zero else endless(instance.overhead, overhead)
        )
        self._lag = endless(spec.launch_lag, lag)
        self._order = endless_uniform(order)
        self._hosting = (
            None
            if instance.models is None
            else ModelHosting(instance.models, rng.spawn(1)[0], instance.workers)
        )
        self._router: Router[Instance] = build_router(spec.routing, endless_uniform(routing))
        self._heap: list[tuple[float, int, Callable[[float, Any], None], Any]] = []
        self._counter = 0
        self._deadlines: deque[Job] = deque()
        self._out: list[Completion] = []
        self._begun: list[Started] = []
        self._hooks = Hooks(self._schedule, self._started, self._served)
        self._instances: dict[int, Instance] = {}
        self._next_id = 0
        self._closed_zones: set[int] = set()
        self._desired = spec.instance_count
        self.in_service = 0
        self.starting = 0
        self.draining = 0
        for _ in range(spec.instance_count):
            self._in_service(now, self._create(warm=True))

    # -- requests -------------------------------------------------------------------------

    def submit(
        self,
        now: float,
        tag: Any = None,
        request_bytes: int = 0,
        *,
        slowdown: float = 1.0,
        watched: bool = False,
        model: str | None = None,
    ) -> None:
        """Offer one request at ``now``; its end comes out of a later `advance`.

        ``slowdown`` multiplies its service time (a fault, or a heavier kind of request). The
        start of a ``watched`` request comes out of `take_started`. ``model`` names the model
        of a multi-model endpoint; without memory for models it means nothing.
        """
        self._run(now)
        instance = self._pick(model)
        if instance is None:
            self._out.append(Completion(tag, now, now, now, now, Fate.NO_CAPACITY, -1))
            return
        spec = self.spec.instance
        work = next(self._work)
        if request_bytes:
            work += spec.per_byte_s * request_bytes
        if not instance.warm and spec.cold_start is not None:
            work *= spec.cold_start.factor
            instance.accepted += 1
            instance.warm = instance.accepted >= spec.cold_start.requests
        job = Job(tag, now, work * slowdown)
        job.instance = instance
        job.watched = watched
        instance.jobs[job] = None
        if model is not None and instance.models is not None and self._hosting is not None:
            job.model = model
            job.hit = instance.models.ask(now, job, model, self._hosting.size(model))
            if not job.hit:
                job.waits = True
                self._schedule(now + self._hosting.spec.wait_limit_s, self._not_ready, job)
        if not job.waits and not self._enter(now, job):
            return
        if self.spec.timeout_s != math.inf:
            self._deadlines.append(job)

    def _pick(self, model: str | None) -> Instance | None:
        if model is not None and self._hosting is not None:
            home: Instance | None = self._hosting.home(model)
            if home is not None:
                self._router.take(home)
                return home
        return self._router.pick()

    def _enter(self, now: float, job: Job) -> bool:
        """Hand the job to its instance's server; False when that is full."""
        instance: Instance = job.instance
        if instance.server.arrive(now, job):
            return True
        self._leave(now, job)
        self._fail(now, job, Fate.QUEUE_FULL)
        return False

    def _leave(self, now: float, job: Job) -> None:
        """The instance has nothing more to do with the job."""
        instance: Instance = job.instance
        instance.jobs.pop(job, None)
        self._router.release(instance)
        if job.model is not None and instance.models is not None:
            if job.waits:
                instance.models.forget(job, job.model)
            else:
                instance.models.release(now, job.model)
        if instance.phase is Phase.DRAINING and not instance.jobs:
            self._gone(now, instance)

    def _model_ready(self, now: float, job: Job) -> None:
        """The model is in memory: the wait is over."""
        job.waits = False
        job.model_wait_s = now - job.arrived_s
        job.started_s = now
        self._enter(now, job)

    def _not_ready(self, now: float, job: Job) -> None:
        """The platform has waited long enough for the model."""
        if job.waits and not job.done and job.instance.phase is not Phase.GONE:
            job.model_wait_s = now - job.arrived_s
            self._leave(now, job)
            self._fail(now, job, Fate.MODEL_NOT_READY)

    def advance(self, now: float) -> list[Completion]:
        """Let time pass until ``now`` and return what ended, in order of its model time."""
        self._run(now)
        out = self._out
        self._out = []
        return out

    def take_started(self) -> list[Started]:
        """Watched requests that began since the last call."""
        begun = self._begun
        self._begun = []
        return begun

    def take_loads(self) -> list[ModelLoad]:
        """Models brought into memory since the last call, in order of their end."""
        return [] if self._hosting is None else self._hosting.take_loads()

    def loaded_models(self) -> list[int]:
        """Models in the memory of each instance in service."""
        found = [i for i in self._instances.values() if i.phase is Phase.IN_SERVICE]
        return [len(i.models) for i in found if i.models is not None]

    def next_event_s(self) -> float:
        """When something happens next if nothing is submitted; infinite for never."""
        due = self._heap[0][0] if self._heap else math.inf
        deadlines = self._deadlines
        while deadlines and deadlines[0].done:
            deadlines.popleft()
        if deadlines:
            return min(due, deadlines[0].arrived_s + self.spec.timeout_s)
        return due

    # -- instances ------------------------------------------------------------------------

    @property
    def desired(self) -> int:
        """The count last asked for."""
        return self._desired

    def instances(self) -> tuple[tuple[int, int, Phase, int], ...]:
        """(id, zone, phase, outstanding) of every instance that is not gone."""
        return tuple((i.id, i.zone, i.phase, i.outstanding) for i in self._instances.values())

    def set_instance_count(self, now: float, count: int) -> None:
        """Launch or take out instances until ``count`` are in service or starting.

        Those still starting are given up first, then the newest in service, which finish
        their requests for at most ``drain_s``.
        """
        if count < 0:
            raise ValueError(f"instance count must not be negative: {count}")
        self._run(now)
        self._desired = count
        for _ in range(count - self.in_service - self.starting):
            self.launch(now)
        surplus = self.in_service + self.starting - count
        newest = sorted(self._instances.values(), key=lambda i: i.id, reverse=True)
        leaving = [i for i in newest if i.phase is Phase.STARTING]
        leaving += [i for i in newest if i.phase is Phase.IN_SERVICE]
        for instance in leaving[: max(surplus, 0)]:
            self._take_out(now, instance)

    def launch(self, now: float) -> int:
        """Start one instance and return its id; it takes traffic after a launch lag."""
        instance = self._create(warm=self.spec.instance.cold_start is None)
        self.starting += 1
        self._schedule(now + next(self._lag), self._launched, instance)
        return instance.id

    def kill(self, now: float, instance_id: int) -> None:
        """An instance dies with all it holds, and is replaced by a launch.

        Raises
        ------
        KeyError
            If there is no such instance.
        """
        self._run(now)
        instance = self._instances[instance_id]
        replace = instance.phase in (Phase.IN_SERVICE, Phase.STARTING)
        self._gone(now, instance)
        if replace:
            self.launch(now)

    def close_zone(self, now: float, zone: int) -> None:
        """A zone is lost: its instances die and are replaced in the zones that are left.

        Raises
        ------
        ValueError
            If it is the last open zone, or not a zone at all.
        """
        rest = set(range(self.spec.zones)) - self._closed_zones - {zone}
        if not 0 <= zone < self.spec.zones or not rest:
            raise ValueError(f"cannot close zone {zone}: open zones must remain")
        self._closed_zones.add(zone)
        for instance in list(self._instances.values()):
            if instance.zone == zone:
                self.kill(now, instance.id)

    def open_zone(self, zone: int) -> None:
        """Launches may use the zone again."""
        self._closed_zones.discard(zone)

    # -- inside ---------------------------------------------------------------------------

    def _schedule(self, time_s: float, handler: Callable[[float, Any], None], arg: Any) -> None:
        self._counter += 1
        heappush(self._heap, (time_s, self._counter, handler, arg))

    def _run(self, now: float) -> None:
        heap = self._heap
        while True:
            due = heap[0][0] if heap else math.inf
            deadlines = self._deadlines
            while deadlines and deadlines[0].done:
                deadlines.popleft()
            if deadlines and deadlines[0].arrived_s + self.spec.timeout_s <= min(due, now):
                job = deadlines.popleft()
                self._time_out(job.arrived_s + self.spec.timeout_s, job)
            elif due <= now:
                time_s, _, handler, arg = heappop(heap)
                handler(time_s, arg)
            else:
                return

    def _started(self, time_s: float, job: Job) -> None:
        if not job.done:
            self._begun.append(Started(job.tag, time_s, job.work_s))

    def _served(self, time_s: float, job: Job) -> None:
        instance: Instance = job.instance
        if instance.phase is Phase.GONE:
            return
        self._leave(time_s, job)
        if job.done:
            return
        job.done = True
        if self._overhead is None:
            self._answer(time_s, (job, time_s))
        else:
            self._schedule(time_s + next(self._overhead), self._answer, (job, time_s))

    def _answer(self, time_s: float, done: tuple[Job, float]) -> None:
        job, served_s = done
        self._out.append(
            Completion(
                job.tag,
                job.arrived_s,
                job.started_s,
                served_s,
                time_s,
                Fate.OK,
                job.instance.id,
                job.share,
                job.hit,
                job.model_wait_s,
            )
        )

    def _fail(self, time_s: float, job: Job, fate: Fate) -> None:
        job.done = True
        started = min(job.started_s, time_s)
        self._out.append(
            Completion(
                job.tag,
                job.arrived_s,
                started,
                time_s,
                time_s,
                fate,
                job.instance.id,
                1.0,
                job.hit,
                job.model_wait_s,
            )
        )

    def _time_out(self, time_s: float, job: Job) -> None:
        """The platform gives up; the instance does not know and works on."""
        if job.waits:
            self._not_ready(time_s, job)
            return
        self._fail(time_s, job, Fate.TIMED_OUT)

    def _create(self, *, warm: bool) -> Instance:
        zones = [z for z in range(self.spec.zones) if z not in self._closed_zones]
        held = [0] * self.spec.zones
        for other in self._instances.values():
            held[other.zone] += 1
        zone = min(zones, key=lambda z: (held[z], z))
        server = build_server(self.spec.instance, self._hooks, self._order)
        instance = Instance(self._next_id, zone, server, warm=warm)
        if self._hosting is not None:
            instance.models = self._hosting.memory(
                instance.id, instance, self._schedule, self._model_ready
            )
        self._next_id += 1
        self._instances[instance.id] = instance
        return instance

    def _launched(self, now: float, instance: Instance) -> None:
        if instance.phase is Phase.STARTING:
            self.starting -= 1
            self._in_service(now, instance)

    def _in_service(self, now: float, instance: Instance) -> None:
        instance.phase = Phase.IN_SERVICE
        self.in_service += 1
        self._router.add(instance)

    def _take_out(self, now: float, instance: Instance) -> None:
        if instance.phase is Phase.STARTING or not instance.jobs:
            self._gone(now, instance)
            return
        instance.phase = Phase.DRAINING
        if self._hosting is not None:
            self._hosting.gone(instance)
        self.in_service -= 1
        self.draining += 1
        self._router.remove(instance)
        self._schedule(now + self.spec.drain_s, self._drain_over, instance)

    def _drain_over(self, now: float, instance: Instance) -> None:
        if instance.phase is Phase.DRAINING:
            self._gone(now, instance)

    def _gone(self, now: float, instance: Instance) -> None:
        phase = instance.phase
        instance.phase = Phase.GONE
        if self._hosting is not None and instance.models is not None:
            self._hosting.gone(instance)
            instance.models.closed = True
        if phase is Phase.STARTING:
            self.starting -= 1
        elif phase is Phase.IN_SERVICE:
            self.in_service -= 1
            self._router.remove(instance)
        elif phase is Phase.DRAINING:
            self.draining -= 1
        del self._instances[instance.id]
        for job in instance.jobs:
            if not job.done:
                self._fail(now, job, Fate.INSTANCE_LOST)
        instance.jobs.clear()
