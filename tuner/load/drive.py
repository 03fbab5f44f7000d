"""One worker's share of the load: the engine, its schedule, and a stage from start to drain."""

from __future__ import annotations

import gc
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import gevent
import numpy as np
from gevent import socket
from gevent.event import Event
from gevent.queue import JoinableQueue

from tuner.errors import EndpointError
from tuner.load.engine import HttpEngine
from tuner.load.engine_base import Addresses, EngineBase
from tuner.load.rows import Rows
from tuner.load.schedule import Schedule
from tuner.load.target import InvokeTarget
from tuner.load.wires import PlainWires, Wires
from tuner.stats.histogram import LatencyHistogram
from tuner.stats.requests import FloatArray
from tuner.workload.arrivals import arrival_rng, payload_rng, steps_chunks, stream, until
from tuner.workload.payloads import PayloadSet

if TYPE_CHECKING:
    from tuner.load.boto import BotoEngine

REPORT_S = 0.5
DRAIN_GRACE_S = 1.0
PICKS = 4096
EDGE_S = 1e-9
"""Absolute times carry rounding of this order: an arrival at 0.0 is inside the window."""
RESOLVE_AGAIN_S = 60.0
PROBE_S = 2.0

Emit = Callable[[str, dict[str, Any], bytes], None]


@dataclass(frozen=True, slots=True)
class StageShare:
    """What one worker does in one stage.

    ``opens_at_s`` is when the measured window opens, on the shared monotonic clock of the
    machine; None (a worker elsewhere) opens it ``settle_s`` after the message arrives.
    """

    stage: int
    arrivals: str
    rate_per_s: float
    duration_s: float
    settle_s: float
    seed: int
    part: int
    parts: int
    opens_at_s: float | None
    rates_per_s: Sequence[float] = ()
    """Rates of equal parts of the window, of all workers together; empty for a constant one."""


def resolve(target: InvokeTarget) -> Addresses:
    """Every address of the host.

    Raises
    ------
    EndpointError
        If the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EndpointError(
            f"the endpoint's host name cannot be resolved: {error.strerror or error}",
            value=target.host,
            hint="check the URL, the region and this machine's DNS",
        ) from None
    addresses = [(int(family), address) for family, _, _, _, address in found]
    if len({family for family, _ in addresses}) > 1:
        # A name such as localhost often has an IPv6 address nobody listens on.
        return [a for a in addresses if _accepts(a)] or addresses
    return addresses


def _accepts(address: tuple[int, Any]) -> bool:
    with socket.socket(address[0], socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        return bool(probe.connect_ex(address[1]) == 0)


def tls_context(target: InvokeTarget) -> ssl.SSLContext | None:
    """The TLS settings of the target; None for plain HTTP."""
    if not target.tls:
        return None
    try:
        return ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(
            f"the file of trusted authorities cannot be used: {error}", value=target.ca_file
        ) from None


class Driver:
    """Offers load to one target from this process.

    Parameters
    ----------
    on_rows
        Sees every batch of rows, times absolute, before anything is filtered.
    """

    def __init__(
        self, target: InvokeTarget, payloads: PayloadSet, on_rows: Callable[[Rows], None]
    ) -> None:
        self.target = target
        self.payloads = payloads
        self._on_rows = on_rows
        self._stage_rows: Callable[[Rows], None] | None = None
        self._loop = gevent.get_hub().loop
        self.wires = _wires(target, payloads)
        self.engine = self._engine()
        self.engine.addresses = resolve(target)
        self._exhausted = Event()
        self.schedule = Schedule(self._loop, self.engine.launch, self._exhausted.set)
        # Rows may be handed on from inside a loop callback, where nothing may block.
        self._queue: Any = JoinableQueue()
        self._keeper = gevent.spawn(self._keep)
        self._reader = gevent.spawn(self._read)

    def _engine(self) -> HttpEngine | BotoEngine:
        if self.target.client == "boto3":
            from tuner.load.boto import BotoEngine

            return BotoEngine(self._loop, self.target, self.payloads.payloads, self._take)
        return HttpEngine(
            self._loop, self.target, self.wires, self._take, tls=tls_context(self.target)
        )

    def _take(self, rows: Rows) -> None:
        self._queue.put_nowait(rows)

    def _read(self) -> None:
        for rows in self._queue:
            try:
                self._on_rows(rows)
                if self._stage_rows is not None:
                    self._stage_rows(rows)
            finally:
                self._queue.task_done()

    def flush(self) -> None:
        """Hand on every row so far and wait until it has been taken."""
        self.engine.flush()
        self._queue.join()

    def _keep(self) -> None:
        """Renew signatures and addresses in the background, a little at a time."""
        resolved = time.monotonic()
        while True:
            worked = self.wires.refresh_one()
            if self.wires.fault:
                self.engine.errors.add(self.wires.fault)
                self.wires.fault = ""
            gevent.sleep(0.001 if worked else 0.05)
            if time.monotonic() - resolved > RESOLVE_AGAIN_S:
                resolved = time.monotonic()
                try:
                    self.engine.addresses = resolve(self.target)
                except EndpointError as error:
                    self.engine.errors.add(error.message)

    def start(
        self,
        chunks: Iterator[FloatArray],
        *,
        origin_s: float,
        end_s: float = float("inf"),
        rng: np.random.Generator,
    ) -> None:
        """Offer a stream of arrivals; payloads are drawn from ``rng``."""
        self.engine.picks = _picks(self.payloads, rng)
        self._exhausted.clear()
        self.schedule.start(chunks, origin_s, end_s)

    def stop(self) -> None:
        """Offer no more; what is in flight goes on."""
        self.schedule.stop()
        self._exhausted.set()

    def close(self) -> None:
        """Close everything."""
        self._keeper.kill()
        self.schedule.close()
        self.flush()
        self._reader.kill()
        self.engine.close()

    # -- a stage ---------------------------------------------------------------------------

    def run_stage(self, share: StageShare, emit: Emit) -> None:
        """Settle, measure, drain; rows go out through ``emit`` as they come."""
        # A full collection over Locust's and botocore's modules takes tens of milliseconds:
        # do it now and keep those objects out of later ones.
        gc.collect()
        gc.freeze()
        begun = time.monotonic()
        opens = begun + share.settle_s if share.opens_at_s is None else share.opens_at_s
        closes = opens + share.duration_s
        self._stage_rows = stage_rows(share, opens, emit)
        try:
            self._offer(share, opens, closes)
            summary = gather_stage(self.engine, share, opens, closes, emit)
            summary["drained"] = self._drain()
            self.flush()
        finally:
            self.schedule.stop()
            self._stage_rows = None
            gc.unfreeze()
        summary |= {
            "errors": self.engine.errors.items(),
            "credentials_refused": self.engine.credentials_refused,
            "local_faults": self.engine.local_faults,
            "chunk_gaps": _bins(self.engine.gaps),
            "in_flight_max": self.engine.in_flight_max,
            "open_loop": True,
        }
        emit("stage_done", summary, b"")

    def _offer(self, share: StageShare, opens: float, closes: float) -> None:
        self.start(
            _arrivals(share),
            origin_s=opens - share.settle_s,
            end_s=closes - EDGE_S,
            rng=payload_rng(share.seed, share.part),
        )

    def _drain(self) -> bool:
        """Wait until every request has ended; True if none had to be given up."""
        limit = time.monotonic() + self.target.timeout_s + DRAIN_GRACE_S
        while self.engine.in_flight and time.monotonic() < limit:
            gevent.sleep(0.01)
            if time.monotonic() % REPORT_S < 0.01:
                self.engine.flush()
        drained = not self.engine.in_flight
        if not drained:
            self.engine.abandon()
        return drained


def _arrivals(share: StageShare) -> Iterator[FloatArray]:
    """This worker's arrivals from the start of settling on."""
    rng = arrival_rng(share.seed, share.part)
    if not share.rates_per_s:
        return stream(share.arrivals, share.rate_per_s, rng, part=share.part, parts=share.parts)
    mine = np.array(share.rates_per_s) / share.parts
    step_s = share.duration_s / len(mine)
    lead = until(stream("poisson", max(float(mine[0]), 1e-9), rng), share.settle_s)
    return chain([lead], (share.settle_s + c for c in steps_chunks(mine, step_s, rng)))


