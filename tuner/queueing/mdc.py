"""M/D/c: Poisson arrivals, constant service, c servers, first come first served."""

from __future__ import annotations

import math

import numpy as np

from tuner.queueing.erlang import FloatArray
from tuner.queueing.mmc import quantile_of

_NEGLIGIBLE = 1e-14
_MOST_STATES = 3000


def state_probabilities(offered: float, servers: int) -> FloatArray:
    """Stationary number in system of M/D/c, truncated where it is negligible.

    Parameters
    ----------
    offered
        a = arrival rate times service time, below ``servers``.
    servers
        c >= 1.

    Returns
    -------
    ndarray
        Shape (states,), sums to 1.

    Raises
    ------
    ValueError
        At or above saturation, or so close below it that thousands of states are needed.

    References
    ----------
    Crommelin, C. D., Post Office Elec. Eng. J. 25, 1932: the state one service time later
    is what now waits for a server plus the arrivals in between.
    """
    if not 0.0 < offered < servers:
        raise ValueError(f"offered load must be inside (0, {servers}): {offered}")
    ratio = _decay_ratio(offered, servers)
    states = servers + 20 + math.ceil(math.log(_NEGLIGIBLE) / math.log(ratio))
    if states > _MOST_STATES:
        raise ValueError(f"too close to saturation to be solved: {offered} of {servers}")
    arrivals = _poisson(offered, states)
    step = np.zeros((states, states))
    for now in range(states):
        waiting = max(now - servers, 0)
        step[waiting:, now] = arrivals[: states - waiting]
        step[-1, now] += max(0.0, 1.0 - step[:, now].sum())
    balance = step - np.eye(states)
    balance[0] = 1.0
    right = np.zeros(states)
    right[0] = 1.0
    p = np.maximum(np.linalg.solve(balance, right), 0.0)
    return np.asarray(p / p.sum())


def wait_cdf(t_s: float, rate_per_s: float, servers: int, service_s: float) -> float:
    """P(W <= t) for t >= 0.

    Parameters
    ----------
    t_s
        Time.
    rate_per_s
        Arrival rate, below ``servers / service_s``.
    servers
        c >= 1.
    service_s
        Constant service time D.

    References
    ----------
    Franx, G. J., Oper. Res. Lett. 29, 2001: a finite sum of positive terms.
    """
    queue = np.cumsum(state_probabilities(rate_per_s * service_s, servers))[servers:]
    return _wait_cdf(t_s, rate_per_s, servers, service_s, queue)


def sojourn_survival(t_s: float, rate_per_s: float, servers: int, service_s: float) -> float:
    """P(T > t), T = wait + service; arguments as in `wait_cdf`.

    References
    ----------
    As `wait_cdf`, moved by the constant service.
    """
    if t_s < service_s:
        return 1.0
    return 1.0 - wait_cdf(t_s - service_s, rate_per_s, servers, service_s)


def sojourn_quantile_s(quantile: float, rate_per_s: float, servers: int, service_s: float) -> float:
    """Quantile of the sojourn; infinite at or above saturation.

    References
    ----------
    As `wait_cdf`, whose root it is.
    """
    if rate_per_s * service_s >= servers:
        return math.inf
    queue = np.cumsum(state_probabilities(rate_per_s * service_s, servers))[servers:]
    wait = quantile_of(
        lambda t: 1.0 - _wait_cdf(t, rate_per_s, servers, service_s, queue), quantile, service_s
    )
    return service_s + wait


def mean_wait_s(rate_per_s: float, servers: int, service_s: float) -> float:
    """E[W] by Little's law; infinite at or above saturation.

    References
    ----------
    Little (1961), Oper. Res. 9: L = lambda W, of the requests that wait.
    """
    if rate_per_s * service_s >= servers:
        return math.inf
    p = state_probabilities(rate_per_s * service_s, servers)
    waiting = np.maximum(np.arange(len(p)) - servers, 0)
    return float(p @ waiting) / rate_per_s


def _wait_cdf(
    t_s: float, rate_per_s: float, servers: int, service_s: float, queue: FloatArray
) -> float:
    k = math.floor(t_s / service_s) + 1
    terms = k * servers
    # Probability of at most i waiting, continued by 1 beyond the truncation.
    at_most = np.ones(max(terms, len(queue)))
    at_most[: len(queue)] = queue
    arrivals = _poisson(rate_per_s * (k * service_s - t_s), terms)
    return float(at_most[terms - 1 :: -1][:terms] @ arrivals)


def _poisson(mean: float, terms: int) -> FloatArray:
    from scipy.special import gammaln

    j = np.arange(terms)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(j > 0, j * np.log(mean), 0.0) - mean - gammaln(j + 1.0)
    return np.asarray(np.exp(logs))


def _decay_ratio(offered: float, servers: int) -> float:
    """Ratio of successive states far out: 1/z for the root z > 1 of exp(a (z - 1)) = z**c."""
    from scipy.optimize import brentq

    def balance(z: float) -> float:
        return offered * (z - 1.0) - servers * math.log(z)

    low = servers / offered
    high = low
    while balance(high) < 0.0:
        high *= 2.0
    return 1.0 / float(brentq(balance, low, high))
