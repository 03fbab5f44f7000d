"""A run as a campaign would leave it, drawn from M/M/c with a known answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.campaign.types import GeneratorHealth, ScaleEvent, StageKind, StageResult, StageSpec
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel, CountCapacity, Gate
from tuner.recommend.prices import Price
from tuner.recommend.types import (
    Basis,
    Candidate,
    Expected,
    Failing,
    MinimumPart,
    Recommendation,
    Resilience,
    Statement,
)
from tuner.report.data import ReportData, Table
from tuner.simulator.timeline import Timeline
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome, RequestLog

WORKERS = 4
SERVICE_S = 0.02
SLO = Slo((LatencyObjective(0.95, 0.12), LatencyObjective(0.99, 0.165)), 0.001)
P99 = SLO.objectives[1]


def erlang_c(servers: int, offered: float) -> float:
    """Probability of waiting in M/M/c, by the recursion of Erlang's B formula."""
    blocking = 1.0
    for k in range(1, servers + 1):
        blocking = offered * blocking / (k + offered * blocking)
    rho = offered / servers
    return blocking / (1.0 - rho * (1.0 - blocking))


def sojourns(rate: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Independent response times of M/M/c at this rate, from the closed form."""
    servers, mu = WORKERS, 1.0 / SERVICE_S
    wait = rng.random(n) < erlang_c(servers, rate * SERVICE_S)
    delay = rng.exponential(1.0 / (servers * mu - rate), n)
    return rng.exponential(SERVICE_S, n) + np.where(wait, delay, 0.0)


def stage(
    index: int,
    count: int,
    rate_per_instance: float,
    *,
    kind: StageKind = StageKind.MEASURE,
    duration_s: float = 60.0,
    failures: int = 0,
    void: tuple[str, ...] = (),
    samples: tuple[tuple[str, int], ...] = (),
    keep_log: bool = True,
) -> StageResult:
    rng = np.random.default_rng(1000 + index)
    rate = rate_per_instance * count
    n = int(rate * duration_s)
    start = np.sort(rng.random(n) * duration_s)
    if rate_per_instance < WORKERS / SERVICE_S:
        latency = sojourns(rate_per_instance, n, rng)
    else:
        # Beyond saturation the backlog grows with time.
        excess = rate_per_instance * SERVICE_S / WORKERS - 1.0
        latency = rng.exponential(SERVICE_S, n) + excess * start
    outcome = np.zeros(n, np.uint8)
    outcome[rng.choice(n, failures, replace=False)] = Outcome.TIMEOUT
    log = RequestLog.from_times(start, start + latency, outcome=outcome)
    health = GeneratorHealth(rate, rate, 0.0004, 0.0006, 0.41, 60, 1000, 2, 0.4, 1.0, void)
    spec = StageSpec(index, kind, count, rate, duration_s, 5.0, "poisson", 7 + index, "climbing")
    windows = windows_of(log)
    return StageResult(spec, 1.8e9, log if keep_log else None, windows, health, samples)


def stages() -> tuple[StageResult, ...]:
    rates = (40.0, 80.0, 120.0, 150.0, 165.0, 175.0, 182.0)
    result = [stage(0, 1, 5.0, kind=StageKind.FLOOR, duration_s=20.0)]
    for count in (1, 2, 4):
        for rate in rates:
            i = len(result)
            bad = ("send lag p99 41 ms is above the limit of 5 ms",) if i == 17 else ()
            failures = 0
            samples: tuple[tuple[str, int], ...] = ()
            if rate > 180.0:
                failures, samples = 40, (("timeout after 4 s", 40),)
            result.append(
                stage(i, count, rate, failures=failures, void=bad, samples=samples, keep_log=i != 5)
            )
    result.append(stage(len(result), 1, 215.0, kind=StageKind.RAMP, duration_s=30.0))
    return tuple(result)


def capacity(verdict: Verdict = Verdict.MET) -> CapacityModel:
    gates = (
        Gate("requests", True, 31_000.0, ">= 10 000", "31 000 requests near the crossing."),
        Gate(
            "steady state",
            verdict is not Verdict.INCONCLUSIVE,
            0.31,
            "<= 0.2",
            "The p99 of stages 6 and 7 kept climbing: latency was not steady.",
            "Run stages at 165 and 175 requests/s for at least 180 s each."
            if verdict is Verdict.INCONCLUSIVE
            else None,
        ),
    )
    met = verdict is Verdict.MET
    by_count = (
        CountCapacity(1, Interval(166.1, 168.4, 170.2), "measured", 31_000),
        CountCapacity(2, Interval(164.0, 168.1, 173.3), "verified", 18_000),
        CountCapacity(4, Interval(158.0, 167.9, 178.5), "predicted", 0),
    )
    return CapacityModel(
        verdict=verdict,
        binding=P99 if met else None,
        routing="RANDOM",
        method="work_recovery" if met else "none",
        by_count=by_count if met else (),
        gates=gates,
        ensemble=np.array([[172.0, 171.0, 170.0]]),
        table=None,
        floor_s=0.001,
        demand_quantile_s=np.array([]),
        workers=WORKERS,
        max_supported_count=4,
        requests_used=120_000,
        stages_used=tuple(range(1, 22)),
        launch_lag_s=(214.0, 240.0),
        warnings=("Capacity at 4 instances is predicted, not measured.",) if met else (),
    )


def candidate(
    name: str,
    target: float | None,
    low: int,
    high: int,
    miss: float,
    month: float,
    meets: bool,
    reason: str,
    failing: tuple[Failing, ...] = (),
) -> Candidate:
    policy = (
        None if target is None else TargetTrackingPolicy(ScalingMetric.INVOCATIONS, target, 0, 300)
    )
    hours = month / 30.0 / 0.23
    return Candidate(
        name,
        policy,
        CapacityBounds(low, high),
        Expected(
            Interval(1.0 - 2.0 * miss, 1.0 - miss, 1.0 - miss / 2.0),
            miss * 3.0,
            Interval(hours * 0.97, hours, hours * 1.04),
            Interval(month * 0.97, month, month * 1.04),
            Interval(month / 870.0 * 0.97, month / 870.0, month / 870.0 * 1.04),
        ),
        reason,
        meets,
        failing,
    )


def hardest_day() -> Timeline:
    rng = np.random.default_rng(5)
    minute = np.arange(1440)
    rate = 26_000.0 - 19_000.0 * np.cos((minute - 180) / 1440 * 2 * np.pi)
    rate[1105:1145] += 24_000.0 * np.exp(-np.arange(40) / 14.0)
    traffic = rng.poisson(rate).astype(np.float64)
    wanted = np.maximum(3.0, np.ceil(traffic / 8_430.0))
    in_service = np.maximum.reduce([np.roll(wanted, 5 + k) for k in range(16)])
    starting = np.maximum(0.0, wanted - in_service)
    load = traffic / (in_service * 10_370.0)
    violation = np.clip((load - 0.97) * 2.2, 0.0, 0.9)
    return Timeline(traffic, in_service, starting, traffic / in_service, violation, violation * 2)


def recommendation(verdict: Verdict = Verdict.MET) -> Recommendation:
    met = verdict is Verdict.MET
    chosen = candidate("searched", 8430.77, 3, 14, 0.00021, 1012.0, True, "least cost in budget")
    alternatives = (
        candidate("aws_half_of_maximum", 5187.0, 2, 18, 4e-6, 1489.0, True, "costs more"),
        candidate("70_percent_of_maximum", 7261.0, 2, 14, 0.0009, 1160.0, True, "no zone safety"),
        candidate("fixed_peak_fleet", None, 7, 7, 2e-7, 1159.2, True, "no scaling at all"),
    )
    rejected = (
        candidate("rejected_1", 9700.0, 2, 14, 0.014, 921.0, False, "1.4 % of requests miss"),
        candidate("rejected_2", 9100.0, 3, 6, 0.022, 940.0, False, "max capacity below the peak"),
    )
    front = tuple(
        candidate("searched", 7000.0 + 300.0 * k, 3, 14, 2e-5 * 2.1**k, 1130.0 - 27.0 * k, True, "")
        for k in range(9)
    )
    return Recommendation(
        verdict=verdict,
        slo=SLO,
        capacity=capacity(verdict),
        chosen=chosen if met else None,
        alternatives=alternatives if met else (),
        rejected=rejected,
        front=front if met else (),
        statements=(
            Statement("binding:minutes", "The flash at 18:25 sets the target."),
            Statement("largest_jump", "Traffic may jump by 43 % within a minute.", 1.43),
            Statement("scored_days", "On 13 of 14 scoring days no minute missed the SLO."),
        )
        if met
        else (),
        sensitivities=(
            Statement("launch_lag_x2", "Launches 2 times as long.", 0.0009, "share of requests"),
            Statement("growth_x1.25", "Traffic times 1.25.", 0.0031, "share of requests"),
            Statement("capacity_low", "Capacity at its low end.", 0.0004, "share of requests"),
            Statement("budget_x0.5", "Half the budgets: +4.1 % cost.", 0.041, "share of cost"),
            Statement("budget_x2", "Twice the budgets: -14 % cost.", -0.14, "share of cost"),
        )
        if met
        else (),
        hardest_day=hardest_day() if met else None,
        traffic_name="checkout, 14 days",
        peak_per_min=63_000.0,
        warnings=("Two weeks do not determine a policy against rare spikes.",) if met else (),
        instance_type="ml.m5.xlarge",
        price_per_hour_usd=0.23,
        price=Price("ml.m5.xlarge", 0.23, "A", "AWS Price List", "2026-07-01"),
        basis=Basis(
            14,
            tuple(range(10)),
            (10, 11, 12, 13),
            (214.0, 240.0),
            True,
            420,
            0.01,
            0.005,
            Resilience("zone", 1, 3),
            0,
        ),
        minimum=(
            MinimumPart("base", 2, 331.2, "2 for the quiet hours."),
            MinimumPart("resilience", 1, 165.6, "1 to lose 1 zone of 3."),
        )
        if met
        else (),
        today=candidate(
            "today",
            9800.0,
            1,
            8,
            0.031,
            905.0,
            False,
            "spike at 18:25 outruns launches",
            (Failing.REQUESTS, Failing.MINUTES),
        ),
    )


TFVARS = """# Written by tuner 0.1.0 on 2026-11-22 from run "2026-11-22-checkout".
# SLO: p95 <= 120 ms, p99 <= 165 ms, errors <= 0.1 %

instance_type          = "ml.m5.xlarge"
instance_count         = 3
min_capacity           = 3
max_capacity           = 14
target_value           = 8430
scale_in_cooldown      = 300
scale_out_cooldown     = 0
predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
"""


def report(verdict: Verdict = Verdict.MET) -> ReportData:
    met = verdict is Verdict.MET
    return ReportData(
        title="Checkout scorer",
        run_name="2026-11-22-checkout",
        date_text="2026-11-22 20:10 UTC",
        slo=SLO,
        stages=stages(),
        capacity=capacity(verdict),
        recommendation=recommendation(verdict),
        scale_events=(
            ScaleEvent(1, 2, 0.0, 214.0),
            ScaleEvent(2, 4, 0.0, 240.0),
        ),
        plan_rows=(
            ("endpoint.kind", "emulator"),
            ("load.rates", "auto"),
            ("slo", SLO.describe()),
            ("load.payload", '{"features": [' + ", ".join(["0.125"] * 40) + "]}"),
        ),
        provenance=(("tuner", "0.1.0"), ("seed", "7"), ("locust", "2.47.0"), ("python", "3.11.9")),
        generator_check=(
            ("send lag, p99", "0.4 ms (limit 5 ms)"),
            ("highest CPU share", "41 % (limit 80 %)"),
        ),
        refusals=("Stage 17 is void: send lag p99 41 ms is above the limit of 5 ms.",),
        warnings=("The endpoint is emulated: latencies are the emulator's.",),
        next_steps=("terraform plan -var-file=terraform.tfvars",) if met else (),
        commands=("tuner run tuner.toml", "tuner report reports/2026-11-22-checkout"),
        tfvars=TFVARS if met else None,
        tables=(
            Table(
                "Cost of each knob",
                ("Knob", "USD per month", "Share"),
                (("base traffic", "610", "60 %"), ("zone safety", "402", "40 %")),
            ),
        ),
        duration_s=1390.0,
        money_spent_usd=1.07,
    )
