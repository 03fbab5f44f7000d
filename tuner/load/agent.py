"""The generator process: Locust's own environment and runners behind a pipe.

``python -m tuner.load.agent control`` talks to a controller over standard input and output;
``... worker HOST PORT`` joins a master. The process ends when its standard input does, so a
killed controller leaves nothing behind.
"""

from __future__ import annotations

# Locust patches the standard library and must come before whatever uses it.
import locust  # isort: skip  # noqa: F401

import argparse
import logging
import os
import signal
import sys
import traceback
from typing import Any

import gevent
from gevent.fileobject import FileObject
from gevent.queue import Queue

from tuner.errors import EndpointError, GeneratorError, InputError, TunerError
from tuner.load import frames
from tuner.load.cluster import Cluster, LocalCluster, MasterCluster
from tuner.load.plan import SessionPlan
from tuner.load.remote import MASTER_SILENCE_S
from tuner.load.worker import run_worker_process

DESCRIPTORS = 65536
FAULT_CODE = 70


class Pipe:
    """Frames to and from the controller; writing never blocks the caller."""

    def __init__(self, in_fd: int, out_fd: int) -> None:
        self._input = FileObject(in_fd, "rb", close=False)
        self._output = FileObject(out_fd, "wb", bufsize=0, close=False)
        self._queue: Any = Queue()
        self._writer = gevent.spawn(self._write)

    def send(self, kind: str, head: dict[str, Any], blob: bytes = b"") -> None:
        """Queue a frame."""
        self._queue.put_nowait(frames.pack(kind, head, blob))

    def _write(self) -> None:
        for data in self._queue:
            view = memoryview(data)
            while view:
                view = view[self._output.write(view) :]

    def receive(self) -> frames.Frame:
        """The next frame; other greenlets run while waiting."""
        return frames.read(self._exactly)

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._input.read(count)
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class Agent:
    """Carries out the controller's requests one after another."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._cluster: Cluster | None = None
        self._requests: Any = Queue()

    def serve(self) -> None:
        """Until the controller closes the pipe, in the middle of a stage as between two."""
        worker = gevent.spawn(self._work)
        worker.link_exception(_die)
        try:
            while True:
                self._requests.put(self._pipe.receive())
        except frames.BrokenFrameError:
            # Nobody is left to want the load: it must not go on by itself.
            worker.kill(block=False)
            if self._cluster is not None:
                self._cluster.close()

    def _work(self) -> None:
        for frame in self._requests:
            try:
                self._handle(frame)
            except TunerError as error:
                self._pipe.send("fault", _fault(error))

    def _handle(self, frame: frames.Frame) -> None:
        if frame.kind == "configure":
            plan = SessionPlan.decode(frame.head, frame.blob)
            kind = MasterCluster if plan.distributed else LocalCluster
            self._cluster = kind(plan, self._pipe.send)
            self._pipe.send("ready", self._cluster.describe())
        elif frame.kind == "stage":
            if self._cluster is None:
                raise GeneratorError("a stage was asked for before the session was set up")
            self._cluster.run_stage(frame.head)
        else:
            raise GeneratorError("the generator got a message it does not know", value=frame.kind)


def _kind(error: TunerError) -> str:
    if isinstance(error, EndpointError):
        return "endpoint"
    return "input" if isinstance(error, InputError) else "generator"


def _fault(error: TunerError) -> dict[str, Any]:
    return {
        "kind": _kind(error),
        "message": error.message,
        "value": None if error.value is None else str(error.value),
        "allowed": error.allowed,
        "hint": error.hint,
    }


def _take_over_pipes() -> tuple[int, int]:
    """Keep standard input and output for frames; prints of a locustfile go to stderr."""
    in_fd, out_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return in_fd, out_fd


def _die_on_unhandled() -> None:
    """A fault inside a loop callback must end the process, not be printed and forgotten."""
    hub = gevent.get_hub()
    ordinary = hub.handle_error

    def handle_error(context: Any, kind: Any, value: Any, tb: Any) -> None:
        ordinary(context, kind, value, tb)
        if not isinstance(context, gevent.Greenlet) and issubclass(kind, Exception):
            traceback.print_exception(kind, value, tb)
            sys.stderr.flush()
            os._exit(FAULT_CODE)

    hub.handle_error = handle_error


def _die(_: gevent.Greenlet) -> None:
    sys.stderr.flush()
    os._exit(FAULT_CODE)


def _raise_descriptor_limit() -> None:
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < want:
        resource.setrlimit(resource.RLIMIT_NOFILE, (want, hard))


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``python -m tuner.load.agent``."""
    parser = argparse.ArgumentParser(prog="tuner.load.agent")
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("control")
    worker = modes.add_parser("worker")
    worker.add_argument("host")
    worker.add_argument("port", type=int)
    worker.add_argument("--silence-s", type=float, default=MASTER_SILENCE_S)
    options = parser.parse_args(argv)
    # Ctrl-C reaches the whole process group; the controller decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    _raise_descriptor_limit()
    _die_on_unhandled()
    in_fd, out_fd = _take_over_pipes()
    if options.mode == "worker":
        return run_worker_process(options.host, options.port, options.silence_s, in_fd)
    Agent(Pipe(in_fd, out_fd)).serve()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Locust and ZeroMQ leave greenlets and threads that would only delay the end.
    os._exit(code)
