"""Tuner's search and what is done without it, on one simulated server: one campaign each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from known_servers import ALLOWANCE, Scenario

from tuner.campaign.config import CampaignConfig, Limits
from tuner.campaign.rehearse import judge, run_campaign
from tuner.campaign.types import StageKind, StageSpec
from tuner.campaign.virtual import VirtualBackend
from tuner.slo import Verdict
from tuner.stats.proportions import clopper_pearson


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
        """(requests over the SLO, requests, p99) of one window."""
        stage = StageSpec(
            self.index,
            StageKind.MEASURE,
            self.scenario.count,
            rate_per_s * self.scenario.count,
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
    start = 0.5 * scenario.reference_per_s
    before: tuple[float, float] | None = None
    for step in range(24):
        rate = start + scenario.reference_per_s * step / 6.0
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
    low, high = 0.5 * scenario.reference_per_s, 1.5 * scenario.reference_per_s
    sure_low, sure_high = low, high
    for _ in range(6):
        rate = math.sqrt(low * high)
        late, n, _ = probe.late(rate, 120.0)
        below, above = clopper_pearson(late, n)
        if above <= ALLOWANCE:
            sure_low = max(sure_low, rate)
        if below > ALLOWANCE:
            sure_high = min(sure_high, rate)
        low, high = (rate, high) if late <= ALLOWANCE * n else (low, rate)
    mid = math.sqrt(low * high)
    sure_low, sure_high = min(sure_low, mid), max(sure_high, mid)
    return Outcome(sure_low, mid, sure_high, probe.spent_s / 60.0, "bisection", False)


METHODS: dict[str, Callable[[Scenario, int], Outcome]] = {
    "tuner": tuner_campaign,
    "staircase": staircase,
    "bisection": bisection,
}
