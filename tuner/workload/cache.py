"""How often a least-recently-used memory misses under independent requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOST_EXPONENT = 600.0
"""A model is asked for again with certainty long before; the exponential stays finite."""
LEAST_LOG_TIME = -30.0


@dataclass(frozen=True, slots=True)
class Fetch:
    """How long a model that is not there keeps its requests waiting.

    Counted in requests of all models: a time in seconds times their rate.

    Parameters
    ----------
    wait
        From the request that asks for it until the model is there.
    load
        The last part of it, when the model takes up memory already.
    """

    wait: float = 0.0
    load: float = 0.0


AT_ONCE = Fetch()


def characteristic_time(shares: FloatArray, slots: float, fetch: Fetch = AT_ONCE) -> float:
    """Requests after which an unused model is gone; infinite when all fit.

    Che's approximation, with models that take time to come: the T that solves
    sum_i (p_i l + exp(p_i T) - 1) / (p_i w + exp(p_i T)) = slots, for w = ``fetch.wait`` and
    l = ``fetch.load``. A model's cycle is the gap until it is asked for, 1 / p_i, the wait, and
    a stay that every request before T prolongs, (exp(p_i T) - 1) / p_i.

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
    approximation for LRU cache performance, ITC 24. Dehghan, Jiang, Dabirmoghaddam, Towsley
    (2015), On the analysis of caches with pending interest tables, ACM ICN (waiting misses).
    """
    if not slots > 0.0:
        raise ValueError(f"slots must be above 0: {slots}")
    if slots >= len(shares):
        return float("inf")

    from scipy.optimize import brentq

    def excess(log_time: float) -> float:
        stay = np.exp(np.minimum(shares * np.exp(log_time), MOST_EXPONENT))
        held = (shares * fetch.load + stay - 1.0) / (shares * fetch.wait + stay)
        return float(held.sum() - slots)

    low, high = np.log(slots) - 1.0, np.log(slots) + 1.0
    while excess(high) < 0.0:
        high += 2.0
    while excess(low) > 0.0 and low > LEAST_LOG_TIME:
        low -= 2.0
    if excess(low) > 0.0:
        # Models under way fill the memory by themselves: each is gone once it was used.
        return 0.0
    return float(np.exp(brentq(excess, low, high, xtol=1e-9)))


@dataclass(frozen=True, slots=True)
class Missed:
    """Requests that wait for their model, in the long run.

    ``share`` of all requests; ``wait`` is their mean, counted as in `Fetch`.
    """

    share: float
    wait: float


NONE_MISSED = Missed(0.0, 0.0)


def missed(
    shares: FloatArray, slots: float, fetch: Fetch = AT_ONCE, *, longer_than: float = 0.0
) -> Missed:
    """Requests whose model is not in memory, and how long they wait.

    Those that arrive while their model is awaited wait for the rest of it, and are missed too.

    Parameters
    ----------
    longer_than
        Count only those that wait longer.
    """
    time = characteristic_time(shares, slots, fetch)
    if np.isinf(time):
        return NONE_MISSED
    # Cycles per request of all models: one first request and those that join it in each.
    cycles = shares / (np.exp(np.minimum(shares * time, MOST_EXPONENT)) + shares * fetch.wait)
    least = min(longer_than, fetch.wait)
    each = 1.0 + shares * (fetch.wait - least)
    waits = fetch.wait + 0.5 * shares * (fetch.wait**2 - least**2)
    share = float((cycles * each).sum())
    return Missed(share, float((cycles * waits).sum()) / share)


def wait_of(
    shares: FloatArray, slots: float, mean: float, load: float, *, longer_than: float = 0.0
) -> float:
    """`Fetch.wait` that explains the mean wait of the requests that are seen to wait.

    Parameters
    ----------
    mean, longer_than
        As in `Missed` and `missed`.
    load
        `Fetch.load`, at most the wait.
    """
    from scipy.optimize import brentq

    def excess(wait: float) -> float:
        fetch = Fetch(wait, min(load, wait))
        return missed(shares, slots, fetch, longer_than=longer_than).wait - mean

    # Requests that join a wait see half of it on average, and never more than the first.
    if slots >= len(shares) or excess(mean) >= 0.0:
        return mean
    high = 2.0 * mean
    return float(brentq(excess, mean, high, xtol=1e-6 * high)) if excess(high) > 0.0 else high
