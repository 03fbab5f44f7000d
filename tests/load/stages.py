"""Helpers for whole stages: specs, targets, and whether processes have gone."""

from __future__ import annotations

import time
from typing import Any

import psutil

from tuner.campaign.types import StageKind, StageSpec
from tuner.load.target import InvokeTarget
from tuner.workload.payloads import PayloadSet

BODY = PayloadSet.inline("{}")


def stage(index: int = 0, **changes: Any) -> StageSpec:
    plain: dict[str, Any] = {
        "index": index, "kind": StageKind.MEASURE, "instance_count": 1, "rate_per_s": 200.0,
        "duration_s": 1.0, "settle_s": 0.2, "arrivals": "poisson", "seed": 7, "purpose": "test",
    }  # fmt: skip
    return StageSpec(**(plain | changes))


def target(port: int, **settings: Any) -> InvokeTarget:
    return InvokeTarget(f"http://127.0.0.1:{port}/x", **settings)


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
