"""What the generator itself adds to a latency, measured on this machine, now."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tuner.campaign.types import StageKind, StageSpec
from tuner.errors import GeneratorError
from tuner.load.session import LocustSession
from tuner.load.target import InvokeTarget
from tuner.workload.payloads import PayloadSet


@dataclass(frozen=True, slots=True)
class OwnLatency:
    """Latency of the generator and the loopback against a server that takes no time."""

    rate_per_s: float
    n: int
    p50_s: float
    p99_s: float


def measure_own_latency(
    *, rate_per_s: float = 200.0, duration_s: float = 3.0, seed: int = 0
) -> OwnLatency:
    """Drive a null server with the same engine and say what is left.

    Raises
    ------
    GeneratorError
        If the null server or the generator does not start.
    """
    spec = StageSpec(
        0, StageKind.FLOOR, 1, rate_per_s, duration_s, 0.5, "poisson", seed, "own latency"
    )
    with _null_server() as port:
        target = InvokeTarget(f"http://127.0.0.1:{port}/")
        with LocustSession(target, PayloadSet.inline("{}")) as session:
            log = session.measure(spec).log
    if log is None or not len(log):
        raise GeneratorError("the check against a null server gave no request", value=rate_per_s)
    p50, p99 = np.quantile(log.latency_s(), (0.5, 0.99), method="inverted_cdf")
    return OwnLatency(rate_per_s, len(log), float(p50), float(p99))


@contextmanager
def _null_server() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner.load.null_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise GeneratorError("the null server did not start")
        yield int(line)
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
