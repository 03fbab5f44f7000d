"""Choosing on simulated days: budgets with a bootstrap bound, and days that only score."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.recommend.types import Failing

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

BOOTSTRAP_DAYS = 5
"""With fewer days every single one has to meet the budgets: resampling so few tells nothing."""
RESAMPLES = 400
BOUND_LEVEL = 0.90
FEWEST_DAYS_TO_SPLIT = 4
NO_REQUESTS = 1e-9
"""Stands for the requests of silent days, so that their share of slow ones is 0."""
EQUAL_MISSES = 1e-4
EQUAL_COST = 1.005
"""Costs within half a percent count as equal; then fewer misses win."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a policy may use up: shares of requests, of minutes, of unsafe minutes.

    ``unsafe_minutes`` None means that nothing needs to be lost without a miss.
    """

    requests: float
    minutes: float
    unsafe_minutes: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Simulated policies on days; arrays of shape (p, d) except ``requests`` (d,).

    ``violating`` counts requests, ``bad`` and ``unsafe`` are shares of the day's minutes,
    ``instance_hours`` are per day of 24 hours.
    """

    requests: FloatArray
    violating: FloatArray
    bad: FloatArray
    unsafe: FloatArray
    instance_hours: FloatArray

    def days(self, index: IntArray) -> Scores:
        """Only these days."""
        return Scores(
            self.requests[index],
            self.violating[:, index],
            self.bad[:, index],
            self.unsafe[:, index],
            self.instance_hours[:, index],
        )

    def policies(self, index: IntArray | BoolArray) -> Scores:
        """Only these policies."""
        return replace(
            self,
            violating=self.violating[index],
            bad=self.bad[index],
            unsafe=self.unsafe[index],
            instance_hours=self.instance_hours[index],
        )

    @property
    def violating_share(self) -> FloatArray:
        """Share of all requests that miss, shape (p,)."""
        total = max(float(self.requests.sum()), NO_REQUESTS)
        return np.asarray(self.violating.sum(axis=1) / total, dtype=np.float64)

    @property
    def cost(self) -> FloatArray:
        """Mean instance-hours per day, shape (p,)."""
        return np.asarray(self.instance_hours.mean(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """Which policies meet which budget, each of shape (p,)."""

    requests: BoolArray
    minutes: BoolArray
    resilience: BoolArray

    @property
    def all(self) -> BoolArray:
        """Policies that meet them all."""
        return self.requests & self.minutes & self.resilience

    def failing(self, i: int) -> tuple[Failing, ...]:
        """What policy ``i`` breaks."""
        pairs = (
            (self.requests, Failing.REQUESTS),
            (self.minutes, Failing.MINUTES),
            (self.resilience, Failing.RESILIENCE),
        )
        return tuple(reason for met, reason in pairs if not met[i])


def split(weekend: BoolArray) -> tuple[IntArray, IntArray]:
    """Days to choose on and days to score on; the second is empty for a short record.

    Every third day of each day type scores, so that both parts see the whole record and
    both kinds of day. Types with fewer than three days only choose.
    """
    days = weekend.size
    if days < FEWEST_DAYS_TO_SPLIT:
        return np.arange(days), np.arange(0)
    scoring: list[int] = []
    for kind in (False, True):
        members = np.flatnonzero(weekend == kind)
        scoring += members[2::3].tolist()
    score = np.array(sorted(scoring), dtype=np.int64)
    return np.setdiff1d(np.arange(days), score), score


def resample_weights(days: int, seed: int) -> FloatArray:
    """How often each day is drawn in each bootstrap resample, shape (RESAMPLES, days)."""
    rng = np.random.default_rng([seed, days])
    return rng.multinomial(days, np.full(days, 1.0 / days), size=RESAMPLES).astype(np.float64)


def upper_bounds(scores: Scores, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Upper bounds of the shares of slow requests, bad minutes and unsafe minutes, (p,) each.

    From `BOOTSTRAP_DAYS` on: the bootstrap quantile over days at `BOUND_LEVEL`. With fewer:
    the worst single day.
    """
    days = scores.requests.size
    if days < BOOTSTRAP_DAYS:
        worst = scores.violating / np.maximum(scores.requests, NO_REQUESTS)
        return worst.max(axis=1), scores.bad.max(axis=1), scores.unsafe.max(axis=1)
    weights = resample_weights(days, seed)
    drawn = np.maximum(weights @ scores.requests, NO_REQUESTS)
    requests = scores.violating @ weights.T / drawn
    minutes = scores.bad @ weights.T / days
    unsafe = scores.unsafe @ weights.T / days
    high = [np.quantile(v, BOUND_LEVEL, axis=1) for v in (requests, minutes, unsafe)]
    return high[0], high[1], high[2]


def meets(shares: tuple[FloatArray, FloatArray, FloatArray], budgets: Budgets) -> Met:
    """Compare shares of slow requests, bad and unsafe minutes, (p,) each, with the budgets."""
    requests, minutes, unsafe = shares
    limit = 1.0 if budgets.unsafe_minutes is None else budgets.unsafe_minutes
    return Met(requests <= budgets.requests, minutes <= budgets.minutes, unsafe <= limit)


def plain_shares(scores: Scores) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Shares of slow requests, bad minutes and unsafe minutes over the days, (p,) each."""
    return scores.violating_share, scores.bad.mean(axis=1), scores.unsafe.mean(axis=1)


def cheapest(scores: Scores, allowed: BoolArray, dislike: FloatArray | None = None) -> int | None:
    """Index of the cheapest allowed policy.

    Among equally cheap ones that with the fewest misses, and among equal misses the one least
    disliked, shape (p,).
    """
    if not allowed.any():
        return None
    cost = np.where(allowed, scores.cost, np.inf)
    near = np.flatnonzero(cost <= cost.min() * EQUAL_COST)
    misses = np.rint(scores.violating_share[near] / EQUAL_MISSES)
    last = np.zeros(near.size) if dislike is None else dislike[near]
    return int(near[np.lexsort((last, misses))[0]])


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Outcome of choosing: the policy's index, on which days, and what the scoring days said.

    ``refuted`` is the first choice when the scoring days did not confirm it; then the choice
    was made again on all days, and ``scored_on`` is empty.
    """

    index: int | None
    chosen_on: IntArray
    scored_on: IntArray
    met: Met
    refuted: int | None = None


def choose(
    scores: Scores,
    weekend: BoolArray,
    budgets: Budgets,
    seed: int,
    dislike: FloatArray | None = None,
) -> Choice:
    """Cheapest policy whose upper bounds meet the budgets on choosing days, then scored.

    ``dislike``, shape (p,), decides between policies of equal cost and misses.
    """
    chosen_on, scored_on = split(weekend)
    met = meets(upper_bounds(scores.days(chosen_on), seed), budgets)
    first = cheapest(scores.days(chosen_on), met.all, dislike)
    everything = np.arange(weekend.size)
    if first is None or not scored_on.size:
        return Choice(first, chosen_on, scored_on, met)
    confirmed = meets(plain_shares(scores.days(scored_on)), budgets).all[first]
    if confirmed:
        return Choice(first, chosen_on, scored_on, met)
    met = meets(upper_bounds(scores, seed), budgets)
    again = cheapest(scores, met.all, dislike)
    return Choice(again, everything, np.arange(0), met, refuted=first)


def pareto(cost: FloatArray, misses: FloatArray) -> IntArray:
    """Indices that no other policy beats in both, by ascending cost."""
    order = np.lexsort((misses, cost))
    best = np.minimum.accumulate(misses[order])
    first = np.concatenate(([True], best[1:] < best[:-1]))
    return np.asarray(order[first], dtype=np.int64)


def bootstrap_interval(
    numerator: FloatArray, denominator: FloatArray, seed: int, level: float
) -> tuple[float, float]:
    """Bootstrap interval over days of sum(numerator) / sum(denominator), shape (d,) each."""
    weights = resample_weights(numerator.size, seed)
    ratio = (weights @ numerator) / np.maximum(weights @ denominator, NO_REQUESTS)
    low, high = np.quantile(ratio, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
