"""What a campaign is asked to find out, and what it may spend."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tuner.campaign.types import Routing
from tuner.slo import Slo


@dataclass(frozen=True, slots=True)
class Limits:
    """What a campaign may spend on load; None is no limit.

    ``time_s`` counts settling and measuring, ``requests`` every request offered, and
    ``cost_usd`` instances times hours at ``price_per_instance_hour_usd``.
    """

    time_s: float | None = 1800.0
    requests: int | None = None
    cost_usd: float | None = None
    price_per_instance_hour_usd: float | None = None

    def __post_init__(self) -> None:
        if self.cost_usd is not None and self.price_per_instance_hour_usd is None:
            raise ValueError("a cost limit needs a price per instance-hour")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each kind of stage lasts in an automatic search, in seconds.

    Parameters
    ----------
    floor_s, ramp_s, measure_s, verify_s, local_s
        Lengths of the first look, each step of the ramp, a safe window, a verification, and
        a window of the local regression.
    ramp_factor
        Load of a ramp step over the one before.
    least_verify_s
        Verification at n instances takes the n-th part of the time, but no less.
    shared_verify
        Share of the verification spent on one instance when other counts are verified too.
    ramp_settle_s
        Settling between steps of the ramp, which need no steady state to be of use.
    safe_shares
        Loads of the safe windows as shares of the predicted limit.
    extra_windows
        Safe windows that may be added for precision, in the whole campaign.
    """

    floor_s: float = 10.0
    ramp_s: float = 15.0
    measure_s: float = 80.0
    verify_s: float = 150.0
    local_s: float = 60.0
    ramp_factor: float = 1.5
    least_verify_s: float = 30.0
    shared_verify: float = 0.6
    ramp_settle_s: float = 3.0
    safe_shares: tuple[float, ...] = (0.85, 0.5)
    extra_windows: int = 6


@dataclass(frozen=True, slots=True)
class CampaignConfig:
    """One campaign.

    Parameters
    ----------
    slo
        What "inside" means.
    routing
        How the endpoint spreads requests over its instances.
    instance_counts
        Counts to measure or verify at, ascending; the first is measured in detail.
    rates_per_instance_per_s
        None searches; otherwise exactly these loads are offered at each count.
    step_s
        Length of the stages of given loads.
    warm_up_s, settle_s
        Warm-up before anything counts (0 for none); unmeasured load before each window.
    precision, level
        Half-width to reach, as a share of the capacity, and confidence.
    start_rate_per_s
        A load one instance surely carries; None starts from the unloaded latency.
    classes, mix
        Names of payload classes by index, and their shares in production.
    """

    slo: Slo
    routing: Routing = Routing.RANDOM
    instance_counts: tuple[int, ...] = (1,)
    rates_per_instance_per_s: tuple[float, ...] | None = None
    step_s: float = 60.0
    warm_up_s: float = 60.0
    settle_s: float = 10.0
    arrivals: str = "poisson"
    seed: int = 1
    limits: Limits = field(default_factory=Limits)
    precision: float = 0.05
    level: float = 0.95
    start_rate_per_s: float | None = None
    classes: tuple[str, ...] = ()
    mix: tuple[tuple[str, float], ...] = ()
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        counts = self.instance_counts
        if not counts or counts[0] < 1 or list(counts) != sorted(set(counts)):
            raise ValueError(f"instance counts must ascend from 1 or more: {counts}")
        rates = self.rates_per_instance_per_s
        if rates is not None and (not rates or min(rates) <= 0.0):
            raise ValueError(f"rates must be positive and at least one: {rates}")
        if not (self.step_s > 0.0 and self.warm_up_s >= 0.0 and self.settle_s >= 0.0):
            raise ValueError("step_s must be positive, warm_up_s and settle_s not negative")
        if not (0.0 < self.precision < 1.0 and 0.0 < self.level < 1.0):
            raise ValueError("precision and level must be inside (0, 1)")

    def with_seed(self, seed: int) -> CampaignConfig:
        """The same campaign with other arrivals."""
        return replace(self, seed=seed)


def demo_config(
    slo: Slo,
    *,
    instance_counts: tuple[int, ...] = (1, 2, 4),
    routing: Routing = Routing.RANDOM,
    start_rate_per_s: float = 60.0,
    seed: int = 1,
) -> CampaignConfig:
    """A campaign of about 85 seconds of load, for a server that answers in tens of ms.

    Its interval is wider than that of a real campaign: it rests on seconds, not minutes.
    """
    pace = Pace(
        floor_s=3.0,
        ramp_s=4.0,
        measure_s=10.0,
        verify_s=11.0,
        local_s=8.0,
        ramp_factor=1.6,
        least_verify_s=7.0,
        shared_verify=1.0,
        ramp_settle_s=0.5,
        extra_windows=0,
    )
    return CampaignConfig(
        slo=slo,
        routing=routing,
        instance_counts=instance_counts,
        step_s=8.0,
        warm_up_s=3.0,
        settle_s=1.0,
        seed=seed,
        limits=Limits(time_s=105.0),
        precision=0.10,
        start_rate_per_s=start_rate_per_s,
        pace=pace,
    )
