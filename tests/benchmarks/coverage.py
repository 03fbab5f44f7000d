"""Are the intervals true? Whole campaigns in virtual time against servers with known limits.

Prints, per scenario and method: share within 5 % of the true crossing, share of printed 95 %
intervals that hold it, minutes of load (median and nine-in-ten), and what was refused. Beside
tuner stand stock practices under the same arrivals: a fixed staircase with interpolation, and
a bisection that reads its interval from independent-sample (Wilson-like) verdicts.

``--truth`` finds the crossings again by long simulation; the stored ones came from it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from tuner.campaign.analyse import analyse
from tuner.campaign.config import CampaignConfig, Limits
from tuner.campaign.rehearse import judge, run_campaign
from tuner.campaign.types import Routing, StageKind, StageSpec
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import (
    Batching,
    Contention,
    FleetSpec,
    InstanceSpec,
    QueueOrder,
    RoutingStrategy,
)
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.proportions import clopper_pearson

LN = ServiceTime.lognormal(0.05, 1.0)
DETAILS: TextIO | None = None
LEAST = Routing.LEAST_OUTSTANDING_REQUESTS


@dataclass(frozen=True)
class Scenario:
    """A server, its SLO, and the true crossing per instance.

    ``read_at`` is the count whose prediction is judged when it was not itself measured.
    ``plain``: work recovery should be believed here; otherwise it should be refused.
    """

    instance: InstanceSpec
    p99_s: float
    truth_per_s: float
    count: int = 1
    read_at: int | None = None
    routing: Routing = Routing.RANDOM
    plain: bool = True
    slowdown: Callable[[float], float] | None = None

    @property
    def slo(self) -> Slo:
        return Slo((LatencyObjective(0.99, self.p99_s),))

    def backend(self, seed: int) -> VirtualBackend:
        fleet = FleetSpec(self.instance, 1, RoutingStrategy(self.routing.value))
        return VirtualBackend(fleet, seed=seed, slowdown=self.slowdown)


def spells(t_s: float) -> float:
    return 1.5 if t_s % 60.0 < 5.0 else 1.0


def creeping(t_s: float) -> float:
    return 1.0 + 0.5 * t_s / 1800.0


def cold(t_s: float) -> float:
    return 1.0 + 2.0 * math.exp(-t_s / 40.0)


SCENARIOS: dict[str, Scenario] = {
    "M/M/4": Scenario(InstanceSpec(ServiceTime.exponential(0.05), 4), 0.30, 59.962),
    "M/D/4": Scenario(InstanceSpec(ServiceTime.deterministic(0.05), 4), 0.12, 54.816),
    "lognormal": Scenario(InstanceSpec(LN, 4), 0.35, 63.15),
    "bimodal": Scenario(InstanceSpec(ServiceTime.two_point(0.025, 0.275, 0.1), 4), 0.40, 57.296),
    "batching": Scenario(
        InstanceSpec(ServiceTime.deterministic(0.02), 1, batching=Batching(8, 0.005, 0.005)),
        0.12,
        92.33,
        plain=False,
    ),
    "contention": Scenario(
        InstanceSpec(ServiceTime.exponential(0.05), 16, contention=Contention(0.15, 0.004)),
        0.45,
        49.22,
        plain=False,
    ),
    "random x4": Scenario(InstanceSpec(LN, 4), 0.35, 63.15, count=4),
    "least x4": Scenario(InstanceSpec(LN, 4), 0.35, 75.20, count=4, routing=LEAST),
    "least 8 from 2": Scenario(InstanceSpec(LN, 4), 0.35, 77.90, count=2, read_at=8, routing=LEAST),
    "spells": Scenario(InstanceSpec(LN, 4), 0.35, math.nan, plain=False, slowdown=spells),
    "drift": Scenario(InstanceSpec(LN, 4), 0.35, math.nan, plain=False, slowdown=creeping),
    "random order": Scenario(
        InstanceSpec(LN, 4, order=QueueOrder.RANDOM), 0.35, 57.89, plain=False
    ),
    "cold start": Scenario(InstanceSpec(LN, 4), 0.35, 63.15, slowdown=cold),
}


@dataclass(frozen=True)
class Outcome:
    """One campaign's answer; NaN where there is none."""

    low: float
    mid: float
    high: float
    minutes: float
    method: str
    refused_model: bool
    failed: tuple[str, ...] = ()


def tuner_campaign(scenario: Scenario, seed: int) -> Outcome:
    counts = (1,) if scenario.count == 1 else (1, scenario.count)
    config = CampaignConfig(
        slo=scenario.slo,
        routing=scenario.routing,
        instance_counts=counts,
        seed=seed,
        limits=Limits(time_s=2400.0),
    )
    campaign = run_campaign(config, scenario.backend(seed))
    model = judge(config, campaign)
    minutes = campaign.load_s / 60.0
    refused = model.method != "work_recovery"
    failed = tuple(g.name for g in model.gates if not g.passed)
    found = model.at(scenario.read_at or scenario.count)
    if model.verdict is not Verdict.MET or found is None:
        return Outcome(math.nan, math.nan, math.nan, minutes, model.verdict.value, refused, failed)
    rate = found.rate_per_s
    return Outcome(rate.low, rate.mid, rate.high, minutes, model.method, refused, failed)


