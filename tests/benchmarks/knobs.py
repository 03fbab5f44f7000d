"""Every knob's figures: collects the ``knobs_*.py`` beside it.

Run with ``--quick`` for fewer repetitions of the same code and ``--json`` for a list of
``{name, value, unit, goal, met}``; name sections to run only those.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]
HERE = Path(__file__).resolve().parent


def sections() -> list[str]:
    """Names of the sections there are."""
    return sorted(p.stem.removeprefix("knobs_") for p in HERE.glob("knobs_*.py"))


def rows(names: list[str], *, quick: bool) -> list[Row]:
    """The rows of the sections, in order."""
    sys.path.insert(0, str(HERE))
    found: list[Row] = []
    for name in names:
        found += importlib.import_module(f"knobs_{name}").rows(quick)
    return found


def show(found: list[Row]) -> None:
    """A table for people."""
    width = max(len(str(r["name"])) for r in found)
    for row in found:
        value = row["value"]
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        state = {True: "met", False: "MISSED", None: ""}[row["met"]]
        goal = "" if row["goal"] is None else f"goal {row['goal']}"
        print(f"{row['name']:<{width}}  {text:>10} {row['unit'] or '':<22} {goal:<18} {state}")


def main() -> int:
    """Run; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(sections()))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    unknown = set(args.sections) - set(sections())
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    found = rows(args.sections or sections(), quick=args.quick)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    return 0 if all(r["met"] is not False for r in found) else 1


if __name__ == "__main__":
    sys.exit(main())
