"""How a command talks to the person at the terminal. The streams come from the entry point."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from tuner.units import s_to_min


@dataclass(frozen=True, slots=True)
class Tick:
    """What is going on right now, for the progress display."""

    headline: str
    elapsed_s: float
    remaining_s: float | None
    stage_fraction: float
    facts: tuple[tuple[str, str], ...] = ()


class Ui(Protocol):
    """Where a command's words go: results to standard output, the rest to standard error."""

    def result(self, text: str) -> None:
        """The answer itself; a script reads this."""
        ...

    def say(self, text: str) -> None:
        """A line about what is being done."""
        ...

    def warn(self, text: str) -> None:
        """Something the user should look at."""
        ...

    @contextmanager
    def live(self) -> Iterator[None]:
        """Hold a live display for the length of a long job."""
        ...

    def tick(self, tick: Tick) -> None:
        """Refresh the live display."""
        ...


def duration_text(seconds: float) -> str:
    """``45 s``, ``12 min``, ``1 h 05 min``."""
    if seconds < 99.5:
        return f"{max(0.0, seconds):.0f} s"
    minutes = round(s_to_min(seconds))
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(slots=True)
class PlainUi:
    """Lines of text: for pipes, logs and ``--plain``. A tick is at most one line in 10 s."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    tick_every_s: float = 10.0
    _last_tick: float = float("-inf")

    def result(self, text: str) -> None:
        """Write to standard output."""
        self.out.write(text.rstrip("\n") + "\n")
        self.out.flush()

    def say(self, text: str) -> None:
        """Write to standard error."""
        self.err.write(text.rstrip("\n") + "\n")
        self.err.flush()

    def warn(self, text: str) -> None:
        """Write to standard error, marked."""
        self.say(f"warning: {text}")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Nothing to hold."""
        yield

    def tick(self, tick: Tick) -> None:
        """A line now and then."""
        now = time.monotonic()
        if now - self._last_tick < self.tick_every_s:
            return
        self._last_tick = now
        left = "" if tick.remaining_s is None else f", about {duration_text(tick.remaining_s)} left"
        facts = "".join(f"  {k} {v}" for k, v in tick.facts)
        self.say(f"  … {tick.headline} ({duration_text(tick.elapsed_s)}{left}){facts}")
