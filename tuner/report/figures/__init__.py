"""The figures of a report, drawn by matplotlib without a display."""

from __future__ import annotations

from tuner.report.data import ReportData, View
from tuner.report.figures import behaviour, density, latency, trade
from tuner.report.figures.canvas import Drawing


def draw_all(view: View, *, png: bool = False) -> tuple[Drawing, ...]:
    """Every figure the data allow, in the order of the page."""
    return (
        *latency.draw(view, png=png),
        *behaviour.draw(view, png=png),
        *trade.draw(view, png=png),
        *density.draw(view, png=png),
    )


def figures(data: ReportData) -> dict[str, tuple[bytes, bytes]]:
    """Name to SVG and PNG bytes; the same data give the same bytes."""
    drawn = draw_all(View.of(data), png=True)
    return {d.name: (d.svg, d.png) for d in drawn if d.png is not None}
