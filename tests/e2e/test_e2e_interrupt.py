"""However a campaign ends, completed stages stay, and nothing is left running."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from e2e_tools import SHORT_PLAN, TOO_LITTLE, Tuner, command, environment

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


def begun(out: Path) -> list[tuple[int, float]]:
    """Index and start of every stage kept: a stage measured again would have begun later."""
    with Run.open(out) as run:
        return [(s.spec.index, s.started_at_unix_s) for s in run.stages()]


def ended_by(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What it says when the signal ends it in good order."""
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    return said


@pytest.mark.usefixtures("no_process_left")
def test_a_campaign_stopped_in_every_way_goes_on_each_time(tmp_path: Path, tuner: Tuner) -> None:
    plan, out = tmp_path / "tuner.toml", tmp_path / "run"
    plan.write_text(SHORT_PLAN)
    process = start(plan, out)
    wait_for_stages(process, out, 1)
    process.send_signal(signal.SIGSTOP)  # it must not finish before the second has started
    second = tuner("run", plan, "--out", out, "--resume")
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "another tuner is writing" in second.stderr
    ended_by(process, signal.SIGINT)
    kept = begun(out)
    assert kept

    plan.write_text(SHORT_PLAN.replace("p99_ms = 1000", "p99_ms = 1100"))
    other = tuner("run", plan, "--out", out, "--resume")
    assert other.returncode == 2
    assert "another plan" in other.stderr
    plan.write_text(SHORT_PLAN)

    process = start(plan, out, "--resume")
    wait_for_stages(process, out, len(kept) + 1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    more = begun(out)
    assert more[: len(kept)] == kept
    assert len(more) > len(kept)

    done = tuner("run", plan, "--out", out, "--resume")
    assert done.returncode == TOO_LITTLE, done.stderr
    whole = begun(out)
    assert whole[: len(more)] == more
    assert [index for index, _ in whole] == list(range(6))


@pytest.mark.usefixtures("no_process_left")
def test_a_campaign_told_to_end_says_how_to_go_on(tmp_path: Path) -> None:
    plan, out = tmp_path / "tuner.toml", tmp_path / "run"
    plan.write_text(SHORT_PLAN)
    process = start(plan, out)
    wait_for_stages(process, out, 1)
    ended_by(process, signal.SIGTERM)
