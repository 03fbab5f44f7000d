"""When requests are meant to start: arrival processes as offsets in seconds.

A process is an endless (or finite) stream of ascending offsets, made in chunks from a
generator that is handed in, so that the same seed gives the same schedule to the socket
engine and to the virtual fleet. Nothing here knows a clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

KINDS = ("poisson", "constant")
CHUNK = 4096
"""Arrivals made at a time: small enough to change the rate soon, large enough for NumPy."""


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")
    return float(value)


def poisson_chunks(
    rate_per_s: float, rng: np.random.Generator, *, start_s: float = 0.0
) -> Iterator[FloatArray]:
    """Endless Poisson arrivals after ``start_s``.

    Parameters
    ----------
    rate_per_s
        Mean rate, per second.
    rng
        Source of the exponential gaps.

    Yields
    ------
    FloatArray
        Ascending offsets in seconds, shape (CHUNK,).

    Raises
    ------
    ValueError
        If the rate is not a positive finite number.
    """
    gap = 1.0 / _positive("rate_per_s", rate_per_s)
    last = start_s
    while True:
        chunk = last + np.cumsum(rng.exponential(gap, CHUNK))
        last = float(chunk[-1])
        yield chunk


def constant_chunks(
    rate_per_s: float, *, start_s: float = 0.0, part: int = 0, parts: int = 1
) -> Iterator[FloatArray]:
    """Endless arrivals at equal gaps, the first at ``start_s``.

    Parameters
    ----------
    rate_per_s
        Rate of all parts together, per second.
    part, parts
        Take arrivals part, part + parts, ...: the union over parts is the whole comb,
        to the last bit.

    Yields
    ------
    FloatArray
        Ascending offsets in seconds, shape (CHUNK,).

    Raises
    ------
    ValueError
        If the rate is not a positive finite number, or part is not in [0, parts).
    """
    rate = _positive("rate_per_s", rate_per_s)
    if not 0 <= part < parts:
        raise ValueError(f"part must be in [0, {parts}), got {part}")
    number = part
    while True:
        chunk = start_s + (number + parts * np.arange(CHUNK, dtype=np.float64)) / rate
        number += parts * CHUNK
        yield chunk


def ramp_chunks(
    from_rate_per_s: float, to_rate_per_s: float, duration_s: float, rng: np.random.Generator
) -> Iterator[FloatArray]:
    """Poisson arrivals whose rate moves in a straight line, over [0, duration_s).

    A unit-rate process is mapped through the inverse of the cumulative rate
    a t + (b - a) t^2 / (2 T).

    Yields
    ------
    FloatArray
        Ascending offsets in seconds, at most CHUNK at a time; the stream ends.

    Raises
    ------
    ValueError
        If a rate is negative, both are zero, or the duration is not positive.

    References
    ----------
    Cinlar, E. (1975). Introduction to Stochastic Processes, ch. 4.7 (time change of a
    non-stationary Poisson process).
    """
    length = _positive("duration_s", duration_s)
    a, b = float(from_rate_per_s), float(to_rate_per_s)
    if not (math.isfinite(a) and math.isfinite(b) and a >= 0 and b >= 0 and a + b > 0):
        raise ValueError(f"ramp rates must be finite, not negative and not both 0: {a!r}, {b!r}")
    slope = (b - a) / length
    total = (a + b) / 2 * length
    last = 0.0
    while last < total:
        mass = last + np.cumsum(rng.exponential(1.0, CHUNK))
        last = float(mass[-1])
        mass = mass[mass < total]
        # The root in the form 2c / (b + sqrt(b^2 + 4ac)) stays exact as the slope goes to 0.
        yield 2 * mass / (a + np.sqrt(np.maximum(a * a + 2 * slope * mass, 0.0)))


def steps_chunks(
    rates_per_s: ArrayLike, step_s: float, rng: np.random.Generator
) -> Iterator[FloatArray]:
    """Poisson arrivals whose rate is constant in each of several equal steps, one after another.

    A unit-rate process is mapped through the inverse of the cumulative rate, so that a step's
    rate holds exactly from its first moment.

    Parameters
    ----------
    rates_per_s
        Rate in each step, per second, not negative, shape (n,).
    step_s
        Length of a step in seconds.

    Yields
    ------
    FloatArray
        Ascending offsets in seconds, at most CHUNK at a time; the stream ends.

    Raises
    ------
    ValueError
        If there are no rates, one is negative or not finite, or all are zero.

    References
    ----------
    Cinlar, E. (1975). Introduction to Stochastic Processes, ch. 4.7 (time change of a
    non-stationary Poisson process).
    """
    rates = np.asarray(rates_per_s, dtype=np.float64)
    length = _positive("step_s", step_s)
    if rates.ndim != 1 or not np.isfinite(rates).all() or (rates < 0).any() or not rates.any():
        raise ValueError("steps need a flat array of rates >= 0, not all zero")
    # Steps without arrivals are left out: the cumulative rate must ascend to be inverted.
    live = rates > 0
    starts = (np.arange(len(rates)) * length)[live]
    mass = np.concatenate([[0.0], np.cumsum(rates[live] * length)])
    last = 0.0
    while last < mass[-1]:
        at = last + np.cumsum(rng.exponential(1.0, CHUNK))
        last = float(at[-1])
        at = at[at < mass[-1]]
        step = np.searchsorted(mass, at, side="right") - 1
        yield starts[step] + (at - mass[step]) / rates[live][step]


def trace_chunks(
    times_s: ArrayLike, *, speed: float = 1.0, part: int = 0, parts: int = 1
) -> Iterator[FloatArray]:
    """Replay recorded arrival times, shifted to begin at 0.

    Parameters
    ----------
    times_s
        Recorded times in seconds, ascending, shape (n,).
    speed
        2.0 replays twice as fast.
    part, parts
        Take every ``parts``-th arrival from ``part`` on.

    Yields
    ------
    FloatArray
        Ascending offsets in seconds, at most CHUNK at a time; the stream ends.

    Raises
    ------
    ValueError
        If the times are empty, not finite or not ascending, or speed is not positive.
    """
    times = np.asarray(times_s, dtype=np.float64)
    factor = _positive("speed", speed)
    if times.ndim != 1 or not times.size or not np.isfinite(times).all():
        raise ValueError("a trace needs a flat, non-empty array of finite times")
    if np.any(np.diff(times) < 0):
        raise ValueError("trace times must ascend")
    mine = ((times - times[0]) / factor)[part::parts]
    for lo in range(0, len(mine), CHUNK):
        yield mine[lo : lo + CHUNK]


def bins_to_times(counts: ArrayLike, bin_s: float, rng: np.random.Generator) -> FloatArray:
    """Arrival times of a record of counts: each bin's requests placed uniformly inside it.

    Given its count, a Poisson process is uniform over the bin, so the replay keeps the
    recorded counts exactly and is Poisson below the bin.

    Parameters
    ----------
    counts
        Requests per bin, whole numbers, shape (n,).
    bin_s
        Length of a bin in seconds.

    Returns
    -------
    FloatArray
        Ascending times in seconds, shape (sum of counts,).

    Raises
    ------
    ValueError
        If a count is negative, fractional or missing: a gap in a record is not zero traffic.
    """
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or np.any(values < 0):
        raise ValueError("counts must be a flat array of finite numbers >= 0")
    whole = values.astype(np.int64)
    if np.any(whole != values):
        raise ValueError("counts must be whole numbers")
    width = _positive("bin_s", bin_s)
    starts = np.repeat(np.arange(len(whole), dtype=np.float64), whole)
    return np.sort((starts + rng.random(len(starts))) * width)


def stream(
    kind: str,
    rate_per_s: float,
    rng: np.random.Generator,
    *,
    start_s: float = 0.0,
    part: int = 0,
    parts: int = 1,
) -> Iterator[FloatArray]:
    """One of `parts` equal shares of a process of constant rate.

    Poisson shares are independent processes of rate / parts (give each its own ``rng``);
    constant shares are the interleaved teeth of one comb.

    Raises
    ------
    ValueError
        If the kind is unknown or the rate is not a positive finite number.
    """
    if kind == "poisson":
        return poisson_chunks(_positive("rate_per_s", rate_per_s) / parts, rng, start_s=start_s)
    if kind == "constant":
        return constant_chunks(rate_per_s, start_s=start_s, part=part, parts=parts)
    raise ValueError(f"arrivals must be one of {', '.join(KINDS)}, got {kind!r}")


def until(chunks: Iterator[FloatArray], end_s: float) -> FloatArray:
    """The arrivals before ``end_s``, shape (n,)."""
    taken: list[FloatArray] = []
    for chunk in chunks:
        keep = int(np.searchsorted(chunk, end_s, side="left"))
        taken.append(chunk[:keep])
        if keep < len(chunk):
            break
    return np.concatenate(taken) if taken else np.empty(0)


def arrival_times(
    kind: str, rate_per_s: float, duration_s: float, rng: np.random.Generator
) -> FloatArray:
    """Every arrival in [0, duration_s).

    Parameters
    ----------
    kind
        ``"poisson"`` or ``"constant"``.

    Returns
    -------
    FloatArray
        Ascending offsets in seconds, shape (n,).

    Raises
    ------
    ValueError
        If the kind is unknown, or rate or duration are not positive finite numbers.
    """
    return until(stream(kind, rate_per_s, rng), _positive("duration_s", duration_s))


def arrival_rng(seed: int, worker: int = 0) -> np.random.Generator:
    """The generator of one worker's arrivals in a stage."""
    return np.random.default_rng(np.random.SeedSequence([seed, 0, worker]))


def payload_rng(seed: int, worker: int = 0) -> np.random.Generator:
    """The generator of one worker's payload order in a stage."""
    return np.random.default_rng(np.random.SeedSequence([seed, 1, worker]))
