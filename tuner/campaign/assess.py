"""A quick look at the campaign so far, to place the next stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tuner.campaign.config import CampaignConfig
from tuner.campaign.evidence import evidence, measured, overloaded
from tuner.campaign.model_based import ModelEstimate, estimate
from tuner.campaign.predict import Effort
from tuner.campaign.refusals import USABLE, unreachable_gate
from tuner.campaign.server import CERTAIN_T, SUSPECT_T, ServerFit, fit_server
from tuner.campaign.types import StageResult
from tuner.campaign.verify import BOUND, CAREFUL, verification
from tuner.slo import Slo

QUICK = Effort(coarse=20_000, fine=100_000, routed=60_000, member=20_000)
_T = 2.06
_STRUCTURE = ("batching", "state", "order")
_FINAL_NOISE = 0.006
_FIRST = 1.0 / 3.0
_FAILING = 5.0
"""A ramp step is beyond doubt when the odds of being late are five times those allowed."""
_LEAST_LATE = 10


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """What the stages so far support.

    ``known``: the server is understood and every objective has a limit. ``unreachable``: some
    objective is missed for certain even when nothing waits; ``near_unloaded``: it may be, and
    the requests so far do not tell. ``checked`` remembers the verification by number of stages,
    which is asked for more than once.
    """

    config: CampaignConfig
    fit: ServerFit | None
    estimates: tuple[ModelEstimate, ...]
    unreachable: bool
    near_unloaded: bool = False
    checked: dict[int, bool] = field(default_factory=dict, repr=False)

    @property
    def known(self) -> bool:
        """Whether the recovered server may be used."""
        return bool(self.estimates) and not self.unreachable

    @property
    def hopeless(self) -> bool:
        """Whether the ramp alone shows a server that work cannot be recovered from."""
        fit = self.fit
        return fit is not None and any(not g.passed and g.name in _STRUCTURE for g in fit.gates)

    @property
    def drifting(self) -> str | None:
        """What is seen when nothing but a lasting drift stands against the server."""
        return drift_sentence(self.fit)

    @property
    def drift_in_doubt(self) -> bool:
        """Whether one more look should tell a drift from chance."""
        if self.fit is None or not (self.known or self.drifting is not None):
            return False
        return SUSPECT_T < self.fit.slowing_t < CERTAIN_T

    @property
    def half_width(self) -> float:
        """Half-width of the interval of ln capacity that the final simulation will give.

        At the largest count of the plan: behind a router that balances, one instance alone is
        the hardest to know and the least likely to serve. It need only be known a third as well.
        """
        counts = self.config.instance_counts
        return max(self._half_width(counts[-1]), _FIRST * self._half_width(counts[0]))

    def _half_width(self, count: int) -> float:
        return _T * max(e.scatter(count, _FINAL_NOISE, USABLE) for e in self.estimates)

    def rate(self, count: int) -> float:
        """Limit per instance: the least over the objectives."""
        return min(e.rate(count) for e in self.estimates)

    def verified(self, results: Sequence[StageResult]) -> bool:
        """Whether every stage agrees with the prediction."""
        if len(results) not in self.checked:
            self.checked[len(results)] = self._agrees(results)
        return self.checked[len(results)]

    def _agrees(self, results: Sequence[StageResult]) -> bool:
        fit = self.fit
        if fit is None:
            return False
        rng = np.random.default_rng([self.config.seed, 99])
        stages = measured(results)
        routing, bound = self.config.routing, CAREFUL * BOUND
        found = [
            verification(fit, e, stages, routing, rng, requests=40_000, bound=bound)[0]
            for e in self.estimates
        ]
        return all(gate.passed for gates in found for gate in gates)


def drift_sentence(fit: ServerFit | None) -> str | None:
    """What is seen of a lasting drift; None when anything else stands against the server."""
    failed = [] if fit is None else [g for g in fit.gates if not g.passed]
    return failed[0].sentence if [g.name for g in failed] == ["drift"] else None


def assess(config: CampaignConfig, results: Sequence[StageResult]) -> Assessment:
    """Recover the server and predict its limits, roughly."""
    fit, _ = fit_server(results)
    # The recovered server predicts whole latencies; it says nothing about chunks.
    chunks = any(o.measure.streamed for o in config.slo.objectives)
    if fit is None or not fit.passed or chunks:
        return Assessment(config, fit, (), False)
    rng = np.random.default_rng([config.seed, len(results)])
    counts = tuple(sorted({1, *config.instance_counts}))
    found = []
    for objective in config.slo.objectives:
        one = estimate(fit, objective, counts, config.routing, rng, members=36, effort=QUICK)
        if one is None:
            certain = unreachable_gate(fit, objective).name == "unreachable"
            return Assessment(config, fit, (), certain, near_unloaded=not certain)
        found.append(one)
    return Assessment(config, fit, tuple(found), False)


def failing_for_certain(result: StageResult, slo: Slo) -> bool:
    """Whether a stage is so far beyond the SLO that the ramp may stop."""
    if overloaded(result):
        return True
    for objective in slo.objectives:
        share = evidence(result, objective).share
        if _beyond_doubt(share.count, share.n, objective.allowance):
            return True
    ceiling = slo.max_error_rate
    return ceiling is not None and _beyond_doubt(result.failures, result.requests, ceiling)


def _beyond_doubt(count: int, n: int, allowed: float) -> bool:
    return count >= _LEAST_LATE and count * (1.0 - allowed) > _FAILING * allowed * (n - count)


def lowest_start_per_s(look: StageResult) -> float:
    """A load that keeps even a single worker less than a third busy."""
    if look.log is None or not len(look.log):
        return 1.0
    latency = look.log.latency_s()
    finite = latency[np.isfinite(latency)]
    mean = float(finite.mean()) if len(finite) else math.inf
    return float(min(max(0.3 / mean, 0.5), 500.0)) if mean > 0.0 else 500.0
