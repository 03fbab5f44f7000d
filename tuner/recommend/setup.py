"""From measurements, traffic and wishes to a world that policies can be tried in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuner.autoscaling.policy import ScalingMetric
from tuner.errors import InputError
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.choose import Budgets
from tuner.recommend.constraints import Constraints, static_fleet
from tuner.recommend.evaluate import World, budgets_of
from tuner.recommend.prices import PriceTable
from tuner.recommend.rates import allowance_of, safe_rates, scaled_table, table_factor, table_of
from tuner.recommend.search import Ground, ground_of
from tuner.recommend.types import Basis
from tuner.simulator.inputs import LaunchLag, MetricCurve
from tuner.slo import Slo
from tuner.units import per_min_to_per_s
from tuner.workload.days import DaySet, split_days
from tuner.workload.profile import TrafficProfile

ASSUMED_LAUNCH_LAG_S = (240.0, 300.0, 360.0)
"""When no scale-out was measured: CPU instances take minutes, and AWS publishes no figure."""
MEASURED, GIVEN, ASSUMED = "measured", "given", "assumed"
"""Where a launch lag comes from."""
FEW_DAYS = 7
TINY_SHARE = 1.0 / 3.0
"""Traffic that a third of an instance carries at its largest minute may be per second."""
LARGEST_RATE_TABLE = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """A question ready to be searched."""

    world: World
    ground: Ground
    budgets: Budgets
    days: DaySet
    lag_source: str
    warnings: tuple[str, ...]
    traffic: TrafficProfile

    def basis(self, chosen_on: Sequence[int], scored_on: Sequence[int], policies: int) -> Basis:
        """What the answer rests on."""
        return Basis(
            traffic_days=self.days.count,
            chosen_on_days=tuple(chosen_on),
            scored_on_days=tuple(scored_on),
            launch_lag_s=self.world.launch.seconds,
            launch_lag_measured=self.lag_source == MEASURED,
            launch_lag_source=self.lag_source,
            policies=policies,
            budget_requests=self.budgets.requests,
            budget_minutes=self.budgets.minutes,
            resilience=self.world.resilience,
            seed=self.world.seed,
            traffic_notes=(*self.traffic.notes, *self.days.notes),
        )


def prepare(
    capacity: CapacityModel,
    traffic: TrafficProfile,
    *,
    slo: Slo,
    constraints: Constraints,
    launch_lag_s: Sequence[float] | float | None,
    prices: PriceTable,
    seed: int,
    metric_curves: Mapping[ScalingMetric, MetricCurve] | None,
) -> Setup:
    """Check and join the inputs.

    Raises
    ------
    InsufficientDataError
        When the capacity model has no table or no lower bound.
    TrafficError
        When no day of the traffic can be used.
    InputError
        When a launch lag is out of range, or a metric has no curve.
    """
    table = table_of(capacity)
    days = split_days(traffic)
    launch, source = _launch(capacity, launch_lag_s)
    allowance = allowance_of(capacity, slo)
    mid_rate = capacity.by_count[0].rate_per_s.mid
    mean_count = max(1.0, per_min_to_per_s(float(days.requests_per_min.mean())) / mid_rate)
    factors = [table_factor(capacity, allowance, mean_count, end) for end in ("low", "mid", "high")]
    world = World(
        days=days.requests_per_min,
        table=scaled_table(table, factors[1]),
        low_factor=factors[0] / factors[1],
        high_factor=factors[2] / factors[1],
        level=capacity.by_count[0].rate_per_s.level,
        launch=launch,
        resilience=constraints.resilience,
        allowance=allowance,
        dispersion=traffic.dispersion,
        price=prices.lookup(constraints.instance_type),
        seed=seed,
        least_outstanding=capacity.routing == "LEAST_OUTSTANDING_REQUESTS",
        curves=_curves(constraints, metric_curves, factors[1]),
    )
    peak_per_s = per_min_to_per_s(float(world.days.max()))
    size = min(LARGEST_RATE_TABLE, max(8, math.ceil(2.0 * peak_per_s / mid_rate)))
    ground = ground_of(world.days, safe_rates(capacity, allowance, size, "low"), constraints)
    budgets = budgets_of(
        allowance if constraints.budget_requests is None else constraints.budget_requests,
        constraints.budget_minutes,
        constraints.resilient_minutes,
        constraints.resilience,
    )
    warnings = _warnings(capacity, world, ground, days, traffic, source, constraints)
    return Setup(world, ground, budgets, days, source, warnings, traffic)


def _launch(
    capacity: CapacityModel, given: Sequence[float] | float | None
) -> tuple[LaunchLag, str]:
    seconds: Sequence[float] | float = ASSUMED_LAUNCH_LAG_S
    source = ASSUMED
    if given is not None:
        seconds, source = given, GIVEN
    elif capacity.launch_lag_s:
        seconds, source = capacity.launch_lag_s, MEASURED
    try:
        return LaunchLag.of(seconds), source
    except ValueError:
        raise InputError(
            "a launch lag cannot be used", value=seconds, allowed="seconds, 0 to 86400"
        ) from None


def _launch_words(launch: LaunchLag, source: str, measured_s: Sequence[float]) -> str:
    """What launches were taken to last, and why not what was measured."""
    lags = ", ".join(f"{s:g}" for s in launch.seconds)
    if source == ASSUMED:
        return f"No scale-out was measured; launches are taken to last {lags} s."
    if not measured_s:
        return f"Launches are taken to last {lags} s, as given; no scale-out was measured."
    seen = f"{min(measured_s):.0f} to {max(measured_s):.0f} s"
    return f"Launches are taken to last {lags} s, as given; those measured lasted {seen}."


def _curves(
    constraints: Constraints,
    given: Mapping[ScalingMetric, MetricCurve] | None,
    factor: float,
) -> dict[ScalingMetric, MetricCurve]:
    """Curves over the saturation of the table that is simulated, ``factor`` times the measured."""
    curves = {m: replace(c, utilization=c.utilization / factor) for m, c in (given or {}).items()}
    missing = [
        m.name
        for m in constraints.metrics
        if m is not ScalingMetric.INVOCATIONS and m not in curves
    ]
    if missing:
        raise InputError(
            "it was not measured how this metric answers to load",
            value=", ".join(missing),
            allowed="INVOCATIONS, or a metric read during the stages",
        )
    return curves


def _warnings(
    capacity: CapacityModel,
    world: World,
    ground: Ground,
    days: DaySet,
    traffic: TrafficProfile,
    lag_source: str,
    constraints: Constraints,
) -> tuple[str, ...]:
    said = list(capacity.warnings)
    if traffic.gaps or days.left_out:
        said += [n for n in (*traffic.notes, *days.notes) if "missing" in n or "no record" in n]
    if lag_source != MEASURED:
        said.append(_launch_words(world.launch, lag_source, capacity.launch_lag_s))
    if days.is_part_day:
        said.append("The traffic is shorter than a day: nothing is known about the other hours.")
    elif days.count < FEW_DAYS:
        said.append(
            f"{days.count} day{'s' if days.count > 1 else ''} of traffic cannot show how often "
            "rare peaks come; a policy chosen on two weeks or more is on firmer ground."
        )
    if traffic.step_minutes > 1:
        said.append(
            f"The traffic is known in steps of {traffic.step_minutes} minutes: shorter surges "
            "are not in the simulation."
        )
    one = float(ground.rates_low[0]) * 60.0
    if ground.peak_per_min < TINY_SHARE * one:
        said.append(
            f"The largest minute has {ground.peak_per_min:g} requests, and one instance carries "
            f"{one:.0f}: check that the traffic file is not in requests per second."
        )
    fleet = static_fleet(per_min_to_per_s(ground.peak_per_min), ground.rates_low)
    if fleet > capacity.max_supported_count:
        said.append(
            f"The peak needs about {fleet} instances; the measurements support statements up to "
            f"{capacity.max_supported_count}. Beyond that the capacity is extrapolated."
        )
    if world.price is None:
        said.append(
            f"The price of {constraints.instance_type} is not known: costs are left out. "
            "Give price_per_hour_usd."
        )
    elif world.price.grade not in ("A", "given"):
        said.append(
            f"The price of {constraints.instance_type} is of grade {world.price.grade} "
            f"({world.price.source}, {world.price.date}); check it."
        )
    return tuple(dict.fromkeys(said))
