"""Several instance types and signals through real sockets: journaled apart, resumed together."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from e2e_tools import SHORT_PLAN, TOO_LITTLE, Tuner, command, environment

from tuner.store.run import JOURNAL, Run

TYPES = """
[[types]]
instance_type = "ml.c5.xlarge"
preset = "demo"
"""
SIGNALS = """
[signals]
vcpus = 4
minute_s = 0.5
"""


@pytest.mark.usefixtures("no_process_left")
def test_types_are_measured_one_after_the_other_and_resumed_together(
    tmp_path: Path, tuner: Tuner
) -> None:
    plan, out = tmp_path / "tuner.toml", tmp_path / "run"
    plan.write_text(SHORT_PLAN.replace("instance_counts = [1, 2]", "instance_counts = [1]") + TYPES)
    other = out / "types" / "ml.c5.xlarge"
    process = subprocess.Popen(
        command("run", plan, "--out", out),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not (other / "stages" / "0000.npz").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the second type was never reached"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"--out {out} --resume" in err
    first = stages(out)
    done = tuner("run", plan, "--out", out, "--resume")
    assert done.returncode == TOO_LITTLE, done.stderr
    assert stages(out) == first == 3
    assert stages(other) == 3
    with Run.open(other) as run:
        meta = run.meta()
    assert meta["endpoint"]["instance_type"] == "ml.c5.xlarge"
    assert "finished" in meta


def stages(out: Path) -> int:
    db = sqlite3.connect(f"file:{out / JOURNAL}?mode=ro", uri=True, timeout=10)
    try:
        return int(db.execute("SELECT count(*) FROM stage").fetchone()[0])
    finally:
        db.close()


@pytest.mark.usefixtures("no_process_left")
def test_cloudwatch_is_read_for_the_stages_on_a_faster_clock(tmp_path: Path, tuner: Tuner) -> None:
    """The demo's four workers take 20 ms: CPU is 400 % times rate times 20 ms over four."""
    plan, out = tmp_path / "tuner.toml", tmp_path / "run"
    text = SHORT_PLAN.replace("[40, 60, 80]", "[50, 100]").replace("[1, 2]", "[1]")
    plan.write_text(text.replace("step_s = 1", "step_s = 2") + SIGNALS)
    done = tuner("run", plan, "--out", out)
    assert done.returncode == TOO_LITTLE, done.stderr
    with Run.open(out) as run:
        meta, measured = run.meta(), run.stages()
    kept = meta["signals"]
    assert kept["pace"] == pytest.approx(0.5 / 60.0)
    for stage in measured:
        start = stage.started_at_unix_s
        inside = [
            v
            for t, v in zip(kept["cpu"]["at_unix_s"], kept["cpu"]["values"], strict=True)
            if start <= t <= start + stage.spec.duration_s - 0.5
        ]
        assert len(inside) >= 2
        truth = 100.0 * stage.rate_per_instance_per_s * 0.020
        assert sum(inside) / len(inside) == pytest.approx(truth, rel=0.35)
    assert len(kept["concurrency"]["values"]) > 20


def test_a_type_without_a_price_stops_the_run_before_it_begins(
    tmp_path: Path, tuner: Tuner
) -> None:
    plan = tmp_path / "tuner.toml"
    plan.write_text(SHORT_PLAN + TYPES.replace("ml.c5.xlarge", "ml.q9.huge"))
    done = tuner("run", plan, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "ml.q9.huge" in done.stderr
    assert "tuner prices update ml.q9.huge" in done.stderr
    assert not (tmp_path / "run").exists()
