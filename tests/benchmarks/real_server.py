"""Does the limit found on a server nobody here wrote hold, and does a little more break it?

A NumPy model behind gunicorn (sync workers: one request each at a time) on loopback. The
search finds the limit of p99; then load is held just below and just above it. gunicorn is
looked for in the interpreter given by ``--server-python``.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tuner.store.run import Run

APP = """
import os
import numpy as np
rng = np.random.default_rng(os.getpid())
weights = rng.standard_normal((64, 64))
def app(environ, start_response):
    environ["wsgi.input"].read()
    # Some inputs need more steps than others, as tokens do; a step waits for the next batch.
    import time
    x = rng.standard_normal(64)
    time.sleep(float(rng.lognormal(np.log(0.02) - 0.125, 0.5)))
    y = np.tanh(weights @ x)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%.6f" % float(y[0])]
"""
PLAN = """\
[endpoint]
kind = "http"
url = "{url}"

[slo]
p99_ms = 120

[load]
body = "0"
instance_counts = [1]
{load}
max_send_lag_ms = 40

[traffic]
peak_per_min = 6000
"""
WORKERS = 4
NOISY_LAG_MS = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(python: str, directory: Path, port: int) -> subprocess.Popen[bytes]:
    (directory / "model_app.py").write_text(APP)
    # Each worker a process of its own: BLAS threads would contend on two cores.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [python, "-m", "gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}"]
    server = subprocess.Popen(
        [*command, "--log-level", "error", "model_app:app"], cwd=directory, env=environment
    )
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=b"0", timeout=1).read()
        except OSError as error:
            if server.poll() is not None:
                hint = f"gunicorn does not start: {python} -m pip install gunicorn"
                raise SystemExit(hint) from error
            time.sleep(0.1)
        else:
            return server
    server.terminate()
    raise SystemExit("gunicorn does not answer")


def tuner(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuner", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600)


def campaign(directory: Path, name: str, url: str, load: str) -> Path:
    plan = directory / f"{name}.toml"
    plan.write_text(PLAN.format(url=url, load=load))
    done = tuner("run", plan, "--out", directory / name, "--plain")
    if not (directory / name / "journal.sqlite").exists() and done.returncode not in (0, 3, 4):
        raise SystemExit(done.stderr or done.stdout)
    return directory / name


def measure(url: str, directory: Path, quick: bool) -> list[dict[str, object]]:
    from tuner.campaign.analyse import analyse
    from tuner.campaign.types import Routing
    from tuner.slo import LatencyObjective, Slo

    load = "quick = true\nmax_minutes = 1.0" if quick else "max_minutes = 20"
    with Run.open(campaign(directory, "search", url, load)) as run:
        stages = run.stages()
    slo = Slo((LatencyObjective(0.99, 0.12),))
    found = analyse(slo, stages, routing=Routing.RANDOM, precision=0.05)
    rows: list[dict[str, object]] = []

    def add(name: str, value: float | None, unit: str, goal: str, met: bool | None) -> None:
        rows.append({"name": name, "value": value, "unit": unit, "goal": goal, "met": met})

    lag_ms = max((r.health.send_lag_p99_s for r in stages), default=0.0) * 1e3
    noisy = "" if lag_ms <= NOISY_LAG_MS else " (this machine is too noisy to judge a server)"
    add(
        f"real/send_lag_p99_worst{noisy}",
        lag_ms,
        "ms",
        f"<= {NOISY_LAG_MS:g}",
        lag_ms <= NOISY_LAG_MS,
    )
    if not found.by_count:
        why = next((g.sentence for g in found.gates if not g.passed), "nothing measured")
        add(f"real/limit (refused: {why})", None, "/s", "an answer", False)
        return rows
    limit = found.by_count[0].rate_per_s
    add(f"real/limit_low ({found.method})", limit.low, "/s", "", None)
    add("real/limit", limit.mid, "/s", "", None)
    add("real/limit_high", limit.high, "/s", "", None)
    below, above = 0.97 * limit.low, 1.03 * limit.high
    step = 10 if quick else 240
    held = f"rates = [{below:.3f}, {above:.3f}]\nstep_s = {step}\nwarm_up_s = 0"
    with Run.open(campaign(directory, "held", url, held)) as run:
        for stage, name in zip(run.stages(), ("below", "above"), strict=False):
            if stage.log is None or stage.void:
                add(f"real/late_{name} (void: the machine is too noisy)", None, "share", "", None)
                continue
            late = float((stage.log.latency_s() > 0.12).mean())
            met = late <= 0.01 if name == "below" else late > 0.01
            add(f"real/late_{name}", late, "share", "<= 0.01" if name == "below" else "> 0.01", met)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of half an hour")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--server-python", default=sys.executable)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory, port = Path(temporary), free_port()
        server = serve(args.server_python, directory, port)
        try:
            rows = measure(f"http://127.0.0.1:{port}/", directory, args.quick)
        finally:
            server.terminate()
            server.wait()
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4g}"
        print(f"{row['name']:44s} {value:>10s} {row['unit']:6s} {row['goal']:8s} {row['met']}")


if __name__ == "__main__":
    main()
