"""What starting `tuner recommend` costs: slow packages that it does not need stay out."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = ("scipy.stats", "scipy.spatial", "scipy.optimize", "boto3", "locust", "gevent")


@pytest.mark.parametrize("command", ["recommend", "simulate"])
def test_slow_packages_are_not_imported(command: str) -> None:
    code = f"import sys, tuner.commands.{command}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert f"tuner.commands.{command}" in loaded
    assert [m for m in SLOW if m in loaded] == []
