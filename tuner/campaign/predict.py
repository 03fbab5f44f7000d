"""What the recovered server would do at loads and instance counts nobody has measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.types import Routing
from tuner.fleet.batch import fifo_waits, least_outstanding_waits
from tuner.slo import LatencyObjective

FloatArray = NDArray[np.float64]

_COARSE = np.array([0.15, 0.3, 0.45, 0.6, 0.7, 0.78, 0.85, 0.9, 0.94, 0.97])
_FINE = np.array([-0.04, 0.0, 0.04])
_FINE_ROUTED = np.array([-0.02, 0.02])
"""Behind a router the curve is three times as steep, and every load costs five times more."""
_TABLE = 4096
_GROUPS = 12
_SATURATED = 0.995
"""Above this utilisation a queue does not reach a steady state in any window worth paying."""


@dataclass(frozen=True, slots=True, eq=False)
class ServerModel:
    """One instance as recovered: workers in order of arrival behind a network floor.

    Parameters
    ----------
    workers
        Requests served at once.
    floor_s
        Time a request spends outside the server.
    demand_s
        Equally likely demands, ascending, shape (n,).
    failure_share
        Requests that fail whatever the load: infinitely slow.
    """

    workers: int
    floor_s: float
    demand_s: FloatArray
    failure_share: float = 0.0

    @property
    def saturation_per_s(self) -> float:
        """Rate per instance at which every worker is always busy."""
        return float(self.workers / self.demand_s.mean())

    def unloaded_share(self, threshold_s: float) -> float:
        """Share over the threshold when nobody waits, failures included."""
        slow = float(np.mean(self.demand_s > threshold_s - self.floor_s))
        return self.failure_share + (1.0 - self.failure_share) * slow


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to simulate: requests per load for the coarse and the fine pass, and for the
    fine pass behind a router, and for each plausible server."""

    coarse: int = 60_000
    fine: int = 600_000
    routed: int = 200_000
    member: int = 40_000


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the share over the threshold reaches its allowance.

    Parameters
    ----------
    rate_per_s
        Per instance.
    slope
        d ln P / d ln rate there.
    inflation
        Variance of the share in a window over that of independent requests.
    noise
        Standard deviation of ln rate from simulating a finite number of requests.
    utilization
        Share of saturation.
    """

    rate_per_s: float
    slope: float
    inflation: float
    noise: float
    utilization: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a window at one load would show.

    ``share`` is P(latency > threshold), ``inflation`` its variance over independence.
    """

    share: float
    inflation: float


def crossing(
    model: ServerModel,
    objective: LatencyObjective,
    *,
    instances: int = 1,
    routing: Routing = Routing.RANDOM,
    rng: np.random.Generator,
    effort: Effort | None = None,
    near_per_s: float | None = None,
) -> Crossing | None:
    """The highest rate per instance at which the objective holds; None if at no rate.

    Parameters
    ----------
    near_per_s
        A guess within a few per cent saves the coarse pass.
    """
    effort = effort or Effort()
    allowed = allowed_late(model, objective)
    if allowed <= 0.0 or model.unloaded_share(objective.threshold_s) >= objective.allowance:
        return None
    pooled = instances if routing is Routing.LEAST_OUTSTANDING_REQUESTS else 1
    guess = near_per_s
    if guess is None:
        guess = _coarse(model, objective, allowed, pooled, rng, effort)
    return _refine(model, objective, allowed, pooled, guess, rng, effort)


def forecasts(
    model: ServerModel,
    threshold_s: float,
    rates_per_s: Sequence[float] | FloatArray,
    *,
    instances: int = 1,
    routing: Routing = Routing.RANDOM,
    rng: np.random.Generator,
    requests: int = 150_000,
) -> tuple[Forecast, ...]:
    """What windows at these rates per instance would show; rates must be below saturation."""
    pooled = instances if routing is Routing.LEAST_OUTSTANDING_REQUESTS else 1
    run = _Run.of(model, threshold_s, np.asarray(rates_per_s, float), pooled, rng, requests)
    fail = model.failure_share
    result = []
    for j in range(len(rates_per_s)):
        share, inflation = run.share(j)
        result.append(Forecast(fail + (1.0 - fail) * share, inflation))
    return tuple(result)


def allowed_late(model: ServerModel, objective: LatencyObjective) -> float:
    """Allowance left for slow successes once the failures have taken theirs."""
    return (objective.allowance - model.failure_share) / (1.0 - model.failure_share)


