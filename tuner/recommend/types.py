"""The answer tuner exists for, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.actions import ScheduledAction
from tuner.recommend.data_capture import CaptureDecision
from tuner.recommend.density_types import Density
from tuner.recommend.prices import Price
from tuner.recommend.verify_types import Verification
from tuner.simulator.timeline import Timeline
from tuner.slo import Slo, Verdict
from tuner.units import MINUTES_PER_DAY


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


WITHOUT_SCHEDULE = "without_schedule"
"""The alternative that a schedule was held against."""


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
    the shares are simulated at the low end of the capacity, each day under windows made from
    other days (a single day under its own).

    Parameters
    ----------
    weekend_windows
        Those of Saturday and Sunday; empty when all days are alike.
    actions
        The same as scheduled actions.
    lead_min
        Minutes by which the windows begin before the need.
    repeats
        Share of half hours in which the windows made from the other days cover a day's need:
        how predictable the need is. None with a single day.
    adopted
        Whether the plan asked for a schedule, so that its actions are written.
    saved_share
        Of the instance-hours of the recommended policy alone, at the same capacity.
    """

    windows: tuple[Window, ...]
    policy: TargetTrackingPolicy
    bounds: CapacityBounds
    instance_hours_per_day: float
    violating_share: float
    bad_minute_share: float
    meets: bool
    weekend_windows: tuple[Window, ...] = ()
    actions: tuple[ScheduledAction, ...] = ()
    lead_min: int = 0
    repeats: float | None = None
    adopted: bool = False
    saved_share: float = 0.0

    @property
    def levels(self) -> tuple[int, ...]:
        """Every minimum that the clock asks for."""
        return tuple(w.min_capacity for w in (*self.windows, *self.weekend_windows))

    @property
    def lowest_minimum(self) -> int:
        """What is kept at every hour."""
        return min(self.levels)

    @property
    def highest_minimum(self) -> int:
        """Safe at any hour, so until the first scheduled action fires."""
        return max(self.levels)

    @property
    def mean_minimum(self) -> float:
        """Mean of the minimum over a week."""
        weekend = self.weekend_windows or self.windows
        return (5.0 * _mean_level(self.windows) + 2.0 * _mean_level(weekend)) / 7.0


def _mean_level(windows: tuple[Window, ...]) -> float:
    ends = [*(w.start_minute for w in windows[1:]), MINUTES_PER_DAY]
    spans = zip(windows, ends, strict=True)
    return sum(w.min_capacity * (end - w.start_minute) for w, end in spans) / MINUTES_PER_DAY


@dataclass(frozen=True, slots=True)
class OffHours:
    """One instance in off-hours, the policy's own bounds in the others.

    Parameters
    ----------
    hours_per_week
        Hours at one instance; those of the lead that instances need to start not counted.
    saved_hours_per_day
        Instance-hours saved, mean over the week, with the interval over recorded days.
    saved_usd_per_month, deleted_usd_per_month
        In money; and what deleting the endpoint in those hours would save, which tuner does
        not do. None without a price.
    violating_share
        Share of requests in the other hours that miss the SLO when every morning starts at
        the minimum, at the low end of the capacity.
    """

    actions: tuple[ScheduledAction, ...]
    hours_per_week: float
    saved_hours_per_day: Interval
    saved_usd_per_month: Interval | None
    deleted_usd_per_month: float | None
    violating_share: float
    sentence: str


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
        Whether these were measured in the campaign; ``launch_lag_source`` is ``"measured"``,
        ``"given"`` or ``"assumed"``.
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
    launch_lag_source: str = ""


@dataclass(frozen=True, slots=True)
class SignalFit:
    """How a scaling metric was seen to answer to load, in the statistic CloudWatch serves.

    Parameters
    ----------
    statistic, period_s
        As the alarm of a policy on it reads it.
    stages, periods
        Stages whose metric was read, and datapoints in them.
    misfit
        Root mean square of the stages' means about the fitted relation, as a share of them.
    scatter
        Standard deviation of single datapoints about their stage's mean, as a share of it.
    refused
        Why nothing could be fitted; None when a relation was.
    """

    metric: ScalingMetric
    statistic: str
    period_s: int
    stages: int
    periods: int
    misfit: float
    scatter: float
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class SignalChoice:
    """The cheapest policy on one scaling metric; ``candidate`` None when none will do.

    ``target_value`` is the target with the uncertainty of the fitted relation; ``machine_share``
    the target of a CPU policy as a share of the whole machine.
    """

    metric: ScalingMetric
    candidate: Candidate | None
    reason: str = ""
    fit: SignalFit | None = None
    target_value: Interval | None = None
    machine_share: float | None = None
    recommended: bool = False