@dataclass
class Probe:
    """Stock practice: one window at one load, without any care for dependence."""

    scenario: Scenario
    backend: VirtualBackend
    seed: int
    spent_s: float = 0.0
    index: int = 0

    @classmethod
    def of(cls, scenario: Scenario, seed: int) -> Probe:
        backend = scenario.backend(seed)
        backend.set_instance_count(scenario.count)
        return cls(scenario, backend, seed)

    def late(self, rate_per_s: float, length_s: float) -> tuple[int, int, float]:
        total = rate_per_s * self.scenario.count
        stage = StageSpec(
            self.index,
            StageKind.MEASURE,
            self.scenario.count,
            total,
            length_s,
            15.0,
            "poisson",
            1000 * self.seed + self.index,
            "probe",
        )
        self.index += 1
        self.spent_s += length_s + 15.0
        log = self.backend.measure(stage).log
        assert log is not None
        latency = log.latency_s()
        count = int(np.count_nonzero(latency > self.scenario.p99_s))
        return count, len(log), float(np.quantile(latency, 0.99, method="inverted_cdf"))


def staircase(scenario: Scenario, seed: int) -> Outcome:
    """Even steps of 120 s, as 10/s is to 60/s; p99 interpolated; its bracket the interval."""
    probe = Probe.of(scenario, seed)
    start = 0.5 * reference(scenario)
    before: tuple[float, float] | None = None
    for step in range(24):
        rate = start + reference(scenario) * step / 6.0
        p99 = probe.late(rate, 120.0)[2]
        if p99 > scenario.p99_s:
            low, low_p99 = before or (0.5 * rate, 0.5 * scenario.p99_s)
            share = math.log(scenario.p99_s / low_p99) / math.log(p99 / low_p99)
            mid = low * (rate / low) ** share
            return Outcome(low, mid, rate, probe.spent_s / 60.0, "staircase", False)
        before = (rate, p99)
    return Outcome(math.nan, math.nan, math.nan, probe.spent_s / 60.0, "none", False)


def bisection(scenario: Scenario, seed: int) -> Outcome:
    """Six windows of 120 s; the interval is where independent samples could not decide."""
    probe = Probe.of(scenario, seed)
    low, high = 0.5 * reference(scenario), 1.5 * reference(scenario)
    sure_low, sure_high = low, high
    for _ in range(6):
        rate = math.sqrt(low * high)
        late, n, _ = probe.late(rate, 120.0)
        below, above = clopper_pearson(late, n)
        if above <= 0.01:
            sure_low = max(sure_low, rate)
        if below > 0.01:
            sure_high = min(sure_high, rate)
        low, high = (rate, high) if late <= 0.01 * n else (low, rate)
    mid = math.sqrt(low * high)
    sure_low, sure_high = min(sure_low, mid), max(sure_high, mid)
    return Outcome(sure_low, mid, sure_high, probe.spent_s / 60.0, "bisection", False)


def reference(scenario: Scenario) -> float:
    return scenario.truth_per_s if math.isfinite(scenario.truth_per_s) else 55.0


METHODS: dict[str, Callable[[Scenario, int], Outcome]] = {
    "tuner": tuner_campaign,
    "staircase": staircase,
    "bisection": bisection,
}


@dataclass(frozen=True)
class Row:
    scenario: str
    method: str
    campaigns: int
    answered: float
    within: float
    coverage: float
    minutes: float
    minutes_p90: float
    model_refused: float

    @classmethod
    def of(cls, name: str, method: str, truth: float, outcomes: list[Outcome]) -> Row:
        answered = [o for o in outcomes if math.isfinite(o.mid)]
        known = answered if math.isfinite(truth) else []
        minutes = [o.minutes for o in outcomes]
        return cls(
            name,
            method,
            len(outcomes),
            len(answered) / len(outcomes),
            share([abs(o.mid / truth - 1.0) < 0.05 for o in known]),
            share([o.low <= truth <= o.high for o in known]),
            float(np.median(minutes)),
            float(np.quantile(minutes, 0.9)),
            share([o.refused_model for o in outcomes]),
        )


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else math.nan


def run(name: str, method: str, campaigns: int, seed: int) -> Row:
    scenario = SCENARIOS[name]
    outcomes = []
    for k in range(campaigns):
        outcomes.append(METHODS[method](scenario, seed + k))
        if DETAILS is not None:
            o = outcomes[-1]
            print(
                name,
                method,
                seed + k,
                f"{o.low:.2f} {o.mid:.2f} {o.high:.2f}",
                f"{o.minutes:.1f}",
                o.method,
                *o.failed,
                sep="\t",
                file=DETAILS,
                flush=True,
            )
    return Row.of(name, method, scenario.truth_per_s, outcomes)


