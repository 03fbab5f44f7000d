"""Where the crossing may lie, by every stage alike: a place to begin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tuner.campaign.evidence import StageEvidence
from tuner.stats.requests import FloatArray

_STEEP, _STEEP_SPREAD = math.log(12.0), 0.4
"""How fast the odds that waiting makes a request late grow with load, and the doubt of it."""
_BURST = 20.0
"""Late requests that waited come in bursts this large or larger; those slow by themselves do
not."""
_FAR = 10.0
"""Beyond so many times the allowance a load only says that it is beyond."""
_BEYOND = 0.35
_TOO_MANY, _LEAST_LATE = 2.0, 10.0
"""So many times the allowance late at the lowest loads is no chance, from so many late ones."""
_LOADS, _SLOPES = 160, 9
_LOW_SHARES = np.linspace(0.0, 0.9, 6)
"""Share of the allowance that is used up when nobody waits."""


def rough_crossing(stages: Sequence[StageEvidence], allowance: float) -> float | None:
    """Mean of what the crossing may be, by a curve that is flat at low loads and then rises.

    Requests that are slow by themselves are late at any load, so a share near the allowance
    says little about how near the limit is; what the share does with load says more.

    Parameters
    ----------
    stages
        Of one law, ramp steps and overloaded stages included.
    allowance
        Share of requests that may be late.

    Returns
    -------
    Load per instance, or None without stages.

    References
    ----------
    McCullagh and Nelder (1989), Generalized Linear Models, section 9.2 (over-dispersion).
    """
    seen = [s for s in stages if s.share.n]
    if not seen:
        return None
    x = np.log([s.rate_per_s for s in seen])
    n = np.array([float(s.share.n) for s in seen])
    late = np.array([float(s.share.n if s.overloaded else s.share.count) for s in seen])
    place = np.linspace(x.min() - _BEYOND, x.max() + _BEYOND, _LOADS)
    steep = np.linspace(-2.0, 2.0, _SLOPES)
    seen_bursts = np.array([s.share.inflation for s in seen])
    burst = np.where(np.isfinite(seen_bursts), np.maximum(seen_bursts, _BURST), _BURST)
    slopes = np.exp(_STEEP + _STEEP_SPREAD * steep)
    score = _score(x, late, n, burst, place, slopes, allowance)
    weight = np.exp(score - (steep**2 / 2.0)[None, :, None] - score.max())
    found = float(np.average(place, weights=weight.sum(axis=(1, 2))))
    many, slow = _lowest(x, late, n, _LEAST_LATE / (_TOO_MANY * allowance))
    if slow > _TOO_MANY * allowance * many and slow >= _LEAST_LATE:
        # No curve of this kind fits: loads lower than any so far have to be tried.
        excess = math.log(slow / (many - slow + 0.5) * (1.0 - allowance) / allowance)
        found = float(x.min()) - min(excess / math.exp(_STEEP), _BEYOND)
    return math.exp(found)


def _lowest(x: FloatArray, late: FloatArray, n: FloatArray, least: float) -> tuple[float, float]:
    """Requests at the lowest loads, at least so many together, and the late ones of them."""
    order = np.argsort(x)
    many = np.cumsum(n[order])
    upto = min(int(np.searchsorted(many, least)), len(many) - 1)
    return float(many[upto]), float(late[order][: upto + 1].sum())


def _score(
    x: FloatArray,
    late: FloatArray,
    n: FloatArray,
    most_burst: FloatArray,
    place: FloatArray,
    steep: FloatArray,
    allowance: float,
) -> FloatArray:
    """Quasi-log-likelihood, shape (places, slopes, low shares)."""
    low = (allowance * _LOW_SHARES)[None, None, :, None]
    left = (allowance - low) / (1.0 - low)
    eta = np.log(left / (1.0 - left)) + steep[None, :, None, None] * (
        x - place[:, None, None, None]
    )
    waited = (1.0 - low) / (1.0 + np.exp(-np.clip(eta, -30.0, 30.0)))
    p = np.clip(low + waited, 1e-12, 1.0 - 1e-12)
    beyond = late > _FAR * allowance * n
    burst = 1.0 + (np.where(beyond, _BURST, most_burst) - 1.0) * waited / p
    # How far beyond is no steady state.
    most = _FAR * allowance
    late = np.where(beyond, most * n, late)
    p = np.where(beyond, np.minimum(p, most), p)
    per = (late * np.log(p) + (n - late) * np.log1p(-p)) / burst
    return np.asarray(per.sum(axis=-1))
