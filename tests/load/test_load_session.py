"""Whole stages through Locust in its own processes, on real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import loopback
import numpy as np
import psutil
import pytest
from scripted import answer, read_request, scripted

from tuner.campaign.types import StageKind, StageProgress, StageSpec
from tuner.errors import EndpointError, GeneratorError, InputError
from tuner.load.health import Observed, judge
from tuner.load.session import LocustSession
from tuner.load.target import InvokeTarget, sagemaker_target
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome, RequestLog
from tuner.workload.arrivals import arrival_rng, arrival_times
from tuner.workload.payloads import Payload, PayloadSet

BODY = PayloadSet.inline("{}")


def stage(index: int = 0, **changes: Any) -> StageSpec:
    plain: dict[str, Any] = {
        "index": index, "kind": StageKind.MEASURE, "instance_count": 1, "rate_per_s": 200.0,
        "duration_s": 1.0, "settle_s": 0.2, "arrivals": "poisson", "seed": 7, "purpose": "test",
    }  # fmt: skip
    return StageSpec(**(plain | changes))


def target(port: int, **settings: Any) -> InvokeTarget:
    return InvokeTarget(f"http://127.0.0.1:{port}/x", **settings)


@pytest.fixture(scope="module")
def null_port() -> Any:
    with loopback.running() as port:
        yield port


def gone(pids: list[int], within_s: float = 8.0) -> bool:
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        alive = [p for p in pids if psutil.pid_exists(p) and not zombie(p)]
        if not alive:
            return True
        time.sleep(0.05)
    return False


def zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_stage_sends_exactly_the_seeded_schedule(null_port: int) -> None:
    payloads = PayloadSet(
        (Payload(b"{}", payload_class="light", weight=3), Payload(b"[]", payload_class="heavy"))
    )
    looks: list[StageProgress] = []
    with LocustSession(target(null_port), payloads) as session:
        first = session.measure(stage(), looks.append)
        again = session.measure(stage(1, settle_s=0.0))
        rest = [w.pid for w in session.workers]
    assert gone(rest)
    log = first.log
    assert log is not None
    schedule = arrival_times("poisson", 200.0, 1.2, arrival_rng(7)) - 0.2
    assert np.allclose(log.scheduled_s, schedule[schedule >= 0], atol=1e-6)
    assert log.ok.all()
    assert first.windows == windows_of(log)
    assert first.requests == len(log)
    assert 0.1 < np.mean(log.payload_class == 1) < 0.4
    assert again.log is not None
    assert np.allclose(again.log.scheduled_s, arrival_times("poisson", 200.0, 1.0, arrival_rng(7)))
    assert looks
    assert looks[-1].completed <= len(log)
    assert abs(first.started_at_unix_s - time.time()) < 60
    health = first.health
    assert health.open_loop
    assert health.achieved_rate_per_s == len(log)
    assert health.workers == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stage_in_steps_offers_each_rate_in_its_turn(null_port: int, workers: int) -> None:
    rates = (100.0, 400.0, 200.0)
    asked = stage(rate_per_s=700 / 3, rates_per_s=rates, duration_s=3.0)
    with LocustSession(target(null_port), BODY, workers=workers, lag_limit_s=0.2) as session:
        result = session.measure(asked)
    assert result.log is not None
    counts = np.histogram(result.log.scheduled_s, [0, 1, 2, 3])[0]
    for rate, count in zip(rates, counts, strict=True):
        assert abs(count - rate) <= 4 * np.sqrt(rate)
    # The test of the send times must follow the rate, or every such stage would be void: had
    # they been sent when they were due, nothing would be wrong with them.
    due = result.log.scheduled_s
    n = len(due)
    quiet = {"cpu_share": 0.0, "loop_lag_p99_s": 0.0, "in_flight_max": 1}
    faultless = {"local_faults": 0, "credentials_refused": 0}
    on_time = Observed(
        summaries=[quiet | faultless], lost=(), sent=n, scheduled=n, dropped=0,
        send_lag_p99_s=0.0, in_flight_cap=10, slo_s=None,
        log=RequestLog.from_times(due, due + 0.01),
    )  # fmt: skip
    health = judge(asked, on_time)
    assert not health.void_reasons
    assert health.arrivals_ks_p_value is not None
    assert judge(replace(asked, rates_per_s=()), on_time).void_reasons


def test_the_controller_is_never_patched() -> None:
    code = (
        "import sys, socket; import tuner.load.session, tuner.load.remote;"
        "assert 'gevent' not in sys.modules and 'locust' not in sys.modules;"
        "assert socket.socket.__module__ == 'socket'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_workers_share_a_comb_to_the_last_tooth(null_port: int) -> None:
    with LocustSession(target(null_port), BODY, workers=2) as session:
        result = session.measure(stage(arrivals="constant", rate_per_s=100.0, settle_s=0.1))
        pids = [w.pid for w in session.workers]
        assert all(w.clock_shared for w in session.workers)
    log = result.log
    assert log is not None
    assert np.allclose(log.scheduled_s, np.arange(100) / 100, atol=1e-6)
    assert sorted(np.unique(log.worker)) == [0, 1]
    assert result.health.workers == 2
    assert len(set(pids)) == 2
    assert gone(pids)


def test_a_killed_worker_voids_its_stage_and_the_run_goes_on(null_port: int) -> None:
    with LocustSession(target(null_port), BODY, workers=2) as session:
        session.measure(stage(duration_s=0.3))
        victim = session.workers[1].pid
        threading.Timer(0.8, os.kill, (victim, signal.SIGKILL)).start()
        hurt = session.measure(stage(1, duration_s=1.5))
        assert hurt.void
        assert "ended with code -9" in hurt.health.void_reasons[0]
        well = session.measure(stage(2, duration_s=0.5, rate_per_s=100.0))
        assert not [r for r in well.health.void_reasons if "worker" in r and "ended" in r]
        assert well.health.workers == 1
        assert well.log is not None
        assert len(well.log) == len(
            (s := arrival_times("poisson", 100.0, 0.7, arrival_rng(7)))[s >= 0.2]
        )


def test_a_stopped_worker_is_given_up(null_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocustSession(target(null_port, timeout_s=0.5), BODY, workers=2) as session:
        session.measure(stage(duration_s=0.3))
        victim = session.workers[0].pid
        threading.Timer(0.5, os.kill, (victim, signal.SIGSTOP)).start()
        try:
            hurt = session.measure(stage(1, duration_s=1.0))
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
            # Longer than a worker takes to start, so that it meets a stage under way.
            result = session.measure(stage(index, duration_s=2.0, rate_per_s=200.0))
            workers = result.health.workers
            index += 1
        assert workers == 2
        assert result.log is not None
        assert set(np.unique(result.log.worker)) == {0, 1}
    assert joined.wait(10) == 0


def test_a_worker_elsewhere_outlives_a_killed_master_and_serves_the_next(null_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = f"from tuner.load.remote import run_worker; run_worker('127.0.0.1', {port})"
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
        session.measure(stage(duration_s=0.3))
        threading.Timer(0.4, os.kill, (session.workers[0].pid, signal.SIGKILL)).start()
        with pytest.raises(GeneratorError, match="killed by signal 9"):
            session.measure(stage(1, duration_s=2.0))
        assert session.measure(stage(2, duration_s=0.3)).log is not None


def test_a_killed_controller_leaves_no_process(null_port: int) -> None:
    code = (
        "import sys, time\n"
        "from tuner.load.session import LocustSession\n"
        "from tuner.load.target import InvokeTarget\n"
        "from tuner.workload.payloads import PayloadSet\n"
        f"t = InvokeTarget('http://127.0.0.1:{null_port}/x')\n"
        "s = LocustSession(t, PayloadSet.inline('{}'), workers=2)\n"
        "s.start()\n"
        "print(s._process.pid, *(w.pid for w in s.workers), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(p) for p in parent.stdout.readline().split()]
    assert len(pids) == 3
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


def test_nothing_there_is_an_endpoint_error_before_a_stage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    session = LocustSession(target(port), BODY)
    with pytest.raises(EndpointError, match="cannot be reached"):
        session.measure(stage())
    session.close()


def test_a_server_that_only_hangs_up_is_an_endpoint_error() -> None:
    with (
        scripted(lambda c, n: read_request(c) and None) as port,
        LocustSession(target(port), BODY) as session,
        pytest.raises(EndpointError, match="every request failed"),
    ):
        session.measure(stage(rate_per_s=30.0))


def test_expired_credentials_in_a_stage_void_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    began = time.monotonic()
    expired = answer(
        b'{"message":"token is expired"}', "403 F", "x-amzn-ErrorType: ExpiredTokenException\r\n"
    )

    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(expired if time.monotonic() > began + limit_s else answer())

    limit_s = 3600.0
    with scripted(script) as port:
        url = f"http://127.0.0.1:{port}"
        with LocustSession(
            sagemaker_target("e", "us-east-1", endpoint_url=url, connections=32), BODY
        ) as session:
            fine = session.measure(stage(rate_per_s=50.0))
            limit_s = time.monotonic() - began + 0.7
            hurt = session.measure(stage(1, rate_per_s=50.0))
    assert fine.failures == 0
    assert any("credentials" in r for r in hurt.health.void_reasons)
    assert any("ExpiredToken" in text for text, _ in hurt.error_samples)
    assert hurt.log is not None
    assert 0 < hurt.log.count(Outcome.OTHER) < len(hurt.log)


def test_hanging_requests_end_as_timeouts_and_are_counted_in_flight() -> None:
    with (
        loopback.running("--delay-s", "30") as port,
        LocustSession(target(port, timeout_s=0.6), BODY) as session,
    ):
        result = session.measure(stage(rate_per_s=100.0, settle_s=0.5))
    assert result.log is not None
    assert result.log.count(Outcome.TIMEOUT) == len(result.log) > 50
    assert result.in_flight_at_start == pytest.approx(50, abs=25)
    assert result.in_flight_at_end == pytest.approx(60, abs=25)
    assert result.windows[0].quantile_s(0.5) == np.inf


def test_a_pool_that_is_all_waiting_is_told_from_a_slow_generator() -> None:
    with (
        loopback.running("--delay-s", "0.5") as port,
        LocustSession(target(port, connections=4), BODY) as session,
    ):
        result = session.measure(stage(rate_per_s=60.0, duration_s=0.8))
    reason = next(r for r in result.health.void_reasons if "late" in r)
    assert "every connection was still waiting" in reason
    assert "load.connections" in (result.health.remedy or "")


def test_too_many_requests_to_keep_leave_windows_only(null_port: int) -> None:
    with LocustSession(target(null_port), BODY, keep_raw_requests=50) as session:
        result = session.measure(stage())
    assert result.log is None
    schedule = arrival_times("poisson", 200.0, 1.2, arrival_rng(7))
    assert result.requests == len(schedule[schedule >= 0.2])


def test_a_timeout_that_hides_the_slo_is_refused() -> None:
    with pytest.raises(InputError, match="too short"):
        LocustSession(target(1, timeout_s=1.0), BODY, slo_s=0.3)
    with pytest.raises(InputError, match="no generator process"):
        LocustSession(target(1), BODY, workers=0)
    LocustSession(target(1, timeout_s=1.2), BODY, slo_s=0.3)


LOCUSTFILE = """
import time
from locust import FastHttpUser, HttpUser, TaskSet, task, constant

