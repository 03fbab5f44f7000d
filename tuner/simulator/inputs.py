"""What a simulation is asked: policies, launches, losses and how metrics behave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy

SUBSTEP_S = 10
SUBSTEPS = 6
"""Sub-steps of ten seconds in a minute."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyGrid:
    """Many policies on one metric; every array has shape (p,).

    A fleet of fixed size is a policy whose minimum and maximum are equal.
    """

    metric: ScalingMetric
    target_value: NDArray[np.float64]
    min_capacity: NDArray[np.int64]
    max_capacity: NDArray[np.int64]
    scale_out_cooldown_s: NDArray[np.int64]
    scale_in_cooldown_s: NDArray[np.int64]
    disable_scale_in: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = self.target_value.shape
        columns = (
            self.min_capacity,
            self.max_capacity,
            self.scale_out_cooldown_s,
            self.scale_in_cooldown_s,
            self.disable_scale_in,
        )
        if len(shape) != 1 or not shape[0] or any(c.shape != shape for c in columns):
            raise ValueError("a policy grid needs columns of one length, at least 1")
        if not (np.isfinite(self.target_value) & (self.target_value > 0.0)).all():
            raise ValueError("target values must be positive and finite")
        if (self.min_capacity < 1).any() or (self.max_capacity < self.min_capacity).any():
            raise ValueError("need 1 <= min_capacity <= max_capacity")
        if (self.scale_out_cooldown_s < 0).any() or (self.scale_in_cooldown_s < 0).any():
            raise ValueError("cooldowns must not be negative")

    def __len__(self) -> int:
        return len(self.target_value)

    @classmethod
    def of(cls, policies: Sequence[tuple[TargetTrackingPolicy, CapacityBounds]]) -> PolicyGrid:
        """A grid of given policies.

        Raises
        ------
        ValueError
            If there are none, or they follow different metrics.
        """
        metrics = {policy.metric for policy, _ in policies}
        if len(metrics) != 1:
            raise ValueError(f"a grid follows one metric, got {sorted(metrics)}")
        return cls(
            metrics.pop(),
            np.array([p.target_value for p, _ in policies], np.float64),
            np.array([b.min_capacity for _, b in policies], np.int64),
            np.array([b.max_capacity for _, b in policies], np.int64),
            np.array([p.scale_out_cooldown_s for p, _ in policies], np.int64),
            np.array([p.scale_in_cooldown_s for p, _ in policies], np.int64),
            np.array([p.disable_scale_in for p, _ in policies], np.bool_),
        )

    @classmethod
    def product(
        cls,
        target_value: ArrayLike,
        min_capacity: ArrayLike,
        max_capacity: ArrayLike,
        scale_out_cooldown_s: ArrayLike = (0,),
        scale_in_cooldown_s: ArrayLike = (300,),
        *,
        metric: ScalingMetric = ScalingMetric.INVOCATIONS,
    ) -> PolicyGrid:
        """Every combination of the values given (scalars or one-dimensional), targets slowest.

        Combinations with a minimum above the maximum are left out.
        """
        axes = [
            np.atleast_1d(np.asarray(a, np.float64))
            for a in (
                target_value,
                min_capacity,
                max_capacity,
                scale_out_cooldown_s,
                scale_in_cooldown_s,
            )
        ]
        columns = [c.ravel() for c in np.meshgrid(*axes, indexing="ij")]
        keep = columns[1] <= columns[2]
        target, low, high, out_s, in_s = (c[keep] for c in columns)
        return cls(
            metric,
            target,
            low.astype(np.int64),
            high.astype(np.int64),
            out_s.astype(np.int64),
            in_s.astype(np.int64),
            np.zeros(len(target), np.bool_),
        )

    @classmethod
    def fixed(cls, counts: ArrayLike) -> PolicyGrid:
        """Fleets of fixed size."""
        size = np.atleast_1d(np.asarray(counts, np.int64))
        ones, none = np.ones(len(size)), np.zeros(len(size), np.int64)
        off = np.ones(len(size), np.bool_)
        return cls(ScalingMetric.INVOCATIONS, ones, size, size, none, none, off)

    def subset(self, index: ArrayLike) -> PolicyGrid:
        """The policies at ``index`` (integers, a slice's range or a mask)."""
        where = np.asarray(index)
        where = np.flatnonzero(where) if where.dtype == np.bool_ else np.atleast_1d(where)
        return PolicyGrid(
            self.metric,
            self.target_value[where],
            self.min_capacity[where],
            self.max_capacity[where],
            self.scale_out_cooldown_s[where],
            self.scale_in_cooldown_s[where],
            self.disable_scale_in[where],
        )

    def policy(self, i: int) -> tuple[TargetTrackingPolicy, CapacityBounds]:
        """One policy as values."""
        return (
            TargetTrackingPolicy(
                self.metric,
                float(self.target_value[i]),
                int(self.scale_out_cooldown_s[i]),
                int(self.scale_in_cooldown_s[i]),
                bool(self.disable_scale_in[i]),
            ),
            CapacityBounds(int(self.min_capacity[i]), int(self.max_capacity[i])),
        )


