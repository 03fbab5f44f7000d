"""``kill -9`` at random moments of whole campaigns against the emulator.

Run ``python tests/benchmarks/kills.py [--quick] [--json] [--jobs N]``. Each kill hits ``tuner
run`` (first or resumed) on an emulated endpoint with a scaling policy. After it, half of the times
``tuner restore`` puts the endpoint back and stock boto3 compares it with what was there before; the
other half the campaign goes straight on with ``--resume``. Every stage the killed process had
announced must be in the journal, bit for bit as it was, and its processes must be gone.

Nothing is judged by how long it takes, so it may run on a busy machine and beside itself: every
job has an emulator, a port and a directory of its own. Whatever goes wrong is told on standard
error with the campaign, the kill and what the command had said.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
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
instance_counts = [1, 4]
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
KEYS: dict[str, Any] = {
    "aws_access_key_id": "x",
    "aws_secret_access_key": "y",
    "region_name": "us-east-1",
}
ANNOUNCED = re.compile(r"^ *(\d+)  \w+ +\d+ x ", re.MULTILINE)
GONE_WITHIN_S = 10.0
MOST_LINES, LONGEST_S = 6, 2.5
"""A kill comes up to so long after up to so many lines of progress, however slow the machine."""
LOOK_S = 0.05
FINISHED = {0, 3, 4}
"""Exit codes of a campaign that came to its end: the answer itself is not judged here."""
PATIENCE_S = 600.0
"""A command that takes longer hangs."""
TAIL = 2000


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
    with_stages: int = 0
    finished: int = 0
    stages_lost: int = 0
    announced_lost: int = 0
    not_as_before: int = 0
    left_behind: int = 0
    failed_commands: int = 0
    stages_kept: int = 0
    restore_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another's counts along."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


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
        space: Any = {"ServiceNamespace": "sagemaker"}
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
    """Index and digest of every completed stage, read without tuner.

    From a copy: a commit that was cut off has to be rolled back by whoever opens the journal
    next, and that should be tuner.
    """
    if not (run / "journal.sqlite").exists():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        for file in run.glob("journal.sqlite*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / "journal.sqlite")) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'stage'").fetchone():
                return {}
            rows = db.execute("SELECT idx, spec, windows, log_file, log_sha256 FROM stage")
            found = rows.fetchall()
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


@dataclass
class Campaign:
    """One campaign, killed again and again until it comes to its end or the kills are used up."""

    directory: Path
    number: int
    lab: Lab
    kills: int
    rng: random.Random
    tally: Tally
    kept: dict[int, str] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.directory / f"run{self.number}"

    @property
    def begun(self) -> bool:
        """Whether there is a journal to go on or restore from."""
        return (self.run / "journal.sqlite").exists()

    def said(self) -> str:
        """What the newest command wrote to standard error."""
        return (self.directory / "stderr").read_text(errors="replace")

    def trouble(self, what: str) -> None:
        """Note it with where it happened and what the command had to say."""
        where = f"campaign {self.number} after kill {self.tally.kills} ({self.lab.url})"
        self.tally.troubles.append(f"{where}: {what}\n{self.said()[-TAIL:]}")

    def tuner(self, *arguments: str) -> subprocess.Popen[str]:
        """The command line in a process of its own."""
        with (self.directory / "stderr").open("w") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "tuner", *arguments],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
            )

    def go(self) -> None:
        """Kill, look, perhaps restore, go on; the last time it may come to its end."""
        before = self.lab.snapshot()
        plan = f"plan{self.number}.toml"
        text = PLAN.format(name=self.lab.name, url=self.lab.url, seed=self.number)
        (self.directory / plan).write_text(text)
        while True:
            resume = ["--resume"] if self.begun else []
            process = self.tuner("run", plan, "--out", self.run.name, *resume)
            killed = self.kill(process, last=self.tally.kills >= self.kills)
            with_stages = self.check_journal()
            if not killed:
                return self.ended(process, before)
            self.tally.with_stages += with_stages
            if self.begun and self.rng.random() < 0.5:
                self.restore(before)

    def kill(self, process: subprocess.Popen[str], *, last: bool) -> bool:
        """Kill it after a while; False when it had ended by then."""
        lines = math.inf if last else self.rng.randint(0, MOST_LINES)
        gives_up = time.monotonic() + PATIENCE_S
        while process.poll() is None and self.said().count("\n") < lines:
            if time.monotonic() > gives_up:
                self.trouble(f"fewer than {lines} lines in {PATIENCE_S:g} s")
                self.tally.failed_commands += 1
                break
            time.sleep(LOOK_S)
        try:
            process.wait(self.rng.uniform(0.0, LONGEST_S))
        except subprocess.TimeoutExpired:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.tally.kills += 1
            _, alive = psutil.wait_procs(family, GONE_WITHIN_S)
            if alive:
                self.tally.left_behind += len(alive)
                self.trouble(f"left behind: {[p.cmdline() for p in alive if p.is_running()]}")
            return True
        return False

    def ended(self, process: subprocess.Popen[str], before: dict[str, Any]) -> None:
        """It was not killed: it must have an answer, every stage, and the endpoint as it was."""
        if process.returncode not in FINISHED:
            self.tally.failed_commands += 1
            self.trouble(f"tuner run ended with {process.returncode}")
        self.tally.finished += 1
        self.tally.stages_kept += len(self.kept)
        if sorted(self.kept) != list(range(len(self.kept))):
            self.trouble(f"the journal holds the stages {sorted(self.kept)}")
            self.tally.stages_lost += 1
        self.compare(before, "after the end")

    def check_journal(self) -> bool:
        """Compare the journal with what it held and what was announced; whether it has stages."""
        now = stages(self.run)
        lost = [i for i, digest in self.kept.items() if now.get(i) != digest]
        self.tally.stages_lost += len(lost)
        missing = {int(i) for i in ANNOUNCED.findall(self.said())} - now.keys()
        self.tally.announced_lost += len(missing)
        if lost or missing:
            self.trouble(f"lost {lost}, announced and missing {sorted(missing)}")
        self.kept = now
        return bool(now)

    def restore(self, before: dict[str, Any]) -> None:
        """``tuner restore``, judged by boto3."""
        started = time.monotonic()
        process = self.tuner("restore", self.run.name)
        try:
            code = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:
            self.tally.failed_commands += 1
            self.trouble(f"tuner restore ended with {code}")
        self.tally.restore_s.append(time.monotonic() - started)
        self.compare(before, "after restore")

    def compare(self, before: dict[str, Any], when: str) -> None:
        """Count what is not as it was."""
        now = self.lab.snapshot()
        if now != before:
            self.tally.not_as_before += 1
            different = {k: (before[k], now[k]) for k in before if before[k] != now[k]}
            self.trouble(f"{when}, before and now: {different}")


def job(kills: int, seed: int) -> Tally:
    """Campaigns on an emulator of its own until so many kills are done."""
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
                Campaign(directory, number, lab, kills, rng, tally).go()
    return tally


def measure(kills: int, seed: int, jobs: int) -> Tally:
    """The kills, shared out among jobs that run side by side."""
    shares = [kills // jobs + (k < kills % jobs) for k in range(jobs)]
    tally = Tally()
    with ThreadPoolExecutor(jobs) as pool:
        for done in pool.map(job, shares, range(seed, seed + jobs)):
            tally.add(done)
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
        Row("kills with stages in the journal", tally.with_stages, "kills"),
        *(Row(name, value, unit, "0", value == 0) for name, value, unit in nothing),
        Row("campaigns that came to their end all the same", tally.finished, "campaigns"),
        Row("stages of those campaigns", tally.stages_kept, "stages"),
        *(Row("tuner restore, median", statistics.median(s), "s") for s in [tally.restore_s] if s),
    ]


def main() -> int:
    """Print the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 kills instead of 200")
    parser.add_argument("--kills", type=int, help="another number of kills")
    parser.add_argument("--jobs", type=int, help="emulators at a time (2; 4 without --quick)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = options.kills or (2 if options.quick else 200)
    tally = measure(wanted, options.seed, options.jobs or (2 if options.quick else 4))
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
