"""What a policy has to hold, and what it may not exceed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import ScalingMetric
from tuner.errors import InputError
from tuner.recommend.types import NOTHING_LOST, Resilience

IntArray = NDArray[np.int64]

LARGEST_FLEET = 10_000


@dataclass(frozen=True, slots=True)
class Constraints:
    """Bounds, budgets and the resilience rule of a search.

    Parameters
    ----------
    instance_type
        What is bought; the price table is asked for it.
    min_capacity, max_capacity
        Bounds the user sets on the policy's own; ``max_capacity`` None is unbounded.
    quota
        The account's quota of instances; None if unknown.
    resilience
        What may be lost at any minute without missing the SLO.
    budget_requests
        Largest share of requests that may miss; None is the objective's own allowance.
    budget_minutes
        Largest share of bad minutes, each having more than the allowance of misses.
    resilient_minutes
        Smallest share of minutes in which the resilience rule must hold.
    scale_out_cooldowns_s, scale_in_cooldowns_s
        Cooldowns to try. The first of each is tried everywhere, the others near the best
        policy: launches serialise scale-out, and fifteen minutes of low alarm damp scale-in,
        whatever the cooldowns.
    metrics
        Scaling metrics to try.
    """

    instance_type: str
    min_capacity: int = 1
    max_capacity: int | None = None
    quota: int | None = None
    resilience: Resilience = NOTHING_LOST
    budget_requests: float | None = None
    budget_minutes: float = 0.005
    resilient_minutes: float = 0.99
    scale_out_cooldowns_s: tuple[int, ...] = (0, 300)
    scale_in_cooldowns_s: tuple[int, ...] = (300, 900)
    metrics: tuple[ScalingMetric, ...] = (ScalingMetric.INVOCATIONS,)

    def __post_init__(self) -> None:
        top = LARGEST_FLEET if self.max_capacity is None else self.max_capacity
        checks = (
            ("min_capacity", self.min_capacity, 1 <= self.min_capacity <= top, "1 to max_capacity"),
            ("max_capacity", self.max_capacity, top <= LARGEST_FLEET, f"at most {LARGEST_FLEET}"),
            ("quota", self.quota, self.quota is None or self.quota >= 1, "at least 1"),
            (
                "budget_requests",
                self.budget_requests,
                self.budget_requests is None or 0.0 < self.budget_requests < 1.0,
                "between 0 and 1",
            ),
            ("budget_minutes", self.budget_minutes, 0.0 <= self.budget_minutes < 1.0, "0 to 1"),
            (
                "resilient_minutes",
                self.resilient_minutes,
                0.0 <= self.resilient_minutes <= 1.0,
                "0 to 1",
            ),
            (
                "cooldowns",
                (*self.scale_out_cooldowns_s, *self.scale_in_cooldowns_s),
                bool(self.scale_out_cooldowns_s)
                and bool(self.scale_in_cooldowns_s)
                and all(c >= 0 for c in (*self.scale_out_cooldowns_s, *self.scale_in_cooldowns_s)),
                "whole seconds, at least 0, at least one of each",
            ),
        )
        for name, value, ok, allowed in checks:
            if not ok:
                raise InputError(f"{name} cannot be used", value=value, allowed=allowed)

    @property
    def ceiling(self) -> int:
        """The most instances that may run: the bound or the quota, whichever is lower."""
        return min(self.max_capacity or LARGEST_FLEET, self.quota or LARGEST_FLEET)


def parse_resilience(text: str, *, zones: int = 3) -> Resilience:
    """``none``, ``1 instance``, ``2 instances``, ``1 zone`` (of ``zones``), ``1 zone of 2``.

    Raises
    ------
    InputError
        For anything else.
    """
    words = text.strip().lower()
    if words == "none":
        return Resilience("none")
    if found := re.fullmatch(r"([1-9]\d*) instances?", words):
        return Resilience("instance", count=int(found[1]), zones=zones)
    if found := re.fullmatch(r"1 zone(?: of ([2-6]))?", words):
        zones = int(found[1]) if found[1] else zones
        if zones >= 2:
            return Resilience("zone", count=1, zones=zones)
    raise InputError(
        "what may be lost is not understood",
        value=text,
        allowed="none, '1 instance', 'N instances', '1 zone of 2' to '1 zone of 6'",
    )


def describe_resilience(resilience: Resilience) -> str:
    """``nothing``, ``1 instance``, ``1 zone of 3``."""
    if resilience.lose == "instance":
        return f"{resilience.count} instance{'s' if resilience.count > 1 else ''}"
    return f"1 zone of {resilience.zones}" if resilience.lose == "zone" else "nothing"


def survivors(resilience: Resilience, instance_count: IntArray | int) -> IntArray:
    """Instances left after the worst loss the rule names; SageMaker spreads over zones evenly.

    The fullest of ``zones`` zones holds ceil(n / zones) instances.
    """
    n = np.asarray(instance_count, dtype=np.int64)
    if resilience.lose == "instance":
        return np.maximum(n - resilience.count, 0)
    if resilience.lose == "zone":
        return n - -(-n // resilience.zones)
    return n


def smallest_useful_minimum(resilience: Resilience) -> int:
    """The smallest fleet of which anything is left after the loss."""
    if resilience.lose == "instance":
        return resilience.count + 1
    return 2 if resilience.lose == "zone" else 1


def static_fleet(peak_per_s: float, rate_per_instance: NDArray[np.float64]) -> int:
    """Fewest instances that carry a peak; ``rate_per_instance[i]`` is at i + 1 instances.

    Beyond the end of the array the last rate holds.
    """
    counts = np.arange(1, rate_per_instance.size + 1)
    enough = np.flatnonzero(rate_per_instance * counts >= peak_per_s)
    if enough.size:
        return int(counts[enough[0]])
    return math.ceil(peak_per_s / float(rate_per_instance[-1]))
