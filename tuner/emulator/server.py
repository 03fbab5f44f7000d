"""A whole emulator: account, services, control loop and socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tuner.emulator.account import Account, BackendFactory
from tuner.emulator.admin import Admin
from tuner.emulator.app import App
from tuner.emulator.backend import FleetBackend
from tuner.emulator.cloudwatch import CloudWatch
from tuner.emulator.endpoint import Variant
from tuner.emulator.faults import FaultPlan
from tuner.emulator.http import HttpServer
from tuner.emulator.local import LocalBackend
from tuner.emulator.pricing import PriceList
from tuner.emulator.query import QueryProtocol
from tuner.emulator.quotas import ServiceQuotas
from tuner.emulator.runtime import Runtime
from tuner.emulator.sagemaker import SageMaker
from tuner.emulator.scaling import ApplicationAutoScaling
from tuner.emulator.scalingloop import ScalingLoop
from tuner.emulator.spec import EmulatorSpec
from tuner.emulator.timing import ControlClock
from tuner.errors import InputError

SAMPLE_CONTROL_S = 1.0
"""Control time between two looks at the concurrency of instances."""
TICK_S = 0.05
"""Longest time between two looks of the control loop."""
MOST_LATE = 60
"""Minutes between two looks that are made up for; after a longer sleep the rest is missing."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a started emulator says: where it listens and what it serves."""

    url: str
    host: str
    port: int
    endpoint_name: str
    variant_name: str


