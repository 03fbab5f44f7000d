"""One instance's workers and queue, as mechanisms over exact event times.

A server is told of an arrival and asks to be called back at a time; it says when a request
is served. Times are model times: a request's start follows from the end of the one before
it, never from when somebody looked, so a late caller delays nothing that follows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from typing import Any, Protocol

from tuner.fleet.spec import Batching, Contention, InstanceSpec, QueueOrder


class Job:
    """A request inside the fleet."""

    __slots__ = ("arrived_s", "done", "hit", "instance", "model", "model_wait_s", "share",
                 "started_s", "tag", "waits", "watched", "work_s")  # fmt: skip

    def __init__(self, tag: Any, arrived_s: float, work_s: float) -> None:
        self.tag = tag
        self.arrived_s = arrived_s
        self.work_s = work_s
        self.started_s = arrived_s
        self.instance: Any = None
        self.share = 1.0
        self.watched = False
        self.done = False
        self.model: str | None = None
        self.hit: bool | None = None
        self.model_wait_s = 0.0
        self.waits = False


Schedule = Callable[[float, Callable[[float, Any], None], Any], None]
"""``schedule(time_s, handler, argument)``: call ``handler(time_s, argument)`` then."""
Told = Callable[[float, Job], None]
"""``told(time_s, job)``: the instance has started a watched job, or has finished with a job."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a server calls back: the fleet's clockwork."""

    schedule: Schedule
    started: Told
    served: Told


class Server(Protocol):
    """What an instance does with the requests it is given."""

    def arrive(self, now: float, job: Job) -> bool:
        """Take the job, or refuse it (False) because the queue is full."""
        ...


class FifoServer:
    """Independent workers, first come first served (Kiefer-Wolfowitz: ends are known at once)."""

    __slots__ = ("_free_s", "_limit", "_present", "_schedule", "_served", "_started")

    def __init__(self, spec: InstanceSpec, hooks: Hooks) -> None:
        self._free_s = [-math.inf] * spec.workers
        self._limit = None if spec.queue_limit is None else spec.workers + spec.queue_limit
        self._present = 0
        self._schedule = hooks.schedule
        self._started = hooks.started
        self._served = hooks.served

    def arrive(self, now: float, job: Job) -> bool:
        """Reserve the worker that is free first."""
        if self._limit is not None and self._present >= self._limit:
            return False
        self._present += 1
        start = self._free_s[0]
        if start < now:
            start = now
        job.started_s = start
        if job.watched:
            self._schedule(start, self._started, job)
        end = start + job.work_s
        heapreplace(self._free_s, end)
        self._schedule(end, self._finish, job)
        return True

    def _finish(self, now: float, job: Job) -> None:
        self._present -= 1
        self._served(now, job)


class RandomOrderServer:
    """Independent workers; the next to start is any of those waiting, with equal chance."""

    def __init__(
        self,
        spec: InstanceSpec,
        hooks: Hooks,
        uniform: Iterator[float],
    ) -> None:
        self._idle = spec.workers
        self._limit = spec.queue_limit
        self._waiting: list[Job] = []
        self._schedule = hooks.schedule
        self._started = hooks.started
        self._served = hooks.served
        self._uniform = uniform

    def arrive(self, now: float, job: Job) -> bool:
        """Start at once if a worker is idle, else wait."""
        if self._idle:
            self._idle -= 1
            self._start(now, job)
            return True
        if self._limit is not None and len(self._waiting) >= self._limit:
            return False
        self._waiting.append(job)
        return True

    def _start(self, now: float, job: Job) -> None:
        job.started_s = now
        if job.watched:
            self._started(now, job)
        self._schedule(now + job.work_s, self._finish, job)

    def _finish(self, now: float, job: Job) -> None:
        waiting = self._waiting
        if waiting:
            pick = int(next(self._uniform) * len(waiting))
            waiting[pick], waiting[-1] = waiting[-1], waiting[pick]
            self._start(now, waiting.pop())
        else:
            self._idle += 1
        self._served(now, job)


