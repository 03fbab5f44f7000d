"""The progress display on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.commands.ui import Tick, duration_text


class LiveUi:
    """Results on standard output; everything else, with a live line, on standard error."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._console = Console(file=err, highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def result(self, text: str) -> None:
        """Write the answer to standard output."""
        self._out.write(text.rstrip("\n") + "\n")
        self._out.flush()

    def say(self, text: str) -> None:
        """A line above the live display."""
        self._console.print(Text(text))

    def warn(self, text: str) -> None:
        """A marked line above the live display."""
        self._console.print(Text("warning: ", style="bold yellow") + Text(text))

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the live display until the block ends, whichever way it ends."""
        with Live(console=self._console, refresh_per_second=5, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def tick(self, tick: Tick) -> None:
        """Refresh."""
        if self._live is not None:
            self._live.update(_render(tick))


def _render(tick: Tick) -> RenderableType:
    left = "" if tick.remaining_s is None else f", about {duration_text(tick.remaining_s)} left"
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        ProgressBar(total=1.0, completed=min(1.0, tick.stage_fraction), width=24),
        Text(tick.headline, style="bold"),
        Text(f"{duration_text(tick.elapsed_s)}{left}", style="dim"),
    )
    facts = Text("   ").join(Text(f"{k} ", style="dim") + Text(v) for k, v in tick.facts)
    return Group(grid, Text("  ") + facts)
