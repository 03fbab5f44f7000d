"""Does load held near the predicted limit look as the recovered server says it should?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.evidence import StageEvidence, evidence
from tuner.campaign.model_based import ModelEstimate
from tuner.campaign.predict import forecasts
from tuner.campaign.server import ServerFit
from tuner.campaign.types import Routing, StageKind, StageResult
from tuner.queueing.capacity import Gate
from tuner.stats.requests import FloatArray

NEAR = 0.85
"""A stage at this share of the limit or more verifies the prediction at its count."""
BOUND = 0.001
TOLERANCE = 0.015
"""A prediction that misses by this share of capacity is good enough, however many requests
prove that it misses."""
_FAR = 0.25
"""Far below the limit the share is a tail nobody asked about: it must only be this much of
the allowance."""
_GRID = np.array([-0.22, -0.14, -0.08, -0.04, 0.0, 0.03, 0.07, 0.12])
_STEADY = 0.985
_DRAWS = 4000


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
        stages = [evidence(r, found.objective) for r in results if r.spec.instance_count == count]
        gate, near = _verify_count(found, count, stages, bands[pooled], rng)
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


def _verify_count(
    found: ModelEstimate,
    count: int,
    stages: Sequence[StageEvidence],
    band: _Band,
    rng: np.random.Generator,
) -> tuple[Gate | None, bool]:
    limit = found.rate(count)
    doubt = math.hypot(found.spread(count), TOLERANCE)
    # Beyond the grid a window is a transient, not a steady state to compare with.
    top = limit * math.exp(float(band.offset[-1]) - doubt)
    inside = [
        s
        for s in stages
        if s.rate_per_s <= top and s.share.n >= 50 and s.kind is not StageKind.RAMP
    ]
    if not inside:
        return None, False
    chances = [band.chance_of_more(s, limit, doubt, rng) for s in inside]
    at = int(np.argmin(chances))
    bound = BOUND / max(1.0, len(inside) / 2.0)
    passed = chances[at] >= bound
    near = [s for s in inside if s.rate_per_s >= NEAR * limit]
    shown = inside[at] if not passed or not near else near[-1]
    measured = shown.share.count / shown.share.n
    plural = "" if count == 1 else "s"
    sentence = (
        f"at {count} instance{plural} and {shown.rate_per_s:.4g}/s each, {measured:.2%} of "
        f"{shown.share.n:,} requests were late and the model expects "
        f"{band.expected(shown, limit):.2%}"
    )
    return (
        Gate(
            f"verification_{count}",
            passed,
            chances[at],
            f"chance of as many late requests >= {bound:.2g}",
            sentence + ("" if passed else ": the endpoint is slower than its own requests say"),
            None if passed else f"hold load around the limit on {count} instance{plural}",
        ),
        bool(near),
    )
