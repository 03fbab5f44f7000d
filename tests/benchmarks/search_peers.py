"""What other tools' searches say of a server whose limit is known exactly, over sockets.

An emulated endpoint of four workers with exponential service of 50 ms holds p99 <= 300 ms up to
59.96/s (Erlang C). Side by side: tuner, MLPerf LoadGen's FindPeakPerformance (Server scenario)
and AIPerf's search of the request rate (planner monotonic_sla). Each peer is optional and runs
from an environment of its own:

    python -m venv peers && peers/bin/pip install mlcommons-loadgen aiperf
    python tests/benchmarks/search_peers.py --peers peers
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tuner.campaign.analyse import analyse
from tuner.campaign.types import Routing
from tuner.slo import LatencyObjective, Slo
from tuner.store.run import Run

TRUTH_PER_S = 59.962
P99_MS = 300.0
PATH = "/endpoints/known/invocations"
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
CHAT = json.dumps({"id": "1", "object": "chat.completion", "choices": [CHOICE]})
SPEC = f"""\
name = "known"
[endpoint]
name = "known"
instance_type = "ml.m5.xlarge"
[instance]
workers = 4
service = {{ shape = "exponential", mean_ms = 50.0 }}
[response]
body = '{CHAT}'
"""
PLAN = """\
[endpoint]
kind = "sagemaker"
name = "known"
region = "us-east-1"
endpoint_url = "http://127.0.0.1:{port}"
[slo]
p99_ms = {p99_ms}
[load]
body = "{{}}"
instance_counts = [1]
{load}
max_send_lag_ms = 40
[traffic]
peak_per_min = 6000
"""
LOADGEN = """
import http.client, queue, sys, threading
import mlperf_loadgen as lg
port, path, p99_ms, start, trial_s, out = sys.argv[1:]
waiting = queue.SimpleQueue()
def serve():
    link = http.client.HTTPConnection("127.0.0.1", int(port))
    while True:
        sample = waiting.get()
        link.request("POST", path, b"{}", {"Content-Type": "application/json"})
        link.getresponse().read()
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample, 0, 0)])
for _ in range(512):
    threading.Thread(target=serve, daemon=True).start()
settings = lg.TestSettings()
settings.scenario = lg.TestScenario.Server
settings.mode = lg.TestMode.FindPeakPerformance
settings.server_target_qps = float(start)
settings.server_target_latency_ns = int(float(p99_ms) * 1e6)
settings.server_target_latency_percentile = 0.99
settings.min_duration_ms = int(float(trial_s) * 1e3)
settings.min_query_count = 1
settings.server_find_peak_qps_decimals_of_precision = 0
settings.server_find_peak_qps_boundary_step_size = 0.2
logs = lg.LogSettings()
logs.log_output.outdir = out
issue = lambda samples: [waiting.put(s.id) for s in samples]
sut = lg.ConstructSUT(issue, lambda: None)
library = lg.ConstructQSL(64, 64, lambda x: None, lambda x: None)
lg.StartTestWithLogSettings(sut, library, settings, logs)
"""
TOKENIZER = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>"]
plain = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
plain.decoder = decoders.ByteLevel()
whole = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>")
whole.save_pretrained(sys.argv[1])
"""


@dataclass(frozen=True)
class Effort:
    """How long each tool may try a load, and how often."""

    trial_s: float
    tries: int
    load: str


QUICK = Effort(2.0, 2, "rates = [30, 42, 51]\nstep_s = 5\nwarm_up_s = 0\nsettle_s = 1")
FULL = Effort(60.0, 12, "max_minutes = 30")


@dataclass(frozen=True)
class Found:
    """A tool's answer; NaN where it gives none. ``note`` is what it says of its certainty."""

    low: float
    mid: float
    high: float
    note: str


