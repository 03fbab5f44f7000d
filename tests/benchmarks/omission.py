"""A server that freezes one second in ten: what each tool says of its p95 and p99.

Arrivals at equal gaps over whole periods: a tenth of the requests meet the freeze and wait
evenly between 0 and 1 s, so an instant server would have p95 = 500 ms and p99 = 900 ms. The
server here takes its time to answer the crowd after a freeze; the truth is what its own clock
says: when it wrote its n-th answer against when the n-th request was meant to start.

    python tests/benchmarks/omission.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "load"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import freezing
import loopback
import peers

from tuner.campaign.types import StageKind, StageResult, StageSpec
from tuner.load.session import LocustSession
from tuner.load.target import InvokeTarget
from tuner.stats.histogram import Window
from tuner.workload.payloads import PayloadSet

PERIOD_S, FREEZE_S = 10.0, 1.0
IDEAL_MS = {"p95": 500.0, "p99": 900.0}
Row = dict[str, object]


def row(name: str, value: float, goal: str = "", met: bool | None = None) -> Row:
    return {"name": name, "value": round(value, 2), "unit": "ms", "goal": goal, "met": met}


def ours(port: int, rate: float, seconds: float, workers: int) -> list[Row]:
    """Exact columns, and the merged windows of the same requests."""
    target = InvokeTarget(f"http://127.0.0.1:{port}/x", timeout_s=20.0)
    spec = StageSpec(0, StageKind.MEASURE, 1, rate, seconds, 1.0, "constant", 1, "omission")
    with LocustSession(target, PayloadSet.inline("{}"), workers=workers) as session:
        result = session.measure(spec)
    assert result.log is not None
    truth = server_truth(port, result)
    whole = Window.merge(result.windows)
    rows = []
    for name in IDEAL_MS:
        q = float(name[1:]) / 100
        true = 1e3 * float(np.quantile(truth, q, method="inverted_cdf"))
        exact = 1e3 * float(np.quantile(result.log.latency_s(), q, method="inverted_cdf"))
        merged = 1e3 * whole.quantile_s(q)
        for kind, value in (("columns", exact), ("merged windows", merged)):
            good = abs(value / true - 1) <= 0.02
            label = f"tuner, {workers} worker(s), {kind}, {name} at {rate:g}/s"
            rows.append(row(label, value, f"{true:.1f} ± 2 %", good))
    return rows


def server_truth(port: int, result: StageResult) -> NDArray[np.float64]:
    """Latencies by the server's clock, shape (n,)."""
    assert result.log is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/replies") as answer:
        replies = np.sort(np.frombuffer(answer.read(), dtype=np.float64))
    opened = result.started_at_unix_s - (time.time() - time.monotonic())
    n = len(result.log)
    # The last n answers belong to the measured window: nothing is sent after it.
    return replies[-n:] - (result.log.scheduled_s + opened)


def others(port: int, rate: float, seconds: float) -> list[Row]:
    """What peers report for the same server and rate."""
    users = 16
    code = peers.PACED_FAST_HTTP_USER.replace("RATE", str(rate)).replace("USERS", str(users))
    found = {
        "Locust FastHttpUser, constant_throughput": peers.locust(code, port, users, seconds),
        "k6 constant-arrival-rate": peers.k6(port, rate, int(rate * 1.5), seconds),
        "hey -q": peers.hey(port, users, seconds, rate / users),
    }
    return [
        row(f"{name}, {q} at {rate:g}/s", values[f"{q}_ms"], f"about {IDEAL_MS[q]:g}")
        for name, values in found.items()
        if values is not None
        for q in IDEAL_MS
    ]


def show(rows: list[Row]) -> None:
    print(f"{'what':64} {'says':>9} {'truth':>12}  met")
    for r in rows:
        met = {None: "", True: "yes", False: "NO"}[r["met"]]  # type: ignore[index]
        print(f"{r['name']:64} {r['value']:>9} {r['goal']:>12}  {met}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds = PERIOD_S * (1 if options.quick else 3)
    rows: list[Row] = []
    freeze = ["--every-s", str(PERIOD_S), "--freeze-s", str(FREEZE_S)]
    began = time.time()
    with loopback.running(*freeze, program=freezing.__file__) as port:
        rows += ours(port, 200, seconds, 1)
        rows += ours(port, 2000, seconds, 1)
        if not options.quick:
            rows += ours(port, 2000, seconds, 2)
        rows += others(port, 200, seconds)
    rows.append(
        {"name": "duration of this benchmark", "value": round(time.time() - began, 1),
         "unit": "s", "goal": "", "met": None}
    )  # fmt: skip
    print(json.dumps(rows, indent=1)) if options.json else show(rows)


if __name__ == "__main__":
    main()
