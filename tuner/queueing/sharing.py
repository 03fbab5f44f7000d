"""Servers whose requests slow each other down: processor sharing and contention."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuner.queueing.erlang import FloatArray


def ps_mean_sojourn_s(rate_per_s: float, mean_service_s: float) -> float:
    """E[T] of M/G/1 processor sharing, any law of demand; infinite at saturation.

    References
    ----------
    Kleinrock, L., Queueing Systems II, 1976, section 4.4.
    """
    rho = rate_per_s * mean_service_s
    return mean_service_s / (1.0 - rho) if rho < 1.0 else math.inf


def ps_mean_sojourn_of_demand_s(
    demand_s: ArrayLike, rate_per_s: float, mean_service_s: float
) -> FloatArray:
    """E[T] of requests of these demands in M/G/1 processor sharing, shape of ``demand_s``.

    References
    ----------
    Kleinrock, L., Queueing Systems II, 1976, eq. 4.17: linear in the demand.
    """
    rho = rate_per_s * mean_service_s
    demand = np.asarray(demand_s, dtype=np.float64)
    return demand / (1.0 - rho) if rho < 1.0 else np.full_like(demand, np.inf)


def contention_speed(in_service: ArrayLike, contention: float, coherence: float) -> FloatArray:
    """Speed of each of k requests in service, relative to one alone.

    1 / (1 + contention (k - 1) + coherence k (k - 1)).

    References
    ----------
    Gunther, N. J., Guerrilla Capacity Planning, 2007, chapter 4.
    """
    k = np.asarray(in_service, dtype=np.float64)
    return np.asarray(1.0 / (1.0 + contention * (k - 1.0) + coherence * k * (k - 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class ContentionQueue:
    """Exponential demands on a server of limited sharing whose speed falls with the crowd.

    Parameters
    ----------
    mean_demand_s
        Mean demand of a request alone.
    places
        Requests in service at once; more wait, first come first served.
    contention, coherence
        As in `contention_speed`.
    """

    mean_demand_s: float
    places: int
    contention: float
    coherence: float

    def throughput_per_s(self, in_system: ArrayLike) -> FloatArray:
        """Completion rate with this many requests present, same shape."""
        k = np.minimum(np.asarray(in_system, dtype=np.float64), self.places)
        speed = contention_speed(np.maximum(k, 1.0), self.contention, self.coherence)
        return np.asarray(k * speed / self.mean_demand_s)

    def state_probabilities(self, rate_per_s: float) -> FloatArray:
        """Stationary number in system, shape (states,), truncated at 1e-14.

        Raises
        ------
        ValueError
            At or above the throughput of a full server.

        References
        ----------
        Birth-death balance: Kleinrock (1975), eq. 3.11.
        """
        full = float(self.throughput_per_s(self.places))
        if not 0.0 < rate_per_s < full:
            raise ValueError(f"rate must be inside (0, {full:.6g}): {rate_per_s}")
        beyond = math.ceil(math.log(1e-14) / math.log(rate_per_s / full))
        k = np.arange(1, self.places + beyond + 1)
        logs = np.concatenate([[0.0], np.cumsum(np.log(rate_per_s / self.throughput_per_s(k)))])
        weight = np.exp(logs - logs.max())
        return np.asarray(weight / weight.sum())

    def mean_sojourn_s(self, rate_per_s: float) -> float:
        """E[T] by Little's law (1961, Oper. Res. 9)."""
        p = self.state_probabilities(rate_per_s)
        return float(p @ np.arange(len(p))) / rate_per_s
