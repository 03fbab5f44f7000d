"""Plans and commands that the end-to-end tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

SHORT_PLAN = """\
[endpoint]
kind = "emulator"
preset = "demo"

[slo]
p99_ms = 1000

[load]
body = "{}"
instance_counts = [1, 2]
rates = [40, 60, 80]
step_s = 1
warm_up_s = 0
settle_s = 0.5
max_send_lag_ms = 1000

[traffic]
peak_per_min = 20000
shape = "sample_day"

[capacity]
instance_type = "ml.m5.xlarge"
launch_lag_s = 240
max_capacity = 12
"""
"""Six stages of a second and a half: enough to interrupt, too little to answer from.

Neither the SLO nor the lag allowed is near what a busy machine adds.
"""
TOO_LITTLE = 4
"""The exit code of a run whose requests are too few for an answer."""

QUICK_PLAN = (
    SHORT_PLAN.replace(
        "rates = [40, 60, 80]\nstep_s = 1\n",
        "quick = true\nseed = 3\nprecision = 0.1\nmax_minutes = 1.5\nstart_rate_per_s = 60\n",
    )
    .replace("max_send_lag_ms = 1000", "max_send_lag_ms = 40")
    .replace("p99_ms = 1000", "p99_ms = 120")
)

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]


def environment() -> dict[str, str]:
    """The environment without a trace of AWS."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "tuner", *map(str, args)]
