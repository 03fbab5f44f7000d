"""Locust User classes whose arrivals do not wait for answers.

One such user offers the whole rate: Locust's number of users only says over how many
sources (and workers) the rate is spread.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import gevent
import numpy as np
from locust import User, task
from locust.env import Environment
from numpy.typing import ArrayLike

from tuner.errors import TunerError
from tuner.load.drive import Driver
from tuner.load.locust_stats import feed
from tuner.load.rows import Rows
from tuner.load.target import InvokeTarget, sagemaker_target
from tuner.stats.requests import FloatArray
from tuner.workload.arrivals import ramp_chunks, stream, trace_chunks
from tuner.workload.payloads import PayloadSet

FLUSH_S = 0.5
logger = logging.getLogger(__name__)


class ArrivalUser(User):
    """Offers arrivals at a total rate, open-loop.

    Subclasses say where (`target`) and what (`payloads`). ``rate_per_s`` is the total over
    all users of the class; `set_rate` changes it while running.
    """

    abstract = True
    arrivals: str = "poisson"
    rate_per_s: float = 1.0
    seed: int = 0
    running: ClassVar[list[ArrivalUser]] = []

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.driver: Driver | None = None
        self._sources = 0
        self._rng = np.random.default_rng(np.random.SeedSequence([self.seed, os.getpid()]))
        if not self.managed:
            environment.events.spawning_complete.add_listener(  # type: ignore[no-untyped-call]
                self._on_spawned
            )

    def target(self) -> InvokeTarget:
        """Where requests go."""
        raise TypeError(f"{type(self).__name__} does not say its target")

    def payloads(self) -> PayloadSet:
        """What is sent."""
        return PayloadSet.inline("{}")

    @property
    def managed(self) -> bool:
        """Whether a tuner session says what to offer."""
        return bool(getattr(self.environment, "tuner_managed", False))

    def on_start(self) -> None:
        """Open the engine; in plain Locust also begin to offer."""
        target, payloads = self.target(), self.payloads()
        names = [target.name] * len(payloads.payloads)

        def on_rows(rows: Rows) -> None:
            feed(self.environment, rows, target.method, names)

        try:
            self.driver = Driver(target, payloads, on_rows)
        except TunerError as error:
            self.environment.events.user_error.fire(
                user_instance=self, exception=error, tb=error.__traceback__
            )
            if not self.managed:
                logger.error("%s", error)
                self.environment.process_exit_code = error.exit_code
                self.environment.runner.quit()
            return
        self.running.append(self)
        if self._sources:
            self.set_rate(self.rate_per_s)

    def _on_spawned(self, user_count: int) -> None:
        # Locust tells the number of users over all workers, sometimes before on_start ran.
        self._sources = max(1, user_count)
        if self.driver is not None:
            self.set_rate(self.rate_per_s)

    def set_rate(self, total_rate_per_s: float) -> None:
        """Offer a new total rate from now on."""
        self.rate_per_s = total_rate_per_s
        share = total_rate_per_s / self._sources
        self.offer(stream(self.arrivals, share, self._rng, start_s=1 / share))

    def ramp(self, from_rate_per_s: float, to_rate_per_s: float, duration_s: float) -> None:
        """Offer a total rate that moves in a straight line, then nothing."""
        n = self._sources
        self.offer(ramp_chunks(from_rate_per_s / n, to_rate_per_s / n, duration_s, self._rng))

    def replay(self, times_s: ArrayLike, *, speed: float = 1.0) -> None:
        """Offer recorded arrivals from now on."""
        self.offer(trace_chunks(times_s, speed=speed))

    def offer(self, chunks: Iterator[FloatArray]) -> None:
        """Replace what is offered, from now on."""
        assert self.driver is not None
        self.driver.start(chunks, origin_s=time.monotonic(), rng=self._rng)

    @task
    def report(self) -> None:
        """Hand finished requests to Locust's statistics."""
        gevent.sleep(FLUSH_S)
        if self.driver is not None and not self.managed:
            self.driver.engine.flush()

    def on_stop(self) -> None:
        """Stop offering and close."""
        if self.driver is not None:
            if self in self.running:
                self.running.remove(self)
            self.driver.stop()
            self.driver.close()
            self.driver = None
        if not self.managed:
            self.environment.events.spawning_complete.remove_listener(self._on_spawned)


class ManagedUser(ArrivalUser):
    """The user a tuner session runs: target and payloads come with the environment."""

    def target(self) -> InvokeTarget:
        target: InvokeTarget = self.environment.tuner_target
        return target

    def payloads(self) -> PayloadSet:
        payloads: PayloadSet = self.environment.tuner_payloads
        return payloads


class HttpArrivalUser(ArrivalUser):
    """Open-loop load on a plain HTTP endpoint, ``--host`` plus ``path``."""

    abstract = True
    path: str = "/invocations"
    content_type: str = "application/json"
    body: str | bytes = "{}"
    timeout_s: float = 60.0

    def target(self) -> InvokeTarget:
        base = (self.host or "").rstrip("/")
        return InvokeTarget(base + self.path, timeout_s=self.timeout_s)

    def payloads(self) -> PayloadSet:
        return PayloadSet.inline(self.body, content_type=self.content_type)


class SageMakerUser(ArrivalUser):
    """Open-loop InvokeEndpoint load, signed by the AWS credential chain.

    ``--host`` replaces AWS's own runtime host, for an emulator.
    """

    abstract = True
    endpoint_name: str = ""
    region: str = "us-east-1"
    variant: str | None = None
    profile: str | None = None
    streaming: bool = False
    content_type: str = "application/json"
    body: str | bytes = "{}"
    limits: ClassVar[dict[str, Any]] = {}

    def target(self) -> InvokeTarget:
        return sagemaker_target(
            self.endpoint_name,
            self.region,
            endpoint_url=self.host or None,
            variant=self.variant,
            profile=self.profile,
            streaming=self.streaming,
            **self.limits,
        )

    def payloads(self) -> PayloadSet:
        return PayloadSet.inline(self.body, content_type=self.content_type)
