"""Join the shortest queue: n instances of one exponential server each, by its chain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuner.queueing.erlang import FloatArray
from tuner.queueing.mmc import quantile_of

_NEGLIGIBLE = 1e-11
_WIDEST_GAP = 30


@dataclass(frozen=True, slots=True, eq=False)
class ShortestQueue:
    """Stationary law of the length of the shortest queue, seen by arrivals.

    ``shortest[m]`` is P(shortest queue holds m requests), shape (levels,); ``mean_in_system``
    counts requests over all instances.
    """

    rate_per_s: float
    mean_service_s: float
    shortest: FloatArray
    mean_in_system: float

    @property
    def mean_sojourn_s(self) -> float:
        """E[T] by Little's law."""
        return self.mean_in_system / self.rate_per_s

    def sojourn_survival(self, t_s: ArrayLike) -> FloatArray:
        """P(T > t), any shape: m requests before it make m + 1 exponential services."""
        from scipy.special import gammaincc

        t = np.asarray(t_s, dtype=np.float64)[..., None] / self.mean_service_s
        stages = np.arange(1, len(self.shortest) + 1)
        return np.asarray(gammaincc(stages, t) @ self.shortest)

    def sojourn_quantile_s(self, quantile: float) -> float:
        """Quantile of the sojourn."""
        return quantile_of(lambda t: float(self.sojourn_survival(t)), quantile, self.mean_sojourn_s)


def shortest_queue(instances: int, utilization: float, mean_service_s: float) -> ShortestQueue:
    """Solve the chain of sorted queue lengths under Poisson arrivals.

    Parameters
    ----------
    instances
        2 or 3; more make the chain too large.
    utilization
        rho in (0, 1), per instance.
    mean_service_s
        E[S], exponential.

    Raises
    ------
    ValueError
        For other arguments.

    References
    ----------
    Kingman, J. F. C., Ann. Math. Statist. 32, 1961 (two queues: the tail of the total
    decays as rho**2 a level, which sets the truncation). States with a gap between longest
    and shortest beyond 30 carry less than the truncation error.
    """
    if instances not in (2, 3) or not 0.0 < utilization < 1.0:
        raise ValueError(f"need 2 or 3 instances below saturation: {instances}, {utilization}")
    levels = math.ceil(math.log(_NEGLIGIBLE) / (instances * math.log(utilization))) + 4
    states = _states(instances, levels)
    number = {s: i for i, s in enumerate(states)}
    rows, columns, rates = _transitions(states, number, instances * utilization, levels)
    p = _stationary(rows, columns, rates, len(states))
    shape = np.array(states)
    rate = instances * utilization / mean_service_s
    shortest = np.bincount(shape[:, 0], p).astype(np.float64)
    return ShortestQueue(rate, mean_service_s, shortest, float(p @ shape.sum(axis=1)))


def _states(instances: int, levels: int) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [(m,) for m in range(levels + 1)]
    for _ in range(instances - 1):
        found = [(*s, m) for s in found for m in range(s[-1], min(s[0] + _WIDEST_GAP, levels) + 1)]
    return found


def _transitions(
    states: list[tuple[int, ...]], number: dict[tuple[int, ...], int], rate: float, levels: int
) -> tuple[list[int], list[int], list[float]]:
    rows: list[int] = []
    columns: list[int] = []
    rates: list[float] = []
    for now, state in enumerate(states):
        moves = [(state, 0, 1, rate)] if state[0] < levels else []
        moves += [(state, i, -1, 1.0) for i, m in enumerate(state) if m > 0]
        for origin, i, change, speed in moves:
            after = list(origin)
            after[i] += change
            target = number.get(tuple(sorted(after)))
            if target is not None:
                rows.append(target)
                columns.append(now)
                rates.append(speed)
    return rows, columns, rates


def _stationary(rows: list[int], columns: list[int], rates: list[float], n: int) -> FloatArray:
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import spsolve

    out = np.bincount(columns, rates, n)
    keep = [k for k, r in enumerate(rows) if r != 0]
    diagonal = np.arange(1, n)
    # The balance of state 0 is redundant: p[0] = 1 fixes the scale instead.
    matrix = coo_array(
        (
            np.concatenate([[1.0], np.array(rates)[keep], -out[1:]]),
            (
                np.concatenate([[0], np.array(rows)[keep], diagonal]),
                np.concatenate([[0], np.array(columns)[keep], diagonal]),
            ),
        ),
        shape=(n, n),
    ).tocsc()
    right = np.zeros(n)
    right[0] = 1.0
    p = np.asarray(spsolve(matrix, right))
    return np.asarray(p / p.sum())
