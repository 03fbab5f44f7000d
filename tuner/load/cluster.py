"""Who carries the load of a session: this process, or workers of a Locust master."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import gevent

from tuner.errors import GeneratorError
from tuner.load.closed import user_count
from tuner.load.managed import ManagedEnvironment, machine_id
from tuner.load.plan import EVERY_INTERFACE, SessionPlan
from tuner.load.worker import CONFIG, DATA, STAGE, StageHand, share_of

Send = Callable[[str, dict[str, Any], bytes], None]
START_WAIT_S = 30.0
JOIN_WAIT_S = 600.0
"""Time for people to start workers on other machines."""

LEAD_S = 0.05
SPREAD_S = 0.3
"""Time for a stage's message to reach every worker before the first arrival."""


class Cluster(Protocol):
    """Carries out stages; results go out as frames."""

    def describe(self) -> dict[str, Any]:
        """Workers and where they are."""
        ...

    def run_stage(self, head: dict[str, Any]) -> None:
        """One stage; ends with a frame ``stage_done`` that lists the workers' summaries."""
        ...

    def close(self) -> None:
        """End every process."""
        ...


class LocalCluster:
    """One process: Locust's local runner."""

    def __init__(self, plan: SessionPlan, send: Send) -> None:
        self._plan = plan
        self._send = send
        self._environment = ManagedEnvironment()
        self._environment.adopt(plan)
        self._runner = self._environment.create_local_runner()
        self._hand = StageHand(self._environment)
        self._hand.prepare()
        if self._environment.open_loop:
            self._runner.start(1, spawn_rate=1)
            self._hand.wait_for_user()

    def describe(self) -> dict[str, Any]:
        me = {"pid": os.getpid(), "host": os.uname().nodename, "clock_shared": True}
        return {"workers": [me], "port": None, "open_loop": self._environment.open_loop}

    def run_stage(self, head: dict[str, Any]) -> None:
        summaries: list[dict[str, Any]] = []

        def emit(kind: str, data: dict[str, Any], blob: bytes) -> None:
            if kind == "stage_done":
                summaries.append({"worker": 0, **data})
            else:
                self._send(kind, {"worker": 0, **data}, blob)

        opens = time.monotonic() + LEAD_S + head["settle_s"]
        share = share_of({**head, "part": 0, "parts": 1, "opens_at_s": opens})
        users = user_count(share.rate_per_s, self._plan.target)
        if not self._environment.open_loop:
            self._runner.start(users, spawn_rate=users)
        try:
            self._hand.run(share, emit)
        finally:
            if not self._environment.open_loop:
                self._runner.stop()
        self._send("stage_done", {"workers": summaries, "lost": []}, b"")

    def close(self) -> None:
        self._runner.quit()


@dataclass
class _Worker:
    """A worker as the master knows it."""

    client_id: str
    index: int
    about: dict[str, Any]
    configured: bool = False
    lost: str = ""
    done: dict[str, Any] | None = None
    heard_s: float = field(default_factory=time.monotonic)


