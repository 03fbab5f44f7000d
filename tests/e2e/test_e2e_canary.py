"""A canary that is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_tools import Tuner, command, environment


@pytest.mark.usefixtures("no_process_left")
def test_an_interrupted_canary_goes_on_to_an_all_clear(
    tmp_path: Path, tuner: Tuner, canary_plan: Callable[[float], Path]
) -> None:
    plan, out = canary_plan(200.0), tmp_path / "run"
    process = subprocess.Popen(
        command("canary", plan, "--out", out),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (out / "stages" / "0003.npz").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume" in said
    other = tuner("canary", plan, "--out", out, "--resume", "--slower-by", "0.9")
    assert other.returncode == 2
    assert "another plan or other flags" in other.stderr
    done = tuner("canary", plan, "--out", out, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["minutes"]) == ("NOT_SLOWER", 10)
    assert answer["slower"]["high"] < 0.35
