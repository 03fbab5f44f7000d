"""Plain Locust around the same users: its statistics, CSV, events and runners keep working."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import loopback
import pytest

LOCUSTFILES = Path(__file__).resolve().parents[2] / "locustfiles"
HTTP, SAGEMAKER = LOCUSTFILES / "http_endpoint.py", LOCUSTFILES / "sagemaker.py"
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


def locust(
    file: Path | str, port: int, folder: Path, *more: str, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(file), "--headless", "-t", "3s", "--host",
         f"http://127.0.0.1:{port}", "--loglevel", "WARNING", "--json", *more],
        capture_output=True, text=True, cwd=folder, env={**os.environ, **AWS, **env},
        timeout=60, check=False,
    )  # fmt: skip


def totals(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    # Workers print an empty list of their own before the master's.
    text = done.stdout[done.stdout.index("[\n") :]
    (entry,) = json.loads(text)
    return dict(entry)


def test_the_http_locustfile_runs_and_writes_csv(null_port: int, tmp_path: Path) -> None:
    done = locust(
        HTTP, null_port, tmp_path, "-u", "1", "--csv", "out", "-t", "4s",
        TUNER_RATE="200", TUNER_ARRIVALS="constant",
    )  # fmt: skip
    entry = totals(done)
    assert done.returncode == 0
    assert entry["name"] == "/invocations"
    assert entry["num_failures"] == 0
    assert 50 < entry["num_requests"] <= 820
    assert entry["total_content_length"] == 8 * entry["num_requests"]
    with (tmp_path / "out_stats.csv").open() as file:
        rows = {r["Name"]: r for r in csv.DictReader(file)}
    # Written once a second: the last second may be missing.
    assert int(rows["/invocations"]["Request Count"]) > 0


def test_the_web_ui_shows_the_requests(null_port: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(HTTP), "--autostart", "-u", "1", "--host",
         f"http://127.0.0.1:{null_port}", "--web-host", "127.0.0.1", "--web-port", str(port)],
        cwd=tmp_path, env={**os.environ, "TUNER_RATE": "100"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        total = shown(port)
    finally:
        process.terminate()
        process.wait(20)
    assert total["name"] == "Aggregated"
    assert total["num_requests"] > 0
    assert total["num_failures"] == 0
    assert total["avg_content_length"] == 8


def shown(port: int) -> dict[str, Any]:
    """The total of the page's own figures, as soon as there is a request."""
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests") as answer:
                total = json.load(answer)["stats"][-1]
            if total["num_requests"]:
                return dict(total)
        time.sleep(0.05)
    raise AssertionError("the page showed no request in 30 s")


def test_the_sagemaker_locustfile_runs_over_processes_at_the_total_rate(
    null_port: int, tmp_path: Path
) -> None:
    done = locust(
        SAGEMAKER, null_port, tmp_path, "-u", "2", "--processes", "2",
        "-t", "4s", TUNER_RATE="100", TUNER_ENDPOINT="mine",
    )  # fmt: skip
    entry = totals(done)
    assert entry["name"] == "mine"
    assert entry["num_failures"] == 0
    # Two users offer the total together; the start of the second worker takes a while.
    assert 20 < entry["num_requests"] < 440


def test_failures_reach_locusts_statistics_and_exit_code(tmp_path: Path) -> None:
    with loopback.running("--status", "503") as port:
        done = locust(HTTP, port, tmp_path, "-u", "1", TUNER_RATE="50")
    entry = totals(done)
    assert entry["num_failures"] == entry["num_requests"] > 0
    assert done.returncode == 1