def _coarse(
    model: ServerModel,
    objective: LatencyObjective,
    allowed: float,
    pooled: int,
    rng: np.random.Generator,
    effort: Effort,
) -> float:
    rates = _COARSE * model.saturation_per_s
    run = _Run.of(model, objective.threshold_s, rates, pooled, rng, effort.coarse // max(pooled, 1))
    share = np.maximum.accumulate([run.share(j)[0] for j in range(len(rates))])
    return float(np.exp(_root(np.log(rates), logit(share), logit(np.array(allowed)))))


def _refine(
    model: ServerModel,
    objective: LatencyObjective,
    allowed: float,
    pooled: int,
    guess: float,
    rng: np.random.Generator,
    effort: Effort,
) -> Crossing:
    """Local straight line in logit against ln rate, moved until the crossing is inside."""
    requests = effort.fine if pooled == 1 else effort.routed
    fine = _FINE if pooled == 1 else _FINE_ROUTED
    limit = math.log(_SATURATED * model.saturation_per_s)
    centre = min(math.log(guess), limit - fine[-1])
    for _ in range(4):
        rates = np.exp(centre + fine)
        run = _Run.of(model, objective.threshold_s, rates, pooled, rng, requests)
        root = run.root(allowed)
        if abs(root - centre) <= fine[-1] * 1.25:
            break
        centre = min(max(root, centre - 0.3), centre + 0.3, limit - fine[-1])
    share, inflation = run.share(len(fine) // 2)
    rate = math.exp(min(root, limit))
    return Crossing(
        rate_per_s=rate,
        slope=run.slope * (1.0 - allowed),
        inflation=inflation if share > 0.0 else 1.0,
        noise=run.root_noise(),
        utilization=rate / model.saturation_per_s,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Simulated lanes at several loads with common random numbers.

    ``late`` is P(latency > threshold | wait) averaged over time, shape (loads, lanes): given
    the wait, the request's own demand is integrated out, not drawn.
    """

    rates_per_s: FloatArray
    late: FloatArray
    own: FloatArray
    steps: int

    @classmethod
    def of(
        cls,
        model: ServerModel,
        threshold_s: float,
        rates_per_s: FloatArray,
        pooled: int,
        rng: np.random.Generator,
        requests: int,
    ) -> _Run:
        loads = len(rates_per_s)
        lanes = 240 if pooled == 1 else 64
        steps = max(requests // lanes, 400)
        warm = warm_up_steps(model, float(rates_per_s.max()), steps)
        gap = rng.standard_exponential((steps + warm, lanes))
        picks = rng.integers(len(model.demand_s), size=(steps + warm, lanes))
        demand = np.tile(model.demand_s[picks], loads)
        gaps = (gap[:, None, :] / (rates_per_s * pooled)[None, :, None]).reshape(steps + warm, -1)
        if pooled == 1:
            waits = fifo_waits(gaps, demand, model.workers)
        else:
            waits = least_outstanding_waits(gaps, demand, model.workers, pooled, rng)
        waits = waits[warm:].reshape(steps, loads, lanes)
        late = survival(model.demand_s, threshold_s - model.floor_s, waits)
        return cls(
            rates_per_s,
            late.mean(axis=0),
            (late * (1.0 - late)).mean(axis=(0, 2)),
            steps,
        )

    def share(self, load: int) -> tuple[float, float]:
        """P(late) and the inflation of its variance in a long window."""
        p = float(self.late[load].mean())
        if p <= 0.0:
            return 0.0, 1.0
        variance = float(self.late[load].var(ddof=1)) * self.steps + float(self.own[load])
        return p, max(1.0, variance / (p * (1.0 - p)))

    def root(self, allowed: float) -> float:
        """ln rate at the crossing: quadratic inside the loads, straight outside."""
        x = np.log(self.rates_per_s)
        y = logit(self.late.mean(axis=1))
        return _root(x, np.maximum.accumulate(y), float(logit(np.array(allowed))))

    @property
    def slope(self) -> float:
        """d logit / d ln rate over the loads."""
        y = logit(self.late.mean(axis=1))
        x = np.log(self.rates_per_s)
        return max(float((y[-1] - y[0]) / (x[-1] - x[0])), 0.5)

    def root_noise(self) -> float:
        """Standard deviation of the crossing over independent groups of lanes."""
        parts = np.array_split(self.late, _GROUPS, axis=1)
        shift = [float(logit(p.mean(axis=1)).mean()) / self.slope for p in parts]
        return float(np.std(shift, ddof=1)) / math.sqrt(_GROUPS)


def warm_up_steps(model: ServerModel, rate_per_s: float, steps: int) -> int:
    """Arrivals until lanes that start empty forget it: three heavy-traffic relaxation times.

    References
    ----------
    Whitt (1989), Planning queueing simulations, Management Science 35: the relaxation time
    of a queue grows as (1 + cv**2) / (2 (1 - rho)**2).
    """
    spare = max(1.0 - rate_per_s / model.saturation_per_s, 0.02)
    scv = float(model.demand_s.var()) / float(model.demand_s.mean()) ** 2
    relaxation = (1.0 + scv) / (2.0 * spare * spare)
    return int(min(max(3.0 * relaxation, 100.0 + steps / 8.0), 1.0 * steps))


def survival(demand_s: FloatArray, budget_s: float, waits: FloatArray) -> FloatArray:
    """P(demand > budget - wait), from a table: a search per request costs ten times more."""
    edges = np.linspace(0.0, max(budget_s, 1e-12), _TABLE + 1)
    over = 1.0 - np.searchsorted(demand_s, edges, side="right") / len(demand_s)
    table = np.append(over[::-1], 1.0)
    index = np.minimum(waits * (_TABLE / max(budget_s, 1e-12)), _TABLE + 1.0).astype(np.int32)
    return np.asarray(table[index])


def logit(share: NDArray[np.float64]) -> FloatArray:
    """ln of the odds, for shares too near 0 or 1 as well."""
    p = np.clip(share, 1e-9, 1.0 - 1e-9)
    return np.asarray(np.log(p / (1.0 - p)))


def _root(x: FloatArray, y: FloatArray, target: float | FloatArray) -> float:
    """x where the rising polyline y(x) meets the target; its end segments are extended."""
    goal = float(target)
    at = int(np.clip(np.searchsorted(y, goal), 1, len(x) - 1))
    rise = y[at] - y[at - 1]
    if rise <= 1e-12:
        return float(x[at] if goal >= y[at] else x[at - 1])
    return float(x[at - 1] + (goal - y[at - 1]) * (x[at] - x[at - 1]) / rise)
