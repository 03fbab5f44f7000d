"""How far other plausible servers would move the crossing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.predict import (
    Crossing,
    ServerModel,
    allowed_late,
    logit,
    survival,
    warm_up_steps,
)
from tuner.campaign.server import ServerFit
from tuner.fleet.batch import fifo_waits
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

_LANES = 40
_AT_ONCE = 16
"""Servers simulated side by side: more share the interpreter, and take more memory."""
_SATURATED = 0.995
_REACH = 0.9
_LONGEST = 0.3
_SHORTEST = 0.01
"""A step shorter than this says nothing about the slope."""
_STEEPER = 3.0
_LEAST_SLOPE = 0.5
_LEAST_CLEAN = 0.3


def resampled_models(fit: ServerFit, rng: np.random.Generator, members: int) -> list[ServerModel]:
    """Plausible servers by bootstrap over blocks of time."""
    return [fit.resampled(rng) for _ in range(members)]


@dataclass(frozen=True, slots=True, eq=False)
class Shifts:
    """How far crossings lie from that of the model.

    Parameters
    ----------
    log
        ln(crossing of the other / crossing of the model), shape (n,).
    noise
        Standard deviation of each by simulating so few requests, shape (n,).
    odds
        ln odds of being late at the crossing of the model, above those of the model, shape (n,).
    """

    log: FloatArray
    noise: FloatArray
    odds: FloatArray

    def of_resampled(self, first: int) -> FloatArray:
        """Those from ``first`` on, as if none had been simulated: drawn in by their noise."""
        log = self.log[first:]
        mean, variance = log.mean(), float(log.var(ddof=1))
        if variance <= 0.0:
            return log
        clean = 1.0 - float(np.mean(self.noise[first:] ** 2)) / variance
        return np.asarray(mean + max(clean, _LEAST_CLEAN) ** 0.5 * (log - mean))


def shifts(
    model: ServerModel,
    others: Sequence[ServerModel],
    objective: LatencyObjective,
    at: Crossing,
    rng: np.random.Generator,
    requests: int,
) -> Shifts:
    """Where the objective is crossed by servers that differ a little from the model.

    Every server is sent the same arrivals, and requests of the same rank among its demands:
    what chance does to one it does to all, and the difference is that of the servers.

    Parameters
    ----------
    model, others
        The server whose crossing is known, and those to compare it with.
    at
        The crossing of ``model``.
    rng
        Of the arrivals and ranks.
    requests
        Simulated for each server and load.

    References
    ----------
    Glasserman and Yao (1992), Some guidelines and guarantees for common random numbers,
    Management Science 38.
    """
    servers = [model, *others]
    goal = logit(np.array([allowed_late(s, objective) for s in servers]))
    most = np.log([_SATURATED * s.saturation_per_s / at.rate_per_s for s in servers])
    draws = _Draws.of(model, at, rng, requests)
    away = np.minimum(np.zeros(len(servers)), most)
    late = draws.late(servers, objective, at.rate_per_s * np.exp(away))
    # The model crosses where its long simulation says: what it misses here is taken off all.
    own = logit(late[:1].mean(axis=1)) - goal[:1]
    missed = logit(late.mean(axis=1)) - goal - own
    odds = missed[1:]
    slope = np.full(len(servers), max(at.slope / (1.0 - objective.allowance), _LEAST_SLOPE))
    # One step by the slope of the model, and one by the slope that the first has shown.
    moved = np.clip(-missed / slope, -_LONGEST, np.minimum(_LONGEST, most - away))
    away = away + moved
    late = draws.late(servers, objective, at.rate_per_s * np.exp(away))
    seen = logit(late.mean(axis=1)) - goal - own
    secant = np.divide(seen - missed, moved, out=slope.copy(), where=np.abs(moved) > _SHORTEST)
    slope = np.clip(secant, slope / _STEEPER, slope * _STEEPER)
    away = np.clip(away - seen / slope, -_REACH, np.minimum(_REACH, most))
    return Shifts(np.asarray(away[1:] - away[0]), _noise(late, slope)[1:], odds)


def _noise(late: FloatArray, slope: FloatArray) -> FloatArray:
    """Standard deviation of ln rate that is left of chance, for lanes of common arrivals."""
    share = np.clip(late.mean(axis=1), 1e-7, 1.0 - 1e-7)
    apart = (late / share[:, None] - late[:1] / share[0]).std(axis=1, ddof=1)
    return np.asarray(apart / late.shape[1] ** 0.5 / (1.0 - share) / slope)


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Arrivals and ranks of demands that all servers share, shape (steps, lanes).

    The first ``warm`` steps fill the empty lanes and do not count.
    """

    gap: FloatArray
    rank: FloatArray
    warm: int

    @classmethod
    def of(
        cls, model: ServerModel, at: Crossing, rng: np.random.Generator, requests: int
    ) -> _Draws:
        steps = max(requests // _LANES, 400)
        warm = warm_up_steps(model, at.rate_per_s, steps)
        shape = (steps + warm, _LANES)
        return cls(rng.standard_exponential(shape), rng.random(shape), warm)

    def late(
        self, servers: Sequence[ServerModel], objective: LatencyObjective, rate_per_s: FloatArray
    ) -> FloatArray:
        """Share of late requests of each server at its own load, shape (servers, lanes)."""
        share = np.empty((len(servers), _LANES))
        for workers in {s.workers for s in servers}:
            mine = [i for i, s in enumerate(servers) if s.workers == workers]
            for first in range(0, len(mine), _AT_ONCE):
                some = mine[first : first + _AT_ONCE]
                gaps = np.concatenate([self.gap / rate_per_s[i] for i in some], axis=1)
                demand = np.concatenate([self._demand(servers[i]) for i in some], axis=1)
                waits = fifo_waits(gaps, demand, workers)[self.warm :]
                for i, own in zip(some, np.hsplit(waits, len(some)), strict=True):
                    budget = objective.threshold_s - servers[i].floor_s
                    share[i] = survival(servers[i].demand_s, budget, own).mean(axis=0)
        return share

    def _demand(self, server: ServerModel) -> FloatArray:
        return np.asarray(server.demand_s[(self.rank * len(server.demand_s)).astype(np.int64)])
