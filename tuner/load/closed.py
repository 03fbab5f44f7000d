"""Closed-loop users of a locustfile: paced, recorded, and never called open-loop."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import gevent
import numpy as np
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from locust import TaskSet

from tuner.errors import GeneratorError
from tuner.load.drive import DRAIN_GRACE_S, Emit, StageShare, gather_stage, stage_rows
from tuner.load.engine_base import EngineBase
from tuner.load.rows import Rows
from tuner.load.target import InvokeTarget
from tuner.stats.requests import Outcome
from tuner.workload.arrivals import arrival_rng

NAN = float("nan")
USERS_PER_RATE = 2.0
"""Paced users are given two seconds each on average before pacing starts to slip."""
ENOUGH_TASKS = 50
"""Tasks after which the mean number of requests of one task is believed."""
SPAWN_LOOK_S = 0.25


def user_count(rate_per_s: float, target: InvokeTarget) -> int:
    """How many closed-loop users to pace for a rate."""
    return min(max(1, math.ceil(rate_per_s * USERS_PER_RATE)), target.max_in_flight)


class ClosedLoop(EngineBase):
    """Paces Locust's own users and records what they do.

    Each user waits for a moment of its own before every task; all moments together come at
    the rate asked for. A user still busy takes none, so a slow server is offered less: that
    is what hides a stall, and why these stages are labelled closed-loop. Latency counts from
    the actual start, the only one known.
    """

    def __init__(self, loop: Any, target: InvokeTarget, environment: Any) -> None:
        super().__init__(loop, target, self._take)
        self._environment = environment
        self._sink: Any = None
        self._open, self._closed = Event(), Event()
        self._line = BoundedSemaphore()
        self._busy: set[Any] = set()
        self._rng = np.random.default_rng(0)
        self._poisson = True
        self._gap_s = 1.0
        self._next_s = 0.0
        self._tasks = 0
        self._last_fault = ""
        environment.events.request.add_listener(self._on_request)
        environment.events.user_error.add_listener(self._on_user_error)
        for user_class in environment.user_classes:
            self._pace(user_class)

    # -- pacing ------------------------------------------------------------------------------

    def _pace(self, user_class: Any) -> None:
        """Replace a class's waits, the one before its first task included."""
        engine, on_start = self, user_class.on_start

        @functools.wraps(on_start)
        def start_then_wait(user: Any) -> None:
            on_start(user)
            user.wait()

        user_class.on_start = start_then_wait
        user_class.wait_time = lambda user: engine.wait_turn(user)
        for task in _task_sets(user_class.tasks):
            task.wait_time = lambda task_set: engine.wait_turn(task_set.user)

    def wait_turn(self, user: Any) -> float:
        """Hold a user until its moment; nothing is left to wait for then."""
        if user in self._busy:
            self._busy.discard(user)
            self._tasks += 1
            self.in_flight = len(self._busy)
        while not self._turn_came():
            self._open.wait()
        self._busy.add(user)
        self.in_flight = len(self._busy)
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        return 0.0

    def _turn_came(self) -> bool:
        """Wait in line for the next moment; False if the stage is over before it comes.

        Only the first in line has a moment: were they given out in advance, what has been
        learnt of the length of a task would reach nobody for as long as the line is.
        """
        free_since = time.monotonic()
        with self._line:
            if not self._open.is_set():
                return False
            # Moments nobody was free for are gone: the loop is closed. One that this process
            # is late for is not: it is made up for at once.
            moment = max(self._next_s, free_since)
            if self._closed.wait(max(0.0, moment - time.monotonic())):
                return False
            per_task = self.completed / self._tasks if self._tasks >= ENOUGH_TASKS else 1.0
            gap = self._gap_s * max(per_task, 1e-3)
            self._next_s = moment + (gap * self._rng.exponential() if self._poisson else gap)
            return True

    def _running(self) -> int:
        """Users inside a task; the dead are forgotten."""
        self._busy = {u for u in self._busy if not u.greenlet.dead}
        self.in_flight = len(self._busy)
        return self.in_flight

    # -- what users do -----------------------------------------------------------------------

    def _take(self, rows: Rows) -> None:
        if self._sink is not None:
            self._sink(rows)

    def _on_request(
        self,
        response_time: float | None = None,
        response_length: int = 0,
        exception: Exception | None = None,
        response: Any = None,
        start_time: float | None = None,
        **_: Any,
    ) -> None:
        now = time.monotonic()
        took = (response_time or 0.0) / 1e3
        # The event may fire long after the answer, when a `with` block of the user's ends.
        age = took if start_time is None else max(took, time.time() - start_time)
        outcome = Outcome.OK
        if exception is not None:
            self.errors.add(f"{type(exception).__name__}: {exception}")
            status = getattr(response, "status_code", 0)
            outcome = _outcome(exception, status)
        began = now - age
        size = int(response_length or 0)
        self._rows.add(began, began, NAN, began + took, NAN, size, 0, int(outcome))
        self.completed += 1

    def _on_user_error(self, exception: Exception, **_: Any) -> None:
        self._last_fault = f"in the locustfile: {type(exception).__name__}: {exception}"
        self.errors.add(self._last_fault)

    # -- a stage -----------------------------------------------------------------------------

    def run_stage(self, share: StageShare, emit: Emit) -> None:
        """Let Locust's users run at their pace, record them, and wait for their last answers.

        Raises
        ------
        GeneratorError
            If the users cannot be started, or none of them sent a request.
        """
        begun = time.monotonic()
        opens = begun + share.settle_s if share.opens_at_s is None else share.opens_at_s
        closes = opens + share.duration_s
        self._sink = stage_rows(share, opens, emit)
        self._begin(share, opens - share.settle_s)
        try:
            self._look_at_spawning()
            summary = gather_stage(self, share, opens, closes, emit)
        finally:
            self._open.clear()
            self._closed.set()
        stuck = self._drain()
        gevent.sleep(0)
        self.flush()
        self._sink = None
        if not self.completed:
            raise self._silent()
        summary |= {
            "errors": self.errors.items(),
            "open_loop": False,
            "drained": not stuck,
            "stuck_users": stuck,
        }
        emit("stage_done", summary, b"")

    def _begin(self, share: StageShare, origin_s: float) -> None:
        self._rng = arrival_rng(share.seed, share.part)
        self._poisson = share.arrivals == "poisson"
        self._gap_s = share.parts / share.rate_per_s
        self._next_s = origin_s
        self._busy.clear()
        self._tasks = self.completed = self.in_flight = 0
        self._last_fault = ""
        self._closed.clear()
        self._open.set()

    def _look_at_spawning(self) -> None:
        gevent.sleep(SPAWN_LOOK_S)
        spawning = getattr(self._environment.runner, "spawning_greenlet", None)
        if spawning is not None and spawning.exception is not None:
            raise GeneratorError(
                "the users of the locustfile cannot be started: "
                f"{type(spawning.exception).__name__}: {spawning.exception}"
            )

    def _silent(self) -> GeneratorError:
        return GeneratorError(
            "the users of the locustfile sent no request",
            value=self._last_fault or None,
            hint="requests are what Locust's `request` event reports",
        )

    def _drain(self) -> int:
        """Wait until every user has its answer; returns how many had to be given up."""
        limit = time.monotonic() + self.target.timeout_s + DRAIN_GRACE_S
        while self._running() and time.monotonic() < limit:
            gevent.sleep(0.01)
        return self._running()


def _task_sets(tasks: Any, seen: set[Any] | None = None) -> list[Any]:
    """Every nested TaskSet class that brings a wait of its own."""
    known: set[Any] = set() if seen is None else seen
    for task in tasks:
        if isinstance(task, type) and issubclass(task, TaskSet) and task not in known:
            known.add(task)
            _task_sets(task.tasks, known)
    return [t for t in known if t.wait_time is not TaskSet.wait_time]


def _outcome(exception: Exception, status: int) -> Outcome:
    if status in (429, 503):
        return Outcome.THROTTLED
    if status == 424:
        return Outcome.MODEL_ERROR
    if "timeout" in type(exception).__name__.lower():
        return Outcome.TIMEOUT
    return Outcome.CONNECTION if not status else Outcome.OTHER
