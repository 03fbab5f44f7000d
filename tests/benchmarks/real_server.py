"""Does the limit found on a server nobody here wrote hold, and does a little more break it?

Small models behind gunicorn (NumPy, scikit-learn) and behind LitServe, each one process tree an
instance of ``tuner emulate --local``. The search finds the limit of p99; then load is held a
little below the low end and a little above the high end of its interval, and the share of late
requests is printed with its own interval: below it must be MET, above it VIOLATED.

The servers run in the interpreter given by ``--server-python`` (pip install gunicorn numpy
scikit-learn litserve). A busy machine makes real latencies meaningless: ``--realtime`` puts the
servers and the generator before everything else (needs ``chrt`` and the right to use it).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tuner.campaign.analyse import analyse
from tuner.campaign.evidence import evidence
from tuner.campaign.types import Routing, StageResult
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.store.run import Run

WSGI = """
def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = b"ok" if environ["PATH_INFO"] == "/ping" else predict(body)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
"""
NUMPY = """
import os, time
import numpy as np
rng = np.random.default_rng(os.getpid())
weights = rng.standard_normal((64, 64))
def predict(body):
    # Some inputs need more steps than others, as tokens do; a step waits for its accelerator.
    time.sleep(float(rng.lognormal(np.log(0.02) - 0.125, 0.5)))
    return b"%.6f" % float(np.tanh(weights @ rng.standard_normal(64))[0])
"""
FOREST = """
import os
import numpy as np
from sklearn.ensemble import RandomForestClassifier
rng = np.random.default_rng(7)
x = rng.standard_normal((400, 12))
forest = RandomForestClassifier(60, random_state=7, n_jobs=1).fit(x, x[:, 0] * x[:, 1] > 0)
rng = np.random.default_rng(os.getpid())
def predict(body):
    # A request brings one to five rows, each scored by itself: 6 to 30 ms of a core.
    rows = rng.standard_normal((int(rng.integers(1, 6)), 12))
    return b"%.4f" % sum(float(forest.predict_proba(row[None])[0, 1]) for row in rows)
"""
LITSERVE = """
import sys
import litserve
class Model(litserve.LitAPI):
    def setup(self, device):
        pass
    def predict(self, x):
        return float(predict(b""))
    def decode_request(self, request):
        return request
    def encode_response(self, output):
        return {"y": output}
if __name__ == "__main__":
    api = Model(api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, timeout=60,
                                healthcheck_path="/ping")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error",
               generate_client_file=False)
"""
GUNICORN = (
    "-m gunicorn --chdir {directory} -b 127.0.0.1:{{port}} --log-level error "
    "-w {workers} {name}:app"
)


@dataclass(frozen=True)
class Server:
    """A model server: its program, its workers and about what they can carry."""

    code: str
    command: str
    workers: int
    p99_ms: float
    about_per_s: float


SERVERS = {
    "numpy": Server(NUMPY + WSGI, GUNICORN, 4, 120.0, 150.0),
    "forest": Server(FOREST + WSGI, GUNICORN, 1, 250.0, 40.0),
    "litserve": Server(NUMPY + LITSERVE, "{directory}/{name}.py {{port}}", 2, 160.0, 70.0),
}
PLAN = """\
[endpoint]
kind = "sagemaker"
name = "tuner-demo"
region = "us-east-1"
endpoint_url = "http://127.0.0.1:{port}"

[slo]
p99_ms = {p99_ms}

[load]
body = "{{\\"x\\": 1}}"
instance_counts = [1]
{load}
max_send_lag_ms = 40

