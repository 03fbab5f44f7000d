"""Cold loads told from warm answers, and the memory that explains how many there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri

from tuner.campaign.models import ModelStage
from tuner.interval import Interval
from tuner.stats.quantiles import exceedance_inflation
from tuner.workload.cache import misses

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LEAST_RATIO = 3.0
"""Cold answers whose median is less than three times the warm one's cannot be told apart."""
VALLEY = 1.25
MOST_IN_VALLEY = 0.1
LEAST_COLD = 10
LEAST_COLD_NEAR = 30
NEAR = 1.4
FAR_OFF = 2.0
MISFIT_P = 1e-3
MISFIT = 0.25
"""Misses this far off move the answer by about one model in twenty."""
COUNT_OFF = 0.25


@dataclass(frozen=True, slots=True)
class ColdSplit:
    """A latency between warm and cold answers; ``threshold_s`` is None when there is none.

    ``reason`` says what is seen: a clear valley, no cold answer at all, or neither.
    """

    threshold_s: float | None
    reason: str
    clear: bool

    def cold(self, latency_s: FloatArray) -> BoolArray:
        """Which answers waited for their model, shape (n,); failures count as cold."""
        limit = math.inf if self.threshold_s is None else self.threshold_s
        return (latency_s >= limit) | np.isinf(latency_s)


def split_cold(stages: Sequence[ModelStage]) -> ColdSplit:
    """Find the valley between warm and cold answers in the latencies of all stages.

    A client cannot see whether a model was loaded for its request. It sees two humps: the
    threshold is Otsu's on log latency, and it is believed when few answers lie near it and
    the humps are far apart.

    References
    ----------
    Otsu (1979), A threshold selection method from gray-level histograms, IEEE Trans. SMC 9(1).
    """
    answered = np.concatenate([s.latency_s[np.isfinite(s.latency_s)] for s in stages])
    if not len(answered):
        return ColdSplit(None, "nothing was answered", False)
    x = np.sort(np.log(np.maximum(answered, 1e-9)))
    n, total = len(x), float(x.sum())
    below = np.arange(1, n)
    sums = np.cumsum(x)[:-1]
    between = (total * below / n - sums) ** 2 / (below * (n - below))
    cut = int(np.argmax(between)) + 1
    warm, cold = np.exp(x[:cut]), np.exp(x[cut:])
    threshold = math.sqrt(float(warm[-1]) * float(cold[0]))
    near = int(np.count_nonzero((answered > threshold / VALLEY) & (answered < threshold * VALLEY)))
    apart = float(np.median(cold)) / float(np.median(warm))
    if apart < LEAST_RATIO or near > MOST_IN_VALLEY * len(cold):
        return ColdSplit(
            None,
            f"the latencies show one hump, or two that overlap (slow median {apart:.1f} times "
            f"the fast one, {near} answers in between)",
            False,
        )
    return ColdSplit(threshold, f"{len(cold)} answers took {apart:.0f} times the others", True)


def near_limit(stages: Sequence[ModelStage], fit: MemoryFit, split: ColdSplit) -> list[ModelStage]:
    """The stages that say most about the limit: what happens far above it is another regime."""
    near = [s for s in stages if s.models <= NEAR * fit.slots.mid]
    return near if near and cold_counts(near, split).sum() >= LEAST_COLD_NEAR else list(stages)


def contradiction(stages: Sequence[ModelStage], fit: MemoryFit, split: ColdSplit) -> str | None:
    """A stage, fitted or not, whose cold loads are far from what the memory says; None if none.

    Far above the limit loads wait for each other and misses run together, so only a factor of
    two is held against it.
    """
    for stage, cold in zip(stages, cold_counts(stages, split), strict=True):
        share = fit.misses(stage.shares, stage.rate_per_s, fit.slots.mid)
        said = stage.requests * share
        if max(said, cold) >= LEAST_COLD_NEAR and not said / FAR_OFF <= cold <= said * FAR_OFF:
            return (
                f"a memory of {fit.slots.mid:.1f} models does not explain the cold loads of "
                f"{stage.models} models ({cold:.0f}, expected {said:.0f})"
            )
    return None


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """The memory of an instance, counted in models.

    Parameters
    ----------
    slots
        Models that fit at once, by the misses; unbounded above when nothing was ever unloaded.
    load_s
        Wait of a cold request.
    sound
        Whether a least-recently-used memory of that size explains every stage.
    sentence
        What was checked.
    """

    slots: Interval
    load_s: float
    sound: bool
    sentence: str

    def misses(self, shares: FloatArray, rate_per_s: float, slots: float) -> float:
        """Cold share of requests with these models on an instance with ``slots``."""
        return misses(shares, slots, rate_per_s * self.load_s)