class SharedServer:
    """Limited processor sharing: up to ``workers`` in service, each slowed by the others.

    All in service progress at one speed, so a common virtual clock of attained service
    orders their ends; only the earliest end is ever scheduled.
    """

    def __init__(self, spec: InstanceSpec, contention: Contention, hooks: Hooks) -> None:
        self._workers = spec.workers
        self._limit = spec.queue_limit
        self._contention = contention
        self._waiting: deque[Job] = deque()
        self._running: list[tuple[float, int, Job]] = []
        self._attained = 0.0
        self._speed = 1.0
        self._since = 0.0
        self._version = 0
        self._counter = 0
        self._schedule = hooks.schedule
        self._started = hooks.started
        self._served = hooks.served

    def arrive(self, now: float, job: Job) -> bool:
        """Join those in service, or wait for a place among them."""
        if len(self._running) >= self._workers:
            if self._limit is not None and len(self._waiting) >= self._limit:
                return False
            self._waiting.append(job)
            return True
        self._progress(now)
        self._enter(now, job)
        self._plan(now)
        return True

    def _progress(self, now: float) -> None:
        if self._running:
            self._attained += (now - self._since) * self._speed
        self._since = now

    def _enter(self, now: float, job: Job) -> None:
        job.started_s = now
        if job.watched:
            self._started(now, job)
        self._counter += 1
        heappush(self._running, (self._attained + job.work_s, self._counter, job))

    def _plan(self, now: float) -> None:
        self._version += 1
        running = self._running
        if not running:
            self._attained = 0.0  # an idle instance forgets: sums of work stay small and exact
            return
        self._speed = self._contention.speed(len(running))
        ahead = max(running[0][0] - self._attained, 0.0)
        self._schedule(now + ahead / self._speed, self._next, self._version)

    def _next(self, now: float, version: int) -> None:
        if version != self._version:
            return
        self._progress(now)
        target, _, job = heappop(self._running)
        self._attained = target
        if self._waiting:
            self._enter(now, self._waiting.popleft())
        self._plan(now)
        self._served(now, job)


class BatchServer:
    """Workers that serve several requests at once, waiting a little for a batch to fill."""

    def __init__(self, spec: InstanceSpec, batching: Batching, hooks: Hooks) -> None:
        self._idle = spec.workers
        self._limit = spec.queue_limit
        self._batching = batching
        self._waiting: deque[Job] = deque()
        self._schedule = hooks.schedule
        self._started = hooks.started
        self._served = hooks.served

    def arrive(self, now: float, job: Job) -> bool:
        """Wait for a batch."""
        full = self._limit is not None and len(self._waiting) >= self._limit
        if full and not self._idle:
            return False
        self._waiting.append(job)
        if self._idle:
            if len(self._waiting) >= self._batching.max_size or self._batching.max_wait_s == 0.0:
                self._start(now)
            else:
                self._schedule(now + self._batching.max_wait_s, self._due, job)
        return True

    def _due(self, now: float, job: Job) -> None:
        """The wait of ``job`` is over: start its batch, if it still waits."""
        if self._idle and self._waiting and self._waiting[0].arrived_s <= job.arrived_s:
            self._start(now)

    def _start(self, now: float) -> None:
        size = min(len(self._waiting), self._batching.max_size)
        batch = [self._waiting.popleft() for _ in range(size)]
        for job in batch:
            job.started_s = now
            job.share = 1.0 / size
            if job.watched:
                self._started(now, job)
        self._idle -= 1
        work = max(job.work_s for job in batch) if size > 1 else batch[0].work_s
        self._schedule(now + work + self._batching.per_item_s * size, self._finish, batch)

    def _finish(self, now: float, batch: list[Job]) -> None:
        self._idle += 1
        if self._waiting:
            oldest = self._waiting[0]
            due = oldest.arrived_s + self._batching.max_wait_s
            if len(self._waiting) >= self._batching.max_size or due <= now:
                self._start(now)
            else:
                self._schedule(due, self._due, oldest)
        for job in batch:
            self._served(now, job)


def build_server(spec: InstanceSpec, hooks: Hooks, uniform: Iterator[float]) -> Server:
    """The server that behaves as ``spec`` says."""
    if spec.contention is not None:
        return SharedServer(spec, spec.contention, hooks)
    if spec.batching is not None:
        return BatchServer(spec, spec.batching, hooks)
    if spec.order is QueueOrder.RANDOM:
        return RandomOrderServer(spec, hooks, uniform)
    return FifoServer(spec, hooks)