Tool = Callable[[int, Path, Effort, list[str]], Found]
UNSIGNED = {**os.environ, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


def tuner(port: int, directory: Path, effort: Effort, first: list[str]) -> Found:
    plan, out = directory / "plan.toml", directory / "run"
    plan.write_text(PLAN.format(port=port, p99_ms=P99_MS, load=effort.load))
    command = [*first, sys.executable, "-m", "tuner", "run", str(plan), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=UNSIGNED, check=False)
    if not (out / "journal.sqlite").exists():
        raise SystemExit(done.stderr)
    with Run.open(out) as run:
        stages = run.stages()
    slo = Slo((LatencyObjective(0.99, P99_MS / 1e3),))
    found = analyse(slo, stages, routing=Routing.RANDOM)
    if not found.by_count:
        why = next((g.sentence for g in found.gates if not g.passed), "nothing measured")
        return Found(math.nan, math.nan, math.nan, f"refused: {why}")
    rate = found.by_count[0].rate_per_s
    return Found(rate.low, rate.mid, rate.high, f"95 % interval, {found.method}")


def loadgen(python: Path) -> Tool:
    def search(port: int, directory: Path, effort: Effort, first: list[str]) -> Found:
        script = directory / "loadgen.py"
        script.write_text(LOADGEN)
        start = str(0.5 * TRUTH_PER_S)
        words = [str(port), PATH, str(P99_MS), start, str(effort.trial_s), str(directory)]
        subprocess.run([*first, str(python), str(script), *words], check=True, capture_output=True)
        log = (directory / "mlperf_log_detail.txt").read_text()
        peak = re.search(r"Found peak performance field: ([\d.]+)", log)
        rate = float(peak[1]) if peak else math.nan
        return Found(math.nan, rate, math.nan, "a point; no interval")

    return search


def aiperf(program: Path) -> Tool:
    def search(port: int, directory: Path, effort: Effort, first: list[str]) -> Found:
        words = directory / "tokenizer"
        # Its built-in tokenizer is fetched from the internet; one of single bytes will do here.
        python = program.with_name("python")
        subprocess.run([str(python), "-c", TOKENIZER, str(words)], check=True, capture_output=True)
        command = [
            *first, str(program), "profile", "-m", "known", "--tokenizer", str(words),
            "--endpoint-type", "chat", "--custom-endpoint", PATH,
            "--url", f"http://127.0.0.1:{port}", "--isl", "8", "--osl", "2", "--ui", "none",
            "--arrival-pattern", "poisson", "--request-rate", "30",
            "--benchmark-duration", str(effort.trial_s),
            "--search-space", "phases.profiling.rate:30,120:int",
            "--search-planner", "monotonic-sla",
            "--search-sla", f"request_latency:p99:lt:{P99_MS}",
            "--search-metric", "request_throughput", "--search-direction", "maximize",
            "--search-max-iterations", str(effort.tries), "--search-initial-points", "1",
            "--output-artifact-dir", str(directory / "out"),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        told = json.loads((directory / "out/search_history.json").read_text())["boundary_summary"]
        low, high = (
            float(end["value"]) if end else math.nan
            for end in (told.get("feasible_max"), told.get("infeasible_min"))
        )
        return Found(low, low, high, "highest that passed, lowest that failed")

    return search


def tools(peers: Path | None) -> dict[str, Tool | str]:
    """Every tool, or what is missing of it."""
    found: dict[str, Tool | str] = {"tuner": tuner}
    folder = peers / "bin" if peers is not None else Path(sys.executable).parent
    python, program = folder / "python", folder / "aiperf"
    has = subprocess.run(
        [str(python), "-c", "import mlperf_loadgen"], capture_output=True, check=False
    )
    found["MLPerf LoadGen"] = (
        loadgen(python) if has.returncode == 0 else f"{folder}/pip install mlcommons-loadgen"
    )
    found["AIPerf"] = aiperf(program) if program.exists() else f"{folder}/pip install aiperf"
    return found


def serve(directory: Path, first: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """An emulator of its own for each tool: none inherits another's queue."""
    spec = directory / "spec.toml"
    spec.write_text(SPEC)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "tuner", "emulate", "--spec", str(spec), "--port", str(port)]
    process = subprocess.Popen(
        [*first, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{PATH}", b"{}", timeout=5).read()
        except OSError:
            time.sleep(0.1)
        else:
            return process, port
    process.kill()
    raise SystemExit("the emulator does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="seconds a load instead of a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="their virtual environment")
    parser.add_argument("--realtime", action="store_true", help="before all else on the machine")
    args = parser.parse_args()
    first = ["chrt", "-f", "10"] if args.realtime and shutil.which("chrt") else []
    out = sys.stderr if args.json else sys.stdout
    print(f"the truth is {TRUTH_PER_S:g}/s\n{'tool':16s} {'low':>7s} {'found':>7s} {'high':>7s} "
          f"{'error':>7s} {'min':>6s}", file=out)  # fmt: skip
    rows: list[dict[str, object]] = []
    for name, tool in tools(args.peers).items():
        if isinstance(tool, str):
            print(f"{name:16s} not installed: {tool}", file=out)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            emulator, port = serve(Path(temporary), first)
            begun = time.monotonic()
            try:
                found = tool(port, Path(temporary), QUICK if args.quick else FULL, first)
            except subprocess.CalledProcessError as error:
                said = (error.stderr or error.stdout or b"").decode(errors="replace")
                print(f"{name:16s} failed: {said[-600:]}", file=out)
                continue
            finally:
                minutes = (time.monotonic() - begun) / 60.0
                emulator.send_signal(signal.SIGTERM)
                emulator.wait()
        error = found.mid / TRUTH_PER_S - 1.0
        print(f"{name:16s} {found.low:7.2f} {found.mid:7.2f} {found.high:7.2f} {error:+7.1%} "
              f"{minutes:6.1f}  {found.note}", file=out, flush=True)  # fmt: skip
        ours = name == "tuner" and not args.quick
        for key, value, unit, goal, met in (
            ("error", error, "share", "within 0.05", abs(error) <= 0.05),
            ("minutes", minutes, "min", "<= 20", minutes <= 20.0),
        ):
            shown = value if math.isfinite(value) else None
            rows.append({"name": f"search_peers/{name}/{key}", "value": shown, "unit": unit,
                         "goal": goal, "met": met if ours else None})  # fmt: skip
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
