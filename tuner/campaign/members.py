"""How far other plausible servers would move the crossing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tuner.campaign.predict import Crossing, ServerModel
from tuner.campaign.server import ServerFit
from tuner.queueing.erlang import erlang_c
from tuner.queueing.latency_curve import demand_quantiles
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

MARGIN = 1.12
"""The exponential tail misses a part of the spread: 1 % for lognormal demands, 5 % for
bimodal and 15 % for exponential ones, against 400,000 simulated requests per server."""
_POINTS = 500
_HALVINGS = 22
_NEWTON = 12
_SOLVED = 1e-9
_REACH = 0.6


def resampled_models(fit: ServerFit, rng: np.random.Generator, members: int) -> list[ServerModel]:
    """Plausible servers by bootstrap over blocks of time."""
    return [fit.resampled(rng) for _ in range(members)]


def shifts(
    model: ServerModel, others: Sequence[ServerModel], objective: LatencyObjective, at: Crossing
) -> FloatArray:
    """ln(crossing of the other / crossing of the model), shape (len(others),).

    By the exponential tail of the wait with its exact decay rate, made to cross where the
    simulation does. Simulating each server would put its own noise into the spread.

    References
    ----------
    Neuts and Takahashi (1981), Asymptotic behavior of the stationary distributions in the
    GI/PH/c queue, Z. Wahrscheinlichkeitstheorie 57: the decay rate eta of the wait solves
    E exp(eta S / c) = 1 + eta / lambda for Poisson arrivals.
    """
    servers = [model, *others]
    demand = np.stack([demand_quantiles(s.demand_s, _POINTS) for s in servers])
    room = objective.threshold_s - np.array([s.floor_s for s in servers])[:, None] - demand
    fail = np.array([s.failure_share for s in servers])
    goal = np.maximum((objective.allowance - fail) / (1.0 - fail), 1e-9)
    workers = np.array([float(s.workers) for s in servers])

    def late(rate: FloatArray, factor: float, rows: slice) -> FloatArray:
        return _late(demand[rows], room[rows], rate, workers[rows], factor)

    factor = 1.0
    low, high = math.log(0.02), math.log(50.0)
    first = np.array([at.rate_per_s])
    for _ in range(_HALVINGS):
        factor = math.exp(0.5 * (low + high))
        above = float(late(first, factor, slice(0, 1))[0]) > goal[0]
        low, high = (low, math.log(factor)) if above else (math.log(factor), high)
    below = np.full(len(servers), at.rate_per_s * (1.0 - _REACH))
    above_ = np.minimum(at.rate_per_s * (1.0 + _REACH), 0.999 * workers / demand.mean(axis=1))
    for _ in range(_HALVINGS):
        mid = 0.5 * (below + above_)
        inside = late(mid, factor, slice(None)) < goal
        below, above_ = np.where(inside, mid, below), np.where(inside, above_, mid)
    return np.asarray(MARGIN * np.log(below[1:] / below[0]))


def _late(
    demand: FloatArray, room: FloatArray, rate: FloatArray, workers: FloatArray, factor: float
) -> FloatArray:
    """P(W + S > threshold) for each row of demands, with P(W > t) = C exp(-eta t)."""
    waits = factor * erlang_c(workers, rate * demand.mean(axis=1))
    eta = _decay(demand, rate, workers)
    tail = waits[:, None] * np.exp(-eta[:, None] * np.maximum(room, 0.0))
    return np.asarray(np.where(room < 0.0, 1.0, np.minimum(tail, 1.0)).mean(axis=1))


def _decay(demand: FloatArray, rate: FloatArray, workers: FloatArray) -> FloatArray:
    """Positive root of E exp(eta S / c) = 1 + eta / rate by Newton from the two-moment rate."""
    mean = demand.mean(axis=1)
    second = np.square(demand).mean(axis=1)
    eta = 2.0 * (workers - rate * mean) * mean / second
    for _ in range(_NEWTON):
        power = np.exp(np.minimum(eta[:, None] * demand / workers[:, None], 60.0))
        gap = power.mean(axis=1) - 1.0 - eta / rate
        rise = (power * demand).mean(axis=1) / workers - 1.0 / rate
        falling = rise <= 0.0
        step = gap / np.where(falling, 1.0, rise)
        eta = np.where(falling, 1.5 * eta, np.maximum(eta - step, 0.5 * eta))
        if not falling.any() and bool(np.all(np.abs(step) <= _SOLVED * eta)):
            break
    return np.asarray(eta)
