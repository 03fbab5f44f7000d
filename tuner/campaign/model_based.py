"""Track A: capacity at every count from the recovered server, checked against real load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.campaign.level import SafeSide, fall_of_odds, is_level, safe_side, taken_alone
from tuner.campaign.members import Shifts, resampled_models, shifts
from tuner.campaign.predict import Crossing, Effort, ServerModel, crossing
from tuner.campaign.server import ServerFit
from tuner.campaign.types import Routing
from tuner.interval import Interval
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

SIMULATED_COUNTS = (1, 2, 4)
"""Counts simulated under least-outstanding routing; between and beyond them the spare
capacity n (1 - utilisation) at the crossing moves little and is a line in 1/n."""
NOISE_FLOOR = 0.006
"""Simulation error of ln capacity that its own estimate may miss."""
EXTRAPOLATION_NOISE = 0.005
_FREEDOM = 23
"""Degrees of freedom of a bootstrap over 24 blocks of time or more."""
_HALVINGS = 50
_T = 2.07
_LEAST_SPREAD = 1e-9
_MOST_LEAN = 1.5
_MOST_FALL = 3.0
"""Of ln odds: enough to say that far more requests are needed."""


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
    chance
        Of each plausible server (workers, floor), shape (h,), summing to 1.
    log_plausible
        ln capacity of each plausible server, shape (h, k).
    log_resampled
        ln capacity from other requests to the same server, shape (members, k), with the
        capacity of the fitted server as its centre.
    noise
        Standard deviation of ln capacity from simulating, and from what else is in doubt.
    crossings
        The simulated crossings by count.
    lean
        How many standard deviations of resampling the lower end moves down, because a
        sample that misses the heaviest requests looks faster and surer than it is.
    log_most
        ln capacity that no count can pass: every worker always busy.
    odds_spread
        Standard deviation of the ln odds of being late at the limit.
    alone
        Part of the allowance that services alone take.
    safe_sides
        The curve below the limit by simulated count, where that is most of it; empty elsewhere.
    """

    objective: LatencyObjective
    counts: tuple[int, ...]
    rate_per_s: FloatArray
    chance: FloatArray
    log_plausible: FloatArray
    log_resampled: FloatArray
    noise: float
    crossings: tuple[tuple[int, Crossing], ...]
    lean: float = 0.0
    log_most: float = math.inf
    odds_spread: float = 0.0
    alone: float = 0.0
    safe_sides: tuple[tuple[int, SafeSide], ...] = ()

    def resampling(self, count: int) -> float:
        """Spread of ln capacity at this count without the error of simulating."""
        at = self.counts.index(count)
        between = float(self.chance @ (self.log_plausible[:, at] - self._centre(at)) ** 2)
        return math.sqrt(between + float(self.log_resampled[:, at].var(ddof=1)))

    def spread(self, count: int) -> float:
        """Standard deviation of ln capacity at this count."""
        return math.hypot(self.resampling(count), self.noise)

    def scatter(self, count: int, noise: float, far: float) -> float:
        """Standard deviation of ln capacity as it shrinks with the square root of the requests.

        Parameters
        ----------
        noise
            Of ln capacity, from the final simulation.
        far
            Where the curve below the limit is level: the standard deviation at which a load so
            far below, in ln rate, is still told from the limit.
        """
        straight = math.hypot(self.resampling(count), noise)
        side = self._safe_side(count)
        if side is None:
            return straight
        believed = min(-fall_of_odds(_T * self.odds_spread, self.alone), _MOST_FALL)
        return max(straight, far * believed / side.fallen(-far) / _T)

    def interval(self, count: int, level: float) -> Interval:
        """Quantiles of the mixture of plausible servers, with t for few blocks of time."""
        at = self.counts.index(count)
        tail = 0.5 * (1.0 - level)
        low, mid, high = (self._quantile(at, q) for q in (tail, 0.5, 1.0 - tail))
        low -= self.lean * float(self.log_resampled[:, at].std(ddof=1))
        high = min(high, self.log_most)
        mid = min(mid, high)
        side = self._safe_side(count)
        if side is not None:
            away = _student(1.0 - tail) * self.odds_spread
            low = min(low, mid + side.where(fall_of_odds(away, self.alone)))
        low = min(low, mid)
        return Interval(math.exp(low), math.exp(mid), math.exp(high), level)

    def doubted(self, extra: float) -> ModelEstimate:
        """The same with one more independent error of ln capacity."""
        return replace(self, noise=math.hypot(self.noise, extra))

    def members(self, rng: np.random.Generator) -> FloatArray:
        """ln of plausible capacities, shape (members, k): every doubt at once."""
        count = len(self.log_resampled)
        at = (rng.permutation(count) + rng.random()) / count
        picked = np.minimum(np.searchsorted(np.cumsum(self.chance), at), len(self.chance) - 1)
        away = self.log_resampled - self.log_resampled.mean(axis=0)
        noise = self.noise * rng.standard_normal((count, 1))
        return np.asarray(np.minimum(self.log_plausible[picked] + away + noise, self.log_most))

    def _safe_side(self, count: int) -> SafeSide | None:
        """The curve at the largest simulated count up to this one: more are steeper."""
        known = [side for n, side in self.safe_sides if n <= count]
        return known[-1] if known else None

    def _centre(self, at: int) -> float:
        return float(self.chance @ self.log_plausible[:, at])

    def _within(self, at: int) -> float:
        return math.hypot(float(self.log_resampled[:, at].std(ddof=1)), self.noise)

    def _quantile(self, at: int, q: float) -> float:
        from scipy.special import stdtr

        centres, spread = self.log_plausible[:, at], self._within(at)
        low, high = float(centres.min()) - 9.0 * spread, float(centres.max()) + 9.0 * spread
        for _ in range(_HALVINGS):
            mid = 0.5 * (low + high)
            below = float(self.chance @ stdtr(_FREEDOM, (mid - centres) / spread))
            low, high = (mid, high) if below < q else (low, mid)
        return 0.5 * (low + high)

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
    plausible = fit.plausible()
    chance = np.array([w for w, _ in plausible])
    others = [m for _, m in plausible] + resampled_models(fit, rng, members)
    requests = (effort or Effort()).member
    found_shifts = shifts(fit.model, others, objective, one, rng, requests)
    shift = np.append(found_shifts.log[: len(chance)], found_shifts.of_resampled(len(chance)))
    simulated = [(1, one)]
    if routing is Routing.LEAST_OUTSTANDING_REQUESTS:
        for n in _routed_counts(counts):
            simulated.append((n, _routed(fit.model, objective, n, simulated, rng, effort)))
    predicted = [_at(fit.model, simulated, n, routing) for n in counts]
    full = math.log(fit.model.saturation_per_s)
    larger = np.array([math.log(o.saturation_per_s) - full for o in others])
    log = np.column_stack(
        [math.log(rate) + _members(fit, one, rate, shift, larger) for rate in predicted]
    )
    alone, spread = taken_alone(fit.model, objective), 0.0
    sides: tuple[tuple[int, SafeSide], ...] = ()
    if is_level(alone):
        # Slow requests are at least as scattered as independent ones.
        least = math.sqrt(alone / objective.allowance / len(fit.work.demand_s))
        spread = max(_odds_spread(found_shifts, chance), least)
        sides = _safe_sides(fit.model, objective, simulated, routing, rng, effort or Effort())
    found = ModelEstimate(
        objective,
        tuple(counts),
        np.asarray(predicted),
        chance,
        log[: len(chance)],
        log[len(chance) :],
        _noise(simulated),
        tuple(simulated),
        lean(fit.work.demand_s),
        full + _T * float(larger[len(chance) :].std(ddof=1)),
        spread,
        alone,
        sides,
    )
    medians = [found.interval(n, 0.95).mid for n in counts]
    return replace(found, rate_per_s=np.array(medians))


