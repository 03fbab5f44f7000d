"""Every knob's figures: collects the ``knobs_*.py`` beside it.

Run with ``--quick`` for fewer repetitions of the same code and ``--json`` for a list of
``{name, value, unit, goal, met}``; name sections to run only those.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from figures import Row, options, show

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


def main() -> int:
    """Run; 1 when a goal was missed."""
    parser = options(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(sections()))
    given = parser.parse_args()
    unknown = set(given.sections) - set(sections())
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    return show(rows(given.sections or sections(), quick=given.quick), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
