"""How far other plausible servers would move the crossing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tuner.campaign.predict import Crossing, ServerModel
from tuner.campaign.server import ServerFit
from tuner.fleet.batch import fifo_waits
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

MEMBERS = 48
_LANES = 20
_CURVE = np.array([-0.16, -0.08, 0.0, 0.08, 0.16])
_SATURATED = 0.992


def resampled_models(fit: ServerFit, rng: np.random.Generator, members: int) -> list[ServerModel]:
    """Plausible servers by bootstrap over blocks of time."""
    return [fit.resampled(rng) for _ in range(members)]


def shifts(
    model: ServerModel,
    others: Sequence[ServerModel],
    objective: LatencyObjective,
    at: Crossing,
    rng: np.random.Generator,
    *,
    requests: int = 25_000,
) -> FloatArray:
    """ln(crossing of the other / crossing of the model), shape (len(others),).

    Every server sees the same arrivals and the same ranks of demand, so that differences
    need few requests. A share P of another server at the model's crossing is read as a
    load on the model's own curve, which is exact when the other is slower or faster by a
    factor.
    """
    loads = np.minimum(at.rate_per_s * np.exp(_CURVE), _SATURATED * model.saturation_per_s)
    steps = max(requests // _LANES, 300)
    warm = steps // 3
    gap = rng.standard_exponential((steps + warm, _LANES))
    rank = rng.random((steps + warm, _LANES))
    servers = [model] * len(loads) + list(others)
    rates = np.concatenate([loads, np.full(len(others), at.rate_per_s)])
    gaps = (gap[:, None, :] / rates[None, :, None]).reshape(steps + warm, -1)
    demand = np.empty((steps + warm, len(servers), _LANES))
    for j, server in enumerate(servers):
        index = (rank * len(server.demand_s)).astype(np.int64)
        demand[:, j, :] = server.demand_s[index]
    waits = fifo_waits(gaps, demand.reshape(steps + warm, -1), model.workers)[warm:]
    waits = waits.reshape(steps, len(servers), _LANES)
    share = np.empty(len(servers))
    for j, server in enumerate(servers):
        budget = objective.threshold_s - server.floor_s - waits[:, j, :]
        at_most = np.searchsorted(server.demand_s, budget.ravel(), side="right")
        share[j] = 1.0 - at_most.mean() / len(server.demand_s)
    logit = np.log(np.clip(share, 1e-7, 1.0 - 1e-7))
    curve = np.maximum.accumulate(logit[: len(loads)] + 1e-9 * np.arange(len(loads)))
    x = np.log(loads)
    equal = _extended(logit[len(loads) :], curve, x)
    return np.asarray(math.log(at.rate_per_s) - equal)


def _extended(y: FloatArray, curve: FloatArray, x: FloatArray) -> FloatArray:
    """x at which the curve has the value y; its end segments are extended."""
    inside = np.interp(y, curve, x)
    low = (x[1] - x[0]) / max(float(curve[1] - curve[0]), 0.05)
    high = (x[-1] - x[-2]) / max(float(curve[-1] - curve[-2]), 0.05)
    inside = np.where(y < curve[0], x[0] + (y - curve[0]) * low, inside)
    return np.asarray(np.where(y > curve[-1], x[-1] + (y - curve[-1]) * high, inside))