def gather_stage(
    engine: EngineBase, share: StageShare, opens: float, closes: float, emit: Emit
) -> dict[str, Any]:
    """Wait for the window, watch it, and say what the worker knows of itself."""
    while (left := opens - time.monotonic()) > 0:
        gevent.sleep(min(REPORT_S, left))
        emit("progress", {"stage": share.stage, "in_flight": engine.in_flight}, b"")
    at_start = engine.in_flight
    engine.in_flight_max = at_start
    engine.errors.clear()
    engine.credentials_refused = engine.local_faults = engine.without_connection = 0
    del engine.tick_lags[:]
    engine.flush()
    engine.gaps = LatencyHistogram.of([])
    cpu, wall = time.process_time(), time.monotonic()
    while (left := closes - time.monotonic()) > 0:
        gevent.sleep(min(REPORT_S, left))
        engine.flush()
        emit("progress", {"stage": share.stage, "in_flight": engine.in_flight}, b"")
    lags = np.asarray(engine.tick_lags)
    return {
        "stage": share.stage,
        "in_flight_at_start": at_start,
        "in_flight_at_end": engine.in_flight,
        "in_flight_max": engine.in_flight_max,
        "cpu_share": (time.process_time() - cpu) / max(time.monotonic() - wall, 1e-9),
        "loop_lag_p99_s": float(np.quantile(lags, 0.99)) if lags.size else 0.0,
        "credentials_refused": engine.credentials_refused,
        "local_faults": engine.local_faults,
        "without_connection": engine.without_connection,
        "opened_at_unix_s": time.time() - time.monotonic() + opens,
        "errors": engine.errors.items(),
    }


def stage_rows(share: StageShare, opens: float, emit: Emit) -> Callable[[Rows], None]:
    """A sink that sends on the rows of the measured window, relative to its opening."""

    def take(rows: Rows) -> None:
        mine = rows.copy()
        for column in ("scheduled_s", "sent_s", "first_chunk_s", "done_s"):
            mine[column] -= opens
        at = mine["scheduled_s"]
        mine = mine[(at >= -EDGE_S) & (at < share.duration_s)]
        if len(mine):
            np.maximum(mine["scheduled_s"], 0.0, out=mine["scheduled_s"])
            emit("rows", {"stage": share.stage}, mine.tobytes())

    return take


def _bins(histogram: LatencyHistogram) -> list[list[int]]:
    return [histogram.index.tolist(), histogram.count.tolist()]


def _wires(target: InvokeTarget, payloads: PayloadSet) -> Wires:
    if target.signing is None or target.client == "boto3":
        return PlainWires(target, payloads.payloads)
    # boto3 takes a second to import; unsigned targets do not need it.
    from tuner.load.signing import SignedWires

    return SignedWires(target, payloads.payloads)


def _picks(payloads: PayloadSet, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from payloads.draw(rng, PICKS).tolist()