class Standing(StrEnum):
    """Where an instance type stands among those compared."""

    CHEAPEST = "cheapest"
    TIE = "tie"
    DOMINATED = "dominated"
    MISSES = "misses_the_slo"
    UNKNOWN = "not_known"


@dataclass(frozen=True, slots=True)
class TypeCost:
    """What one instance type costs on the traffic. Intervals run over those of its capacity.

    Parameters
    ----------
    name
        The instance type; with the endpoint's name where a type was measured twice.
    capacity_per_s
        Requests per second and instance inside the SLO; None without an answer.
    usd_per_million_at_capacity
        Price of a million requests on instances that are always as busy as the SLO allows.
    static_count, static_usd_per_month
        Instances that carry the recorded peak and the loss that is to be survived, and their
        price for 30 days of 24 hours.
    scaled_usd_per_month, scaled_usd_per_million
        The recommended policy; ``high`` is what it costs as it is recommended, chosen at the
        low end of the capacity, ``mid`` and ``low`` what it would cost were the middle or the
        high end known to be true.
    policy, bounds
        The type's own recommended policy.
    beaten_by
        The type that dominates this one.
    """

    name: str
    instance_type: str
    price: Price
    standing: Standing
    reason: str
    capacity_per_s: Interval | None = None
    usd_per_million_at_capacity: Interval | None = None
    static_count: int | None = None
    static_usd_per_month: Interval | None = None
    scaled_usd_per_month: Interval | None = None
    scaled_usd_per_million: Interval | None = None
    policy: TargetTrackingPolicy | None = None
    bounds: CapacityBounds | None = None
    beaten_by: str | None = None


@dataclass(frozen=True, slots=True)
class RightSizing:
    """Which instance type to take; ``types`` cheapest first, those without an answer last.

    ``ties`` are the types whose cost cannot be told from that of ``chosen`` (their intervals
    overlap).
    """

    chosen: str | None
    ties: tuple[str, ...]
    sentence: str
    types: tuple[TypeCost, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Recommendation:
    """The policy, what is expected of it, and why.

    ``chosen`` is None unless ``verdict`` is MET; where a schedule was asked for and is worth its
    actions, it is the schedule's policy, as it is expected to run under them. ``hardest_day`` is
    the simulated day with the most missed requests under it. ``minimum`` explains the minimum
    capacity as a sum, under a schedule that of the quietest window. ``schedule`` is set when a
    minimum that follows the clock holds the SLO for less. ``proposal`` is a policy outside the
    bounds that would do; set only when the verdict is VIOLATED and one was found.
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
    off_hours: OffHours | None = None
    data_capture: CaptureDecision | None = None

    @property
    def without_schedule(self) -> Candidate | None:
        """The cheapest policy whose minimum does not follow the clock."""
        named = (c for c in self.alternatives if c.name == WITHOUT_SCHEDULE)
        return next(named, self.chosen)

    @property
    def adopted_schedule(self) -> Schedule | None:
        """The schedule that ``chosen`` is to run under; None for a suggestion."""
        schedule = self.schedule
        return schedule if schedule is not None and schedule.adopted else None

    @property
    def scheduled_actions(self) -> tuple[ScheduledAction, ...]:
        """The scheduled actions that belong to the answer: only those the plan asked for."""
        if self.chosen is None:
            return ()
        if self.off_hours is not None:
            return self.off_hours.actions
        schedule = self.adopted_schedule
        return () if schedule is None else schedule.actions

    right_size: RightSizing | None = None
    signals: tuple[SignalChoice, ...] = ()
    verification: Verification | None = None
    models: Density | None = None
