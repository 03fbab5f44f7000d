"""Does load held near the predicted limit look as the recovered server says it should?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.campaign.evidence import StageEvidence, evidence
from tuner.campaign.model_based import ModelEstimate
from tuner.campaign.predict import forecasts
from tuner.campaign.replays import replay
from tuner.campaign.server import ServerFit
from tuner.campaign.types import Routing, StageKind, StageResult
from tuner.queueing.capacity import Gate
from tuner.stats.requests import FloatArray

NEAR = 0.85
"""A stage at this share of the limit or more verifies the prediction at its count."""
BOUND = 0.002
"""Chance below which a stage speaks against the prediction. Bursts of long requests do that
to one sound server in hundreds, so a single such stage may be answered by a later one."""
CONFIRMED = 0.05
"""Chance of a later verification that answers it."""
CAREFUL = 3.0
"""A search asks for this many times the chance, so that what it ends on is not refuted by
another draw of the same simulation."""
TOLERANCE = 0.015
"""A prediction that misses by this share of capacity is good enough, however many requests
prove that it misses."""
_FAR = 0.25
"""Far below the limit the share is a tail nobody asked about: it must only be this much of
the allowance."""
_GRID = np.array([-0.22, -0.14, -0.08, -0.04, 0.0, 0.03, 0.07, 0.12])
_STEADY = 0.985
_DRAWS = 4000
DOUBTFUL = 0.05
"""A stage below the limit that looks this unlikely is judged by its own arrivals, too."""
_AROUND = np.array([-2.6, -1.2, 0.0, 1.2, 2.6])
"""Loads of a replay, in standard deviations of the doubt about the limit."""


@dataclass(frozen=True, slots=True, eq=False)
class _Band:
    """Share and inflation on a grid of ln load over ln limit, at one count."""

    offset: FloatArray
    log_share: FloatArray
    log_inflation: FloatArray

    def chance_of_more(
        self, stage: StageEvidence, limit: float, doubt: float, rng: np.random.Generator
    ) -> float:
        """P(at least the observed late requests) over bursts and over doubt of the limit."""
        if stage.share.count == 0:
            return 1.0
        x = math.log(stage.rate_per_s / limit) + doubt * rng.standard_normal(_DRAWS)
        share = np.exp(np.interp(x, self.offset, self.log_share))
        inflation = np.exp(np.interp(x, self.offset, self.log_inflation))
        # Late requests come in clumps of about `inflation`: a gamma with that scale.
        size = np.maximum(stage.share.n * share, 1e-9) / inflation
        seen = rng.poisson(np.minimum(rng.gamma(size) * inflation, stage.share.n))
        return float((np.count_nonzero(seen >= stage.share.count) + 1) / (_DRAWS + 1))

    def expected(self, stage: StageEvidence, limit: float) -> float:
        """Share at the stage's load by the model as it stands."""
        x = math.log(stage.rate_per_s / limit)
        return float(np.exp(np.interp(x, self.offset, self.log_share)))


def verification(
    fit: ServerFit,
    found: ModelEstimate,
    results: Sequence[StageResult],
    routing: Routing,
    rng: np.random.Generator,
    *,
    requests: int = 60_000,
    bound: float = BOUND,
) -> tuple[tuple[Gate, ...], tuple[int, ...]]:
    """Compare every measured stage with what the model predicts for it.

    Parameters
    ----------
    fit, found
        The server and its predicted limits.
    results
        Measured stages at any count.
    routing
        Of the endpoint.
    rng
        Of the simulation and the draws.
    requests
        Simulated at each load of the grid around the limit.
    bound
        Chance below which a stage speaks against the prediction, for two stages or fewer.

    Returns
    -------
    One gate per instance count measured, and the counts at which load near the limit
    agreed (verified counts).
    """
    gates, verified = [], []
    bands: dict[int, _Band] = {}
    for count in sorted({r.spec.instance_count for r in results}):
        pooled = count if routing is Routing.LEAST_OUTSTANDING_REQUESTS else 1
        if pooled not in bands:
            bands[pooled] = _band(fit, found, pooled, routing, rng, requests)
        held = [r for r in results if r.spec.instance_count == count]
        gate, near = _verify_count(fit, found, count, held, bands[pooled], routing, rng, bound)
        if gate is not None:
            gates.append(gate)
            if gate.passed and near:
                verified.append(count)
    return tuple(gates), tuple(verified)


