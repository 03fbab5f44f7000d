"""``tuner report``: make the report again from a run directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.commands.answer import answer, files_text
from tuner.commands.canary_answer import EXIT_CODE, answer_canary, is_canary
from tuner.commands.ui import Ui
from tuner.commands.unrestored import remind


def main(args: argparse.Namespace, ui: Ui) -> int:
    """The same answer, the same files."""
    path, out = Path(args.run), Path(args.out) if args.out else None
    remind(ui, path)
    if is_canary(path):
        found = answer_canary(path, ui, out=out)
        ui.result(files_text(found.files))
        return EXIT_CODE[found.seen.verdict]
    result = answer(path, ui, out=out, override_verification=args.override_verification)
    ui.result(files_text(result.files))
    return result.exit_code
