"""Erlang's formulas for any real number of servers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def erlang_b(servers: ArrayLike, offered: ArrayLike) -> FloatArray:
    """Probability that an arrival finds every server busy and no place to wait.

    Parameters
    ----------
    servers
        Number of servers N >= 0, real, broadcast with ``offered``.
    offered
        Offered load a = arrival rate times mean service, in erlangs, >= 0.

    Returns
    -------
    ndarray
        B(N, a), broadcast shape.

    Raises
    ------
    ValueError
        For negative arguments.

    References
    ----------
    Jagerman, D. L., Bell Syst. Tech. J. 53, 1974: 1/B(N, a) = a int_0^inf e^(-a t) (1 + t)^N
    dt, which is e^a a^-N Gamma(N + 1, a).
    """
    from scipy.special import gammaincc, gammaln

    n, a = np.broadcast_arrays(
        np.asarray(servers, dtype=np.float64), np.asarray(offered, dtype=np.float64)
    )
    if np.any(n < 0.0) or np.any(a < 0.0):
        raise ValueError("servers and offered load must not be negative")
    with np.errstate(divide="ignore", invalid="ignore", under="ignore", over="ignore"):
        log_poisson = np.where(a > 0.0, n * np.log(a) - a - gammaln(n + 1.0), -np.inf)
        survival = gammaincc(n + 1.0, a)
        blocked = np.exp(log_poisson - np.log(survival))
    blocked = np.where(a > 0.0, blocked, np.where(n > 0.0, 0.0, 1.0))
    deep = survival < 1e-200
    if np.any(deep):
        # Far in overload the incomplete gamma function underflows; the recursion does not.
        blocked = np.array(blocked)
        blocked[deep] = _erlang_b_recursion(n[deep], a[deep])
    return np.asarray(np.clip(blocked, 0.0, 1.0))


def _erlang_b_recursion(servers: FloatArray, offered: FloatArray) -> FloatArray:
    """1/B(n, a) = 1 + n/a 1/B(n - 1, a), from the fractional part, for a far above n."""
    whole = np.floor(servers)
    start = servers - whole
    # First terms of the expansion of the integral in 1/a; a is hundreds here.
    inverse = 1.0 + start / offered + start * (start - 1.0) / offered**2
    for k in range(1, int(whole.max(initial=0.0)) + 1):
        step = 1.0 + (start + k) / offered * inverse
        inverse = np.where(k <= whole, step, inverse)
    return np.asarray(1.0 / inverse)


def erlang_c(servers: ArrayLike, offered: ArrayLike) -> FloatArray:
    """Probability that an arrival must wait in M/M/N; 1 where offered >= servers.

    Parameters
    ----------
    servers, offered
        As in `erlang_b`; at least a trace of servers (N > 0).

    References
    ----------
    Kleinrock, L., Queueing Systems I, 1975, eq. 3.40: C = N B / (N - a (1 - B)).
    """
    n, a = np.broadcast_arrays(
        np.asarray(servers, dtype=np.float64), np.asarray(offered, dtype=np.float64)
    )
    if np.any(n <= 0.0):
        raise ValueError("the number of servers must be positive")
    stable = a < n
    load = np.where(stable, a, 0.0)
    b = erlang_b(n, load)
    return np.asarray(np.where(stable, n * b / (n - load * (1.0 - b)), 1.0))
