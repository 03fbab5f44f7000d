"""A canary that is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from e2e_tools import Tuner, command, environment

from tuner.emulator.presets import preset_text

PLAN = """\
[endpoint]
kind = "emulator"
spec = "emulator.toml"

[slo]
p99_ms = 300

[load]
body = "{}"
max_send_lag_ms = 75

[traffic]
peak_per_min = 5000

[canary]
rate_per_s = 60
minute_s = 1
settle_s = 0.2
max_minutes = 12
slower_by = 0.35
"""


@pytest.mark.usefixtures("no_process_left")
def test_an_interrupted_canary_goes_on_to_an_all_clear(tmp_path: Path, tuner: Tuner) -> None:
    text = preset_text("canary")
    assert "mean_ms = 21.6" in text
    (tmp_path / "emulator.toml").write_text(text.replace("21.6", "20.0"))
    plan, out = tmp_path / "tuner.toml", tmp_path / "run"
    plan.write_text(PLAN)
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
