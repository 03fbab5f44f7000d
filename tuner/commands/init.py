"""``tuner init``: a commented plan to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.commands.ui import Ui
from tuner.errors import InputError
from tuner.plan.template import FULL, TEMPLATE
from tuner.store.files import write_whole


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Write the template, unless something is in the way."""
    path = Path(args.path)
    if path.exists() and not args.force:
        raise InputError(
            "the file exists already",
            value=str(path),
            allowed="a new file",
            hint="name another one, or overwrite it with --force",
        )
    write_whole(path, FULL if args.full else TEMPLATE)
    ui.say(f"wrote {path}; next: tuner run {path}")
    return 0
