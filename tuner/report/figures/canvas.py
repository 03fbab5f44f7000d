"""One look for all figures, and their deterministic bytes.

Colours are written as plain hex values of the light theme. On the page each is replaced by a
CSS variable, so the same drawing follows the reader's theme; `PALETTE` is the only list.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from tuner.report.words import plain

PALETTE: dict[str, tuple[str, str]] = {
    "ink": ("#1f2328", "#e6e8eb"),
    "muted": ("#59636e", "#9aa4af"),
    "grid": ("#d9dee3", "#363d46"),
    "paper": ("#fefefe", "#171b20"),
    "bad": ("#c6262e", "#ff7b72"),
    "good": ("#1a7f37", "#4cc26a"),
    "warn": ("#9a6700", "#e3b341"),
    "area": ("#a9c8ee", "#2d5a8e"),
    "wait": ("#f0c48a", "#8a5a1c"),
    "s0": ("#0b62c4", "#6cb2ff"),
    "s1": ("#b4530a", "#f0a552"),
    "s2": ("#7a3fc4", "#c297ff"),
    "s3": ("#0b7a75", "#4fd1c5"),
    "s4": ("#b0307a", "#ff8ac2"),
    "s5": ("#6b6f00", "#cfd25a"),
}
"""Name to the colour in the light and in the dark theme."""

LIGHT = {name: pair[0] for name, pair in PALETTE.items()}
SERIES = tuple(LIGHT[f"s{i}"] for i in range(6))
MARKERS = ("o", "s", "^", "D", "v", "P")

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # a position of its own spares a layout of all ticks for every title
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.facecolor": LIGHT["paper"],
    "figure.facecolor": LIGHT["paper"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "axes.prop_cycle": cycler(color=[LIGHT["ink"]]),
    "lines.color": LIGHT["ink"],
    "patch.facecolor": LIGHT["area"],
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "path.simplify": True,
    "savefig.dpi": 144,
}

_VARIABLES = {pair[0]: f"var(--{name})" for name, pair in PALETTE.items()}
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_PATH = re.compile(rb' d="[^"]*"')
_LONG_DECIMAL = re.compile(rb"(\d\.\d\d)\d+")
_REFERENCE = re.compile(r'(\bid="|url\(#|href="#)')


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure: what it is called, what it says in words, and its bytes."""

    name: str
    caption: str
    alt: str
    svg: bytes
    png: bytes | None
    wide: bool = False

    @property
    def inline(self) -> str:
        """The SVG as an element of a page, coloured by the page's variables."""
        text = self.svg.decode("utf-8")
        text = text[text.index("<svg") :]
        text = _HEX.sub(lambda m: _VARIABLES.get(m.group(), m.group()), text)
        return _REFERENCE.sub(rf"\g<1>{self.name}-", text)


@contextmanager
def style(name: str) -> Iterator[None]:
    """The look, and a salt that makes the ids of this figure repeat."""
    with mpl.rc_context(_RC | {"svg.hashsalt": f"tuner-{name}"}):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    return Figure(figsize=(width, height))


def finish(
    figure: Figure, name: str, caption: str, alt: str, *, png: bool, wide: bool = False
) -> Drawing:
    """Save it, without dates or versions inside."""
    svg = io.BytesIO()
    figure.savefig(
        svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    bitmap: bytes | None = None
    if png:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        bitmap = buffer.getvalue()
    # A hundredth of a point is finer than any screen; six decimals double the page.
    slim = _PATH.sub(lambda m: _LONG_DECIMAL.sub(rb"\1", m.group()), svg.getvalue())
    return Drawing(name, caption, alt, slim, bitmap, wide)


def label(text: str, limit: int = 40) -> str:
    """Untrusted text for a figure: one line of characters that the font has, cut to length."""
    clean = "".join(c if " " <= c <= "ɏ" else "?" for c in plain(text))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def plain_ticks(value: float, _: object = None) -> str:
    """A tick label without an exponent."""
    return f"{value:,.10f}".rstrip("0").rstrip(".") if abs(value) < 1.0 else f"{value:,.10g}"


def legend_rows(handles: Sequence[Any], columns: int) -> int:
    """How many lines a legend takes."""
    return math.ceil(len(handles) / columns)


def key(axes: Axes, handles: list[Any], *, columns: int = 3, right: bool = False) -> None:
    """A legend above the axes, outside the data; on the right it stands beside the title."""
    if handles:
        axes.legend(
            handles=handles,
            loc="lower right" if right else "lower left",
            bbox_to_anchor=(1.0 if right else 0.0, 1.0),
            ncols=columns,
            handlelength=1.6,
            columnspacing=1.2,
            labelspacing=0.35,
            borderaxespad=0.35,
            borderpad=0.0,
        )
