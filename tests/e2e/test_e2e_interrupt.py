"""However a campaign ends, completed stages stay, and nothing is left running."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from e2e_tools import SHORT_PLAN, Tuner, command, environment

from tuner.store.run import JOURNAL, Run


def start(plan: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", plan, "--out", out, *flags),
        cwd=out.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def completed(out: Path) -> int:
    """Stages that the journal has, read as an onlooker would."""
    if not (out / "stages" / "0000.npz").exists():
        return 0
    db = sqlite3.connect(f"file:{out / JOURNAL}?mode=ro", uri=True, timeout=10)
    try:
        return int(db.execute("SELECT count(*) FROM stage").fetchone()[0])
    finally:
        db.close()


def wait_for_stages(process: subprocess.Popen[str], out: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while completed(out) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no stage was completed"
        time.sleep(0.02)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "tuner.toml"
    path.write_text(SHORT_PLAN)
    return path


@pytest.mark.usefixtures("no_process_left")
def test_an_interrupted_campaign_can_go_on(plan: Path, tmp_path: Path, tuner: Tuner) -> None:
    out = tmp_path / "run"
    process = start(plan, out)
    wait_for_stages(process, out, 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "--resume" in said
    with Run.open(out) as run:
        before = run.stages()
    assert before
    done = tuner("run", plan, "--out", out, "--resume")
    assert done.returncode in (0, 4), done.stderr
    with Run.open(out) as run:
        after = run.stages()
    assert len(after) > len(before)
    assert [s.spec for s in after[: len(before)]] == [s.spec for s in before]
    assert [s.started_at_unix_s for s in after[: len(before)]] == [
        s.started_at_unix_s for s in before
    ]


@pytest.mark.usefixtures("no_process_left")
def test_a_killed_campaign_loses_no_completed_stage(
    plan: Path, tmp_path: Path, tuner: Tuner
) -> None:
    out = tmp_path / "run"
    process = start(plan, out)
    wait_for_stages(process, out, 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    with Run.open(out) as run:
        before = [s.started_at_unix_s for s in run.stages()]
    assert before
    done = tuner("run", plan, "--out", out, "--resume")
    assert done.returncode in (0, 4), done.stderr
    with Run.open(out) as run:
        after = run.stages()
    assert [s.started_at_unix_s for s in after[: len(before)]] == before
    assert [s.spec.index for s in after] == list(range(len(after)))


@pytest.mark.usefixtures("no_process_left")
def test_only_one_writer_and_only_the_same_plan(plan: Path, tmp_path: Path, tuner: Tuner) -> None:
    out = tmp_path / "run"
    process = start(plan, out)
    try:
        wait_for_stages(process, out, 1)
        second = tuner("run", plan, "--out", out, "--resume")
        assert second.returncode == 2
        assert "another tuner is writing" in second.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    plan.write_text(SHORT_PLAN.replace("p99_ms = 120", "p99_ms = 130"))
    done = tuner("run", plan, "--out", out, "--resume")
    assert done.returncode == 2
    assert "another plan" in done.stderr
