"""What an endpoint can carry inside its SLO, as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.interval import Interval
from tuner.slo import LatencyObjective, Verdict


@dataclass(frozen=True, slots=True)
class Gate:
    """One check the data had to pass for the answer to be given.

    ``sentence`` says for people what was seen; ``remedy`` what would settle it (a stage to
    run, requests to add), or None when the gate passed.
    """

    name: str
    passed: bool
    value: float
    limit: str
    sentence: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class CountCapacity:
    """Highest offered rate per instance inside the SLO, at one instance count.

    ``source`` is ``"measured"`` (load was held near the crossing at this count),
    ``"verified"`` (predicted, and a verification window at this count agreed) or
    ``"predicted"``.
    """

    instance_count: int
    rate_per_s: Interval
    source: str
    requests: int


@dataclass(frozen=True, slots=True, eq=False)
class ViolationTable:
    """P(latency > threshold) as the policy simulator looks it up.

    Parameters
    ----------
    instance_count
        Shape (c,), ascending, from 1 without gaps.
    utilization
        Offered rate over saturation rate, shape (u,), ascending from 0 to 1.
    delay_s
        Wait for the backlog present, shape (d,), ascending from 0.
    probability
        Shape (c, u, d), non-decreasing along the last two axes, failures included.
    saturation_rate_per_s
        Rate per instance at which the queue no longer drains (utilisation 1).
    """

    instance_count: NDArray[np.int64]
    utilization: NDArray[np.float64]
    delay_s: NDArray[np.float64]
    probability: NDArray[np.float64]
    saturation_rate_per_s: float


@dataclass(frozen=True, slots=True, eq=False)
class CapacityModel:
    """The defended answer to "how much can it carry?", or the reasons for having none.

    Parameters
    ----------
    verdict
        MET: the SLO can be held at some load, see ``by_count``. VIOLATED: it cannot, even
        unloaded. INCONCLUSIVE: the data do not support an answer; ``gates`` say why.
    binding
        The objective that binds first; None when it is ``max_error_rate``.
    method
        ``"work_recovery"``, ``"contention_recovery"``, ``"unordered_recovery"``,
        ``"local_regression"``, ``"latency_curve"`` or ``"none"``.
    by_count
        Ascending instance counts; the first entry is one instance where it is known.
    ensemble
        Plausible capacities per instance, shape (members, len(by_count)). The policy search
        stands on the ends of the intervals in ``by_count``, which also carry the correction for
        skewed demands.
    table
        For the policy simulator; None when ``verdict`` is not MET.
    floor_s
        Network floor: the smallest time a request takes outside the server.
    demand_quantile_s
        Service demand at evenly spaced probabilities (i + .5)/k, shape (k,); empty if unknown.
    workers
        Parallel servers per instance of the fitted model; 0 if unknown.
    max_supported_count
        Largest instance count the data support.
    launch_lag_s
        Measured seconds from order to settled, one per scale-out seen.
    other_thresholds
        For what-if questions: factors on the binding objective's threshold, each with the
        table that holds there.
    """

    verdict: Verdict
    binding: LatencyObjective | None
    routing: str
    method: str
    by_count: tuple[CountCapacity, ...]
    gates: tuple[Gate, ...]
    ensemble: NDArray[np.float64]
    table: ViolationTable | None
    floor_s: float
    demand_quantile_s: NDArray[np.float64]
    workers: int
    max_supported_count: int
    requests_used: int
    stages_used: tuple[int, ...]
    launch_lag_s: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    other_thresholds: tuple[tuple[float, ViolationTable], ...] = ()

    def at(self, instance_count: int) -> CountCapacity | None:
        """The entry for this count, or None."""
        return next((c for c in self.by_count if c.instance_count == instance_count), None)
