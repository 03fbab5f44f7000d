"""Endpoints that an interrupted campaign left changed: every command reminds of them."""

from __future__ import annotations

import json
from pathlib import Path

from tuner.commands.legs import TYPES
from tuner.commands.ui import Ui
from tuner.errors import RunDirectoryError
from tuner.store.lock import has_writer
from tuner.store.run import JOURNAL, Run

REPORTS = Path("reports")


def remind(ui: Ui, *runs: Path) -> None:
    """Warn of every run, among these and under ``reports/``, whose endpoint is not as it was.

    A campaign under way puts its endpoint back itself.
    """
    given = (r for run in runs for r in (run, *(run / TYPES).glob("*")))
    kept = (j.parent for n in ("*", f"*/{TYPES}/*") for j in REPORTS.glob(f"{n}/{JOURNAL}"))
    paths = {p.resolve(): p for p in (*given, *kept)}
    for path in paths.values():
        if not (path / JOURNAL).is_file() or has_writer(path):
            continue
        try:
            with Run.open(path) as run:
                left = run.unrestored()
        except RunDirectoryError:
            continue  # a damaged run elsewhere must not stop this command
        for _, record in left:
            name = json.loads(record).get("endpoint", "?")
            ui.warn(f"endpoint {name} is still as a campaign left it; run: tuner restore {path}")
