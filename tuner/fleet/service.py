"""How long one request occupies a worker, as a distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BLOCK = 2048
"""Draws taken from numpy at a time: one scalar draw costs more than a simulated request."""


class Shape(StrEnum):
    """The families of service time."""

    DETERMINISTIC = "deterministic"
    EXPONENTIAL = "exponential"
    GAMMA = "gamma"
    LOGNORMAL = "lognormal"
    TWO_POINT = "two_point"
    HYPEREXPONENTIAL = "hyperexponential"
    EMPIRICAL = "empirical"


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """A non-negative random time in seconds; build it with one of the class methods.

    Parameters
    ----------
    shape
        The family.
    values_s
        The times that define it: the mean; the two means (or points) of a mixture; or the
        sample of an empirical distribution.
    parameter
        Coefficient of variation (gamma, lognormal) or the share of the second of two.
    """

    shape: Shape
    values_s: tuple[float, ...]
    parameter: float = 0.0

    def __post_init__(self) -> None:
        if not self.values_s or any(not (0.0 <= v < math.inf) for v in self.values_s):
            raise ValueError(f"times must be finite and not negative: {self.values_s[:5]}")
        if not 0.0 <= self.parameter < math.inf:
            raise ValueError(f"shape parameter must be finite and not negative: {self.parameter}")
        mixture = self.shape in (Shape.TWO_POINT, Shape.HYPEREXPONENTIAL)
        if mixture and (len(self.values_s) != 2 or self.parameter > 1.0):
            raise ValueError("a mixture needs two times and a share inside [0, 1]")
        if self.shape in (Shape.GAMMA, Shape.LOGNORMAL) and self.parameter == 0.0:
            raise ValueError("a coefficient of variation of 0 is a deterministic time")

    @classmethod
    def deterministic(cls, mean_s: float) -> ServiceTime:
        """Always the same time."""
        return cls(Shape.DETERMINISTIC, (mean_s,))

    @classmethod
    def exponential(cls, mean_s: float) -> ServiceTime:
        """Memoryless, coefficient of variation 1."""
        return cls(Shape.EXPONENTIAL, (mean_s,))

    @classmethod
    def gamma(cls, mean_s: float, cv: float) -> ServiceTime:
        """Gamma with this mean and coefficient of variation; Erlang-k is cv = 1/sqrt(k)."""
        return cls(Shape.GAMMA, (mean_s,), cv)

    @classmethod
    def lognormal(cls, mean_s: float, cv: float) -> ServiceTime:
        """Lognormal with this mean and coefficient of variation."""
        return cls(Shape.LOGNORMAL, (mean_s,), cv)

    @classmethod
    def two_point(cls, fast_s: float, slow_s: float, slow_share: float) -> ServiceTime:
        """``slow_s`` with probability ``slow_share``, else ``fast_s``."""
        return cls(Shape.TWO_POINT, (fast_s, slow_s), slow_share)

    @classmethod
    def hyperexponential(
        cls, fast_mean_s: float, slow_mean_s: float, slow_share: float
    ) -> ServiceTime:
        """A mixture of two exponentials."""
        return cls(Shape.HYPEREXPONENTIAL, (fast_mean_s, slow_mean_s), slow_share)

    @classmethod
    def empirical(cls, values_s: FloatArray | tuple[float, ...]) -> ServiceTime:
        """Each of the given times with equal probability."""
        return cls(Shape.EMPIRICAL, tuple(float(v) for v in values_s))

    @property
    def mean_s(self) -> float:
        """Expected time."""
        if self.shape in (Shape.TWO_POINT, Shape.HYPEREXPONENTIAL):
            fast, slow = self.values_s
            return fast + self.parameter * (slow - fast)
        return math.fsum(self.values_s) / len(self.values_s)

    @property
    def second_moment_s2(self) -> float:
        """Expected square, as the Pollaczek-Khinchine formula wants it."""
        mean = self.mean_s
        if self.shape is Shape.DETERMINISTIC:
            return mean * mean
        if self.shape is Shape.EXPONENTIAL:
            return 2.0 * mean * mean
        if self.shape in (Shape.GAMMA, Shape.LOGNORMAL):
            return mean * mean * (1.0 + self.parameter**2)
        if self.shape is Shape.EMPIRICAL:
            return math.fsum(v * v for v in self.values_s) / len(self.values_s)
        fast, slow = (v * v for v in self.values_s)
        moment = fast + self.parameter * (slow - fast)
        return moment if self.shape is Shape.TWO_POINT else 2.0 * moment

    @property
    def cv(self) -> float:
        """Coefficient of variation; 0 for a time that is always 0."""
        mean = self.mean_s
        if mean == 0.0:
            return 0.0
        return math.sqrt(max(self.second_moment_s2 / (mean * mean) - 1.0, 0.0))

    @property
    def always_zero(self) -> bool:
        """Whether every draw is 0."""
        return self.mean_s == 0.0

    def scaled(self, factor: float) -> ServiceTime:
        """The distribution of ``factor`` times this time."""
        return ServiceTime(self.shape, tuple(v * factor for v in self.values_s), self.parameter)

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Independent draws in seconds, shape (n,)."""
        first = self.values_s[0]
        if self.shape is Shape.DETERMINISTIC:
            return np.full(n, first)
        if self.shape is Shape.EXPONENTIAL:
            return rng.exponential(first, n)
        if self.shape is Shape.GAMMA:
            k = 1.0 / self.parameter**2
            return rng.gamma(k, first / k, n)
        if self.shape is Shape.LOGNORMAL:
            sigma2 = math.log1p(self.parameter**2)
            return first * np.exp(rng.normal(-0.5 * sigma2, math.sqrt(sigma2), n))
        if self.shape is Shape.EMPIRICAL:
            return np.asarray(self.values_s)[rng.integers(0, len(self.values_s), n)]
        mean = np.where(rng.random(n) < self.parameter, self.values_s[1], first)
        return mean if self.shape is Shape.TWO_POINT else mean * rng.standard_exponential(n)


def endless(time: ServiceTime, rng: np.random.Generator) -> Iterator[float]:
    """Draws of ``time`` one by one, for ever."""
    if time.shape is Shape.DETERMINISTIC:
        while True:
            yield time.values_s[0]
    while True:
        yield from time.sample(rng, BLOCK).tolist()


def endless_uniform(rng: np.random.Generator) -> Iterator[float]:
    """Uniform draws on [0, 1) one by one, for ever."""
    while True:
        yield from rng.random(BLOCK).tolist()
