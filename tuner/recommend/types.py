"""The answer tuner exists for, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.prices import Price
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


NOTHING_LOST = Resilience()


@dataclass(frozen=True, slots=True)
class Expected:
    """What simulation expects of a policy on the traffic.

    ``resilient_minute_share`` is the share of minutes in which the SLO would hold after the
    loss the resilience rule names; None when the rule names none.
    """

    slo_attainment: Interval
    bad_minute_share: float
    instance_hours_per_day: Interval
    cost_per_month_usd: Interval | None
    cost_per_million_usd: Interval | None
    resilient_minute_share: float | None = None


class Failing(StrEnum):
    """Machine-readable reasons for not taking a policy."""

    REQUESTS = "too_many_slow_requests"
    MINUTES = "too_many_bad_minutes"
    RESILIENCE = "not_resilient"
    BOUND = "outside_bounds"
    COST = "costs_more"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One policy that was looked at: chosen, an alternative, or rejected with its reason.

    ``policy`` None is a fixed fleet of ``bounds.min_capacity`` instances. ``failing`` names
    every constraint it breaks, or COST alone when it meets them all and a cheaper one was
    taken; empty for the chosen one.
    """

    name: str
    policy: TargetTrackingPolicy | None
    bounds: CapacityBounds
    expected: Expected
    reason: str
    meets: bool
    failing: tuple[Failing, ...] = ()


@dataclass(frozen=True, slots=True)
class MinimumPart:
    """One addend of the minimum capacity: what it is for, and what it costs.

    ``role`` is ``"base"``, ``"burst"`` or ``"resilience"``.
    """

    role: str
    instances: int
    cost_per_month_usd: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start_minute`` of the day (local time) the minimum is ``min_capacity``.

    The start already includes the lead that launches need.
    """

    start_minute: int
    min_capacity: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """A minimum that follows the clock, under a policy with a low minimum of its own.

    ``windows`` are in order and the first starts at midnight. ``instance_hours_per_day`` and
    the shares are simulated at the low end of the capacity on all days; a schedule promises
    as much as the days it was made from repeat themselves.
    """

    windows: tuple[Window, ...]
    policy: TargetTrackingPolicy
    bounds: CapacityBounds
    instance_hours_per_day: float
    violating_share: float
    bad_minute_share: float
    meets: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """One claim about the future with what it rests on: ``binding`` constraints, ramps, days."""

    name: str
    sentence: str
    value: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Basis:
    """What the answer rests on besides the capacity model.

    Parameters
    ----------
    traffic_days, chosen_on_days, scored_on_days
        Days simulated; indices of those the policy was chosen on, and of those that only
        scored it (none when the record is too short, or when they refuted the first choice).
    launch_lag_s
        Seconds from order to service that the simulation drew from.
    launch_lag_measured
        Whether these were measured in the campaign.
    policies
        Policies simulated.
    """

    traffic_days: int
    chosen_on_days: tuple[int, ...]
    scored_on_days: tuple[int, ...]
    launch_lag_s: tuple[float, ...]
    launch_lag_measured: bool
    policies: int
    budget_requests: float
    budget_minutes: float
    resilience: Resilience
    seed: int
    traffic_notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Recommendation:
    """The policy, what is expected of it, and why.

    ``chosen`` is None unless ``verdict`` is MET. ``hardest_day`` is the simulated day with
    the most missed requests under the chosen policy. ``minimum`` explains the minimum capacity
    as a sum. ``schedule`` is set when surges outrun launches and a minimum that follows the
    clock holds the SLO for less. ``proposal`` is a policy outside the bounds that would do;
    set only when the verdict is VIOLATED and one was found.
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
    price: Price | None = None
    basis: Basis | None = None
    minimum: tuple[MinimumPart, ...] = ()
    today: Candidate | None = None
    proposal: Candidate | None = None
    schedule: Schedule | None = None
