"""Other load generators, driven the same way: what they reach and what they report."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FAST_HTTP_USER = """
from locust import FastHttpUser, task
class U(FastHttpUser):
    @task
    def call(self):
        self.client.post("/x", data=b'{"x": 1}', headers={"Content-Type": "application/json"})
"""

PACED_FAST_HTTP_USER = """
from locust import FastHttpUser, task, constant_throughput
class U(FastHttpUser):
    wait_time = constant_throughput(RATE / USERS)
    @task
    def call(self):
        self.client.post("/x", data=b'{"x": 1}', headers={"Content-Type": "application/json"})
"""

BOTO3_USER = """
import os, time
import boto3
from botocore.config import Config
from locust import User, task
class U(User):
    def on_start(self):
        self.boto = boto3.client("sagemaker-runtime", region_name="us-east-1",
            endpoint_url=self.host, config=Config(retries={"total_max_attempts": 1}))
    @task
    def call(self):
        began = time.perf_counter()
        size = len(self.boto.invoke_endpoint(EndpointName="null", Body=b'{"x": 1}',
            ContentType="application/json")["Body"].read())
        self.environment.events.request.fire(request_type="POST", name="invoke",
            response_time=(time.perf_counter() - began) * 1e3, response_length=size,
            exception=None, context={})
"""

K6_OPEN = """
import http from 'k6/http';
export const options = { scenarios: { open: { executor: 'constant-arrival-rate',
  rate: RATE, timeUnit: '1s', duration: 'SECONDSs', preAllocatedVUs: USERS, maxVUs: USERS } },
  summaryTrendStats: ['p(50)', 'p(95)', 'p(99)'] };
export default function () { http.post('URL', '{"x": 1}'); }
"""


def tool(name: str) -> str | None:
    """A peer's program, from PATH or beside this Python."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def locust(code: str, port: int, users: int, seconds: float) -> dict[str, float]:
    """Stock Locust's own totals: requests per second and percentiles in ms."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peer.py"
        path.write_text(code)
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(path), "--headless", "-u", str(users),
             "-r", "100", "-t", f"{int(seconds)}s", "--json", "--host",
             f"http://127.0.0.1:{port}", "--loglevel", "ERROR"],
            capture_output=True, text=True, check=False, cwd=folder,
            env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", **os.environ},
        )  # fmt: skip
    (entry,) = json.loads(done.stdout)
    times = {float(k): v for k, v in entry["response_times"].items()}
    # The best whole seconds: spawning is not counted against the peer.
    per_second = sorted(entry["num_reqs_per_sec"].values(), reverse=True)
    return {
        "rate": float(per_second[len(per_second) // 4]),
        "p95_ms": quantile(times, 0.95),
        "p99_ms": quantile(times, 0.99),
    }


def quantile(counts: dict[float, int], q: float) -> float:
    """Quantile of a table of value to count."""
    need = q * sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= need:
            return value
    return float("nan")


def k6(port: int, rate: float, users: int, seconds: float) -> dict[str, float] | None:
    """k6's open executor."""
    program = tool("k6")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        script, out = Path(folder) / "s.js", Path(folder) / "o.json"
        text = K6_OPEN.replace("RATE", str(int(rate))).replace("SECONDS", str(int(seconds)))
        text = text.replace("USERS", str(users)).replace("URL", f"http://127.0.0.1:{port}/x")
        script.write_text(text)
        subprocess.run(
            [program, "run", "--quiet", "--no-usage-report", "--summary-export", out, script],
            capture_output=True, check=False,
        )  # fmt: skip
        metrics = json.loads(out.read_text())["metrics"]
    took = metrics["http_req_duration"]
    return {
        "rate": metrics["iterations"]["rate"],
        "dropped": metrics.get("dropped_iterations", {}).get("count", 0),
        "p95_ms": took["p(95)"],
        "p99_ms": took["p(99)"],
    }


def hey(port: int, users: int, seconds: float, per_user: float = 0) -> dict[str, float] | None:
    """hey, closed loop."""
    program = tool("hey")
    if program is None:
        return None
    pace = ["-q", str(per_user)] if per_user else []
    text = subprocess.run(
        [program, "-z", f"{int(seconds)}s", "-c", str(users), *pace, "-m", "POST",
         "-d", '{"x": 1}', f"http://127.0.0.1:{port}/x"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p95 = re.search(r"95%+ in ([\d.]+) secs", text)
    p99 = re.search(r"99%+ in ([\d.]+) secs", text)
    return {
        "rate": float(rate[1]) if rate else 0.0,
        "p95_ms": 1e3 * float(p95[1]) if p95 else float("nan"),
        "p99_ms": 1e3 * float(p99[1]) if p99 else float("nan"),
    }


def wrk(port: int, users: int, seconds: float) -> dict[str, float] | None:
    """wrk, one thread, closed loop."""
    program = tool("wrk")
    if program is None:
        return None
    text = subprocess.run(
        [program, "-t1", f"-c{users}", f"-d{int(seconds)}s", "--latency",
         f"http://127.0.0.1:{port}/x"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    return {
        "rate": float(rate[1]) if rate else 0.0,
        "p95_ms": float("nan"),
        "p99_ms": float(p99[1]) * scale[p99[2]] if p99 else float("nan"),
    }


def closed_loop_rates(port: int, seconds: float) -> Iterator[tuple[str, float]]:
    """The best rate of each peer that is installed."""
    yield "Locust FastHttpUser, closed loop", locust(FAST_HTTP_USER, port, 64, seconds)["rate"]
    yield "boto3 in a Locust User, closed loop", locust(BOTO3_USER, port, 16, seconds + 2)["rate"]
    if (found := k6(port, 20_000, 256, seconds)) is not None:
        yield "k6 constant-arrival-rate asked 20000/s (all cores)", found["rate"]
    if (found := hey(port, 64, seconds)) is not None:
        yield "hey, closed loop (all cores)", found["rate"]
    if (found := wrk(port, 64, seconds)) is not None:
        yield "wrk, one thread, closed loop, GET", found["rate"]
