"""The user's own locustfile: closed-loop users are paced and labelled, mistakes are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import loopback
import pytest
from stages import BODY, stage, target

from tuner.errors import GeneratorError, InputError
from tuner.load.session import LocustSession

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
    even = {"arrivals": "constant", "duration_s": 1.0, "settle_s": 0.8}
    with LocustSession(target(null_port), BODY, locustfile=path, workers=workers) as session:
        result = session.measure(stage(rate_per_s=40.0, **even))
        again = session.measure(stage(1, rate_per_s=20.0, **even)) if workers > 1 else None
        assert not session.open_loop
    assert not result.health.open_loop
    assert result.health.clock_shared
    # Unpaced, they would send hundreds a second; a busy machine may cost some.
    assert result.health.achieved_rate_per_s == pytest.approx(40.0, rel=0.35)
    if again is not None:
        assert again.health.achieved_rate_per_s == pytest.approx(20.0, rel=0.35)
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
    # Four users of half a second each: about eight a second, whatever was asked.
    assert 2.0 < result.health.achieved_rate_per_s < 12.0
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


USELESS = {
    "x = (": "cannot be run",
    "x = 1": "no User class",
    "import nothing_here": "cannot",
    """
from locust import HttpUser as A
from tuner.load.users import HttpArrivalUser as B
class C(A): pass
class D(B): pass
""": "several User classes",
}
LOAD = """
import sys
from tuner.errors import InputError
from tuner.load.managed import load_users
for path in sys.argv[1:]:
    try:
        print("loaded", load_users(path))
    except InputError as error:
        print(str(error).replace(chr(10), " "))
"""


def test_a_useless_locustfile_is_told(tmp_path: Path) -> None:
    paths = []
    for i, text in enumerate(USELESS):
        paths.append(tmp_path / f"mine{i}.py")
        paths[-1].write_text(text)
    session = LocustSession(target(9), BODY, locustfile=paths[0])
    with pytest.raises(InputError, match="cannot be run"):
        session.start()
    session.close()
    # In a process of its own: Locust patches the one it is imported into.
    command = [sys.executable, "-c", LOAD, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, words in zip(done.stdout.splitlines(), USELESS.values(), strict=True):
        assert words in line
