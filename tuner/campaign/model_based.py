"""Track A: capacity at every count from the recovered server, checked against real load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.members import resampled_models, shifts
from tuner.campaign.predict import Crossing, Effort, ServerModel, crossing
from tuner.campaign.server import ServerFit
from tuner.campaign.types import Routing
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

SIMULATED_COUNTS = (1, 2, 4)
"""Counts simulated under least-outstanding routing; between and beyond them the spare
capacity n (1 - utilisation) at the crossing moves little and is interpolated in 1/n."""
NOISE_FLOOR = 0.006
"""Simulation error of ln capacity that its own estimate may miss."""
EXTRAPOLATION_NOISE = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class ModelEstimate:
    """Capacity per instance for one objective, by count.

    Parameters
    ----------
    objective
        What it is the limit of.
    counts
        Ascending, shape (k,).
    rate_per_s
        Per instance, shape (k,).
    log_members
        ln of plausible capacities, shape (members, k), simulation error included.
    crossings
        The simulated crossings by count.
    resampling
        Spread of ln capacity at one instance by resampling alone.
    """

    objective: LatencyObjective
    counts: tuple[int, ...]
    rate_per_s: FloatArray
    log_members: FloatArray
    crossings: tuple[tuple[int, Crossing], ...]
    resampling: float

    def spread(self, count: int) -> float:
        """Standard deviation of ln capacity at this count."""
        return float(self.log_members[:, self.counts.index(count)].std(ddof=1))

    def rate(self, count: int) -> float:
        """Capacity per instance at this count."""
        return float(self.rate_per_s[self.counts.index(count)])

    def slope(self, count: int) -> float:
        """d ln P / d ln rate at the simulated count nearest to this one."""
        return min(self.crossings, key=lambda c: abs(c[0] - count))[1].slope


def estimate(
    fit: ServerFit,
    objective: LatencyObjective,
    counts: Sequence[int],
    routing: Routing,
    rng: np.random.Generator,
    *,
    members: int = 48,
    effort: Effort | None = None,
) -> ModelEstimate | None:
    """Predict the capacity at every count; None when the objective fails even unloaded."""
    one = crossing(fit.model, objective, rng=rng, effort=effort)
    if one is None:
        return None
    others = resampled_models(fit, rng, members)
    shift = shifts(fit.model, others, objective, one)
    simulated = [(1, one)]
    if routing is Routing.LEAST_OUTSTANDING_REQUESTS:
        for n in SIMULATED_COUNTS[1:]:
            if n <= max(counts):
                simulated.append((n, _routed(fit.model, objective, n, simulated, rng, effort)))
    rates = np.array([_at(fit.model, simulated, n, routing) for n in counts])
    mean = math.log(fit.model.demand_s.mean())
    slower = np.array([math.log(o.demand_s.mean()) - mean for o in others])
    columns = [math.log(rate) + _members(fit, one, rate, shift, slower) for rate in rates]
    noise = rng.standard_normal((members, 1)) * _noise(simulated)
    log_members = np.column_stack(columns) + noise
    return ModelEstimate(
        objective, tuple(counts), rates, log_members, tuple(simulated), float(shift.std(ddof=1))
    )


def _members(
    fit: ServerFit, one: Crossing, rate: float, shift: FloatArray, slower: FloatArray
) -> FloatArray:
    """Shifts at another count: the nearer to saturation, the more only the mean matters."""
    used = rate / fit.model.saturation_per_s
    near = (used - one.utilization) / max(1.0 - one.utilization, 1e-9)
    near = min(max(near, 0.0), 1.0)
    return np.asarray((1.0 - near) * shift - near * slower)


def _noise(simulated: Sequence[tuple[int, Crossing]]) -> float:
    worst = max(c.noise for _, c in simulated)
    return math.hypot(max(worst, NOISE_FLOOR), EXTRAPOLATION_NOISE if len(simulated) > 1 else 0.0)


def _routed(
    model: ServerModel,
    objective: LatencyObjective,
    count: int,
    before: Sequence[tuple[int, Crossing]],
    rng: np.random.Generator,
    effort: Effort | None,
) -> Crossing:
    """The crossing at a count, from a guess by the spare capacity at the count before."""
    last, known = before[-1]
    used = 1.0 - (1.0 - known.utilization) * last / count
    found = crossing(
        model,
        objective,
        instances=count,
        routing=Routing.LEAST_OUTSTANDING_REQUESTS,
        rng=rng,
        effort=effort,
        near_per_s=used * model.saturation_per_s,
    )
    return found if found is not None else known


def _at(
    model: ServerModel, simulated: Sequence[tuple[int, Crossing]], count: int, routing: Routing
) -> float:
    if routing is Routing.RANDOM or len(simulated) == 1:
        return simulated[0][1].rate_per_s
    inverse = [1.0 / n for n, _ in simulated][::-1]
    spare = [n * (1.0 - c.utilization) for n, c in simulated][::-1]
    # np.interp holds the last value beyond the largest simulated count.
    used = 1.0 - float(np.interp(1.0 / count, inverse, spare)) / count
    return used * model.saturation_per_s
