"""Multi-model endpoints: the recommended density beside the emulator's own truth.

Each virtual campaign sweeps the number of models on one simulated instance and decides. The
truth is the largest number of models whose share of late requests, in a run many times as
long, stays inside the SLO; it is found by bisection with the fleet alone, never with the fit
under test.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from figures import Row, main, row

from tuner.campaign.models import ModelStage, VirtualModels, warm_requests
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, ModelsSpec
from tuner.recommend.density import Density, Need, decide_density, next_count
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.workload.models import ModelMix, law

SEED = 20261122
STAGE_S = 120.0
"""The plan's own default."""
SHORT = 10_000


@dataclass(frozen=True)
class Case:
    """An instance, its models, and the load."""

    name: str
    slots: int
    models: int
    exponent: float
    quantile: float
    rate_per_s: float
    size_cv: float = 0.0

    @property
    def fleet(self) -> FleetSpec:
        """Four workers of 20 ms; a load of 0.4 s, 0.7 s with the download."""
        memory = ModelsSpec(
            self.slots * 100.0,
            100.0,
            ServiceTime.lognormal(0.4, 0.3),
            download=ServiceTime.lognormal(0.3, 0.3),
            unload=ServiceTime.deterministic(0.005),
            size_cv=self.size_cv,
            loaders=2,
        )
        return FleetSpec(InstanceSpec(ServiceTime.lognormal(0.02, 0.6), workers=4, models=memory))

    @property
    def slo(self) -> Slo:
        """150 ms at the case's quantile."""
        return Slo((LatencyObjective(self.quantile, 0.15),))

    @property
    def mix(self) -> ModelMix:
        """All models of the endpoint."""
        return law(self.models, "m{n}", popularity="zipf", exponent=self.exponent)


CASES = (
    Case("zipf 1.0, p99", 20, 80, 1.0, 0.99, 60.0),
    Case("zipf 1.2, p95", 30, 200, 1.2, 0.95, 80.0),
    Case("uniform, p95", 25, 60, 0.0, 0.95, 60.0),
    Case("zipf 0.8, p95, sizes vary", 40, 150, 0.8, 0.95, 60.0, size_cv=0.2),
)


def truth(case: Case, requests: int, seed: int) -> int:
    """Largest number of models that holds the SLO in a long run of the fleet.

    Short runs find the neighbourhood; long ones decide between neighbours.
    """

    def holds(count: int, length: int) -> bool:
        allowed = 1.0 - case.quantile
        warm = warm_requests(case.mix.first(count).shares, allowed)
        instance = VirtualModels(case.fleet, case.mix, seed=seed)
        stage = instance.measure(count, case.rate_per_s, length, warm=warm, seed=7)
        return float(np.mean(stage.latency_s > case.slo.objectives[0].threshold_s)) <= allowed

    low, high = 1, case.models
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle, SHORT) else (low, middle)
    if not holds(low, requests):
        while not holds(low := low - 1, requests):
            pass
        return low
    while low < case.models and holds(low + 1, requests):
        low += 1
    return low


def campaign(case: Case, seed: int, *, cloudwatch: bool) -> Density:
    """A whole sweep on a virtual clock."""
    need = Need(case.mix)
    instance = VirtualModels(case.fleet, case.mix, seed=seed)
    stages: list[ModelStage] = []
    while (count := next_count(stages, case.slo, need)) is not None:
        warm = warm_requests(case.mix.first(count).shares, 1.0 - case.quantile)
        stages.append(
            instance.measure(
                count,
                case.rate_per_s,
                round(case.rate_per_s * STAGE_S),
                warm=warm,
                seed=seed * 100 + len(stages),
                cloudwatch=cloudwatch,
            )
        )
    return decide_density(stages, case.slo, need)


def rows(quick: bool) -> list[Row]:
    """Worst and typical error of the recommended density over cases and seeds."""
    seeds = range(3) if quick else range(12)
    cases = CASES[:3] if quick else CASES
    found: list[Row] = []
    errors, inside, unsafe = [], 0, 0
    for case in cases:
        mine = []
        long = 40_000 if quick else 200_000
        right = truth(case, long, SEED)
        for k in seeds:
            # Where sizes vary, every instance has a truth of its own.
            right = truth(case, long, SEED + k) if case.size_cv else right
            got = campaign(case, SEED + k, cloudwatch=k % 2 == 0)
            if got.verdict is not Verdict.MET or got.recommended is None:
                errors.append(1.0)
                continue
            assert got.models_per_instance is not None
            mine.append(got.recommended)
            errors.append(abs(got.recommended / right - 1.0))
            inside += got.models_per_instance.low <= right <= got.models_per_instance.high
            unsafe += got.recommended > right
        found.append(row(f"models: {case.name}: truth", right, "models"))
        if mine:
            found.append(row(f"models: {case.name}: recommended (mean)", np.mean(mine), "models"))
    n = len(errors)
    return [
        *found,
        row("models: campaigns", n, "campaigns"),
        row("models: density off, median", float(np.median(errors)), at_most=0.10),
        row("models: density off, worst", float(np.max(errors)), at_most=0.10),
        row("models: interval holds the truth", inside / n, at_least=None if quick else 0.93),
        row("models: recommended above the truth", unsafe / n, at_most=0.05),
    ]


if __name__ == "__main__":
    sys.exit(main(__doc__, rows))
