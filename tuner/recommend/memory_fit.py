"""Cold loads told from warm answers, and the memory that explains how many there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri

from tuner.campaign.models import ModelStage
from tuner.interval import Interval
from tuner.stats.quantiles import exceedance_inflation
from tuner.workload.cache import Fetch, missed, wait_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LEAST_RATIO = 3.0
"""Cold answers whose median is less than three times the warm one's cannot be told apart."""
VALLEY = 1.25
MOST_IN_VALLEY = 0.1
LEAST_COLD = 10
LEAST_COLD_TOLD = 30
FAR_OFF = 2.0
MISFIT_P = 1e-3
MISFIT = 0.25
"""Misses this far off move the answer by about one model in twenty."""
COUNT_OFF = 0.25
DISCREPANCY = 0.03
"""Models differ in size, and Che's approximation is one: the memory that explains the misses best
was found this far from the one that answers for another number of models."""
TURNS = 3
GRID = 16
LEAST_SLOTS = 0.5


@dataclass(frozen=True, slots=True)
class ColdSplit:
    """A latency between warm and cold answers; ``threshold_s`` is None when there is none.

    ``reason`` says what is seen: a clear valley, no cold answer at all, or neither. ``warm_s``
    is the usual warm answer.
    """

    threshold_s: float | None
    reason: str
    clear: bool
    warm_s: float = 0.0

    @property
    def hidden_s(self) -> float:
        """A request that waited less for its model looks like a warm one."""
        return max(0.0, (self.threshold_s or 0.0) - self.warm_s)

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
    reason = f"{len(cold)} answers took {apart:.0f} times the others"
    return ColdSplit(threshold, reason, True, float(np.median(warm)))


def contradiction(stages: Sequence[ModelStage], fit: MemoryFit, split: ColdSplit) -> str | None:
    """A stage whose cold loads are far from what the memory says; None if there is none.

    Far above the limit loads wait for each other and misses run together, so only a factor of
    two is held against it.
    """
    for stage, cold in zip(stages, cold_counts(stages, split), strict=True):
        said = stage.requests * fit.seen_share(stage, split, fit.slots.mid)
        if max(said, cold) >= LEAST_COLD_TOLD and not said / FAR_OFF <= cold <= said * FAR_OFF:
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
        From the start of a load until the model is there.
    waits_s
        Numbers of models, ascending, and how long the first request of a cold model waited with
        so many: a model may have to wait for others to be loaded first.
    sound
        Whether a least-recently-used memory of that size explains every stage.
    sentence
        What was checked.
    """

    slots: Interval
    load_s: float
    waits_s: tuple[tuple[int, float], ...]
    sound: bool
    sentence: str

    def cold_share(
        self, shares: FloatArray, rate_per_s: float, slots: float, longer_than_s: float = 0.0
    ) -> float:
        """Share of requests that wait longer for their model, on an instance with ``slots``."""
        counts, waits = zip(*self.waits_s, strict=True)
        wait_s = float(np.interp(len(shares), counts, waits))
        fetch = Fetch(rate_per_s * wait_s, rate_per_s * min(self.load_s, wait_s))
        return missed(shares, slots, fetch, longer_than=rate_per_s * longer_than_s).share

    def seen_share(self, stage: ModelStage, split: ColdSplit, slots: float) -> float:
        """Cold share of a stage as `cold_counts` would count it."""
        hidden_s = 0.0 if stage.hit_ratio is not None else split.hidden_s
        return self.cold_share(stage.shares, stage.rate_per_s, slots, hidden_s)


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
    the profile's, widened by the clumping of cold requests in time. How long cold models take
    to come follows from the waits seen, given the memory: both are found in turns.
    """
    cold = cold_counts(stages, split)
    if cold.sum() < LEAST_COLD:
        return None
    most = float(max(s.models for s in stages))
    shown = [s for s, c in zip(stages, cold, strict=True) if c >= LEAST_COLD] or list(stages)
    seen = _Seen(stages, cold, split)
    load_s, waits_s = _waits(shown, split)
    fit = MemoryFit(Interval(LEAST_SLOTS, most, most, level), load_s, waits_s, False, "")
    for _ in range(TURNS):
        mid = seen.likeliest_slots(fit)
        near = Interval(max(LEAST_SLOTS, 0.8 * mid), mid, min(most, 1.25 * mid), level)
        fit = replace(fit, slots=near)
        load_s, _ = seen.likeliest_load(fit, mid)
        fit = replace(fit, waits_s=_waits(shown, split, replace(fit, load_s=load_s))[1])
        fit = replace(fit, load_s=min(load_s, *(w for _, w in fit.waits_s)))
    inflation = _inflation(stages, cold, split)
    allowed = seen.lost(fit, fit.slots.mid) + 0.5 * inflation * float(chdtri(1, 1.0 - level))

    def over(slots: float) -> float:
        return seen.likeliest_load(fit, slots)[1] - allowed

    low, mid, high = _profile(over, fit.slots.mid, LEAST_SLOTS, most)
    doubted = Interval(low * (1.0 - DISCREPANCY), mid, high * (1.0 + DISCREPANCY), level)
    fit = replace(fit, slots=doubted)
    expected = np.array([fit.seen_share(s, split, fit.slots.mid) for s in stages])
    sound, sentence = _check(stages, cold, expected, inflation, fit.slots.mid)
    return replace(fit, sound=sound, sentence=sentence)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """Cold requests of every stage, and how likely a memory makes them."""

    stages: Sequence[ModelStage]
    cold: FloatArray
    split: ColdSplit

    def lost(self, fit: MemoryFit, slots: float) -> float:
        """Negative log likelihood of the counts."""
        n = np.array([s.requests for s in self.stages], dtype=np.float64)
        share = np.array([fit.seen_share(s, self.split, slots) for s in self.stages])
        # Half a request keeps a stage that should show none from forbidding a stray one.
        p = np.minimum(np.maximum(share, 0.5 / n), 1.0 - 0.5 / n)
        return -float((self.cold * np.log(p) + (n - self.cold) * np.log1p(-p)).sum())

    def likeliest_slots(self, fit: MemoryFit) -> float:
        """The memory inside ``fit.slots`` that explains the counts best."""
        from scipy.optimize import minimize_scalar

        def lost(slots: float) -> float:
            return self.lost(fit, slots)

        low, high = fit.slots.low, fit.slots.high
        grid = np.unique(np.concatenate([np.geomspace(low, high, GRID), [max(low, high - 0.5)]]))
        at = int(np.argmin([lost(float(c)) for c in grid]))
        ends = (float(grid[max(at - 1, 0)]), float(grid[min(at + 1, len(grid) - 1)]))
        found = minimize_scalar(lost, bounds=ends, method="bounded", options={"xatol": 1e-3})
        return float(found.x)

    def likeliest_load(self, fit: MemoryFit, slots: float) -> tuple[float, float]:
        """The time of a load that explains the counts best with so much memory, and `lost`.

        It is part of the shortest wait; how much of that was spent behind other loads cannot be
        seen from outside.
        """
        from scipy.optimize import minimize_scalar

        longest = min(w for _, w in fit.waits_s)

        def lost(load_s: float) -> float:
            return self.lost(replace(fit, load_s=load_s), slots)

        found = minimize_scalar(
            lost, bounds=(0.0, longest), method="bounded", options={"xatol": 0.02 * longest}
        )
        return min((float(found.x), float(found.fun)), (longest, lost(longest)), key=lambda x: x[1])


