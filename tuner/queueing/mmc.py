"""M/M/c and M/M/c/K: exact waits, sojourns, blocking, and the highest rate inside an SLO."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from tuner.queueing.erlang import FloatArray, erlang_c
from tuner.slo import LatencyObjective


def wait_survival(
    t_s: ArrayLike, rate_per_s: float, servers: float, mean_service_s: float
) -> FloatArray:
    """P(W > t) in M/M/c, first come first served.

    Parameters
    ----------
    t_s
        Times >= 0, any shape.
    rate_per_s
        Arrival rate; at or above c/E[S] every wait is infinite and the answer is 1.
    servers
        c > 0, real.
    mean_service_s
        E[S] > 0.

    References
    ----------
    Kleinrock (1975), section 3.5: C(c, a) exp(-(c mu - lambda) t).
    """
    t = np.asarray(t_s, dtype=np.float64)
    offered = rate_per_s * mean_service_s
    decay = max(0.0, (servers - offered) / mean_service_s)
    return np.asarray(float(erlang_c(servers, offered)) * np.exp(-decay * t))


def sojourn_survival(
    t_s: ArrayLike, rate_per_s: float, servers: float, mean_service_s: float
) -> FloatArray:
    """P(T > t), T = wait + service, in M/M/c; arguments as in `wait_survival`.

    References
    ----------
    Gross, D. et al., Fundamentals of Queueing Theory, 4th ed., 2008, section 2.3.
    """
    t = np.asarray(t_s, dtype=np.float64)
    mu = 1.0 / mean_service_s
    theta = servers * mu - rate_per_s
    if theta <= 0.0:
        return np.ones_like(t)
    c = float(erlang_c(servers, rate_per_s * mean_service_s))
    served = np.exp(-mu * t)
    gap = (theta - mu) * t
    # (e^(-mu t) - e^(-theta t)) / (theta - mu), also where the two rates meet.
    small = np.abs(gap) < 1e-8
    ratio = np.where(small, 1.0 - gap / 2.0, -np.expm1(-gap) / np.where(small, 1.0, gap))
    return np.asarray(served * (1.0 + c * mu * t * ratio))


def mean_wait_s(rate_per_s: float, servers: float, mean_service_s: float) -> float:
    """E[W] in M/M/c; infinite at or above saturation.

    References
    ----------
    Kleinrock (1975), section 3.5: the wait of those who wait is exponential, by Erlang C.
    """
    theta = servers / mean_service_s - rate_per_s
    if theta <= 0.0:
        return math.inf
    return float(erlang_c(servers, rate_per_s * mean_service_s)) / theta


def mean_sojourn_s(rate_per_s: float, servers: float, mean_service_s: float) -> float:
    """E[T] in M/M/c; infinite at or above saturation.

    References
    ----------
    Kleinrock (1975), section 3.5.
    """
    return mean_wait_s(rate_per_s, servers, mean_service_s) + mean_service_s


def wait_quantile_s(
    quantile: float, rate_per_s: float, servers: float, mean_service_s: float
) -> float:
    """Quantile of the wait in M/M/c: 0 while P(W > 0) is at most 1 - q.

    References
    ----------
    Kleinrock (1975), section 3.5: P(W > t) = C exp(-(c mu - lambda) t), solved for t.
    """
    theta = servers / mean_service_s - rate_per_s
    if theta <= 0.0:
        return math.inf
    c = float(erlang_c(servers, rate_per_s * mean_service_s))
    return max(0.0, math.log(c / (1.0 - quantile)) / theta) if c > 0.0 else 0.0


def sojourn_quantile_s(
    quantile: float, rate_per_s: float, servers: float, mean_service_s: float
) -> float:
    """Quantile of the sojourn in M/M/c; infinite at or above saturation.

    References
    ----------
    As `sojourn_survival`, whose root it is.
    """
    if rate_per_s * mean_service_s >= servers:
        return math.inf
    return quantile_of(
        lambda t: float(sojourn_survival(t, rate_per_s, servers, mean_service_s)),
        quantile,
        mean_sojourn_s(rate_per_s, servers, mean_service_s),
    )


def capacity_per_s(objective: LatencyObjective, servers: float, mean_service_s: float) -> float:
    """Highest arrival rate at which M/M/c holds the objective; 0 if it cannot unloaded.

    References
    ----------
    As `sojourn_survival`, whose root in the rate it is.
    """
    from scipy.optimize import brentq

    def excess(rate: float) -> float:
        late = sojourn_survival(objective.threshold_s, rate, servers, mean_service_s)
        return float(late) - objective.allowance

    saturation = servers / mean_service_s
    if excess(0.0) > 0.0:
        return 0.0
    return float(brentq(excess, 0.0, saturation, xtol=1e-13 * saturation, rtol=1e-14))


def state_probabilities(servers: int, places: int, offered: float) -> FloatArray:
    """Stationary number in system of M/M/c/K, shape (K + 1,).

    Parameters
    ----------
    servers
        c >= 1.
    places
        K >= c, customers in service and waiting together.
    offered
        a = arrival rate times mean service; may exceed c.

    References
    ----------
    Gross et al. (2008), section 2.5.
    """
    if not 1 <= servers <= places:
        raise ValueError(f"need 1 <= servers <= places, got {servers} and {places}")
    k = np.arange(1, places + 1)
    with np.errstate(divide="ignore"):
        steps = np.log(offered) - np.log(np.minimum(k, servers))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def blocking(servers: int, places: int, offered: float) -> float:
    """Share of arrivals that M/M/c/K turns away; arguments as in `state_probabilities`.

    References
    ----------
    Kleinrock (1975), section 3.6; Poisson arrivals see time averages (Wolff 1982, Oper. Res. 30).
    """
    return float(state_probabilities(servers, places, offered)[-1])


def quantile_of(survival: Callable[[float], float], quantile: float, scale: float) -> float:
    """The time at which a decreasing survival function falls to 1 - q.

    Parameters
    ----------
    survival
        P(T > t) for a time t >= 0.
    quantile
        In (0, 1).
    scale
        Any time of the right order, where the bracket starts.
    """
    from scipy.optimize import brentq

    allowance = 1.0 - quantile
    if survival(0.0) <= allowance:
        return 0.0
    high = scale
    while survival(high) > allowance:
        high *= 2.0
    return float(brentq(lambda t: survival(t) - allowance, 0.0, high, xtol=1e-12 * high))