def cold_counts(stages: Sequence[ModelStage], split: ColdSplit) -> FloatArray:
    """Cold requests of each stage, shape (m,): by CloudWatch where it was asked."""
    return np.array(
        [
            s.requests * (1.0 - s.hit_ratio)
            if s.hit_ratio is not None
            else float(np.count_nonzero(split.cold(s.latency_s)))
            for s in stages
        ]
    )


def fit_memory(
    stages: Sequence[ModelStage], split: ColdSplit, level: float = 0.95
) -> MemoryFit | None:
    """Find how many models fit from how often they do not; None when no stage shows it.

    A quasi-binomial likelihood of the cold counts under Che's approximation; the interval is
    the profile's, widened by the clumping of cold requests in time.
    """
    from scipy.optimize import minimize_scalar

    cold = cold_counts(stages, split)
    if cold.sum() < LEAST_COLD:
        return None
    n = np.array([s.requests for s in stages], dtype=np.float64)
    waits = [s.wait_s for s in stages if s.wait_s is not None]
    load_s = float(np.median(waits)) if waits else _load_s(stages, split)
    clumping = [
        exceedance_inflation(split.cold(s.latency_s), float(c / s.requests))
        for s, c in zip(stages, cold, strict=True)
        if c >= LEAST_COLD
    ]
    # Each stage's own figure is noisy; the median of all is not.
    inflation = max(1.0, float(np.median(clumping))) if clumping else 1.0

    def expected(slots: float) -> FloatArray:
        share = [misses(s.shares, slots, s.rate_per_s * load_s) for s in stages]
        # Half a request keeps a stage that should show none from forbidding a stray one.
        return np.asarray(np.minimum(np.maximum(share, 0.5 / n), 1.0 - 0.5 / n))

    def lost(slots: float) -> float:
        p = expected(slots)
        return -float((cold * np.log(p) + (n - cold) * np.log1p(-p)).sum())

    most = float(max(s.models for s in stages))
    grid = np.unique(np.concatenate([np.geomspace(0.5, most, 40), [most - 0.5]]))
    at = int(np.argmin([lost(float(c)) for c in grid]))
    low, high = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, len(grid) - 1)])
    found = minimize_scalar(lost, bounds=(low, high), method="bounded")
    mid = float(found.x)
    allowed = float(found.fun) + 0.5 * inflation * float(chdtri(1, 1.0 - level))
    slots = Interval(*_profile(lost, mid, allowed, 0.5, most), level)
    return MemoryFit(slots, load_s, *_check(stages, cold, expected(mid), inflation, mid))


def _load_s(stages: Sequence[ModelStage], split: ColdSplit) -> float:
    slow = np.concatenate([s.latency_s[split.cold(s.latency_s)] for s in stages])
    slow = slow[np.isfinite(slow)]
    return float(np.median(slow)) if len(slow) else 0.0


def _profile(
    lost: Callable[[float], float], mid: float, allowed: float, least: float, most: float
) -> tuple[float, float, float]:
    from scipy.optimize import brentq

    def over(slots: float) -> float:
        return lost(slots) - allowed

    low = least if over(least) <= 0.0 else float(brentq(over, least, mid))
    high = math.inf if over(most) <= 0.0 else float(brentq(over, mid, most))
    return low, mid, high


def _check(
    stages: Sequence[ModelStage],
    cold: FloatArray,
    share: FloatArray,
    inflation: float,
    slots: float,
) -> tuple[bool, str]:
    """Whether the memory explains every stage, and AWS's own count where there is one."""
    n = np.array([s.requests for s in stages], dtype=np.float64)
    expected = n * share
    used = expected >= 5.0
    if np.count_nonzero(used) > 1:
        x2 = float((((cold - expected) ** 2 / (expected * (1.0 - share)))[used]).sum() / inflation)
        p = float(chdtrc(np.count_nonzero(used) - 1, x2))
        worst = float(np.max(np.abs(cold - expected)[used] / expected[used]))
        if p < MISFIT_P and worst > MISFIT:
            return False, (
                f"a least-recently-used memory of {slots:.1f} models does not explain the cold "
                f"loads (one stage is {worst:.0%} off, p = {p:.1g})"
            )
    held = [s.loaded_models for s in stages if s.loaded_models is not None and s.models > slots]
    if held and abs(max(held) / slots - 1.0) > COUNT_OFF:
        return False, (
            f"the cold loads suggest {slots:.1f} models in memory, but LoadedModelCount says "
            f"{max(held):.1f}"
        )
    said = f", and LoadedModelCount agrees ({max(held):.1f})" if held else ""
    return True, f"a least-recently-used memory of {slots:.1f} models explains every stage{said}"
