"""Closed-loop users of a locustfile: paced, recorded, and never called open-loop."""

from __future__ import annotations

import math
import time
from typing import Any

import gevent
from locust import constant_throughput

from tuner.load.drive import Emit, StageShare, gather_stage, stage_rows
from tuner.load.engine_base import EngineBase
from tuner.load.rows import Rows
from tuner.load.target import InvokeTarget
from tuner.stats.requests import Outcome

NAN = float("nan")
USERS_PER_RATE = 2.0
"""Paced users are given half a second each on average before pacing starts to slip."""


def user_count(rate_per_s: float, target: InvokeTarget) -> int:
    """How many closed-loop users to pace for a rate."""
    return min(max(1, math.ceil(rate_per_s * USERS_PER_RATE)), target.max_in_flight)


class ClosedLoop(EngineBase):
    """Records what Locust's own users do.

    The intended start of such a request is not known: it is taken as the actual one, which
    is what hides a stall, and why these stages are labelled closed-loop.
    """

    def __init__(self, loop: Any, target: InvokeTarget, environment: Any) -> None:
        super().__init__(loop, target, self._take)
        self._environment = environment
        self._sink: Any = None
        environment.events.request.add_listener(self._on_request)

    def _take(self, rows: Rows) -> None:
        if self._sink is not None:
            self._sink(rows)

    def _on_request(
        self,
        response_time: float | None = None,
        response_length: int = 0,
        exception: Exception | None = None,
        response: Any = None,
        **_: Any,
    ) -> None:
        done = time.monotonic()
        began = done - (response_time or 0.0) / 1e3
        outcome = Outcome.OK
        if exception is not None:
            self.errors.add(f"{type(exception).__name__}: {exception}")
            status = getattr(response, "status_code", 0)
            outcome = _outcome(exception, status)
        self._rows.add(began, began, NAN, done, int(response_length or 0), 0, int(outcome))
        self.completed += 1

    def pace(self, rate_per_s: float, users: int) -> None:
        """Make every user class wait so that all users together offer the rate."""
        for user_class in self._environment.user_classes:
            user_class.wait_time = constant_throughput(rate_per_s / users)

    def run_stage(self, share: StageShare, emit: Emit) -> None:
        """Record while Locust's users run."""
        begun = time.monotonic()
        opens = begun + share.settle_s if share.opens_at_s is None else share.opens_at_s
        closes = opens + share.duration_s
        self._sink = stage_rows(share, opens, emit)
        summary = gather_stage(self, share, opens, closes, emit)
        gevent.sleep(0)
        self.flush()
        self._sink = None
        summary |= {"open_loop": False, "drained": True}
        emit("stage_done", summary, b"")


def _outcome(exception: Exception, status: int) -> Outcome:
    if status in (429, 503):
        return Outcome.THROTTLED
    if status == 424:
        return Outcome.MODEL_ERROR
    if "timeout" in type(exception).__name__.lower():
        return Outcome.TIMEOUT
    return Outcome.CONNECTION if not status else Outcome.OTHER
