"""Tuner as its users run it: the command line in processes of its own."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from e2e_tools import QUICK_PLAN, Tuner, command, environment


@pytest.fixture(scope="session")
def tuner(tmp_path_factory: pytest.TempPathFactory) -> Tuner:
    home = tmp_path_factory.mktemp("cwd")

    def run(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*args),
            cwd=cwd or home,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def quick_run(tuner: Tuner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole campaign at 1 and 2 instances, shared by every test that only reads."""
    where = tmp_path_factory.mktemp("quick")
    plan = where / "tuner.toml"
    plan.write_text(QUICK_PLAN)
    done = tuner("run", plan, "--out", where / "run")
    assert done.returncode == 0, done.stderr + done.stdout
    return where / "run"


@pytest.fixture
def no_process_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that a test started may outlive it, however it was detached."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("TUNER_TEST_MARK", mark)
    yield
    left = [p for p in psutil.process_iter() if _marked(p, mark)]
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive, [p.cmdline() for p in alive]


def _marked(process: psutil.Process, mark: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return process.environ().get("TUNER_TEST_MARK") == mark
    except psutil.Error:
        return False
