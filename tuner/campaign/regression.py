"""The crossing from load held around it, without any model of the server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.campaign.evidence import StageEvidence
from tuner.campaign.types import StageKind
from tuner.interval import Interval
from tuner.stats.proportions import clopper_pearson
from tuner.stats.requests import FloatArray

REACH = 0.13
"""Windows count by exp(-(distance/0.13)^4 / 2) in ln load: the curve bends further out."""
LEAST_EXCEEDANCES = 20.0
LEAST_WINDOWS = 9
FIXED_WIDTH = 0.05
_SLOPE_PRIOR = (math.log(9.0), 0.9)
_DEPENDENCE = 15.0
"""Typical variance inflation: scales the likelihood against the prior of the slope."""
_HALF_RANGE = 0.35
_GROUPS = 10


@dataclass(frozen=True, slots=True)
class LocalFit:
    """A crossing with the uncertainty of its logarithm.

    ``members`` are plausible logarithms of the crossing; ``windows`` how many stages lie
    within reach and ``exceedances`` how many independent slow requests they are worth.
    """

    log_rate: float
    standard_error: float
    freedom: int
    slope: float
    windows: int
    exceedances: float
    requests: int
    stages: tuple[int, ...]

    def interval(self, level: float) -> Interval:
        """The crossing per instance with a t interval of its logarithm."""
        half = half_width(replace(self, standard_error=printed_error(self)), level)
        mid = math.exp(self.log_rate)
        return Interval(mid * math.exp(-half), mid, mid * math.exp(half), level)


def half_width(fit: LocalFit, level: float) -> float:
    """Half-width of the interval of ln rate."""
    from scipy.special import stdtrit

    return float(stdtrit(fit.freedom, 0.5 + level / 2.0)) * fit.standard_error


def printed_error(fit: LocalFit) -> float:
    """Standard error that is printed: never below what the search stops at.

    Windows are added until the half-width is small, so the half-width at the end is the
    luckiest one; a fixed width holds where the estimated one does not.

    References
    ----------
    Chow and Robbins (1965), On the asymptotic theory of fixed-width sequential confidence
    intervals for the mean, Ann. Math. Stat. 36.
    """
    from scipy.special import stdtrit

    return max(fit.standard_error, FIXED_WIDTH / float(stdtrit(fit.freedom, 0.975)))


def fit_local(
    stages: Sequence[StageEvidence], allowance: float, start_per_s: float
) -> LocalFit | None:
    """Quasi-binomial regression of logit P on ln load near its crossing of the allowance.

    Parameters
    ----------
    stages
        Stages of one law (one count, or any count under RANDOM routing).
    allowance
        Share of requests that may be late.
    start_per_s
        Load per instance to begin from.

    Returns
    -------
    LocalFit or None
        None with fewer than four stages within reach of the crossing.

    References
    ----------
    McCullagh and Nelder (1989), Generalized Linear Models, chapter 9 (quasi-likelihood);
    Efron (1982), The Jackknife, chapter 3.
    """
    usable = [s for s in stages if not s.overloaded and s.share.n]
    if len(usable) < 4:
        return None
    x = np.log([s.rate_per_s for s in usable])
    late = np.array([float(s.share.count) for s in usable])
    n = np.array([float(s.share.n) for s in usable])
    theta, slope = _solve(x, late, n, allowance, math.log(start_per_s))
    weight = _weight(x, theta)
    near = weight > 0.5
    if int(near.sum()) < 4:
        return None
    groups = min(_GROUPS, int(near.sum()))
    label = np.zeros(len(x), np.int64)
    label[near] = np.arange(int(near.sum())) % groups
    label[~near] = -1
    left_out = []
    for g in range(groups):
        keep = label != g
        left_out.append(_solve(x[keep], late[keep], n[keep], allowance, theta)[0])
    parts = np.array(left_out)
    jackknife = (groups - 1) / groups * float(np.sum((parts - parts.mean()) ** 2))
    inflation = np.array([s.share.inflation for s in usable])
    expected = _model_variance(x, n, weight, inflation, theta, slope, allowance)
    # A search that stops at the first small jackknife stops at the luckiest one: half of
    # what the dependence inside the windows says is held against it.
    error = math.sqrt(max(jackknife, 0.5 * (jackknife + expected)))
    return LocalFit(
        log_rate=theta,
        standard_error=max(error, 1e-4),
        freedom=groups - 1,
        slope=slope,
        windows=int(near.sum()),
        exceedances=float(np.sum((weight * late / inflation)[np.isfinite(inflation)])),
        requests=int(n[near].sum()),
        stages=tuple(s.stage for s, k in zip(usable, near, strict=True) if k),
    )


def _model_variance(
    x: FloatArray,
    n: FloatArray,
    weight: FloatArray,
    inflation: FloatArray,
    theta: float,
    slope: float,
    allowance: float,
) -> float:
    """Variance of ln crossing by the information of the windows over their inflation."""
    from scipy.special import expit

    goal = math.log(allowance / (1.0 - allowance))
    p = expit(goal + slope * (x - theta))
    tau = np.where(np.isfinite(inflation), inflation, _DEPENDENCE)
    typical = float(np.average(tau, weights=weight * n))
    information = float(np.sum(weight * n * p * (1.0 - p))) * slope * slope / typical
    return 1.0 / max(information, 1e-9)


def _weight(x: FloatArray, theta: float) -> FloatArray:
    return np.asarray(np.exp(-(((x - theta) / REACH) ** 4) / 2.0))


def _solve(
    x: FloatArray, late: FloatArray, n: FloatArray, allowance: float, start: float
) -> tuple[float, float]:
    """(ln crossing, slope) on grids that shrink around the best point."""
    goal = math.log(allowance / (1.0 - allowance))
    theta, log_slope = start, _SLOPE_PRIOR[0]
    for half, steps in ((_HALF_RANGE, 61), (0.12, 61), (0.012, 41), (0.001, 41)):
        weight = _weight(x, theta)
        thetas = theta + np.linspace(-half, half, steps)
        spread = 2.0 if half >= 0.1 else 0.4
        slopes = np.exp(log_slope + np.linspace(-spread, spread, 33))
        score = _likelihood(x, late, n, weight, thetas, slopes, goal)
        i, j = np.unravel_index(int(np.argmax(score)), score.shape)
        theta, log_slope = float(thetas[i]), float(np.log(slopes[j]))
    return theta, math.exp(log_slope)


def _likelihood(
    x: FloatArray,
    late: FloatArray,
    n: FloatArray,
    weight: FloatArray,
    thetas: FloatArray,
    slopes: FloatArray,
    goal: float,
) -> FloatArray:
    """Penalised quasi-log-likelihood, shape (thetas, slopes)."""
    eta = goal + slopes[None, :, None] * (x[None, None, :] - thetas[:, None, None])
    eta = np.clip(eta, -30.0, 30.0)
    per = late * eta - n * np.logaddexp(0.0, eta)
    centre, spread = _SLOPE_PRIOR
    prior = -(((np.log(slopes) - centre) / spread) ** 2) / 2.0
    return np.asarray((per @ weight) / _DEPENDENCE + prior[None, :])


@dataclass(frozen=True, slots=True)
class Bracket:
    """The crossing between loads that passed and loads that failed.

    ``passed_per_s`` is 0 when no load passed, ``failed_per_s`` infinite when none failed;
    ``mid_per_s`` interpolates in logit against ln load.
    """

    passed_per_s: float
    mid_per_s: float
    failed_per_s: float
    requests: int
    stages: tuple[int, ...]

    @property
    def bounded(self) -> bool:
        """Whether there is a load on either side."""
        return self.passed_per_s > 0.0 and math.isfinite(self.failed_per_s)


def bracket(stages: Sequence[StageEvidence], allowance: float) -> Bracket:
    """Walk the loads upwards: the last that passed, and the first after it that failed.

    The walk stops at the first load that is not passed, so its order makes a correction for
    the number of loads unnecessary.
    """
    ordered = sorted((s for s in stages if _speaks(s, allowance)), key=lambda s: s.rate_per_s)
    passed, failed = 0.0, math.inf
    for s in ordered:
        if s.overloaded or s.share.interval.high > allowance:
            break
        passed = s.rate_per_s
    for s in reversed(ordered):
        if not (s.overloaded or s.share.interval.low > allowance):
            break
        failed = s.rate_per_s
    mid = _between(ordered, allowance, passed, failed)
    return Bracket(
        passed, mid, failed, sum(s.share.n for s in ordered), tuple(s.stage for s in ordered)
    )


def _speaks(stage: StageEvidence, allowance: float) -> bool:
    """Steps of a ramp, and loads with very few requests, cannot pass; but they can fail."""
    if stage.overloaded or stage.share.interval.low > allowance:
        return True
    if stage.kind is StageKind.RAMP:
        return False
    share = stage.share
    if share.interval.high <= allowance:
        return True
    return share.count > 0 and clopper_pearson(0, share.n / share.inflation)[1] <= allowance


def _between(
    ordered: Sequence[StageEvidence], allowance: float, passed: float, failed: float
) -> float:
    if not math.isfinite(failed):
        return passed
    points = [s for s in ordered if not s.overloaded]
    share = np.maximum.accumulate([(s.share.count + 0.5) / (s.share.n + 1.0) for s in points])
    if len(points) < 2 or share[0] >= allowance:
        return math.sqrt(max(passed, 0.5 * failed) * failed)
    x = np.log([s.rate_per_s for s in points])
    y = np.log(share / (1.0 - share))
    goal = math.log(allowance / (1.0 - allowance))
    at = min(int(np.searchsorted(y, goal)), len(y) - 1)
    rise = float(y[at] - y[at - 1])
    if at == 0 or rise <= 1e-9 or y[at] < goal:
        return math.sqrt(max(float(np.exp(x[-1])), passed) * failed)
    mid = math.exp(float(x[at - 1] + (goal - y[at - 1]) * (x[at] - x[at - 1]) / rise))
    return min(max(mid, passed), failed)
