"""From a plan to what the rooms below take: campaign, traffic, constraints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.campaign.config import CampaignConfig, Limits, Pace, demo_config
from tuner.campaign.types import Routing
from tuner.errors import InputError, TrafficError
from tuner.plan.parse import Plan
from tuner.plan.price_file import PRICE_FILE, read_price_file, with_file
from tuner.recommend.actions import ScheduleRules, parse_off_hours
from tuner.recommend.constraints import Constraints, parse_resilience
from tuner.recommend.prices import PRICES, Price, PriceTable
from tuner.units import SECONDS_PER_MINUTE
from tuner.workload.payloads import PayloadSet
from tuner.workload.shapes import make_traffic, sample_day
from tuner.workload.traffic import TrafficProfile
from tuner.workload.traffic_csv import parse_traffic_csv

DEFAULT_TROUGH_SHARE = 0.15
USUAL_STEP_S = 120.0
"""The ``load.step_s`` for which the search's own stage lengths are meant."""


def campaign_of(
    plan: Plan, routing: Routing, payloads: PayloadSet, price: Price | None
) -> CampaignConfig:
    """What the search is asked to find out, and what it may spend."""
    load = plan.load
    if load.max_cost_usd is not None and price is None:
        raise InputError(
            "load.max_cost_usd needs a price, and the instance type has none in the table",
            value=plan.capacity.instance_type,
            hint="give capacity.price_per_hour_usd",
        )
    limits = Limits(
        time_s=load.max_minutes * SECONDS_PER_MINUTE,
        requests=load.max_requests,
        cost_usd=load.max_cost_usd,
        price_per_instance_hour_usd=price.usd_per_hour if price else None,
    )
    if load.quick:
        quick = demo_config(
            plan.slo,
            instance_counts=tuple(sorted(load.instance_counts)),
            routing=routing,
            start_rate_per_s=load.start_rate_per_s or 20.0,
            seed=load.seed,
        )
        return replace(
            quick,
            limits=limits,
            classes=payloads.class_names,
            mix=tuple(sorted(plan.traffic.mix.items())),
        )
    return CampaignConfig(
        slo=plan.slo,
        routing=routing,
        instance_counts=tuple(sorted(load.instance_counts)),
        rates_per_instance_per_s=None if load.rates == "auto" else load.rates,
        step_s=load.step_s,
        warm_up_s=load.warm_up_s,
        settle_s=load.settle_s,
        arrivals=load.arrivals,
        seed=load.seed,
        limits=limits,
        precision=load.precision,
        level=load.level,
        start_rate_per_s=load.start_rate_per_s,
        classes=payloads.class_names,
        mix=tuple(sorted(plan.traffic.mix.items())),
        pace=_pace(load.step_s),
    )


def _pace(step_s: float) -> Pace:
    """Stage lengths in proportion to the plan's step, the ramp's never under two seconds."""
    usual = Pace()
    share = step_s / USUAL_STEP_S
    return replace(
        usual,
        floor_s=max(2.0, usual.floor_s * share),
        ramp_s=max(2.0, usual.ramp_s * share),
        measure_s=usual.measure_s * share,
        verify_s=usual.verify_s * share,
        local_s=usual.local_s * share,
        least_verify_s=usual.least_verify_s * share,
    )


def traffic_text(path: Path) -> str:
    """The text of a traffic file.

    Raises
    ------
    TrafficError
        If it cannot be read.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TrafficError(
            f"the traffic file cannot be read: {reason}",
            value=str(path),
            allowed="a CSV file of requests per minute",
        ) from None


def traffic_of(plan: Plan, csv: str | None, *, name: str | None = None) -> TrafficProfile | None:
    """The traffic of a plan (``csv`` is the text of its file), grown as it says; None if absent.

    Raises
    ------
    TrafficError
        If the file's text cannot be used.
    """
    table = plan.traffic
    if csv is not None:
        profile = parse_traffic_csv(csv, name or Path(table.csv or "traffic.csv").name)
    elif table.peak_per_min is not None and table.shape == "sample_day":
        profile = sample_day(peak_per_min=table.peak_per_min)
    elif table.peak_per_min is not None:
        trough = table.trough_per_min
        share = DEFAULT_TROUGH_SHARE if trough is None else trough / table.peak_per_min
        profile = make_traffic(
            table.shape,
            peak_per_min=table.peak_per_min,
            days=float(table.days),
            trough_share=max(share, 1e-6),
            seed=plan.load.seed,
        )
    else:
        return None
    if table.growth != 1.0:
        profile = profile.scaled(table.growth)
    if table.peak_override_per_min is not None:
        profile = profile.with_peak(table.peak_override_per_min)
    return profile


def prices_of(plan: Plan, instance_type: str | None) -> PriceTable:
    """The packaged table; before it a price file in the working directory, and the plan's price.

    Raises
    ------
    InputError
        If the price file cannot be used.
    """
    table = with_file(PRICES, read_price_file(PRICE_FILE), plan.endpoint.region)
    given = plan.capacity.price_per_hour_usd
    if given is None or instance_type is None:
        return table
    return table.with_price(instance_type, given)


def price_in(plan: Plan, instance_type: str | None) -> Price | None:
    """The plan's price, else the table's; None when neither knows."""
    if instance_type is None:
        return None
    return prices_of(plan, instance_type).lookup(instance_type)


def constraints_of(plan: Plan, instance_type: str) -> Constraints:
    """Bounds, budgets and the resilience rule of the policy search."""
    table = plan.capacity
    return Constraints(
        instance_type=instance_type,
        min_capacity=table.min_capacity,
        max_capacity=table.max_capacity,
        quota=table.quota,
        resilience=parse_resilience(table.lose, zones=table.zones),
        budget_requests=plan.slo_table.budget_requests,
        budget_minutes=plan.slo_table.budget_minutes,
    )


def schedule_rules_of(plan: Plan) -> ScheduleRules | None:
    """What scheduled actions may do; None without a ``[schedule]`` table."""
    table = plan.schedule
    if table is None:
        return None
    return ScheduleRules(
        table.timezone,
        table.max_actions,
        table.non_production,
        None if table.off_hours is None else parse_off_hours(table.off_hours),
        table.off_weekends,
    )


def today_of(plan: Plan) -> tuple[TargetTrackingPolicy, CapacityBounds] | None:
    """The policy in use today, as the plan gives it."""
    table = plan.capacity
    if table.today_target_per_min is None:
        return None
    low = table.today_min_capacity or 1
    return (
        TargetTrackingPolicy(ScalingMetric.INVOCATIONS, table.today_target_per_min),
        CapacityBounds(low, max(low, table.today_max_capacity or table.max_capacity)),
    )
