"""Overload as a fluid: what arrives beyond capacity waits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from tuner.queueing.erlang import FloatArray


def backlog(
    rate_per_s: ArrayLike, capacity_per_s: ArrayLike, length_s: ArrayLike, start: float = 0.0
) -> FloatArray:
    """Requests waiting at the end of each stretch.

    Parameters
    ----------
    rate_per_s, capacity_per_s, length_s
        Arrival rate, service capacity and length of consecutive stretches, shape (k,).
    start
        Backlog before the first.

    References
    ----------
    Newell, G. F., Applications of Queueing Theory, 2nd ed., 1982, chapter 2. The reflected
    sum is the sum less its running minimum below 0.
    """
    rate, capacity, length = np.broadcast_arrays(rate_per_s, capacity_per_s, length_s)
    total = start + np.cumsum((rate - capacity) * length)
    return np.asarray(total - np.minimum(np.minimum.accumulate(total), 0.0))


def delay_s(waiting: ArrayLike, capacity_per_s: ArrayLike) -> FloatArray:
    """Time until a backlog, any shape, is worked off by this capacity: the wait it causes."""
    capacity = np.asarray(capacity_per_s, dtype=np.float64)
    return np.asarray(np.asarray(waiting, dtype=np.float64) / capacity)


def drain_time_s(waiting: float, rate_per_s: float, capacity_per_s: float) -> float:
    """Time until a backlog is gone while requests keep coming; infinite if it never is.

    References
    ----------
    Newell, G. F., Applications of Queueing Theory, 1982, chapter 2: fluid approximation.
    """
    if waiting <= 0.0:
        return 0.0
    spare = capacity_per_s - rate_per_s
    return waiting / spare if spare > 0.0 else math.inf
