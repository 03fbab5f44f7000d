"""Which servers are plausible: workers and network floor weighed by how well they explain.

Little data leave several numbers of workers open and hardly see the network floor. Taking the
best of each at its word is what makes an interval from little data too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_GRID = 9
_LEVELS = 5
_COARSE_LEVELS = 3
_HOPELESS = 40.0
"""A number of workers this much worse than the best is not looked at closely."""
_CONTOUR = 9.0
"""Floors up to this much worse than the best are kept: three standard deviations."""
_POINTS = 13
_FIRST_STEP = 1.0 / 256.0
_NO_FLOOR = 0.5
"""Prior chance that there is no floor to speak of; else any up to the fastest request."""
_LEAST_WEIGHT = 0.002


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """One plausible server.

    Parameters
    ----------
    workers, floor_s
        Requests at once, and time a request spends outside the server.
    weight
        Posterior chance; all hypotheses together have 1.
    waited_share
        Requests that had to wait under it.
    spare_s
        Time since it lets each request start, shape (n,).
    """

    workers: int
    floor_s: float
    weight: float
    waited_share: float
    spare_s: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A number of workers with its misfit as a function of the floor (-2 ln likelihood)."""

    workers: int
    misfit: Callable[[float], float]
    spare_s: FloatArray
    waited_share: float


def weigh(candidates: Sequence[Candidate], top_s: float) -> tuple[Hypothesis, ...]:
    """Posterior chances of workers and floors, the likeliest number of workers first.

    Parameters
    ----------
    candidates
        At least one.
    top_s
        Largest floor possible.

    Notes
    -----
    The misfit is the chi-squared of the demand against the state found on arrival, so that
    exp(-misfit / 2) is its quasi-likelihood. Numbers of workers are equally likely before the
    data; the floor is zero or uniform, half and half.
    """
    coarse = [_refined(c, 0.0, top_s, _COARSE_LEVELS) for c in candidates]
    best = min(least for _, least, _ in coarse)
    found: list[tuple[Candidate, float, float]] = []
    for candidate, (at, least, width) in zip(candidates, coarse, strict=True):
        if least <= best + _HOPELESS:
            found.extend(
                (candidate, floor, log)
                for floor, log in _floors(candidate, at, width, top_s).items()
            )
    highest = max(log for _, _, log in found)
    mass = np.array([np.exp(log - highest) for _, _, log in found])
    mass /= mass.sum()
    kept = mass >= _LEAST_WEIGHT
    mass = mass / mass[kept].sum()
    hypotheses = [
        Hypothesis(c.workers, floor, float(w), c.waited_share, c.spare_s)
        for (c, floor, _), w, k in zip(found, mass, kept, strict=True)
        if k
    ]
    by_workers: dict[int, float] = {}
    for h in hypotheses:
        by_workers[h.workers] = by_workers.get(h.workers, 0.0) + h.weight
    hypotheses.sort(key=lambda h: (-by_workers[h.workers], h.workers, h.floor_s))
    return tuple(hypotheses)


def least_misfit(candidate: Candidate, top_s: float) -> float:
    """The misfit with the floor that suits this number of workers best, roughly."""
    return _refined(candidate, 0.0, top_s, _COARSE_LEVELS)[1]


def _refined(
    candidate: Candidate, low: float, high: float, levels: int
) -> tuple[float, float, float]:
    """Floor of least misfit, that misfit, and the spacing it was looked for with."""
    if high <= 0.0:
        return 0.0, candidate.misfit(0.0), 0.0
    best, least = 0.0, candidate.misfit(0.0)
    step, top = high - low, high
    for _ in range(levels):
        grid = np.linspace(low, high, _GRID)
        step = float(grid[1] - grid[0])
        for floor in grid:
            misfit = candidate.misfit(float(floor))
            if misfit < least:
                best, least = float(floor), misfit
        low, high = max(best - step, 0.0), min(best + step, top)
    return best, least, step


def _floors(candidate: Candidate, at: float, width: float, top_s: float) -> dict[float, float]:
    """ln posterior mass of floors on a grid around the best one, and of none."""
    if top_s <= 0.0:
        return {0.0: -0.5 * candidate.misfit(0.0)}
    low, high = max(at - width, 0.0), min(at + width, top_s)
    at, least, _ = _refined(candidate, low, high, _LEVELS - _COARSE_LEVELS)
    low = at - _reach(candidate, at, least, -1.0, top_s)
    high = at + _reach(candidate, at, least, 1.0, top_s)
    low, high = max(low, 0.0), min(high, top_s)
    # Cells of equal width, each spoken for by its middle, and the best by itself.
    edges = np.linspace(low, high, _POINTS + 1)
    middles = 0.5 * (edges[1:] + edges[:-1])
    nearest = int(np.argmin(np.abs(middles - at)))
    middles[nearest] = at
    slab = np.log((1.0 - _NO_FLOOR) * max(float(edges[1] - edges[0]) / top_s, 1e-12))
    mass = {float(f): float(slab - 0.5 * candidate.misfit(float(f))) for f in middles}
    none = float(np.log(_NO_FLOOR) - 0.5 * candidate.misfit(0.0))
    mass[0.0] = float(np.logaddexp(none, mass.get(0.0, -np.inf)))
    return mass


def _reach(candidate: Candidate, at: float, least: float, side: float, top_s: float) -> float:
    """How far to one side floors are still plausible."""
    step = _FIRST_STEP * top_s
    while step < top_s and candidate.misfit(min(max(at + side * step, 0.0), top_s)) < (
        least + _CONTOUR
    ):
        if at + side * step <= 0.0 or at + side * step >= top_s:
            break
        step *= 2.0
    return step
