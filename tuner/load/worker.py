"""A Locust worker that takes its stages from a tuner master."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import Any

import gevent
import locust.runners
from gevent.event import Event
from gevent.fileobject import FileObject
from gevent.queue import Queue

from tuner.errors import TunerError
from tuner.load.closed import ClosedLoop
from tuner.load.drive import StageShare
from tuner.load.managed import ManagedEnvironment, fault_of, machine_id, user_fault
from tuner.load.plan import SessionPlan
from tuner.load.users import ArrivalUser

HELLO, CONFIG, STAGE, DATA = "tuner_hello", "tuner_config", "tuner_stage", "tuner_data"
USER_WAIT_S = 15.0


class StageHand:
    """Runs shares of stages in this process, through whatever users Locust has spawned."""

    def __init__(self, environment: ManagedEnvironment) -> None:
        self._environment = environment
        self._closed: ClosedLoop | None = None

    def wait_for_user(self) -> ArrivalUser:
        """The arrival user Locust spawned here.

        Raises
        ------
        TunerError
            If it failed to start, or did not start in time.
        """
        limit = time.monotonic() + USER_WAIT_S
        while time.monotonic() < limit:
            if ArrivalUser.running:
                return ArrivalUser.running[0]
            fault = fault_of(self._environment)
            if isinstance(fault, TunerError):
                raise fault
            if fault is not None:
                raise user_fault(fault)
            gevent.sleep(0.01)
        raise user_fault(TimeoutError(f"not started within {USER_WAIT_S:g} s"))

    def run(self, share: StageShare, emit: Any) -> None:
        """One share, from settling to drained."""
        if self._environment.open_loop:
            driver = self.wait_for_user().driver
            assert driver is not None
            driver.run_stage(share, emit)
            return
        assert self._closed is not None
        self._closed.run_stage(share, emit)

    def prepare(self) -> None:
        """Put closed-loop users under control, before the first is spawned."""
        if not self._environment.open_loop:
            target = self._environment.tuner_target
            assert target is not None
            self._closed = ClosedLoop(gevent.get_hub().loop, target, self._environment)


def share_of(head: dict[str, Any]) -> StageShare:
    """A share from its message."""
    return StageShare(**{f.name: head[f.name] for f in dataclasses.fields(StageShare)})


class WorkerAgent:
    """Answers a master's messages over Locust's own connection."""

    def __init__(self, host: str, port: int) -> None:
        self._environment = ManagedEnvironment()
        self._hand = StageHand(self._environment)
        self._outbox: Any = Queue()
        self._configured = Event()
        self.runner = self._environment.create_worker_runner(host, port)
        self._spawn = self.runner.start_worker
        # Locust gives users to a worker that joins in a stage before it knows their classes.
        self.runner.start_worker = self._start_users  # type: ignore[method-assign]
        self.runner.register_message(CONFIG, self._on_config)
        self.runner.register_message(STAGE, self._on_stage)
        self._writer = gevent.spawn(self._write)
        self._hello()

    def _start_users(self, user_classes_count: dict[str, int], **more: Any) -> None:
        self._configured.wait()
        self._spawn(user_classes_count, **more)

    def _hello(self) -> None:
        about = {"pid": os.getpid(), "machine": machine_id(), "host": os.uname().nodename}
        self._emit("hello", about, b"")

    def _emit(self, kind: str, head: dict[str, Any], blob: bytes) -> None:
        self._outbox.put_nowait((kind, head, blob))

    def _write(self) -> None:
        for kind, head, blob in self._outbox:
            self.runner.send_message(DATA, {"kind": kind, "head": head, "blob": blob})

    def _on_config(self, msg: Any, **_: Any) -> None:
        try:
            self._environment.adopt(SessionPlan.decode(msg.data["head"], msg.data["blob"]))
            self._hand.prepare()
            self._configured.set()
        except TunerError as error:
            self._emit("worker_fault", {"text": str(error)}, b"")
        else:
            self._emit("configured", {}, b"")

    def _on_stage(self, msg: Any, **_: Any) -> None:
        gevent.spawn(self._run_stage, msg.data)

    def _run_stage(self, head: dict[str, Any]) -> None:
        try:
            self._hand.run(share_of(head), self._emit)
        except TunerError as error:
            self._emit("worker_fault", {"text": str(error), "stage": head["stage"]}, b"")


def run_worker_process(host: str, port: int, silence_s: float, in_fd: int) -> int:
    """Serve a master until it says quit, or until whoever started this process is gone.

    A master silent for ``silence_s`` is gone too.
    """
    gevent.spawn(_end_with_parent, in_fd)
    locust.runners.MASTER_HEARTBEAT_TIMEOUT = silence_s  # type: ignore[assignment]
    try:
        agent = WorkerAgent(host, port)
    except ConnectionError:
        # The master ended between its answer to the probe and this worker's greeting.
        return 1
    agent.runner.greenlet.join()
    return 0


def _end_with_parent(in_fd: int) -> None:
    while FileObject(in_fd, "rb", close=False).read(1):
        pass
    sys.stderr.flush()
    os._exit(0)
