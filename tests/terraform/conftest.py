"""The real ``terraform`` binary, with no configuration of the machine's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from terraform_samples import recommendation_of

from tuner.recommend.types import Recommendation

Run = Callable[[Path, Sequence[str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Run:
    binary = shutil.which("terraform")
    if binary is None:
        pytest.skip("the terraform binary is not on PATH")
    empty = tmp_path_factory.mktemp("cli") / "terraform.rc"
    empty.write_text("")
    env = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    env |= {"TF_CLI_CONFIG_FILE": str(empty), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}

    def run(where: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = [binary, *arguments]
        return subprocess.run(
            command, cwd=where, env=env, capture_output=True, text=True, timeout=100
        )

    return run


@pytest.fixture
def recommendation() -> Recommendation:
    return recommendation_of()
