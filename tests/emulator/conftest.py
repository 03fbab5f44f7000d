"""Emulators for the tests; every one is stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulator_harness import MadeUpTime, Start, ThreadedEmulator

from tuner.emulator.presets import preset
from tuner.emulator.spec import EmulatorSpec
from tuner.emulator.specfile import parse_spec


@pytest.fixture
def made_up_time(monkeypatch: pytest.MonkeyPatch) -> MadeUpTime:
    """A clock that stands still, for every emulator started after it."""
    return MadeUpTime(monkeypatch)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start emulators from a preset name, TOML text or a spec; all are stopped at the end."""
    running: list[ThreadedEmulator] = []

    def begin(what: str | EmulatorSpec) -> ThreadedEmulator:
        if isinstance(what, str):
            what = parse_spec(what, "test") if "\n" in what or "=" in what else preset(what)
        running.append(ThreadedEmulator(what))
        return running[-1]

    yield begin
    for emulator in running:
        emulator.stop()


@pytest.fixture(scope="module")
def null_emulator() -> Iterator[ThreadedEmulator]:
    """One emulator with zero service time for tests that leave nothing behind."""
    emulator = ThreadedEmulator(preset("null"))
    yield emulator
    emulator.stop()