[traffic]
peak_per_min = 6000
"""
NOISY_LAG_MS = 10.0
BELOW, ABOVE = 0.95, 1.05
HOLD_BELOW_S, HOLD_ABOVE_S = 900, 480
Rows = list[dict[str, object]]


def environment() -> dict[str, str]:
    # Each worker a process of its own: BLAS threads would contend on two cores.
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **single, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


def start(
    name: str, python: str, directory: Path, first: list[str]
) -> tuple[subprocess.Popen[bytes], int]:
    """The emulator in local mode in front of the server; its port."""
    server = SERVERS[name]
    (directory / f"{name}_model.py").write_text(server.code)
    command = f"{python} {server.command}".format(
        directory=directory, workers=server.workers, name=f"{name}_model"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    emulator = subprocess.Popen(
        [*first, sys.executable, "-m", "tuner", "emulate", "--port", str(port), "--local", command,
         "--minute-seconds", "3"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    for _ in range(300):
        try:
            invoke(port)
        except OSError:
            if emulator.poll() is not None:
                assert emulator.stderr is not None
                raise SystemExit(emulator.stderr.read().decode()) from None
            time.sleep(0.2)
        else:
            return emulator, port
    stop(emulator)
    raise SystemExit(
        f"{name} does not answer: {python} -m pip install gunicorn scikit-learn litserve"
    )


def invoke(port: int) -> None:
    url = f"http://127.0.0.1:{port}/endpoints/tuner-demo/invocations"
    request = urllib.request.Request(url, b'{"x": 1}', {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=5).read()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def campaign(directory: Path, name: str, plan: str, first: list[str]) -> tuple[StageResult, ...]:
    path, out = directory / f"{name}.toml", directory / name
    path.write_text(plan)
    command = [
        *first,
        sys.executable,
        "-m",
        "tuner",
        "run",
        str(path),
        "--out",
        str(out),
        "--plain",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if not (out / "journal.sqlite").exists():
        raise SystemExit(done.stderr or done.stdout)
    with Run.open(out) as run:
        return run.stages()


def measure(name: str, port: int, directory: Path, first: list[str], quick: bool) -> Rows:
    server = SERVERS[name]
    objective = LatencyObjective(0.99, server.p99_ms / 1e3)
    rows: Rows = []

    def add(what: str, value: float | None, unit: str, goal: str, met: bool | None) -> None:
        key = f"real/{name}/{what}"
        rows.append({"name": key, "value": value, "unit": unit, "goal": goal, "met": met})

    def plan(load: str) -> str:
        return PLAN.format(port=port, p99_ms=server.p99_ms, load=load)

    few = [round(share * server.about_per_s, 3) for share in (0.5, 0.65, 0.85)]
    load = (
        f"rates = {few}\nstep_s = 5\nwarm_up_s = 0\nsettle_s = 1" if quick else "max_minutes = 20"
    )
    stages = campaign(directory, "search", plan(load), first)
    found = analyse(Slo((objective,)), stages, routing=Routing.RANDOM, precision=0.05)
    # A stage the generator spoiled was repeated: that it happened says the machine was busy.
    void = sum(r.void for r in stages)
    lag_ms = max((r.health.send_lag_p99_s for r in stages if not r.void), default=0.0) * 1e3
    quiet = lag_ms <= NOISY_LAG_MS and void == 0
    add("send_lag_p99_worst", lag_ms, "ms", f"<= {NOISY_LAG_MS:g}", quiet)
    add("void_stages", float(void), "stages", "0", void == 0)
    add("minutes", sum(r.spec.duration_s + r.spec.settle_s for r in stages) / 60.0, "min", "", None)
    if not found.by_count:
        why = next((g.sentence for g in found.gates if not g.passed), "nothing measured")
        add(f"limit (refused: {why})", None, "/s", "an answer", None if quick else False)
        return rows
    limit = found.by_count[0].rate_per_s
    for what, value in (("low", limit.low), ("mid", limit.mid), ("high", limit.high)):
        add(f"limit_{what} ({found.method})", value, "/s", "", None)
    for what, rate, hold_s, wanted in (
        ("below", BELOW * limit.low, HOLD_BELOW_S, Verdict.MET),
        ("above", ABOVE * limit.high, HOLD_ABOVE_S, Verdict.VIOLATED),
    ):
        step = 6 if quick else hold_s
        load = f"rates = [{rate}]\nstep_s = {step}\nwarm_up_s = 0\nsettle_s = 5"
        (stage,) = campaign(directory, what, plan(load), first)[:1]
        seen = evidence(stage, objective)
        share = seen.share
        verdict = Verdict.VIOLATED if seen.overloaded else share.verdict(objective.allowance)
        noisy = ", void: the machine is too noisy" if stage.void else ""
        text = f"{share.interval.low:.2%}-{share.interval.high:.2%} of {share.n}, {verdict.value}"
        add(
            f"late_{what} ({text}{noisy})",
            share.interval.mid,
            "share",
            wanted.value,
            None if stage.void or quick or not quiet else verdict is wanted,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one server, in under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--server-python", default=sys.executable)
    parser.add_argument("--only", nargs="*", choices=list(SERVERS))
    parser.add_argument("--realtime", action="store_true", help="before all else on the machine")
    parser.add_argument("--out", type=Path, help="keep the runs in this directory")
    args = parser.parse_args()
    first = ["chrt", "-f", "10"] if args.realtime and shutil.which("chrt") else []
    rows: Rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.only or (["numpy"] if args.quick else list(SERVERS)):
            directory = (args.out or Path(temporary)) / name
            directory.mkdir(parents=True)
            emulator, port = start(name, args.server_python, directory, first)
            try:
                rows += measure(name, port, directory, first, args.quick)
            finally:
                stop(emulator)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4g}"
        print(f"{row['name']:84s} {value:>9s} {row['unit']:6s} {row['goal']:9s} {row['met']}")


if __name__ == "__main__":
    main()
