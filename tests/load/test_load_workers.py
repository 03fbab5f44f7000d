"""Workers and the processes around them: kills, stalls, joins, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from stages import BODY, gone, stage, target

from tuner.errors import GeneratorError
from tuner.load.session import LocustSession
from tuner.workload.arrivals import arrival_rng, arrival_times


def test_the_controller_is_never_patched() -> None:
    code = (
        "import sys, socket; import tuner.load.session, tuner.load.remote;"
        "assert 'gevent' not in sys.modules and 'locust' not in sys.modules;"
        "assert socket.socket.__module__ == 'socket'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_killed_worker_voids_its_stage_and_the_run_goes_on(null_port: int) -> None:
    with LocustSession(target(null_port), BODY, workers=2) as session:
        session.start()
        victim = session.workers[1].pid
        threading.Timer(0.6, os.kill, (victim, signal.SIGKILL)).start()
        hurt = session.measure(stage(1, duration_s=0.8))
        assert hurt.void
        assert "ended with code -9" in hurt.health.void_reasons[0]
        well = session.measure(stage(2, duration_s=0.5, rate_per_s=100.0))
        assert not [r for r in well.health.void_reasons if "worker" in r and "ended" in r]
        assert well.health.workers == 1
        assert well.log is not None
        assert len(well.log) == len(
            (s := arrival_times("poisson", 100.0, 0.7, arrival_rng(7)))[s >= 0.2]
        )


def test_a_stopped_worker_is_given_up(null_port: int) -> None:
    calm = target(null_port, timeout_s=0.5)
    with LocustSession(calm, BODY, workers=2, stall_s=1.0) as session:
        session.start()
        victim = session.workers[0].pid
        threading.Timer(0.5, os.kill, (victim, signal.SIGSTOP)).start()
        try:
            hurt = session.measure(stage(1, duration_s=0.5))
        finally:
            os.kill(victim, signal.SIGKILL)
        assert hurt.void
        assert "worker 0" in hurt.health.void_reasons[0]


def test_a_worker_that_joins_in_a_stage_carries_the_next_and_leaves_with_the_master(
    null_port: int,
) -> None:
    with LocustSession(target(null_port), BODY, workers=1, listen=("127.0.0.1", 0)) as session:
        session.start()
        joined = subprocess.Popen(
            [sys.executable, "-c",
             "from tuner.load.remote import run_worker;"
             f"run_worker('127.0.0.1', {session.port}, once=True)"],
        )  # fmt: skip
        limit = time.monotonic() + 20
        workers, index = 1, 0
        while workers < 2 and time.monotonic() < limit:
            # About what a worker takes to start, so that it meets a stage under way.
            result = session.measure(stage(index, duration_s=1.0))
            workers = result.health.workers
            index += 1
        assert workers == 2
        assert result.log is not None
        assert set(np.unique(result.log.worker)) == {0, 1}
    assert joined.wait(10) == 0


def test_a_worker_elsewhere_outlives_a_killed_master_and_serves_the_next(null_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = f"from tuner.load.remote import run_worker;run_worker('127.0.0.1', {port}, silence_s=2)"
    elsewhere = subprocess.Popen([sys.executable, "-c", code])
    listen = ("127.0.0.1", port)
    try:
        with LocustSession(target(null_port), BODY, workers=0, listen=listen) as session:
            first = session.measure(stage(duration_s=0.3))
            assert session._process is not None
            os.kill(session._process.pid, signal.SIGKILL)
            with pytest.raises(GeneratorError, match="killed by signal 9"):
                session.measure(stage(1, duration_s=0.3))
            second = session.measure(stage(2, duration_s=0.3))
        assert first.health.workers == second.health.workers == 1
    finally:
        below = psutil.Process(elsewhere.pid).children(recursive=True)
        elsewhere.send_signal(signal.SIGINT)
        elsewhere.wait(10)
    assert gone([p.pid for p in below])


def test_a_killed_generator_is_told_and_the_next_stage_starts_another(null_port: int) -> None:
    with LocustSession(target(null_port), BODY) as session:
        session.start()
        threading.Timer(0.4, os.kill, (session.workers[0].pid, signal.SIGKILL)).start()
        with pytest.raises(GeneratorError, match="killed by signal 9"):
            session.measure(stage(1, duration_s=2.0))
        assert session.measure(stage(2, duration_s=0.3)).log is not None


CONTROLLER = """
import sys
sys.path.insert(0, {folder!r})
from stages import BODY, stage, target
from tuner.load.session import LocustSession
with LocustSession(target({port}), BODY, workers=2) as session:
    session.start()
    print(session._process.pid, *(w.pid for w in session.workers), flush=True)
    session.measure(stage(duration_s=600.0), lambda _: print("under way", flush=True))
"""


def test_a_controller_killed_in_a_stage_leaves_no_process_and_no_load(null_port: int) -> None:
    code = CONTROLLER.format(folder=str(Path(__file__).parent), port=null_port)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(p) for p in parent.stdout.readline().split()]
    assert len(pids) == 3
    assert parent.stdout.readline() == "under way\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pids)


def test_ctrl_c_in_a_stage_leaves_no_process(null_port: int) -> None:
    session = LocustSession(target(null_port), BODY)
    session.start()
    pids = [w.pid for w in session.workers]
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.measure(stage(duration_s=20.0))
    assert gone(pids)