class Browser({kind}):
    wait_time = constant(0.05)

    @task
    class Inner(TaskSet):
        wait_time = constant(30)

        @task
        def call(self):
            print("a print of the user's does not break the pipe")
            for _ in range({requests}):
                self.client.post("/x", data="{{}}")
"""


@pytest.mark.parametrize(("workers", "kind"), [(1, "HttpUser"), (2, "FastHttpUser")])
def test_a_closed_loop_locustfile_without_a_host_is_paced_and_labelled(
    null_port: int, tmp_path: Path, workers: int, kind: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(LOCUSTFILE.format(kind=kind, requests=1))
    even = {"arrivals": "constant", "duration_s": 1.5, "settle_s": 0.5}
    with LocustSession(target(null_port), BODY, locustfile=path, workers=workers) as session:
        result = session.measure(stage(rate_per_s=40.0, **even))
        again = session.measure(stage(1, rate_per_s=20.0, **even))
        assert not session.open_loop
    assert not result.health.open_loop
    assert result.health.clock_shared
    assert result.health.achieved_rate_per_s == pytest.approx(40.0, rel=0.05)
    assert again.health.achieved_rate_per_s == pytest.approx(20.0, rel=0.1)
    assert result.failures == 0


def test_tasks_of_several_requests_are_begun_less_often(null_port: int, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(LOCUSTFILE.format(kind="HttpUser", requests=4))
    with LocustSession(target(null_port), BODY, locustfile=path) as session:
        result = session.measure(stage(rate_per_s=80.0, settle_s=1.3, arrivals="constant"))
    # As many tasks as requests were asked for would be 320 a second. They are for the first
    # fifty tasks: no longer, although 160 users are in line.
    assert 40.0 < result.health.achieved_rate_per_s < 120.0


def test_a_slow_server_is_offered_less_by_closed_loop_users_and_none_is_lost(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(LOCUSTFILE.format(kind="FastHttpUser", requests=1))
    with (
        loopback.running("--delay-s", "0.5") as port,
        LocustSession(
            target(port, max_in_flight=4, connections=4), BODY, locustfile=path
        ) as session,
    ):
        result = session.measure(stage(rate_per_s=40.0, duration_s=1.5, settle_s=0.6))
    # Four users of half a second each: eight a second, whatever was asked.
    assert result.health.achieved_rate_per_s == pytest.approx(8.0, rel=0.35)
    assert result.health.in_flight_max == 4
    assert result.log is not None
    assert result.log.ok.all()
    assert result.log.latency_s().min() >= 0.49
    assert result.log.done_s.max() > 1.5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    def __init__(self, env):\n        raise OSError('no licence')\n", "no licence"),
        ("    def on_start(self):\n        raise KeyError('token')\n", "token"),
        ("    @task\n    def t(self):\n        raise ValueError('bad')\n", "bad"),
        ("    @task\n    def t(self):\n        pass\n", "sent no request"),
    ],
)
def test_a_locustfile_that_sends_nothing_is_an_error_with_its_cause(
    null_port: int, tmp_path: Path, body: str, words: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from locust import HttpUser, task\nclass Me(HttpUser):\n{body}")
    with (
        LocustSession(target(null_port), BODY, locustfile=path) as session,
        pytest.raises(GeneratorError, match=words),
    ):
        session.measure(stage(rate_per_s=20.0, duration_s=0.3))


def test_an_open_loop_locustfile_stays_open(null_port: int, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from tuner.load.users import HttpArrivalUser\n"
        "class Mine(HttpArrivalUser):\n"
        f"    host = 'http://127.0.0.1:{null_port}'\n"
        "    def payloads(self):\n"
        "        from tuner.workload.payloads import PayloadSet\n"
        "        return PayloadSet.union([PayloadSet.inline(str(i)) for i in range(9)])\n"
    )
    with LocustSession(target(null_port), BODY, locustfile=path) as session:
        result = session.measure(stage())
    assert result.health.open_loop
    assert result.failures == 0
    assert result.requests > 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", "cannot be run"),
        ("x = 1", "no User class"),
        ("import nothing_here", "cannot"),
        (
            "from locust import HttpUser as A\nfrom tuner.load.users import HttpArrivalUser as B\n"
            "class C(A): pass\nclass D(B): pass\n",
            "several User classes",
        ),
    ],
)
def test_a_useless_locustfile_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    session = LocustSession(target(9), BODY, locustfile=path)
    with pytest.raises(InputError, match=words):
        session.start()
    session.close()