def _odds_spread(found: Shifts, chance: FloatArray) -> float:
    """Standard deviation over plausible servers and over other requests to the same one."""
    kinds, resampled = found.odds[: len(chance)], found.odds[len(chance) :]
    between = float(chance @ (kinds - chance @ kinds) ** 2)
    return math.sqrt(between + float(resampled.var(ddof=1)))


def _safe_sides(
    model: ServerModel,
    objective: LatencyObjective,
    simulated: Sequence[tuple[int, Crossing]],
    routing: Routing,
    rng: np.random.Generator,
    effort: Effort,
) -> tuple[tuple[int, SafeSide], ...]:
    found = []
    for n, at in simulated:
        side = safe_side(
            model,
            objective,
            at,
            instances=n,
            routing=routing,
            rng=rng,
            requests=effort.routed,
        )
        found.append((n, side))
    return tuple(found)


def _student(q: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(_FREEDOM, q))


def _routed_counts(counts: Sequence[int]) -> tuple[int, ...]:
    """What has to be simulated behind a router: no more where nothing lies in between."""
    others = [n for n in SIMULATED_COUNTS if 1 < n <= max(counts)]
    between = any(n not in SIMULATED_COUNTS for n in counts)
    return tuple(n for n in others if between or n in counts)


def _members(
    fit: ServerFit, one: Crossing, rate: float, shift: FloatArray, larger: FloatArray
) -> FloatArray:
    """Shifts at another count: the nearer to saturation, the more only saturation matters."""
    used = rate / fit.model.saturation_per_s
    near = (used - one.utilization) / max(1.0 - one.utilization, 1e-9)
    near = min(max(near, 0.0), 1.0)
    return np.asarray((1.0 - near) * shift + near * larger)


def lean(demand_s: FloatArray) -> float:
    """Correction of a t interval for skewness, by the squares that make a queue.

    References
    ----------
    Johnson, N. J. (1978), Modified t tests and confidence intervals for asymmetrical
    populations, J. Am. Stat. Assoc. 73: the end moves by (1 + 2 t**2) skewness / (6 sqrt(n)).
    """
    square = np.square(demand_s / demand_s.mean())
    spread = float(square.std())
    if spread <= _LEAST_SPREAD:
        return 0.0
    skewness = float(np.mean(((square - square.mean()) / spread) ** 3))
    moved = (1.0 + 2.0 * _T * _T) * skewness / (6.0 * math.sqrt(len(square)))
    return min(max(moved, 0.0), _MOST_LEAN)


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
    slope = (spare[0] - spare[1]) / (inverse[0] - inverse[1])
    # Beyond the largest simulated count np.interp holds the last value; the line goes on.
    more = max(slope * (1.0 / count - inverse[0]), 0.0) if 1.0 / count < inverse[0] else 0.0
    used = 1.0 - (float(np.interp(1.0 / count, inverse, spare)) + more) / count
    return used * model.saturation_per_s