def metrics(rows: list[Row]) -> list[dict[str, object]]:
    out: list[dict[str, object]] = []

    def add(name: str, value: float, unit: str, goal: str, met: bool | None) -> None:
        out.append({"name": name, "value": value, "unit": unit, "goal": goal, "met": met})

    for row in rows:
        key = f"{row.scenario}/{row.method}"
        ours = row.method == "tuner"
        if math.isfinite(row.within):
            add(
                f"{key}/within_5_percent",
                row.within,
                "share",
                ">= 0.95",
                row.within >= 0.95 if ours else None,
            )
            add(
                f"{key}/interval_coverage",
                row.coverage,
                "share",
                "0.93-0.98",
                0.93 <= row.coverage <= 0.98 if ours else None,
            )
        add(
            f"{key}/minutes_median",
            row.minutes,
            "min",
            "<= 10",
            row.minutes <= 10.0 if ours else None,
        )
        add(
            f"{key}/minutes_p90",
            row.minutes_p90,
            "min",
            "<= 20",
            row.minutes_p90 <= 20.0 if ours else None,
        )
        if ours:
            plain = SCENARIOS[row.scenario].plain
            add(
                f"{key}/model_refused",
                row.model_refused,
                "share",
                "<= 0.02" if plain else ">= 0.95",
                row.model_refused <= 0.02 if plain else row.model_refused >= 0.95,
            )
    return out


def fit_seconds(requests: int = 2_000_000) -> tuple[float, float]:
    """Seconds by the wall and of processor time to fit a campaign of two million requests."""
    instance = InstanceSpec(ServiceTime.lognormal(0.002, 0.6), 4)
    backend = VirtualBackend(FleetSpec(instance, 1), seed=5)
    results = []
    for i, rate in enumerate((800.0, 1400.0, 1500.0, 1550.0)):
        length = requests / 4 / rate
        stage = StageSpec(i, StageKind.MEASURE, 1, rate, length, 2.0, "poisson", i, "big")
        results.append(backend.measure(stage))
    begun, worked = time.perf_counter(), time.process_time()
    analyse(Slo((LatencyObjective(0.99, 0.012),)), results, routing=Routing.RANDOM)
    return time.perf_counter() - begun, time.process_time() - worked


def truth(scenario: Scenario, requests: int = 3_000_000) -> float:
    """The crossing from four long simulations, by a quadratic of ln rate in logit P."""
    x, y = [], []
    for k, factor in enumerate((0.95, 0.985, 1.015, 1.05)):
        rng = np.random.default_rng([k, 2026])
        rate = reference(scenario) * factor
        arrival = np.cumsum(rng.exponential(1.0 / (rate * scenario.count), requests))
        routing = RoutingStrategy(scenario.routing.value)
        run_ = simulate(FleetSpec(scenario.instance, scenario.count, routing), arrival, rng)
        late = float(np.mean((run_.done_s - arrival)[requests // 50 :] > scenario.p99_s))
        x.append(math.log(rate))
        y.append(math.log(late / (1.0 - late)))
    return float(np.exp(np.polyval(np.polyfit(y, x, 2), math.log(0.01 / 0.99))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three campaigns a row")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--campaigns", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(SCENARIOS))
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--truth", action="store_true", help="find the crossings again")
    parser.add_argument("--details", help="write every campaign to this file")
    args = parser.parse_args()
    global DETAILS
    DETAILS = open(args.details, "a") if args.details else None  # noqa: SIM115, PTH123
    names = args.only or (["M/M/4", "batching"] if args.quick else list(SCENARIOS))
    if args.truth:
        for name in names:
            if SCENARIOS[name].slowdown is None and SCENARIOS[name].read_at is None:
                print(f"{name:14s} {truth(SCENARIOS[name]):.3f}/s", flush=True)
        return
    campaigns = 3 if args.quick else args.campaigns
    head = (
        f"seeds {args.seed}-{args.seed + campaigns - 1}\n{'scenario':14s} {'method':10s} "
        f"{'n':>4s} {'answer':>6s} {'in 5%':>6s} {'cover':>6s} {'min':>6s} {'p90':>6s} "
        f"{'A refused':>9s}"
    )
    print(head, file=sys.stderr if args.json else sys.stdout)
    rows = []
    for name in names:
        for method in args.methods:
            if SCENARIOS[name].read_at is not None and method != "tuner":
                continue  # Stock practice measures the count it answers for.
            row = run(name, method, campaigns, args.seed)
            rows.append(row)
            line = (
                f"{name:14s} {method:10s} {row.campaigns:4d} {row.answered:6.2f} "
                f"{row.within:6.2f} {row.coverage:6.2f} {row.minutes:6.1f} "
                f"{row.minutes_p90:6.1f} {row.model_refused:9.2f}"
            )
            print(line, file=sys.stderr if args.json else sys.stdout, flush=True)
    found = metrics(rows)
    wall, worked = fit_seconds()
    for kind, value in (("wall", wall), ("processor", worked)):
        found.append(
            {
                "name": f"fit_2M_requests/{kind}",
                "value": value,
                "unit": "s",
                "goal": "<= 5",
                "met": value <= 5.0,
            }
        )
    if args.json:
        print(json.dumps(found))
    else:
        print(f"fit of two million requests: {wall:.2f} s, {worked:.2f} s of processor time")


if __name__ == "__main__":
    main()
