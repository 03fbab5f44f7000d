"""An import goes down, or stays inside its own package; siblings are strangers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "tuner"

FLOORS: dict[str, int] = {
    "errors": 0,
    "units": 0,
    "interval": 0,
    "slo": 0,
    "stats": 1,
    "workload": 1,
    "queueing": 1,
    "fleet": 2,
    "autoscaling": 2,
    "simulator": 3,
    "campaign": 3,
    "recommend": 4,
    "plan": 5,
    "store": 5,
    "load": 5,
    "endpoints": 5,
    "emulator": 5,
    "terraform": 5,
    "report": 5,
    "commands": 6,
    "cli": 7,
    "__main__": 8,
}
"""Deciding (recommend) stands above simulating and campaigning: it calls both."""

SIDEWAYS = {("queueing", "stats"), ("interval", "errors"), ("slo", "errors")}
"""Edges between rooms of one floor that the design allows."""

NUMERIC = {"numpy", "scipy"}
OUTSIDE: dict[str, set[str]] = {
    **{room: set() for room, floor in FLOORS.items() if floor == 0},
    **{room: NUMERIC for room, floor in FLOORS.items() if floor in (1, 3, 4)},
    "fleet": {"numpy"},
    "autoscaling": {"numpy"},
    "plan": {"pydantic"},
    "store": {"numpy", "pyarrow"},
    "load": {"numpy", "locust", "gevent", "httptools", "psutil", "botocore", "boto3"},
    "endpoints": {"boto3", "botocore", "psutil"},
    "emulator": {"numpy", "httptools", "uvloop", "psutil"},
    "terraform": set(),
    "report": {"numpy", "matplotlib", "jinja2", "markupsafe"},
    "commands": {"numpy", "rich", "psutil"},
    "cli": {"rich"},
    "__main__": set(),
}
"""What each room may import that is neither tuner nor the standard library.

``load`` needs botocore for its signer and boto3 for the cross-checking client."""

IMPURE = {"time", "os", "pathlib", "random", "socket", "subprocess", "tempfile", "threading"}
"""Kernels below the edges take data, ``now`` and ``rng``: none of these."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "tuner":
                yield from ((node.lineno, f"tuner.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def violations(path: Path) -> Iterator[str]:
    room = room_of(path)
    if room == "__init__":
        return
    floor = FLOORS[room]
    for line, name in imports(path):
        where = f"{path.relative_to(ROOT.parent)}:{line}"
        top, _, rest = name.partition(".")
        if top == "tuner":
            other = rest.split(".")[0]
            if other in ("", "__version__"):
                continue
            down = FLOORS[other] < floor or other == room or (room, other) in SIDEWAYS
            if not down:
                yield f"{where}: {room} (floor {floor}) imports {other} (floor {FLOORS[other]})"
        elif top not in sys.stdlib_module_names:
            if top not in OUTSIDE[room]:
                yield f"{where}: {room} imports {top}"
        elif floor <= 4 and top in IMPURE:
            yield f"{where}: {room} is a kernel and imports {top}"


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(p) for p in modules()} - {"__init__"}
    assert rooms <= FLOORS.keys()


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    assert not list(violations(path))


def test_an_upward_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path / "tuner")
    bad = tmp_path / "tuner" / "stats" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text("def f():\n    import boto3\n    from tuner.fleet import x\n    import time\n")
    assert len(list(violations(bad))) == 3
