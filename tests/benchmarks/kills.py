"""``kill -9`` at random moments of whole campaigns against the emulator.

Run ``python tests/benchmarks/kills.py [--quick] [--json]``. Each kill hits ``tuner run`` (first or
resumed) on an emulated endpoint with a scaling policy. After it, half of the times ``tuner
restore`` puts the endpoint back and stock boto3 compares it with what was there before; the
other half the campaign goes straight on with ``--resume``. Every stage the killed process had
announced must be in the journal, bit for bit as it was, and its processes must be gone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psutil

from tuner.emulator.process import EmulatorProcess

ROOT = Path(__file__).resolve().parents[2]
SPEC = """
[endpoint]
name = "killed"
instance_type = "ml.m5.xlarge"
instance_count = 3
launch_lag_s = 0.4
drain_s = 0.1

[instance]
workers = 4
service = { shape = "deterministic", mean_ms = 2.0 }
"""
PLAN = """
[endpoint]
kind = "sagemaker"
name = "{name}"
endpoint_url = "{url}"
[slo]
p99_ms = 200
max_error_rate = 0.05
[load]
body = "x"
instance_counts = [1, 2, 4]
rates = [20, 40]
step_s = 1
warm_up_s = 1
settle_s = 0.2
workers = 1
max_send_lag_ms = 100000
seed = {seed}
[traffic]
peak_per_min = 3000
shape = "diurnal"
[capacity]
instance_type = "ml.m5.xlarge"
lose = "none"
"""
KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
ANNOUNCED = re.compile(r"^ *(\d+)  \w+ +\d+ x ", re.MULTILINE)
GONE_WITHIN_S = 10.0
FIRST_KILL_S, LAST_KILL_S = 1.0, 22.0
FINISHED = {0, 3, 4}
"""Exit codes of a campaign that came to its end: the answer itself is not judged here."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: float
    unit: str
    goal: str | None = None
    met: bool | None = None


@dataclass
class Tally:
    """What went wrong, and how long putting back took."""

    kills: int = 0
    finished: int = 0
    stages_lost: int = 0
    announced_lost: int = 0
    not_as_before: int = 0
    left_behind: int = 0
    failed_commands: int = 0
    stages_kept: int = 0
    restore_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def trouble(self, what: str) -> None:
        self.troubles.append(what)


class Lab:
    """One emulated endpoint with a policy, as stock boto3 makes and sees it."""

    def __init__(self, process: EmulatorProcess) -> None:
        self.url, self.name = process.url, process.endpoint_name
        self._sagemaker = boto3.client("sagemaker", endpoint_url=self.url, **KEYS)
        self._scaling = boto3.client("application-autoscaling", endpoint_url=self.url, **KEYS)
        key: dict[str, Any] = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{self.name}/variant/{process.variant_name}",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }
        # The minimum is the count, so that the idle endpoint is not scaled in between kills.
        self._scaling.register_scalable_target(**key, MinCapacity=3, MaxCapacity=6)
        self._scaling.put_scaling_policy(
            **key,
            PolicyName="today",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 1e6,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                },
            },
        )

    def snapshot(self) -> dict[str, Any]:
        """Count, status, bounds, switches and policies."""
        endpoint = self._sagemaker.describe_endpoint(EndpointName=self.name)
        space = {"ServiceNamespace": "sagemaker"}
        return {
            "status": endpoint["EndpointStatus"],
            "counts": [
                (v["CurrentInstanceCount"], v["DesiredInstanceCount"])
                for v in endpoint["ProductionVariants"]
            ],
            "targets": [
                {k: v for k, v in t.items() if k != "CreationTime"}
                for t in self._scaling.describe_scalable_targets(**space)["ScalableTargets"]
            ],
            "policies": self._scaling.describe_scaling_policies(**space)["ScalingPolicies"],
        }


def stages(run: Path) -> dict[int, str]:
    """Index and digest of every completed stage, read without tuner."""
    journal = run / "journal.sqlite"
    if not journal.exists():
        return {}
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        try:
            rows = db.execute("SELECT idx, spec, windows, log_file, log_sha256 FROM stage")
            found = rows.fetchall()
        except sqlite3.OperationalError:
            return {}
    digests: dict[int, str] = {}
    for index, spec, windows, log_file, log_sha256 in found:
        digest = hashlib.sha256(str(spec).encode() + windows)
        if log_file is not None:
            raw = (run / log_file).read_bytes()
            if hashlib.sha256(raw).hexdigest() != log_sha256:
                continue  # a stage whose requests do not match is not kept
            digest.update(raw)
        digests[index] = digest.hexdigest()
    return digests


def tuner(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tuner", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(directory / "stderr").open("w"),
        text=True,
    )


def kill(process: subprocess.Popen[str], delay_s: float, tally: Tally) -> bool:
    """Kill it after a while; False when it had ended by then."""
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally.kills += 1
        _, alive = psutil.wait_procs(family, GONE_WITHIN_S)
        if alive:
            tally.left_behind += len(alive)
            tally.trouble(f"left behind: {[p.cmdline() for p in alive if p.is_running()]}")
        return True
    if process.returncode not in FINISHED:
        tally.failed_commands += 1
    return False


