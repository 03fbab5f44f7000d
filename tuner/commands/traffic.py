"""``tuner traffic import``: the traffic an endpoint has had, as a CSV for the plan."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tuner.commands.ui import Ui
from tuner.endpoints.history import read_history
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import InputError
from tuner.store.files import write_whole

SECONDS_PER_DAY = 86400.0


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Read CloudWatch and write the file; a minute without a record stays a gap."""
    out = Path(args.out)
    if out.exists() and not args.force:
        raise InputError(
            "the file exists already",
            value=str(out),
            allowed="a new file",
            hint="name another one with --out, or overwrite it with --force",
        )
    endpoint = SageMakerEndpoint(
        args.endpoint, args.variant, args.region, args.profile, args.endpoint_url
    )
    now = time.time()
    history = read_history(
        endpoint.aws,
        endpoint.name,
        endpoint.variant,
        start_unix_s=now - args.days * SECONDS_PER_DAY,
        end_unix_s=now,
        now_unix_s=now,
    )
    counts = dict(zip(history.epoch_minutes, history.counts, strict=True))
    lines = ["timestamp,requests_per_min"]
    for minute in range(history.epoch_minutes[0], history.epoch_minutes[-1] + 1):
        stamp = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(minute * 60))
        count = counts.get(minute)
        lines.append(f"{stamp},{'' if count is None else format(count, '.12g')}")
    write_whole(out, "\n".join(lines) + "\n")
    for note in history.notes:
        ui.warn(note)
    if history.missing:
        ui.warn(f"{history.missing} minutes have no record; they are left empty, not zero")
    ui.result(f"{out}: {len(counts)} minutes, peak {max(counts.values()):,.0f} per minute")
    return 0