def _waits(
    shown: Sequence[ModelStage], split: ColdSplit, fit: MemoryFit | None = None
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """How long cold models took to come; without a fit, as all their requests saw it.

    Where loads wait for each other least, the wait is that of a load alone.
    """
    found: dict[int, list[float]] = {}
    for stage in shown:
        rate, (wait_s, hidden_s) = stage.rate_per_s, _seen_wait(stage, split)
        if fit is not None:
            load, hidden = rate * fit.load_s, rate * hidden_s
            wait = wait_of(stage.shares, fit.slots.mid, rate * wait_s, load, longer_than=hidden)
            wait_s = wait / rate
        found.setdefault(stage.models, []).append(wait_s)
    waits = tuple((models, float(np.mean(w))) for models, w in sorted(found.items()))
    return min(w for _, w in waits), waits


def _seen_wait(stage: ModelStage, split: ColdSplit) -> tuple[float, float]:
    """Mean wait of the cold requests that are seen in a stage, and the wait that stays unseen."""
    if stage.wait_s is not None:
        return stage.wait_s, 0.0
    slow = stage.latency_s[split.cold(stage.latency_s)]
    slow = slow[np.isfinite(slow)]
    return (float(slow.mean()) - split.warm_s if len(slow) else 0.0), split.hidden_s


def _inflation(stages: Sequence[ModelStage], cold: FloatArray, split: ColdSplit) -> float:
    """How much more the counts vary than independent requests: cold ones come in clumps."""
    clumping = [
        exceedance_inflation(split.cold(s.latency_s), float(c / s.requests))
        for s, c in zip(stages, cold, strict=True)
        if c >= LEAST_COLD
    ]
    # Each stage's own figure is noisy; the median of all is not.
    return max(1.0, float(np.median(clumping))) if clumping else 1.0


def _profile(
    over: Callable[[float], float], mid: float, least: float, most: float
) -> tuple[float, float, float]:
    """Where ``over`` crosses 0 on either side of the middle."""
    from scipy.optimize import brentq

    if over(mid) >= 0.0:
        return mid, mid, mid
    low = least if over(least) <= 0.0 else float(brentq(over, least, mid, xtol=0.01))
    high = math.inf if over(most) <= 0.0 else float(brentq(over, mid, most, xtol=0.01))
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
        variance = np.maximum(expected * (1.0 - share), 1.0)
        x2 = float(((cold - expected) ** 2 / variance)[used].sum() / inflation)
        # Two figures were fitted, the memory and the time of a load.
        freedom = max(1, int(np.count_nonzero(used)) - 2)
        p = float(chdtrc(freedom, x2))
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