def check_journal(directory: Path, run: Path, kept: dict[int, str], tally: Tally) -> dict[int, str]:
    """Compare the journal with what it held and with what was announced."""
    now = stages(run)
    lost = [i for i, digest in kept.items() if now.get(i) != digest]
    tally.stages_lost += len(lost)
    announced = {int(i) for i in ANNOUNCED.findall((directory / "stderr").read_text())}
    missing = announced - now.keys()
    tally.announced_lost += len(missing)
    if lost or missing:
        tally.trouble(f"lost {lost}, announced and missing {sorted(missing)}")
    return now


def restore(directory: Path, run: Path, lab: Lab, before: dict[str, Any], tally: Tally) -> None:
    """``tuner restore``, judged by boto3."""
    if not stages_begun(run):
        return
    started = time.monotonic()
    process = tuner(directory, "restore", str(run))
    if process.wait() != 0:
        tally.failed_commands += 1
        tally.trouble((directory / "stderr").read_text())
    tally.restore_s.append(time.monotonic() - started)
    compare(lab, before, tally, "after restore")


def stages_begun(run: Path) -> bool:
    """Whether there is a journal to restore from."""
    return (run / "journal.sqlite").exists()


def compare(lab: Lab, before: dict[str, Any], tally: Tally, when: str) -> None:
    """Count what is not as it was."""
    now = lab.snapshot()
    if now != before:
        tally.not_as_before += 1
        tally.trouble(f"{when}: {now}")


def campaign(
    directory: Path, number: int, lab: Lab, kills: int, rng: random.Random, tally: Tally
) -> None:
    """One campaign, killed again and again until it comes to its end or the kills are used up."""
    before = lab.snapshot()
    plan = f"plan{number}.toml"
    (directory / plan).write_text(PLAN.format(name=lab.name, url=lab.url, seed=number))
    run = directory / f"run{number}"
    kept: dict[int, str] = {}
    while True:
        resume = ["--resume"] if stages_begun(run) else []
        process = tuner(directory, "run", plan, "--out", run.name, *resume)
        last = tally.kills >= kills
        delay_s = 600.0 if last else rng.uniform(FIRST_KILL_S, LAST_KILL_S)
        killed = kill(process, delay_s, tally)
        kept = check_journal(directory, run, kept, tally)
        if not killed:
            if process.returncode not in FINISHED:
                tally.trouble((directory / "stderr").read_text()[-2000:])
            tally.finished += 1
            tally.stages_kept += len(kept)
            if sorted(kept) != list(range(len(kept))):
                tally.trouble(f"stages {sorted(kept)}")
                tally.stages_lost += 1
            compare(lab, before, tally, "after the end")
            return
        if rng.random() < 0.5:
            restore(directory, run, lab, before, tally)


def measure(kills: int, seed: int) -> Tally:
    """Campaigns until so many kills are done."""
    tally, rng = Tally(), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        spec = directory / "spec.toml"
        spec.write_text(SPEC)
        with EmulatorProcess(spec_path=spec) as process:
            lab = Lab(process)
            number = 0
            while tally.kills < kills:
                number += 1
                campaign(directory, number, lab, kills, rng, tally)
    return tally


def rows(tally: Tally, wanted: int) -> list[Row]:
    """The figures."""
    nothing = [
        ("completed stages lost", tally.stages_lost, "stages"),
        ("announced stages not in the journal", tally.announced_lost, "stages"),
        ("endpoints not as before", tally.not_as_before, "endpoints"),
        ("processes left behind", tally.left_behind, "processes"),
        ("commands that failed", tally.failed_commands, "commands"),
    ]
    return [
        Row("kills", tally.kills, "kills", f">= {wanted}", tally.kills >= wanted),
        *(Row(name, value, unit, "0", value == 0) for name, value, unit in nothing),
        Row("campaigns that came to their end all the same", tally.finished, "campaigns"),
        Row("stages of those campaigns", tally.stages_kept, "stages"),
        Row("tuner restore, median", statistics.median(tally.restore_s or [float("nan")]), "s"),
    ]


def main() -> int:
    """Print the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 kills instead of 200")
    parser.add_argument("--kills", type=int, help="another number of kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = options.kills or (2 if options.quick else 200)
    tally = measure(wanted, options.seed)
    table = rows(tally, wanted)
    if options.json:
        print(json.dumps([asdict(row) for row in table], indent=2))
    else:
        for row in table:
            goal = "" if row.goal is None else f"goal {row.goal}  {'met' if row.met else 'MISSED'}"
            print(f"{row.name:48} {row.value:10.6g} {row.unit:10} {goal}")
    for trouble in tally.troubles:
        print(trouble, file=sys.stderr)
    return 0 if all(row.met is not False for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
