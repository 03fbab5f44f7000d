"""``tuner demo``: the whole job against an emulated endpoint, in about two minutes."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.commands.answer import deliver
from tuner.commands.run import fresh_directory, measure_and_answer
from tuner.commands.ui import Ui
from tuner.plan.parse import parse_plan

PLAN = """\
# The plan of `tuner demo`: seconds where a real campaign takes minutes.
[endpoint]
kind = "emulator"
preset = "demo"

[slo]
p99_ms = 120
max_error_rate = 0.001

[load]
body = '{{"instances": [[0.1, 0.2, 0.3]]}}'
instance_counts = [1, 2, 4]
quick = true
precision = 0.1
max_minutes = 1.55
start_rate_per_s = 60
max_send_lag_ms = 12  # a tenth of the SLO: a laptop is busy with the emulator as well
seed = {seed}

[traffic]
peak_per_min = 60000
shape = "sample_day"

[capacity]
instance_type = "ml.m5.xlarge"
lose = "1 instance"
max_capacity = 24
quota = 24
launch_lag_s = 240  # the emulated instances arrive in a second; real ones take minutes
"""


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Emulate, measure, fit, recommend, report."""
    plan = parse_plan(PLAN.format(seed=args.seed), source="demo.toml", base_dir=Path.cwd())
    out = Path(args.out) if args.out else fresh_directory("demo")
    result = measure_and_answer(plan, out, ui, again="tuner demo")
    return deliver(result, ui)
