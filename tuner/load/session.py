"""The controller's side of the load generator: start it, order stages, read what happened.

Neither Locust nor gevent is imported here: the generator is a child process that talks
frames over its standard input and output and ends when they do.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.types import ProgressCallback, StageResult, StageSpec
from tuner.errors import EndpointError, GeneratorError, InputError, TunerError
from tuner.load import frames, rows
from tuner.load.collect import Collector, merged_gaps
from tuner.load.health import judge, nothing_answered
from tuner.load.plan import STALL_S, SessionPlan
from tuner.load.probe import measure_floor
from tuner.load.target import InvokeTarget, require_timeout
from tuner.workload.payloads import PayloadSet

START_S = 60.0
JOIN_S = 630.0
OVERTIME_S = 30.0
KEEP_RAW_REQUESTS = 2_000_000
"""Stages with more requests keep windows only: about 80 MB of columns."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One generator process. Clocks of processes on other machines cannot be compared."""

    pid: int
    host: str
    clock_shared: bool


class LocustSession:
    """Load on one target by Locust, in processes of its own.

    Parameters
    ----------
    workers
        Generator processes on this machine; 0 waits for one of another (needs ``listen``).
    locustfile
        The user's own User classes instead of tuner's.
    listen
        ``(host, port)`` on which workers of other machines may join; None keeps to loopback.
    keep_raw_requests
        Stages with more requests keep windows only.
    slo_s
        The SLO's largest latency, for the limit on send lag and the check of the timeout.
    stall_s
        A worker this late with its report is lost.
    lag_limit_s
        Replaces the limits on send lag and event-loop lag beyond which a stage is void.

    Attributes
    ----------
    answer_bytes
        Mean size of an answer in the last stage that had one.
    workers
        The processes of the last stage.
    open_loop
        Whether arrivals wait for no answer; known once started.

    Raises
    ------
    InputError
        If the client timeout is too short for the SLO, or nobody could carry the load.
    """

    def __init__(
        self,
        target: InvokeTarget,
        payloads: PayloadSet,
        *,
        workers: int = 1,
        locustfile: str | os.PathLike[str] | None = None,
        listen: tuple[str, int] | None = None,
        slo_s: float | None = None,
        lag_limit_s: float | None = None,
        keep_raw_requests: int = KEEP_RAW_REQUESTS,
        stall_s: float = STALL_S,
    ) -> None:
        if slo_s is not None:
            require_timeout(target.timeout_s, slo_s)
        if workers < 1 and listen is None:
            raise InputError(
                "there is no generator process",
                value=f"workers = {workers}",
                allowed="at least 1, or 0 with --listen HOST:PORT for workers of other machines",
            )
        self.target = target
        self.payloads = payloads
        self.slo_s = slo_s
        self.lag_limit_s = lag_limit_s
        self.workers: tuple[WorkerInfo, ...] = ()
        self.open_loop = True
        self.port: int | None = None
        self._count = workers
        self._locustfile = None if locustfile is None else os.fspath(locustfile)
        self._listen = listen
        self._keep_raw = keep_raw_requests
        self._stall_s = stall_s
        self._orders = 0
        self.answer_bytes: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None

    # -- the process -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the generator; nothing happens if it runs.

        Raises
        ------
        EndpointError
            If the host cannot be resolved or requests cannot be signed.
        InputError
            If the locustfile cannot be used.
        GeneratorError
            If the generator does not come up.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tuner.load.agent", "control"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            # Ctrl-C at a terminal goes to the foreground group: this process decides alone.
            start_new_session=True,
        )
        self._write("configure", *self._plan())
        # Workers of other machines are started by people.
        wait_s = START_S if self._count else JOIN_S
        ready = self._read(time.monotonic() + wait_s)
        if ready.kind != "ready":
            raise GeneratorError("the load generator did not start", value=ready.kind)
        self._note_workers(ready.head["workers"])
        self.port = ready.head["port"]
        self.open_loop = ready.head["open_loop"]

    def _plan(self) -> tuple[dict[str, Any], bytes]:
        host, port = self._listen or ("127.0.0.1", 0)
        plan = SessionPlan(
            self.target,
            self.payloads,
            workers=self._count,
            distributed=self._count > 1 or self._listen is not None,
            bind_host=host,
            bind_port=port,
            locustfile=self._locustfile,
            stall_s=self._stall_s,
        )
        return plan.encode()

    def _note_workers(self, found: list[dict[str, Any]]) -> None:
        self.workers = tuple(WorkerInfo(w["pid"], w["host"], w["clock_shared"]) for w in found)

    def abort(self) -> None:
        """Make a `measure` that another thread is in end with a GeneratorError."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def close(self) -> None:
        """End the generator and everything it started."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    # -- frames ------------------------------------------------------------------------------

    def _write(self, kind: str, head: dict[str, Any], blob: bytes = b"") -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        view = memoryview(frames.pack(kind, head, blob))
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except BrokenPipeError:
            raise self._ended() from None

    def _read(self, limit_s: float) -> frames.Frame:
        """The next frame, or an error of the generator as an exception."""
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()

        def exactly(count: int) -> bytes:
            parts = []
            with selectors.DefaultSelector() as selector:
                selector.register(fd, selectors.EVENT_READ)
                while count:
                    if not selector.select(max(0.0, limit_s - time.monotonic())):
                        raise self._stuck()
                    part = os.read(fd, min(count, 1 << 20))
                    if not part:
                        break
                    parts.append(part)
                    count -= len(part)
            return b"".join(parts)

        try:
            frame = frames.read(exactly)
        except frames.BrokenFrameError:
            raise self._ended() from None
        if frame.kind == "fault":
            raise _fault(frame.head)
        return frame

    def _ended(self) -> GeneratorError:
        assert self._process is not None
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        text = self._last_words()
        self.close()
        return GeneratorError(
            f"the load generator {how}" + (f":\n{text}" if text else ""),
            hint="completed stages are kept: go on with --resume",
        )

    def _stuck(self) -> GeneratorError:
        text = self._last_words()
        if self._process is not None:
            self._process.kill()
        self.close()
        return GeneratorError(
            "the load generator did not answer in time and was stopped"
            + (f":\n{text}" if text else "")
        )

    def _last_words(self) -> str:
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 2000))
        text: str = self._stderr.read().decode("utf-8", "replace").strip()
        return "\n".join(text.splitlines()[-12:])

    # -- stages ------------------------------------------------------------------------------

    def measure_floor(self, attempts: int = 5) -> float:
        """The shortest TCP round trip to the target, in seconds.

        Raises
        ------
        EndpointError
            If the host cannot be resolved or reached.
        """
        return measure_floor(self.target.host, self.target.port, attempts)

    def measure(self, stage: StageSpec, progress: ProgressCallback | None = None) -> StageResult:
        """Offer the stage's load and return what happened.

        Raises
        ------
        GeneratorError
            If the generator failed; the next call starts a new one.
        EndpointError
            If nothing at all answers.
        """
        self.measure_floor(1)
        self.start()
        try:
            return self._measure(stage, progress)
        except KeyboardInterrupt:
            self.close()
            raise

    def _measure(self, stage: StageSpec, progress: ProgressCallback | None) -> StageResult:
        # Counted here and not by index: a void stage is measured again under its index.
        self._orders += 1
        order = {
            "stage": self._orders,
            "arrivals": stage.arrivals,
            "rate_per_s": stage.rate_per_s,
            "rates_per_s": list(stage.rates_per_s),
            "duration_s": stage.duration_s,
            "settle_s": stage.settle_s,
            "seed": stage.seed,
        }
        self._write("stage", order)
        begun = time.monotonic()
        length = stage.settle_s + stage.duration_s
        limit = begun + length + self.target.timeout_s + OVERTIME_S
        collector = Collector(stage, self._class_index(), self._keep_raw)
        while True:
            frame = self._read(limit)
            if frame.head.get("stage", self._orders) != self._orders:
                continue
            if frame.kind == "rows":
                collector.add(frame.head["worker"], rows.decode(frame.blob))
            elif frame.kind == "progress":
                collector.note_in_flight(frame.head["worker"], frame.head["in_flight"])
                if progress is not None:
                    progress(collector.progress(time.monotonic() - begun))
            elif frame.kind == "stage_done":
                break
        return self._result(stage, collector, frame.head)

    def _result(self, stage: StageSpec, collector: Collector, head: dict[str, Any]) -> StageResult:
        if "members" in head:
            self._note_workers(head["members"])
        summaries = head["workers"]
        gaps = merged_gaps(summaries)
        if collector.answer_bytes is not None:
            self.answer_bytes = collector.answer_bytes
        log = collector.log()
        texts = collector.merge_texts([s["errors"] for s in summaries])
        if nothing_answered(log):
            raise EndpointError(
                "nothing answers at the endpoint: every request failed to connect",
                value=self.target.url,
                hint=texts[0][0] if texts else None,
            )
        seen = replace(
            collector.observed(summaries, head["lost"], self._cap(len(summaries)), self.slo_s),
            lag_limit_s=self.lag_limit_s,
        )
        return StageResult(
            spec=stage,
            started_at_unix_s=summaries[0]["opened_at_unix_s"] if summaries else time.time(),
            log=log,
            windows=collector.windows(),
            health=judge(stage, seen),
            error_samples=tuple(texts),
            in_flight_at_start=sum(s["in_flight_at_start"] for s in summaries),
            in_flight_at_end=sum(s["in_flight_at_end"] for s in summaries),
            chunk_gaps=gaps if gaps.total else None,
        )

    def _class_index(self) -> NDArray[np.uint16]:
        """Class of each payload; a locustfile's own payloads are all of one class."""
        if self._locustfile is not None:
            return np.zeros(1, np.uint16)
        return self.payloads.class_index

    def _cap(self, workers: int) -> int:
        return self.target.max_in_flight * max(1, workers)


_FAULTS: dict[str, type[TunerError]] = {
    "endpoint": EndpointError,
    "input": InputError,
    "generator": GeneratorError,
}


def _fault(head: dict[str, Any]) -> TunerError:
    return _FAULTS[head["kind"]](
        head["message"], value=head["value"], allowed=head["allowed"], hint=head["hint"]
    )
