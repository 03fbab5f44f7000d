"""The minimum capacity as a sum: base traffic, growth until help arrives, and resilience."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tuner.recommend.constraints import describe_resilience, static_fleet, survivors
from tuner.recommend.evaluate import World, monthly_usd
from tuner.recommend.search import Ground
from tuner.recommend.types import MinimumPart
from tuner.simulator.headroom import reaction_min
from tuner.units import per_min_to_per_s

FloatArray = NDArray[np.float64]
QUIET_QUANTILE = 0.05
STEEP_QUANTILE = 0.995


def growth_within(days: FloatArray, minutes: int) -> float:
    """Steepest growth factor within ``minutes`` from the quiet half of the minutes.

    The `STEEP_QUANTILE` over those minutes of (largest load in the window) / (load now).
    """
    width = min(minutes, days.shape[1] - 1)
    if width < 1:
        return 1.0
    windows = np.lib.stride_tricks.sliding_window_view(days, width + 1, axis=1)
    now = np.maximum(windows[..., 0], 1.0)
    quiet = now <= np.median(now)
    return float(np.quantile((windows.max(axis=-1) / now)[quiet], STEEP_QUANTILE))


def minimum_as_sum(world: World, ground: Ground, min_capacity: int) -> tuple[MinimumPart, ...]:
    """Split a minimum capacity into its three parts, which add up to it."""
    quiet_per_min = float(np.quantile(world.days, QUIET_QUANTILE))
    usable = int(survivors(world.resilience, min_capacity))
    base = min(max(1, static_fleet(per_min_to_per_s(quiet_per_min), ground.rates_low)), usable)
    wait_min = math.ceil(reaction_min(world.launch.mean_s))
    growth = growth_within(world.days, wait_min)
    each = monthly_usd(24.0, world.price)

    def part(role: str, instances: int, sentence: str) -> MinimumPart:
        cost = None if each is None else each * instances
        return MinimumPart(role, instances, cost, sentence)

    return (
        part(
            "base",
            base,
            f"{base} for the quiet hours: {quiet_per_min:.0f} requests per minute.",
        ),
        part(
            "burst",
            usable - base,
            f"{usable - base} for growth from there until help arrives: {wait_min} minutes pass "
            f"between a surge and new instances, and the traffic has grown x{growth:.2f} in "
            "that time.",
        ),
        part(
            "resilience",
            min_capacity - usable,
            f"{min_capacity - usable} to lose {describe_resilience(world.resilience)} "
            "without missing the SLO.",
        ),
    )
