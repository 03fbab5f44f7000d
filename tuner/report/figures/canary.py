"""The running comparison of a canary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tuner.interval import Interval
from tuner.report.figures.canvas import LIGHT, Drawing, finish, key, new_figure, plain_ticks, style


def draw_canary(
    minutes: Sequence[float],
    looks: Sequence[Interval | None],
    slower_by: float,
    *,
    png: bool,
) -> Drawing:
    """Each minute's difference of latency and the interval that holds at every minute.

    Parameters
    ----------
    minutes
        Relative difference of each minute by itself.
    looks
        The interval after each minute; None before the first look.
    slower_by
        The slow-down that counts.
    """
    with style("canary"):
        figure = new_figure(9.6, 3.6)
        axes = figure.add_axes((0.07, 0.15, 0.91, 0.7))
        at = np.arange(1, len(minutes) + 1)
        axes.plot(at, 100.0 * np.array(minutes), "o", color=LIGHT["muted"], markersize=3.0)
        known = [(n, look) for n, look in zip(at, looks, strict=True) if look is not None]
        if known:
            x = [n for n, _ in known]
            low, mid, high = (
                [100.0 * getattr(look, end) for _, look in known] for end in ("low", "mid", "high")
            )
            axes.fill_between(x, low, high, color=LIGHT["area"], linewidth=0, alpha=0.7)
            axes.plot(x, mid, color=LIGHT["s0"])
        axes.axhline(0.0, color=LIGHT["ink"], linewidth=0.8)
        axes.axhline(100.0 * slower_by, color=LIGHT["bad"], linestyle=(0, (5, 3)), lw=1.2)
        axes.set_title("latency against baseline, %")
        axes.set_xlabel("minutes of paired load")
        axes.set_xlim(0.5, max(10.5, len(minutes) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_formatter(plain_ticks)
        key(
            axes,
            [
                Line2D([], [], color=LIGHT["muted"], marker="o", ls="", label="one minute"),
                Line2D([], [], color=LIGHT["s0"], label="mean so far"),
                Patch(color=LIGHT["area"], label="interval at every minute at once"),
                Line2D([], [], color=LIGHT["bad"], ls=(0, (5, 3)), label="slow-down that counts"),
            ],
            columns=4,
            right=True,
        )
        caption = (
            "The interval may be looked at after every minute: the candidate is slower once the "
            "whole band is above 0, and not slower once it is below the dashed line."
        )
        return finish(figure, "canary", caption, caption, png=png, wide=True)
