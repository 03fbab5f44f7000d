"""How often a least-recently-used memory misses under independent requests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def characteristic_time(shares: FloatArray, slots: float) -> float:
    """Requests after which an unused model is gone; infinite when all fit.

    Che's approximation: the T that solves sum_i (1 - exp(-p_i T)) = slots.

    Parameters
    ----------
    shares
        Share of requests of each model, shape (n,), summing to 1.
    slots
        Models that fit at once; need not be whole.

    Raises
    ------
    ValueError
        If ``slots`` is not above 0.

    References
    ----------
    Che, Tung, Wang (2002), Hierarchical web caching systems: modeling, design and experimental
    results, IEEE JSAC 20(7). Fricker, Robert, Roberts (2012), A versatile and accurate
    approximation for LRU cache performance, ITC 24.
    """
    if not slots > 0.0:
        raise ValueError(f"slots must be above 0: {slots}")
    if slots >= len(shares):
        return float("inf")

    from scipy.optimize import brentq

    def excess(log_time: float) -> float:
        return float(-np.expm1(-shares * np.exp(log_time)).sum() - slots)

    low, high = np.log(slots) - 1.0, np.log(slots) + 1.0
    while excess(high) < 0.0:
        high += 2.0
    while excess(low) > 0.0:
        low -= 2.0
    return float(np.exp(brentq(excess, low, high, xtol=1e-10)))


def misses(shares: FloatArray, slots: float, load_requests: float = 0.0) -> float:
    """Share of requests whose model is not in memory, in the long run.

    Parameters
    ----------
    load_requests
        Requests (of all models) that arrive while a model loads: those of the same model wait
        as well and count as misses.

    Returns
    -------
    Share of requests; 0 when all models fit.
    """
    time = characteristic_time(shares, slots)
    if np.isinf(time):
        return 0.0
    absent = np.exp(-shares * time)
    delayed = shares * load_requests
    # Per cycle of a model: one load, delayed requests during it, hits until it is gone.
    per_model = absent * (1.0 + delayed) / (1.0 + absent * delayed)
    return float((shares * per_model).sum())