class Emulator:
    """The services of one account on one port; use it inside a running event loop."""

    def __init__(self, spec: EmulatorSpec) -> None:
        seeds = np.random.SeedSequence(spec.seed).spawn(2)
        self.spec = spec
        self.account = Account(spec, ControlClock(spec.minute_seconds), _backends(spec))
        self.faults = FaultPlan(self.account, spec.faults, np.random.default_rng(seeds[0]))
        self.loop = ScalingLoop(self.account, spec.publish_delay_s)
        self.scaling = ApplicationAutoScaling(self.account, self.loop)
        self.cloudwatch = CloudWatch(self.account, self.loop, spec.publish_delay_s)
        self.scaling.delete_alarms = self.cloudwatch.forget_policy
        services = {
            "SageMaker": SageMaker(self.account).operations,
            "AnyScaleFrontendService": self.scaling.operations,
            "GraniteServiceVersion20100801": self.cloudwatch.operations,
            "AWSPriceListService": PriceList(spec).operations,
            "ServiceQuotasV20190624": ServiceQuotas(self.account).operations,
        }
        services = {
            service: {name: self.faults.guarded(name, op) for name, op in operations.items()}
            for service, operations in services.items()
        }
        self.app = App(services, QueryProtocol(services["GraniteServiceVersion20100801"]))
        self.app.delay_s = self.faults.delay_s
        runtime = Runtime(
            self.account,
            self.faults,
            np.random.default_rng(seeds[1]),
            self.app.fail,
            self.app.request_ids,
        )
        self.app.runtime = runtime.handle
        self.app.admin = Admin(self.account, self.faults, runtime.recorder).handle
        self._http = HttpServer(self.app.handle, self.app.bad_request, spec.max_payload_bytes)
        self._minute = -1
        self._sampled_s = 0.0
        self._loop_task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> Ready:
        """Serve.

        Raises
        ------
        InputError
            If the address cannot be had.
        """
        if not 0 <= port <= 65535:
            raise InputError("not a port", value=port, allowed="0 (a free one) to 65535")
        self.account.install()
        self.faults.tick()
        try:
            chosen = await self._http.start(host, port)
        except OSError as error:
            raise InputError(
                f"cannot listen: {error.strerror or error}",
                value=f"{host}:{port}",
                hint="choose another port, or 0 for a free one",
            ) from None
        self._loop_task = asyncio.create_task(self._control())
        await self._first_instances()
        shown = f"[{host}]" if ":" in host else host
        return Ready(
            f"http://{shown}:{chosen}",
            host,
            chosen,
            self.spec.endpoint_name,
            self.spec.variant_name,
        )

    async def _first_instances(self) -> None:
        """Wait until the endpoint is InService (at once, unless its instances are real)."""
        endpoint = self.account.endpoints[self.spec.endpoint_name]
        while endpoint.status == "Creating":
            await asyncio.sleep(TICK_S / 5)
        if endpoint.status == "Failed":
            raise InputError(
                "the first model server did not come up",
                value=" ".join(self.spec.local_command),
                allowed="a command that answers GET /ping with 200 on 127.0.0.1:{port}",
                hint=endpoint.failure_reason,
            )

    async def _control(self) -> None:
        """Statuses, faults and scaling move on even when nobody asks."""
        while True:
            self.tick()
            wait_s = min(TICK_S, self.faults.next_change_s() - self.faults.elapsed_s)
            await asyncio.sleep(max(wait_s, 0.001))

    def tick(self) -> None:
        """One look at everything that moves with time."""
        self.account.refresh()
        self.faults.tick()
        self._http.sweep()
        now_s = self.account.clock.now_control_s()
        minute = int(now_s // 60)
        for endpoint in self.account.endpoints.values():
            for variant in endpoint.variants.values():
                if minute != self._minute and self._minute >= 0:
                    self._end_minutes(variant, minute)
                if now_s - self._sampled_s >= SAMPLE_CONTROL_S:
                    self._sample(variant, now_s)
                for load in variant.backend.take_loads():
                    variant.metrics.model_load(self.account.clock.control_at(load.done_s), load)
        if now_s - self._sampled_s >= SAMPLE_CONTROL_S:
            self._sampled_s = now_s
        self._minute = minute
        self.loop.tick(now_s)
        self.cloudwatch.tick(now_s)

    def _sample(self, variant: Variant, at_s: float) -> None:
        variant.metrics.sample(
            at_s,
            variant.backend.outstanding(),
            variant.backend.loaded_models(),
            None if self.spec.local_command else variant.spec.fleet.instance.meters,
        )

    def _end_minutes(self, variant: Variant, minute: int) -> None:
        """Close the minutes before this one.

        On a busy computer whole minutes of a fast clock pass between two looks; CloudWatch has
        no holes for them.
        """
        instance = variant.spec.fleet.instance
        used_s = variant.backend.cpu_seconds()
        if used_s is not None:
            used_s *= self.account.clock.speed
        variant.metrics.close_minute(self._minute, instance.workers, instance.meters, used_s)
        for late in range(max(self._minute + 1, minute - MOST_LATE), minute):
            self._sample(variant, 60.0 * late)
            variant.metrics.close_minute(
                late, instance.workers, instance.meters, None if used_s is None else 0.0
            )

    async def stop(self) -> None:
        """Stop serving and let everything go."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        await self._http.stop()
        await self.account.close()


def _backends(spec: EmulatorSpec) -> BackendFactory:
    """Real model servers when a command is given, else the fleet model."""
    if spec.local_command:
        return lambda fleet, rng: LocalBackend(fleet, spec.local_command, rng)
    return FleetBackend


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it can be had, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def serve(
    spec: EmulatorSpec,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    on_ready: Callable[[Ready], None] | None = None,
    stop_fd: int | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM, or end of file on ``stop_fd``.

    Raises
    ------
    InputError
        If the address cannot be had.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(spec, host, port, on_ready, stop_fd))


async def _serve(
    spec: EmulatorSpec,
    host: str,
    port: int,
    on_ready: Callable[[Ready], None] | None,
    stop_fd: int | None,
) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if stop_fd is not None:
        loop.add_reader(stop_fd, stopped.set)
    emulator = Emulator(spec)
    try:
        ready = await emulator.start(host, port)
        gc.freeze()  # what is loaded by now stays; collections need not look at it again
        gc.set_threshold(100_000, 50, 100)  # requests leave no cycles: collect rarely
        if on_ready is not None:
            on_ready(ready)
        await stopped.wait()
    finally:
        if stop_fd is not None:
            loop.remove_reader(stop_fd)
        await emulator.stop()