class MasterCluster:
    """A Locust master, its workers on this machine, and those that join from elsewhere."""

    def __init__(self, plan: SessionPlan, send: Send) -> None:
        self._plan = plan
        self._send = send
        self._workers: dict[str, _Worker] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._spawned: set[str] = set()
        self._stage = -1
        self._environment = ManagedEnvironment()
        self._environment.adopt(plan)
        self._port = plan.bind_port or _free_port(plan.bind_host)
        self._runner = self._environment.create_master_runner(plan.bind_host, self._port)
        self._runner.register_message(DATA, self._on_data)
        for _ in range(plan.workers):
            self._processes.append(self._launch())
        self._await_workers(max(1, plan.workers), START_WAIT_S if plan.workers else JOIN_WAIT_S)

    def _launch(self) -> subprocess.Popen[bytes]:
        host = "127.0.0.1" if self._plan.bind_host in EVERY_INTERFACE else self._plan.bind_host
        return subprocess.Popen(
            [sys.executable, "-m", "tuner.load.agent", "worker", host, str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def _await_workers(self, count: int, wait_s: float) -> None:
        limit = time.monotonic() + wait_s
        while len(self._live()) < count:
            dead = [p for p in self._processes if p.poll() is not None]
            if dead:
                raise GeneratorError(
                    f"a generator worker ended at its start with code {dead[0].returncode}"
                )
            if time.monotonic() > limit:
                raise GeneratorError(
                    f"only {len(self._live())} of {count} generator workers joined "
                    f"within {wait_s:g} s"
                )
            gevent.sleep(0.02)

    def _live(self) -> list[_Worker]:
        return [w for w in self._workers.values() if w.configured and not w.lost]

    # -- messages from workers ---------------------------------------------------------------

    def _on_data(self, msg: Any, **_: Any) -> None:
        kind, head, blob = msg.data["kind"], msg.data["head"], msg.data["blob"]
        if kind == "hello":
            index = len(self._workers)
            self._workers[msg.node_id] = _Worker(msg.node_id, index, head)
            config_head, config_blob = self._plan.encode()
            data = {"head": config_head, "blob": config_blob}
            self._runner.send_message(CONFIG, data, client_id=msg.node_id)
            return
        worker = self._workers.get(msg.node_id)
        if worker is None:
            return
        worker.heard_s = time.monotonic()
        if kind == "configured":
            worker.configured = True
        elif kind == "worker_fault":
            worker.lost = f"worker {worker.index} failed: {head['text']}"
        elif head.get("stage") != self._stage:
            return
        elif kind == "stage_done":
            shared = worker.about["machine"] == machine_id()
            worker.done = {"worker": worker.index, "clock_shared": shared, **head}
        else:
            self._send(kind, {"worker": worker.index, **head}, blob)

    # -- stages ------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        mine = machine_id()
        return {
            "workers": [
                {
                    "pid": w.about["pid"],
                    "host": w.about["host"],
                    "clock_shared": w.about["machine"] == mine,
                }
                for w in self._live()
            ],
            "port": self._port,
            "open_loop": self._environment.open_loop,
        }

    def run_stage(self, head: dict[str, Any]) -> None:
        self._mark_dead()
        workers = self._live()
        if not workers:
            raise GeneratorError(
                "every generator worker is gone", hint="start the run again with --resume"
            )
        self._stage = head["stage"]
        self._spawn_users(workers, head["rate_per_s"])
        opens = time.monotonic() + SPREAD_S + head["settle_s"]
        mine = machine_id()
        for part, worker in enumerate(workers):
            worker.done = None
            worker.heard_s = time.monotonic()
            shared = worker.about["machine"] == mine
            share = {
                **head,
                "part": part,
                "parts": len(workers),
                "opens_at_s": opens if shared else None,
            }
            self._runner.send_message(STAGE, share, client_id=worker.client_id)
        self._gather(workers, opens + head["duration_s"])
        if not self._environment.open_loop:
            self._runner.stop()
        self._send(
            "stage_done",
            {
                "workers": [w.done for w in workers if w.done is not None],
                "lost": [w.lost for w in workers if w.lost],
                "members": self.describe()["workers"],
            },
            b"",
        )

    def _spawn_users(self, workers: list[_Worker], rate_per_s: float) -> None:
        """One arrival user per worker; closed-loop users by the rate."""
        if not self._environment.open_loop:
            users = user_count(rate_per_s, self._plan.target)
            self._runner.start(users, spawn_rate=users)
            return
        users = len(workers) * len(self._environment.user_classes)
        names = {w.client_id for w in workers}
        if not names <= self._spawned:
            self._runner.start(users, spawn_rate=users)
            self._spawned = names

    def _gather(self, workers: list[_Worker], closes_s: float) -> None:
        drained_s = closes_s + self._plan.target.timeout_s + self._plan.stall_s
        while any(w.done is None and not w.lost for w in workers):
            self._mark_dead()
            now = time.monotonic()
            for w in workers:
                if w.done is None and not w.lost and now > drained_s:
                    w.lost = f"worker {w.index} did not report the end of the stage"
            gevent.sleep(0.02)

    def _mark_dead(self) -> None:
        ended = {p.pid: p.returncode for p in self._processes if p.poll() is not None}
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.lost:
                continue
            if worker.about["pid"] in ended and worker.about["machine"] == machine_id():
                code = ended[worker.about["pid"]]
                worker.lost = f"worker {worker.index} ended with code {code}"
            node = self._runner.clients.get(worker.client_id)
            missing = node is None or node.state == "missing"
            if not worker.lost and missing and now - worker.heard_s > self._plan.stall_s:
                worker.lost = f"worker {worker.index} on {worker.about['host']} went silent"

    def close(self) -> None:
        self._runner.quit()
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port(host: str) -> int:
    from gevent import socket

    with socket.socket() as probe:
        probe.bind(("" if host == "*" else host, 0))
        return int(probe.getsockname()[1])