def test_an_unusable_target_ends_locust_with_its_reason(tmp_path: Path) -> None:
    done = locust(
        HTTP, 1, tmp_path, "-u", "1",
        "--host", "http://no-such-host.invalid",
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot be resolved" in done.stderr


RAMP = """
import gevent
from locust import events
from tuner.load.users import HttpArrivalUser

class Mine(HttpArrivalUser):
    arrivals = "constant"
    rate_per_s = 100.0

    def on_start(self):
        super().on_start()
        gevent.spawn_later(0.6, self.set_rate, 300.0)
        gevent.spawn_later(1.2, self.replay, [0.0, 0.1, 0.2])
"""


def test_the_rate_changes_while_running_and_a_trace_is_replayed(
    null_port: int, tmp_path: Path
) -> None:
    (tmp_path / "ramp.py").write_text(RAMP)
    entry = totals(locust("ramp.py", null_port, tmp_path, "-u", "1", "-t", "4s"))
    assert entry["num_requests"] == pytest.approx(60 + 180 + 3, abs=60)


LISTEN = """
import sys
import gevent
from locust import events
from tuner.load.users import HttpArrivalUser

seen = []
environments = []
events.init.add_listener(lambda environment, **_: environments.append(environment))

@events.request.add_listener
def on_request(request_type, name, response_time, response_length, exception, **_):
    seen.append((request_type, name, response_length, exception, response_time > 0))
    if len(seen) == 50:
        gevent.spawn(environments[0].runner.quit)

@events.quitting.add_listener
def on_quitting(environment, **_):
    total = environment.stats.total.num_requests
    print("SEEN", len(seen), total, set(seen), file=sys.stderr)

class Mine(HttpArrivalUser):
    rate_per_s = 100.0
"""


def test_a_listener_of_the_users_sees_every_request(null_port: int, tmp_path: Path) -> None:
    (tmp_path / "listen.py").write_text(LISTEN)
    done = locust("listen.py", null_port, tmp_path, "-u", "1", "-t", "30s")
    line = next(x for x in done.stderr.splitlines() if x.startswith("SEEN"))
    _, seen, total, kinds = line.split(" ", 3)
    assert int(seen) == int(total) >= 50
    assert kinds == "{('POST', '/invocations', 8, None, True)}"


BULK = """
import json, sys, time
import locust
from locust.env import Environment
import numpy as np
from tuner.load import locust_stats, rows

rng = np.random.default_rng(1)
n = 3000
table = np.zeros(n, rows.ROW_DTYPE)
now = time.monotonic()
table["scheduled_s"] = now - 5 + np.sort(rng.random(n))
table["done_s"] = table["scheduled_s"] + rng.lognormal(-3, 1.5, n)
table["outcome"] = rng.choice([0, 1, 3], n, p=[0.8, 0.1, 0.1])
table["payload"] = rng.integers(0, 2, n)
table["body_bytes"] = 8

bulk = Environment(user_classes=[]); bulk.create_local_runner()
for part in np.array_split(table, 7):
    locust_stats.feed(bulk, part, "POST", ["a", "b"])
single = Environment(user_classes=[]); single.create_local_runner()
for row in table:
    fault = locust_stats.RequestFailedError("x") if row["outcome"] else None
    took = (row["done_s"] - row["scheduled_s"]) * 1e3
    single.events.request.fire(request_type="POST", name="ab"[row["payload"]],
        response_time=took, response_length=8, exception=fault, context={})
def numbers(env):
    keys = ("num_requests", "num_failures", "total_content_length", "total_response_time",
            "min_response_time", "max_response_time")
    out = []
    for entry in (env.stats.total, env.stats.get("a", "POST"), env.stats.get("b", "POST")):
        out.append([round(float(getattr(entry, k)), 3) for k in keys])
        out.append([entry.get_response_time_percentile(q) for q in (0.5, 0.9, 0.99)])
    out.append(sum(e.occurrences for e in env.stats.errors.values()))
    return out
print("OUT", json.dumps([numbers(bulk), numbers(single)]))
"""


def test_bulk_statistics_equal_request_by_request_ones() -> None:
    done = subprocess.run([sys.executable, "-c", BULK], capture_output=True, text=True, check=True)
    line = next(x for x in done.stdout.splitlines() if x.startswith("OUT"))
    bulk, single = json.loads(line[4:])
    assert bulk == single
