"""Limits that load hardly moves: services alone take most of what the objective allows.

Below such a limit the share of late requests is nearly the same at any load, and rises only near
saturation. What moves the share by a tenth then moves the limit by a little upwards and by much
downwards, or leaves none: an interval from a slope at the limit is too short on the safe side.
It is found by inversion instead: loads are ruled out one by one, each by how far its expected
share is from the allowance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tuner.campaign.predict import Crossing, ServerModel, forecasts, logit
from tuner.campaign.types import Routing
from tuner.slo import LatencyObjective
from tuner.stats.requests import FloatArray

_MOST_ALONE = 0.5
"""Services that alone take more than this part of the allowance make a level curve."""
_BELOW = np.array([0.0, 0.03, 0.07, 0.12, 0.18, 0.25, 0.35, 0.5, 0.75, 1.1])
"""How far below the limit the curve is known, in ln rate: a limit a third as large is no
answer, however much further it may reach."""


def taken_alone(model: ServerModel, objective: LatencyObjective) -> float:
    """Part of the allowance that requests take which are late when nobody waits."""
    return model.unloaded_share(objective.threshold_s) / objective.allowance


def is_level(alone: float) -> bool:
    """Whether services take so much of the allowance that load has little say."""
    return alone > _MOST_ALONE


def fall_of_odds(deviation: float, alone: float) -> float:
    """How far ln odds may have fallen at a load that is not ruled out as the limit.

    A sample with few slow requests also looks surer than it is: a load is judged by the scatter
    there would be if it were the limit and services alone had taken what the sample lacks.

    Parameters
    ----------
    deviation
        Of ln odds, that is still put down to chance: a quantile times their spread.
    alone
        Part of the allowance that services alone take in the sample.

    References
    ----------
    Wilson, E. B. (1927), Probable inference, J. Am. Stat. Assoc. 22: the score interval.
    """
    square = deviation * deviation
    lacking = 0.5 * (square / alone + math.sqrt((square / alone) ** 2 + 4.0 * square))
    return math.log1p(-lacking) if lacking < 1.0 else -math.inf


@dataclass(frozen=True, slots=True, eq=False)
class SafeSide:
    """The curve below a limit.

    Parameters
    ----------
    log_rate
        ln(rate / limit), from 0 downwards, shape (k,).
    log_odds
        ln odds of being late over those at the limit, never rising, shape (k,).
    """

    log_rate: FloatArray
    log_odds: FloatArray

    def where(self, log_odds: float) -> float:
        """ln(rate / limit) at which the odds have fallen so far; the end where they never do."""
        return float(np.interp(-log_odds, -self.log_odds, self.log_rate))

    def fallen(self, log_rate: float) -> float:
        """How far the odds have fallen at a load below the limit; at least a hundredth."""
        return max(float(np.interp(-log_rate, -self.log_rate, -self.log_odds)), 0.01)


def safe_side(
    model: ServerModel,
    objective: LatencyObjective,
    at: Crossing,
    *,
    instances: int,
    routing: Routing,
    rng: np.random.Generator,
    requests: int,
) -> SafeSide:
    """Simulate the loads below a limit, all with the same arrivals and demands."""
    expected = forecasts(
        model,
        objective.threshold_s,
        at.rate_per_s * np.exp(-_BELOW),
        instances=instances,
        routing=routing,
        rng=rng,
        requests=requests,
    )
    fail = model.failure_share
    odds = logit((np.array([f.share for f in expected]) - fail) / (1.0 - fail))
    return SafeSide(-_BELOW, np.minimum.accumulate(odds - odds[0]))
