"""``tuner report``: make the report again from a run directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.commands.answer import answer, files_text
from tuner.commands.ui import Ui
from tuner.commands.unrestored import remind


def main(args: argparse.Namespace, ui: Ui) -> int:
    """The same answer, the same files."""
    remind(ui, Path(args.run))
    result = answer(Path(args.run), ui, out=Path(args.out) if args.out else None)
    ui.result(files_text(result.files))
    return result.exit_code
