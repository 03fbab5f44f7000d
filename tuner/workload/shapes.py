"""Traffic made up from a shape, a peak and a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TrafficError
from tuner.units import MINUTES_PER_DAY
from tuner.workload.profile import TrafficProfile

FloatArray = NDArray[np.float64]

TROUGH_MINUTE = 4 * 60
WEEKEND_SHARE = 0.6
BURST_SHARE = 0.45
BURST_RISE_MINUTES = 3.0
BURST_DECAY_MINUTES = 25.0
LAUNCH_SHARE = 0.4
WOBBLE_SD = 0.04
WOBBLE_MEMORY = 0.9
A_MONDAY = datetime(2026, 1, 5)  # noqa: DTZ001 - made-up traffic is in nobody's time zone


class Shape(StrEnum):
    """Shapes that ``make_traffic`` knows."""

    CONSTANT = "constant"
    DIURNAL = "diurnal"
    WEEKLY = "weekly"
    FLASH = "flash_crowd"
    RAMP = "ramp"
    STEP = "launch_step"


SHAPES: tuple[str, ...] = tuple(s.value for s in Shape)


def make_traffic(
    shape: str,
    *,
    peak_per_min: float,
    days: float = 1.0,
    trough_share: float = 0.15,
    seed: int = 0,
) -> TrafficProfile:
    """Counts per minute of a made-up service.

    The mean follows the shape and a slow random wobble; counts are Poisson around it, so the
    largest count lies near ``peak_per_min``, not on it.

    Parameters
    ----------
    shape
        ``constant``; ``diurnal`` (trough 04:00, peak 16:00); ``weekly`` (diurnal, weekends at
        60 %); ``flash_crowd`` (diurnal with a flash crowd on two days in five, at least one);
        ``ramp`` (straight line from trough to peak over the whole stretch); ``launch_step``
        (diurnal at 40 % until half way, then the full level in one minute).
    peak_per_min
        Largest expected minute.
    days
        Length; parts of a day are allowed.
    trough_share
        Lowest expected minute as a share of the peak.
    seed
        The same seed gives the same counts.

    Raises
    ------
    TrafficError
        For an unknown shape or a number outside its range.
    """
    if shape not in SHAPES:
        raise TrafficError("unknown traffic shape", value=shape, allowed=", ".join(SHAPES))
    _check("peak_per_min", peak_per_min, peak_per_min > 0.0, "> 0")
    _check("days", days, 1.0 / MINUTES_PER_DAY <= days <= 366.0, "a minute to 366 days")
    _check("trough_share", trough_share, 0.0 < trough_share <= 1.0, "> 0, at most 1")
    rng = np.random.default_rng([seed, SHAPES.index(shape)])
    minutes = max(1, round(days * MINUTES_PER_DAY))
    mean = _MAKERS[Shape(shape)](minutes, trough_share, rng) * _wobble(minutes, rng)
    mean *= peak_per_min / mean.max()
    return TrafficProfile(
        requests_per_min=rng.poisson(mean).astype(np.float64),
        start_minute_of_week=0,
        name=f"{shape} shape, seed {seed}",
        start=A_MONDAY,
        notes=("This traffic is made up from a shape and a seed, not recorded.",),
    )


def sample_day(*, peak_per_min: float, seed: int = 7) -> TrafficProfile:
    """A day for a first try: day and night, two flash crowds, from the seed alone."""
    rng = np.random.default_rng([seed, len(SHAPES)])
    minutes = MINUTES_PER_DAY
    mean = _diurnal(minutes, 0.15, rng)
    for around in (10 * 60, 20 * 60):
        at = around + int(rng.integers(-40, 40))
        mean = mean + _burst(minutes, at, BURST_SHARE * float(rng.uniform(0.5, 0.9)))
    mean = mean * _wobble(minutes, rng)
    mean *= peak_per_min / mean.max()
    return TrafficProfile(
        requests_per_min=rng.poisson(mean).astype(np.float64),
        start_minute_of_week=0,
        name=f"sample day, seed {seed}",
        start=A_MONDAY,
        notes=("The sample day is made up from a seed, not recorded.",),
    )


def _check(name: str, value: float, ok: bool, allowed: str) -> None:
    if not (math.isfinite(value) and ok):
        raise TrafficError(f"{name} cannot be used", value=value, allowed=allowed)


def _constant(minutes: int, trough_share: float, rng: np.random.Generator) -> FloatArray:
    return np.ones(minutes)


def _diurnal(minutes: int, trough_share: float, rng: np.random.Generator) -> FloatArray:
    phase = 2.0 * np.pi * (np.arange(minutes, dtype=np.float64) - TROUGH_MINUTE) / MINUTES_PER_DAY
    return trough_share + (1.0 - trough_share) * np.power(0.5 - 0.5 * np.cos(phase), 1.3)


def _weekly(minutes: int, trough_share: float, rng: np.random.Generator) -> FloatArray:
    weekday = np.arange(minutes) // MINUTES_PER_DAY % 7
    shape = _diurnal(minutes, trough_share, rng)
    return np.where(weekday >= 5, np.maximum(shape * WEEKEND_SHARE, trough_share), shape)


def _burst(minutes: int, at: int, height: float) -> FloatArray:
    since = np.arange(minutes, dtype=np.float64) - at
    rise = np.clip(since / BURST_RISE_MINUTES, 0.0, 1.0)
    decay: FloatArray = np.exp(-np.maximum(since - BURST_RISE_MINUTES, 0.0) / BURST_DECAY_MINUTES)
    return height * rise * decay


def _flash(minutes: int, trough_share: float, rng: np.random.Generator) -> FloatArray:
    shape = _diurnal(minutes, trough_share, rng)
    days = max(1, math.ceil(minutes / MINUTES_PER_DAY))
    hit = rng.random(days) < 0.4
    hit[int(rng.integers(days))] = True
    for day in np.flatnonzero(hit):
        length = min(MINUTES_PER_DAY, minutes - int(day) * MINUTES_PER_DAY)
        at = int(day) * MINUTES_PER_DAY + int(rng.uniform(0.3, 0.9) * length)
        shape = shape + _burst(minutes, at, BURST_SHARE * float(rng.uniform(0.6, 1.0)))
    return shape


def _ramp(minutes: int, trough_share: float, rng: np.random.Generator) -> FloatArray:
    return np.linspace(trough_share, 1.0, minutes)


def _step(minutes: int, trough_share: float, rng: np.random.Generator) -> FloatArray:
    after = np.arange(minutes) >= minutes // 2
    return _diurnal(minutes, trough_share, rng) * np.where(after, 1.0, LAUNCH_SHARE)


def _wobble(minutes: int, rng: np.random.Generator) -> FloatArray:
    """A slow random factor around 1: a first-order autoregression of the logarithm."""
    shocks = rng.normal(0.0, WOBBLE_SD * math.sqrt(1.0 - WOBBLE_MEMORY**2), minutes)
    shocks[0] = rng.normal(0.0, WOBBLE_SD)
    log_factor = np.empty(minutes)
    level = 0.0
    for i, shock in enumerate(shocks.tolist()):
        level = WOBBLE_MEMORY * level + shock
        log_factor[i] = level
    return np.exp(log_factor)


_MAKERS: dict[Shape, Callable[[int, float, np.random.Generator], FloatArray]] = {
    Shape.CONSTANT: _constant,
    Shape.DIURNAL: _diurnal,
    Shape.WEEKLY: _weekly,
    Shape.FLASH: _flash,
    Shape.RAMP: _ramp,
    Shape.STEP: _step,
}