@dataclass(frozen=True, slots=True)
class LaunchLag:
    """Seconds from the order of an instance until it takes traffic: a sample to draw from."""

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds or not all(0.0 <= s < 86_400.0 for s in self.seconds):
            raise ValueError("launch lags must be given, and lie within a day")

    @classmethod
    def of(cls, seconds: float | Iterable[float]) -> LaunchLag:
        """A constant lag, or measured lags of which each is equally likely."""
        if isinstance(seconds, Iterable):
            return cls(tuple(float(s) for s in seconds))
        return cls((float(seconds),))

    @property
    def mean_s(self) -> float:
        """Mean lag."""
        return sum(self.seconds) / len(self.seconds)

    def scaled(self, factor: float) -> LaunchLag:
        """Lags times ``factor``."""
        return LaunchLag(tuple(s * factor for s in self.seconds))


@dataclass(frozen=True, slots=True, eq=False)
class MetricCurve:
    """How CPU or concurrency answers to load, in the statistic that CloudWatch serves.

    Parameters
    ----------
    utilization
        Shape (u,), ascending from 0 to 1: offered rate over saturation rate.
    value
        Shape (u,), non-decreasing: the metric at that utilisation.
    per_waiting
        What one waiting request per instance adds: 1 for concurrency, 0 for CPU.
    scatter, period_s
        Standard deviation of single datapoints over their mean (NaN if unknown), and their
        length. The simulation follows the mean alone; a choice between metrics looks at both.
    """

    utilization: NDArray[np.float64]
    value: NDArray[np.float64]
    per_waiting: float = 0.0
    scatter: float = 0.0
    period_s: int = 60

    def __post_init__(self) -> None:
        if self.utilization.ndim != 1 or self.utilization.shape != self.value.shape:
            raise ValueError("a metric curve needs two columns of one length")
        if (np.diff(self.utilization) <= 0.0).any() or (np.diff(self.value) < 0.0).any():
            raise ValueError("a metric curve must ascend")


@dataclass(frozen=True, slots=True)
class Loss:
    """Instances lost at the start of a minute; the service replaces them after a launch lag.

    ``instances`` of them, or all those in one of ``zones`` (rounded up) when it is given.
    """

    minute: int
    instances: int = 1
    zones: int | None = None

    def count(self, in_service: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of ``in_service`` instances go."""
        if self.zones is None:
            return np.minimum(in_service, self.instances)
        return -(-in_service // self.zones)


@dataclass(frozen=True, slots=True, eq=False)
class SimulationOptions:
    """What is assumed about the world around the policy.

    Parameters
    ----------
    publish_delay_s
        From the end of a datapoint's period until alarms see it (rounded up to a period).
    serialised
        Nothing is ordered while a scale-out is in progress (endpoint ``Updating``).
    lead_in_min
        Minutes at the start of every day that are simulated and not scored.
    allowance
        Share of a minute's requests that may miss the SLO before the minute is bad.
    zones
        Availability zones for `SimulationResult.zone_safe_share`.
    losses
        Instances lost, in every lane.
    min_capacity_by_minute
        Shape (minutes,): a scheduled minimum, raising the policy's own (and its maximum).
    dispersion
        Variance over mean of counts in ten-second slots against Poisson.
    metric_curve
        Needed for CPU and concurrency.
    initial_capacity
        Instances in service at the start; None begins where the first minute's load belongs.
    least_outstanding
        Routing by LEAST_OUTSTANDING_REQUESTS: while old instances still hold a backlog, new
        ones take all the traffic. With RANDOM they take their share only.
    give_up_min
        Once a fleet has been overloaded for so many minutes on end, all requests of the rest of
        its day count as missed: for a search, to which such a policy is lost anyway. None
        follows every overload to its end.
    chance_repeats_after
        Days this far apart draw the same chance: for a comparison of the same days under
        different assumptions.
    """

    publish_delay_s: float = 60.0
    serialised: bool = True
    lead_in_min: int = 0
    allowance: float = 0.01
    zones: int = 3
    losses: tuple[Loss, ...] = ()
    min_capacity_by_minute: NDArray[np.int64] | None = None
    dispersion: float = 1.0
    metric_curve: MetricCurve | None = None
    initial_capacity: int | None = None
    least_outstanding: bool = False
    give_up_min: int | None = None
    chance_repeats_after: int = 1 << 31
    lanes_per_block: int = field(default=16_384, repr=False)

    def __post_init__(self) -> None:
        if self.publish_delay_s < 0.0 or self.lead_in_min < 0 or self.dispersion < 1.0:
            raise ValueError("delays must not be negative and dispersion not below 1")
        if not 0.0 <= self.allowance < 1.0:
            raise ValueError(f"allowance must be inside [0, 1): {self.allowance}")
        if self.zones < 2 or self.lanes_per_block < 1:
            raise ValueError("need at least two zones and one lane")