def _band(
    fit: ServerFit,
    found: ModelEstimate,
    count: int,
    routing: Routing,
    rng: np.random.Generator,
    requests: int,
) -> _Band:
    limit, model = found.rate(count), fit.model
    top = math.log(_STEADY * model.saturation_per_s / limit)
    offset = np.unique(np.minimum(_GRID, max(top, _GRID[1])))
    seen = forecasts(
        model,
        found.objective.threshold_s,
        list(limit * np.exp(offset)),
        instances=count,
        routing=routing,
        rng=rng,
        requests=requests,
    )
    allowance = found.objective.allowance
    share = np.maximum.accumulate([max(f.share, 1e-9) for f in seen])
    # The limit is where the share is the allowance: that takes most of the noise out.
    scale = allowance / math.exp(float(np.interp(0.0, offset, np.log(share))))
    share = np.clip(share * scale, _FAR * allowance, 1.0)
    inflation = np.maximum.accumulate([f.inflation for f in seen])
    return _Band(offset, np.log(share), np.log(inflation))


@dataclass(frozen=True, slots=True)
class _Look:
    """One stage against the model: the chance of as many late requests, and the share expected."""

    stage: StageEvidence
    chance: float
    expected: float


def _verify_count(
    fit: ServerFit,
    found: ModelEstimate,
    count: int,
    results: Sequence[StageResult],
    band: _Band,
    routing: Routing,
    rng: np.random.Generator,
    bound: float,
) -> tuple[Gate | None, bool]:
    limit = found.rate(count)
    doubt = math.hypot(found.spread(count), TOLERANCE)
    # Beyond the grid a window is a transient, not a steady state to compare with.
    top = limit * math.exp(float(band.offset[-1]) - doubt)
    looks = []
    for result in results:
        stage = evidence(result, found.objective)
        if stage.rate_per_s > top or stage.share.n < 50 or stage.kind is StageKind.RAMP:
            continue
        look = _Look(
            stage, band.chance_of_more(stage, limit, doubt, rng), band.expected(stage, limit)
        )
        if stage.rate_per_s >= NEAR * limit or look.chance < DOUBTFUL:
            look = _replayed(fit, found, result, look, doubt, routing, rng)
        looks.append(look)
    if not looks:
        return None, False
    bound /= max(1.0, len(looks) / 2.0)
    worst = min(looks, key=lambda k: k.chance)
    near = [k for k in looks if k.stage.rate_per_s >= NEAR * limit]
    against = [k for k in looks if k.chance < bound]
    answered = len(against) == 1 and _answered(against[0], near)
    passed = answered or not against
    shown = near[-1] if passed and near else worst
    return _gate(shown, passed, bound, count), bool(near)


def _answered(against: _Look, near: Sequence[_Look]) -> bool:
    """Whether load held near the limit afterwards agrees with the prediction."""
    later = [
        k for k in near if k.stage.kind is StageKind.VERIFY and k.stage.stage > against.stage.stage
    ]
    return bool(later) and all(k.chance >= CONFIRMED for k in later)


def _replayed(
    fit: ServerFit,
    found: ModelEstimate,
    result: StageResult,
    look: _Look,
    doubt: float,
    routing: Routing,
    rng: np.random.Generator,
) -> _Look:
    """Judge a stage by its own arrivals; as it was when its requests were not kept."""
    log = result.log
    if log is None:
        return look
    count, limit = result.spec.instance_count, found.rate(result.spec.instance_count)
    # The model's own crossing differs a little from the limit, which weighs other models too.
    own = dict(found.crossings).get(count)
    shift = math.log(own.rate_per_s / limit) if own is not None else 0.0
    away = doubt * _AROUND
    most = math.log(_STEADY * fit.model.saturation_per_s / look.stage.rate_per_s)
    seen = replay(
        fit.model,
        fit.pools(),
        log,
        found.objective.threshold_s,
        np.exp(np.minimum(away + shift, max(most, 0.0))),
        instances=count,
        routing=routing,
        rng=rng,
    )
    at = math.log(look.stage.rate_per_s / limit)
    band = _Band(
        at + away,
        np.log(np.maximum.accumulate(seen.share)),
        np.log(np.maximum.accumulate(seen.inflation)),
    )
    latency = log.latency_s()[: seen.n]
    late = int(np.count_nonzero(latency > found.objective.threshold_s))
    same = replace(look.stage, share=replace(look.stage.share, count=late, n=seen.n))
    chance = band.chance_of_more(same, limit, doubt, rng)
    return _Look(look.stage, chance, band.expected(look.stage, limit))


def _gate(shown: _Look, passed: bool, bound: float, count: int) -> Gate:
    stage = shown.stage
    plural = "" if count == 1 else "s"
    sentence = (
        f"at {count} instance{plural} and {stage.rate_per_s:.4g}/s each, "
        f"{stage.share.count / stage.share.n:.2%} of {stage.share.n:,} requests were late and "
        f"the model expects {shown.expected:.2%} of these arrivals"
    )
    return Gate(
        f"verification_{count}",
        passed,
        shown.chance,
        f"chance of as many late requests >= {bound:.2g}, or >= {CONFIRMED:g} in a second window",
        sentence + ("" if passed else ": the endpoint is slower than its own requests say"),
        None if passed else f"hold load around the limit on {count} instance{plural}",
    )
