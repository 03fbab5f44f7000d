"""How fast and how true the emulator is, beside a plain server and moto.

Run ``python tests/benchmarks/emulator.py [--quick] [--json]``. Throughput is driven by
``wrk`` where it is installed, else by the closed-loop client below; latency by an open-loop
client on raw sockets that spins between sends, so that its own timers are not measured.
The processor time the emulator used is read too: on a machine shared with others the rate
per second of processor time is the figure that repeats.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from tuner.emulator.process import EmulatorProcess
from tuner.emulator.specfile import parse_spec
from tuner.fleet import Fleet, FleetSpec

FLOOR_SERVER = """
import asyncio, socket, sys, uvloop
ANSWER = (b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n"
          b"Content-Length: 22\\r\\n\\r\\n" + b'{"predictions": [0.5]}')
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data):
        for _ in range(data.count(b"POST ")): self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""
MOTO_SERVER = """
import sys
from moto.server import ThreadedMotoServer
import time
server = ThreadedMotoServer(port=0, verbose=False); server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(600)
"""
BODY = b"{}"
LATE_S = 0.0005


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; ``goal`` None is for information."""

    name: str
    value: float
    unit: str
    goal: float | None
    met: bool | None


def row(
    name: str, value: float, unit: str, goal: float | None = None, *, least: bool = True
) -> Row:
    """A figure that must be at least, or at most, its goal."""
    met = None if goal is None else bool(value >= goal if least else value <= goal)
    return Row(name, float(value), unit, goal, met)


@contextlib.contextmanager
def peer(program: str) -> Iterator[tuple[int, psutil.Process]]:
    """A server program that prints its port."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def request(path: str) -> bytes:
    """One invocation, signed for nobody."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sagemaker/aws4_request\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


def read_answer(connection: socket.socket) -> bytes:
    """One whole answer with a Content-Length."""
    data = b""
    while True:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the server hung up")
        data += piece
        head, end, body = data.partition(b"\r\n\r\n")
        if end:
            match = re.search(rb"(?i)content-length: (\d+)", head)
            if match and len(body) >= int(match[1]):
                return data


def connections(port: int, path: str, count: int) -> list[socket.socket]:
    """Open connections, each used once so that it is warm."""
    made = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request(path))
        read_answer(connection)
        made.append(connection)
    return made


def closed_loop(port: int, path: str, seconds: float, count: int = 16) -> float:
    """Invocations per second of ``count`` connections that always have one in flight."""
    data = request(path)
    done = 0
    with selectors.DefaultSelector() as selector:
        for connection in connections(port, path, count):
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(data)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for key, _ in selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                read_answer(key.fileobj)
                done += 1
                key.fileobj.sendall(data)
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return done / seconds


def throughput(port: int, path: str, seconds: float) -> float:
    """Invocations per second, by wrk where it is installed."""
    if shutil.which("wrk") is None:
        return closed_loop(port, path, seconds)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "invoke.lua"
        script.write_text(
            f'wrk.method="POST"\nwrk.body="{BODY.decode()}"\n'
            'wrk.headers["Content-Type"]="application/json"\n'
            'wrk.headers["Authorization"]="AWS4-HMAC-SHA256 '
            'Credential=x/20260101/us-east-1/sagemaker/aws4_request"\n'
        )
        url = f"http://127.0.0.1:{port}{path}"
        command = ["wrk", "-t1", "-c16", f"-d{max(int(seconds), 1)}s", "-s", str(script), url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert match is not None, text
    return float(match[1])


def measured(port: int, path: str, seconds: float, process: psutil.Process) -> tuple[float, float]:
    """(invocations per second, invocations per second of the server's processor time)."""
    before, began = process.cpu_times(), time.perf_counter()
    rate = throughput(port, path, seconds)
    lasted = time.perf_counter() - began
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return rate, rate * min(seconds, lasted) / max(used, 1e-9)


def open_loop(
    port: int, path: str, due_s: np.ndarray, count: int = 48
) -> tuple[np.ndarray, np.ndarray]:
    """Send at the given times and note when each was sent and answered (seconds)."""
    data = request(path)
    idle = connections(port, path, count)
    sent, done = np.full(len(due_s), np.nan), np.full(len(due_s), np.nan)
    owner: dict[socket.socket, int] = {}
    selector = selectors.DefaultSelector()
    for connection in idle:
        selector.register(connection, selectors.EVENT_READ)
    clock = time.perf_counter
    begin = clock() + 0.05
    index = 0
    while index < len(due_s) or owner:
        now = clock() - begin
        while index < len(due_s) and due_s[index] <= now and idle:
            connection = idle.pop()
            sent[index] = clock() - begin
            connection.sendall(data)
            owner[connection] = index
            index += 1
        ahead_s = due_s[index] - now if index < len(due_s) and idle else 1.0
        for key, _ in selector.select(max(int((ahead_s - 0.0015) * 1e3), 0) / 1e3):
            assert isinstance(key.fileobj, socket.socket)
            read_answer(key.fileobj)
            done[owner.pop(key.fileobj)] = clock() - begin
            idle.append(key.fileobj)
    selector.close()
    for connection in idle:
        connection.close()
    return sent, done


def speed(seconds: float) -> Iterator[Row]:
    """Throughput, beside a server that only echoes and beside moto."""
    with EmulatorProcess("null") as emulator:
        port = int(emulator.url.rpartition(":")[2])
        path = f"/endpoints/{emulator.endpoint_name}/invocations"
        ours, ours_cpu = measured(port, path, seconds, psutil.Process(emulator.pid))
    yield row("invocations, 8 instances, zero service", ours, "1/s", 20_000)
    yield row("invocations per second of one core", ours_cpu, "1/s", 20_000)
    with peer(FLOOR_SERVER) as (port, process):
        floor, floor_cpu = measured(port, "/", seconds, process)
    yield row("floor: bare uvloop echo", floor, "1/s")
    yield row("floor per second of one core", floor_cpu, "1/s")
    yield row("emulator / floor, per core", ours_cpu / floor_cpu, "ratio")
    with peer(MOTO_SERVER) as (port, process):
        moto, _ = measured(port, "/endpoints/x/invocations", min(seconds, 3.0), process)
    yield row("moto server", moto, "1/s")
    yield row("emulator / moto", ours / max(moto, 1e-9), "ratio")


def overhead(seconds: float, rate: float = 2000.0) -> Iterator[Row]:
    """What the emulator adds at 2 000 Poisson invocations per second, zero service time."""
    rng = np.random.default_rng(1)
    due = np.cumsum(rng.exponential(1.0 / rate, int(rate * seconds)))
    with EmulatorProcess("null") as emulator:
        port = int(emulator.url.rpartition(":")[2])
        path = f"/endpoints/{emulator.endpoint_name}/invocations"
        sent, done = open_loop(port, path, due)
    with peer(FLOOR_SERVER) as (port, _):
        floor_sent, floor_done = open_loop(port, "/", due)
    # A client that was itself held up sends a burst: those requests say nothing of the server.
    fair, floor_fair = sent - due < LATE_S, floor_sent - due < LATE_S
    ours = ((done - sent) * 1e3)[fair]
    floor = ((floor_done - floor_sent) * 1e3)[floor_fair]
    yield row("overhead p50 at 2 000/s", np.quantile(ours, 0.50), "ms")
    yield row("overhead p99 at 2 000/s", np.quantile(ours, 0.99), "ms", 1.0, least=False)
    yield row("requests left out, sent late by the client", np.mean(~fair) * 100, "%")
    yield row("floor p50 at 2 000/s", np.quantile(floor, 0.50), "ms")
    yield row("floor p99 at 2 000/s", np.quantile(floor, 0.99), "ms")


def many_instances(seconds: float) -> Iterator[Row]:
    """A thousand instances behind least-outstanding routing."""
    text = (
        '[endpoint]\nname = "wide"\ninstance_count = 1000\n'
        'routing = "LEAST_OUTSTANDING_REQUESTS"\n[instance]\nservice = { mean_ms = 0.0 }\n'
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.toml"
        path.write_text(text)
        with EmulatorProcess(spec_path=path) as emulator:
            port = int(emulator.url.rpartition(":")[2])
            process = psutil.Process(emulator.pid)
            rate, per_core = measured(port, "/endpoints/wide/invocations", seconds, process)
            memory = process.memory_info().rss / 2**20
    yield row("invocations, 1 000 instances", rate, "1/s")
    yield row("1 000 instances, per second of one core", per_core, "1/s", 20_000)
    yield row("memory with 1 000 instances", memory, "MiB")


def truth(seconds: float) -> Iterator[Row]:
    """Latency over sockets against the model fed with the arrivals that were really sent."""
    text = (
        'seed = 3\n[endpoint]\nname = "true"\ninstance_count = 2\n'
        "[instance]\nworkers = 4\n"
        'service = { shape = "lognormal", mean_ms = 20.0, cv = 0.6 }\n'
    )
    spec = parse_spec(text, "benchmark")
    warm = 48
    rng = np.random.default_rng(4)
    due = np.cumsum(rng.exponential(1.0 / 280.0, int(280 * seconds)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "true.toml"
        path.write_text(text)
        with EmulatorProcess(spec_path=path) as emulator:
            port = int(emulator.url.rpartition(":")[2])
            sent, done = open_loop(port, "/endpoints/true/invocations", due, warm)
    fleet_spec: FleetSpec = spec.variants[0].fleet
    fleet = Fleet(fleet_spec, np.random.default_rng(spec.seed).spawn(1)[0], now=-1e6)
    for number in range(warm):  # the emulator drew for the warm-up requests too
        fleet.submit(-1e5 + number)
    fleet.advance(-1.0)
    for number, arrived in enumerate(sent.tolist()):
        fleet.submit(arrived, number)
    model = np.empty(len(sent))
    for end in fleet.advance(math.inf if len(sent) == 0 else float(sent[-1]) + 1e6):
        model[end.tag] = end.done_s - end.arrived_s
    seen = done - sent
    for level in (0.5, 0.95, 0.99):
        there, here = np.quantile(seen, level) * 1e3, np.quantile(model, level) * 1e3
        allowed = max(1.0, 0.02 * here)
        yield row(f"p{level * 100:g} of the model", float(here), "ms")
        name = f"p{level * 100:g}: distance over sockets"
        yield row(name, abs(there - here), "ms", float(allowed), least=False)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true", help="a list of figures on stdout")
    options = parser.parse_args()
    seconds = 5.0 if options.quick else 20.0
    rows: list[Row] = []
    for part in (speed, overhead, many_instances, truth):
        for figure in part(seconds):
            rows.append(figure)
            if not options.json:
                goal = "" if figure.goal is None else f"goal {figure.goal:g}"
                met = {None: "", True: "met", False: "NOT MET"}[figure.met]
                print(f"{figure.name:<48}{figure.value:>12.4g} {figure.unit:<6}{goal:<12}{met}")
    if options.json:
        print(json.dumps([asdict(r) for r in rows]))
    return 0 if all(r.met is not False for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
