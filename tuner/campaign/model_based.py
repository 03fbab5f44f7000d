"""Track A: capacity at every count from the recovered server, checked against real load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.evidence import StageEvidence, evidence
from tuner.campaign.members import resampled_models, shifts
from tuner.campaign.predict import Crossing, Effort, ServerModel, crossing, forecasts
from tuner.campaign.server import ServerFit
from tuner.campaign.types import Routing, StageResult
from tuner.queueing.capacity import Gate
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

SIMULATED_COUNTS = (1, 2, 4)
"""Counts simulated under least-outstanding routing; between and beyond them the spare
capacity n (1 - utilisation) at the crossing moves little and is interpolated in 1/n."""
NOISE_FLOOR = 0.004
"""Simulation error of ln capacity that its own estimate may miss."""
EXTRAPOLATION_NOISE = 0.005
_BOUND = 0.01
_DRAWS = 4000
_TOLERANCE = 0.015
"""A prediction that misses by this share of capacity is good enough, however many requests
prove that it misses."""
_FAR = 0.25


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
    """

    objective: LatencyObjective
    counts: tuple[int, ...]
    rate_per_s: FloatArray
    log_members: FloatArray
    crossings: tuple[tuple[int, Crossing], ...]

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
    return ModelEstimate(objective, tuple(counts), rates, log_members, tuple(simulated))


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


def verification(
    fit: ServerFit,
    found: ModelEstimate,
    results: Sequence[StageResult],
    routing: Routing,
    rng: np.random.Generator,
    *,
    requests: int = 120_000,
) -> tuple[tuple[Gate, ...], tuple[int, ...]]:
    """Compare every measured stage with what the model predicts for it.

    Returns
    -------
    One gate per instance count measured, and the counts at which load near the limit
    agreed (verified counts).
    """
    gates, verified = [], []
    for count in sorted({r.spec.instance_count for r in results}):
        here = [r for r in results if r.spec.instance_count == count]
        gate, near = _verify_count(fit, found, count, here, routing, rng, requests)
        if gate is not None:
            gates.append(gate)
            if gate.passed and near:
                verified.append(count)
    return tuple(gates), tuple(verified)


def _verify_count(
    fit: ServerFit,
    found: ModelEstimate,
    count: int,
    results: Sequence[StageResult],
    routing: Routing,
    rng: np.random.Generator,
    requests: int,
) -> tuple[Gate | None, bool]:
    stages = [evidence(r, found.objective) for r in results]
    top = 0.97 * fit.model.saturation_per_s
    inside = [s for s in stages if s.rate_per_s < top and s.share.n >= 50]
    if not inside:
        return None, False
    rates = sorted({s.rate_per_s for s in inside})
    seen = forecasts(
        fit.model,
        found.objective.threshold_s,
        rates,
        instances=count,
        routing=routing,
        rng=rng,
        requests=requests,
    )
    by_rate = dict(zip(rates, seen, strict=True))
    limit = found.rate(count)
    worst, least = inside[0], 1.0
    for s in inside:
        forecast = by_rate[s.rate_per_s]
        doubt = found.slope(count) * math.hypot(found.spread(count), _TOLERANCE)
        doubt = math.hypot(doubt, forecast.share_noise)
        # Far below the limit the share is a tail nobody asked about: it only must be small.
        share = max(forecast.share, _FAR * found.objective.allowance)
        p = _chance_of_more(s, share, forecast.inflation, doubt, rng)
        if p < least:
            worst, least = s, p
    bound = _BOUND / max(1.0, len(inside) / 2.0)
    passed = least >= bound
    near = any(s.rate_per_s >= 0.85 * limit for s in inside)
    forecast = by_rate[worst.rate_per_s]
    measured = worst.share.count / worst.share.n
    plural = "" if count == 1 else "s"
    sentence = (
        f"at {count} instance{plural} and {worst.rate_per_s:.4g}/s each, {measured:.2%} of "
        f"{worst.share.n:,} requests were late and the model expects {forecast.share:.2%}"
    )
    return (
        Gate(
            f"verification_{count}",
            passed,
            least,
            f"chance of as many late requests >= {bound:.2g}",
            sentence + ("" if passed else ": the endpoint is slower than its own requests say"),
            None if passed else f"hold load around the limit on {count} instance{plural}",
        ),
        near,
    )


def _chance_of_more(
    stage: StageEvidence, share: float, inflation: float, doubt: float, rng: np.random.Generator
) -> float:
    """P(at least the observed late requests), over bursts and over the model's own doubt."""
    if stage.share.count == 0:
        return 1.0
    mean = stage.share.n * share * np.exp(doubt * rng.standard_normal(_DRAWS))
    mean = np.minimum(mean, stage.share.n)
    # Late requests come in clumps of about `inflation`: a gamma with that scale.
    size = np.maximum(mean, 1e-9) / inflation
    seen = rng.poisson(rng.gamma(size) * inflation)
    return float((np.count_nonzero(seen >= stage.share.count) + 1) / (_DRAWS + 1))
