"""M/G/1 by numerical inversion of the Pollaczek-Khinchine transform."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.queueing.erlang import FloatArray
from tuner.queueing.mmc import quantile_of

ComplexArray = NDArray[np.complex128]
Transform = Callable[[ComplexArray], ComplexArray]

_TERMS = 40
_EULER = 12
_DAMPING = 18.4
"""Discretisation error of exp(-18.4) = 1e-8."""

_SMOOTH_POINTS = 8000


@dataclass(frozen=True, slots=True)
class ServiceLaw:
    """A law of service times, by its transform and moments.

    Parameters
    ----------
    mean_s, second_moment_s2
        E[S] and E[S**2].
    transform
        E[exp(-s S)] for complex s, same shape as its argument.
    atoms
        (value, probability) of a discrete law; empty for a continuous one.
    """

    mean_s: float
    second_moment_s2: float
    transform: Transform
    atoms: tuple[tuple[float, float], ...] = ()

    @property
    def scv(self) -> float:
        """Squared coefficient of variation."""
        return self.second_moment_s2 / self.mean_s**2 - 1.0


def discrete(atoms: tuple[tuple[float, float], ...]) -> ServiceLaw:
    """Finitely many service times, as (value in seconds, probability)."""
    value = np.array([v for v, _ in atoms])
    chance = np.array([p for _, p in atoms])

    def transform(s: ComplexArray) -> ComplexArray:
        return np.asarray(np.exp(-s[..., None] * value) @ chance, dtype=np.complex128)

    return ServiceLaw(float(value @ chance), float(value**2 @ chance), transform, atoms)


def hyperexponential(means_s: tuple[float, ...], chances: tuple[float, ...]) -> ServiceLaw:
    """A mixture of exponential laws."""
    mean, chance = np.array(means_s), np.array(chances)

    def transform(s: ComplexArray) -> ComplexArray:
        return np.asarray((1.0 / (1.0 + s[..., None] * mean)) @ chance, dtype=np.complex128)

    return ServiceLaw(float(mean @ chance), float(2.0 * mean**2 @ chance), transform)


def erlang(stages: int, mean_s: float) -> ServiceLaw:
    """A sum of equal exponential stages."""

    def transform(s: ComplexArray) -> ComplexArray:
        return np.asarray((1.0 + s * mean_s / stages) ** -stages)

    return ServiceLaw(mean_s, mean_s**2 * (1.0 + 1.0 / stages), transform)


def lognormal(mean_s: float, cv: float) -> ServiceLaw:
    """A lognormal law; its transform is integrated numerically in ln S.

    References
    ----------
    The trapezoidal rule converges geometrically for analytic decaying integrands:
    Trefethen, L. N. and Weideman, J. A. C., SIAM Review 56, 2014.
    """
    sigma = math.sqrt(math.log1p(cv**2))
    z = np.linspace(-9.0, 9.0, _SMOOTH_POINTS)
    weight = np.exp(-0.5 * z**2)
    weight /= weight.sum()
    value = mean_s * np.exp(sigma * z - 0.5 * sigma**2)

    def transform(s: ComplexArray) -> ComplexArray:
        flat = [complex(np.exp(-one * value) @ weight) for one in s.ravel()]
        return np.array(flat, dtype=np.complex128).reshape(s.shape)

    return ServiceLaw(mean_s, mean_s**2 * (1.0 + cv**2), transform)


def mean_wait_s(rate_per_s: float, service: ServiceLaw) -> float:
    """E[W] = lambda E[S**2] / (2 (1 - rho)); infinite at or above saturation.

    References
    ----------
    Pollaczek (1930), Khinchine (1932); Kleinrock (1975), eq. 5.69.
    """
    rho = rate_per_s * service.mean_s
    if rho >= 1.0:
        return math.inf
    return rate_per_s * service.second_moment_s2 / (2.0 * (1.0 - rho))


def wait_survival(t_s: float, rate_per_s: float, service: ServiceLaw) -> float:
    """P(W > t) for t >= 0 and rho < 1.

    References
    ----------
    Kleinrock (1975), eq. 5.105 (transform); inversion as in `invert`.
    """
    if t_s < 0.0:
        return 1.0
    rho = rate_per_s * service.mean_s
    if t_s == 0.0:
        return rho
    # The density of W jumps at every atom of S through its first convolution, which the
    # series cannot follow: that part is taken exactly and only the rest is inverted.
    rest = max(0.0, invert(lambda s: _wait_transform(s, rho, service, smooth=True), t_s))
    if not service.atoms:
        return rest
    return rest + (1.0 - rho) * rho * _equilibrium_survival(t_s, service)


def sojourn_survival(t_s: float, rate_per_s: float, service: ServiceLaw) -> float:
    """P(T > t), T = wait + service, for t >= 0 and rho < 1.

    References
    ----------
    Kleinrock (1975), eq. 5.100 (transform of the sojourn); inversion as in `invert`.
    """
    if service.atoms:
        return sum(p * wait_survival(t_s - v, rate_per_s, service) for v, p in service.atoms)
    if t_s <= 0.0:
        return 1.0
    rho = rate_per_s * service.mean_s

    def transform(s: ComplexArray) -> ComplexArray:
        b = service.transform(s)
        w = (1.0 - rho) / (1.0 - rho * (1.0 - b) / (s * service.mean_s))
        return np.asarray((1.0 - w * b) / s)

    return invert(transform, t_s)


def sojourn_quantile_s(quantile: float, rate_per_s: float, service: ServiceLaw) -> float:
    """Quantile of the sojourn; infinite at or above saturation.

    References
    ----------
    As `sojourn_survival`, whose root it is.
    """
    if rate_per_s * service.mean_s >= 1.0:
        return math.inf
    return quantile_of(
        lambda t: sojourn_survival(t, rate_per_s, service),
        quantile,
        service.mean_s + mean_wait_s(rate_per_s, service),
    )


def invert(transform: Transform, t_s: float) -> float:
    """Value at t > 0 of the real function with this Laplace transform.

    Parameters
    ----------
    transform
        For complex s with a positive real part.
    t_s
        A point where the function is smooth.

    References
    ----------
    Abate, J. and Whitt, W., ORSA J. Comput. 7, 1995 (algorithm EULER).
    """
    k = np.arange(_TERMS + _EULER + 1)
    s = (_DAMPING + 2j * np.pi * k) / (2.0 * t_s)
    values = transform(s.astype(np.complex128)).real * np.where(k == 0, 0.5, 1.0)
    partial = np.cumsum(values * (-1.0) ** k)[_TERMS:]
    weights: FloatArray = np.array([math.comb(_EULER, m) for m in range(_EULER + 1)]) / 2.0**_EULER
    return float(weights @ partial) * math.exp(_DAMPING / 2.0) / t_s


def _wait_transform(
    s: ComplexArray, rho: float, service: ServiceLaw, *, smooth: bool
) -> ComplexArray:
    """Transform of P(W > t), less the terms with kinks where S has atoms."""
    residual = (1.0 - service.transform(s)) / (s * service.mean_s)
    w = (1.0 - rho) / (1.0 - rho * residual)
    survival = (1.0 - w) / s
    if smooth and service.atoms:
        survival = survival - (1.0 - rho) * rho * (1.0 - residual) / s
    return np.asarray(survival)


def _equilibrium_survival(t_s: float, service: ServiceLaw) -> float:
    return sum(p * max(v - t_s, 0.0) for v, p in service.atoms) / service.mean_s
