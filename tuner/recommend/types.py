"""The answer tuner exists for, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel
from tuner.simulator.timeline import Timeline
from tuner.slo import Slo, Verdict


@dataclass(frozen=True, slots=True)
class Resilience:
    """What may be lost at any moment without missing the SLO.

    ``lose`` is ``"none"``, ``"instance"`` (``count`` of them) or ``"zone"`` (one of
    ``zones``).
    """

    lose: str = "none"
    count: int = 1
    zones: int = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """What simulation expects of a policy on the traffic."""

    slo_attainment: Interval
    bad_minute_share: float
    instance_hours_per_day: Interval
    cost_per_month_usd: Interval | None
    cost_per_million_usd: Interval | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One policy that was looked at: chosen, an alternative, or rejected with its reason."""

    name: str
    policy: TargetTrackingPolicy | None
    bounds: CapacityBounds
    expected: Expected
    reason: str
    meets: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """One claim about the future with what it rests on: ``binding`` constraints, ramps, days."""

    name: str
    sentence: str
    value: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Recommendation:
    """The policy, what is expected of it, and why.

    ``chosen`` is None unless ``verdict`` is MET. ``hardest_day`` is the simulated day with
    the most missed requests under the chosen policy.
    """

    verdict: Verdict
    slo: Slo
    capacity: CapacityModel
    chosen: Candidate | None
    alternatives: tuple[Candidate, ...]
    rejected: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    statements: tuple[Statement, ...]
    sensitivities: tuple[Statement, ...]
    hardest_day: Timeline | None
    traffic_name: str
    peak_per_min: float
    warnings: tuple[str, ...]
    instance_type: str
    price_per_hour_usd: float | None
