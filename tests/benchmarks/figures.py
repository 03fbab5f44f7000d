"""What the benchmarks of the knobs share: a figure, its goal, the options, the table and JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def row(
    name: str,
    value: float,
    unit: str = "share",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Row:
    """One figure; without a limit it is for information and neither met nor missed."""
    goal: str | None = None
    met: bool | None = None
    for sign, limit, holds in (
        (">=", at_least, at_least is not None and value >= at_least),
        ("<=", at_most, at_most is not None and value <= at_most),
        ("<", below, below is not None and value < below),
    ):
        if limit is not None:
            goal, met = f"{sign} {limit:.4g}", bool(holds)
    return {"name": name, "value": float(value), "unit": unit, "goal": goal, "met": met}


def options(about: str | None) -> argparse.ArgumentParser:
    """A parser of the options that every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="same code, fewer repetitions")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser


def show(rows: list[Row], *, as_json: bool) -> int:
    """Print the figures as a table or as JSON; 1 when a goal was missed."""
    if as_json:
        print(json.dumps([{**r, "value": _finite(r["value"])} for r in rows], indent=2))
    else:
        width = max(len(r["name"]) for r in rows)
        units = max(len(r["unit"]) for r in rows)
        for r in rows:
            state = {True: "met", False: "MISSED", None: ""}[r["met"]]
            goal = "" if r["goal"] is None else f"goal {r['goal']}"
            line = f"{r['name']:<{width}}  {r['value']:>10.4g} {r['unit']:<{units}}  {goal:<14} "
            print((line + state).rstrip())
    return 0 if all(r["met"] is not False for r in rows) else 1


def main(about: str | None, rows: Callable[[bool], list[Row]]) -> int:
    """Parse the common options, measure and print; 1 when a goal was missed."""
    given = options(about).parse_args()
    return show(rows(given.quick), as_json=given.json)


def _finite(value: float) -> float | None:
    """JSON has no infinity: a figure that was never reached is null."""
    return value if math.isfinite(value) else None
