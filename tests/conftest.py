"""How the suite is spread over processes, and what every test may rely on.

Under ``pytest -n 3 --dist loadgroup`` the rooms whose tests live in real time keep to two lanes:
each lane is one process, and nothing in it runs side by side. Every other file is a unit of its
own, runs wherever there is room, and gives way to the lanes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tuner.emulator.presets import preset_text

hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")

LANES = {
    "e2e": "campaigns",
    "test_e2e_canary.py": "sockets",
    "test_commands_canary.py": "sockets",
    "test_commands_capture.py": "sockets",
    "test_commands_models.py": "sockets",
    "load": "sockets",
    "emulator": "sockets",
}
"""Rooms and files whose tests send load by the clock, and the lane they share."""
POLITE = 10


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test: a shell's background jobs ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lane_of(item: pytest.Item) -> str | None:
    """The lane of a test, or None if no clock matters to it."""
    return LANES.get(item.path.name) or LANES.get(item.path.parent.name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the lanes first, since they take longest, and keep files together."""
    order = {lane: i for i, lane in enumerate(dict.fromkeys(LANES.values()))}
    items.sort(key=lambda item: order.get(lane_of(item) or "", len(order)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run the lanes torn apart: pytest 9.2 ignores how pytest-xdist 3.8 marks a group.

    Raises
    ------
    pytest.UsageError
        If the groups do not reach the scheduler.
    """
    if session.config.getoption("loadgroup", False):
        torn = [i.nodeid for i in session.items if not i.nodeid.endswith(f"@{_group(i)}")]
        if torn:
            raise pytest.UsageError(f"pytest-xdist does not keep {torn[0]} in its group")


def _group(item: pytest.Item) -> str:
    return lane_of(item) or item.path.stem


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A process that has no lane, or has come to the end of it, lets the lanes go first."""
    if "PYTEST_XDIST_WORKER" in os.environ and lane_of(item) is None:
        os.setpriority(os.PRIO_PROCESS, 0, POLITE)


CANARY_PLAN = """\
[endpoint]
kind = "emulator"
spec = "emulator.toml"

[slo]
p99_ms = 3000

[load]
body = "{}"
max_send_lag_ms = 300

[canary]
rate_per_s = 60
minute_s = 1
settle_s = 0.2
max_minutes = 12
slower_by = 0.35
"""


@pytest.fixture
def canary_plan(tmp_path: Path) -> Callable[[float], Path]:
    """Writes the plan of a canary in minutes of a second, by the service time of its candidate.

    The baseline takes 200 ms: what a busy machine adds to both sides is little beside it.
    """

    def write(candidate_ms: float) -> Path:
        text = preset_text("canary")
        for old, new in (
            ("20.0", "200.0"),
            ("21.6", f"{candidate_ms}"),
            ("workers = 4", "workers = 256"),
        ):
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "emulator.toml").write_text(text)
        plan = tmp_path / "tuner.toml"
        plan.write_text(CANARY_PLAN)
        return plan

    return write
