"""How many more requests would settle it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.stats.proportions import ShareEstimate
from tuner.stats.quantiles import BATCHES, ENOUGH_EXCEEDANCES, QuantileEstimate


@dataclass(frozen=True, slots=True)
class SampleSize:
    """Requests needed in all, and how many of them are still missing (0: enough).

    Both are infinite when the data give no idea of the scale.
    """

    total: float
    additional: float


def requests_for_exceedances(
    estimate: QuantileEstimate, effective: float = ENOUGH_EXCEEDANCES
) -> SampleSize:
    """Requests until the quantile rests on this many effective exceedances."""
    return _missing(effective * estimate.inflation / (1.0 - estimate.quantile), estimate.n)


def requests_for_precision(estimate: QuantileEstimate, relative: float) -> SampleSize:
    """Requests until the interval of the quantile is within +- ``relative`` of it.

    Parameters
    ----------
    estimate
        What was measured.
    relative
        Half-width wanted, as a share of the quantile.

    Notes
    -----
    Half-widths in ln units shrink with the square root of n. An unknown upper end is
    taken to be as far away as the lower one, and needs at least enough exceedances.
    """
    interval = estimate.interval
    if interval.low <= 0.0 or not math.isfinite(interval.mid):
        return requests_for_exceedances(estimate)
    if interval.bounded:
        half = math.log(interval.high / interval.low) / 2.0
        return _missing(estimate.n * (half / math.log1p(relative)) ** 2, estimate.n)
    half = math.log(interval.mid / interval.low)
    total = estimate.n * (half / math.log1p(relative)) ** 2
    return _missing(max(total, requests_for_exceedances(estimate).total), estimate.n)


def requests_for_verdict(estimate: ShareEstimate, allowance: float) -> SampleSize:
    """Requests until the share can be told from the allowance, if it is what it looks like.

    Infinite when the share is the allowance.
    """
    from scipy.special import stdtrit

    share = estimate.interval.mid
    if math.isinf(estimate.inflation):
        return SampleSize(math.inf, math.inf)
    if share == allowance:
        return SampleSize(math.inf, math.inf)
    if not share <= allowance < 1.0 and estimate.interval.low > allowance:
        return SampleSize(float(estimate.n), 0.0)
    if estimate.interval.high <= allowance:
        return SampleSize(float(estimate.n), 0.0)
    t = float(stdtrit(BATCHES - 1, 0.5 + estimate.interval.level / 2.0))
    # At a share of 0 the width is that of the allowance, not 0.
    spread = max(share, allowance)
    total = estimate.inflation * spread * (1.0 - spread) * (t / (share - allowance)) ** 2
    return _missing(max(total, estimate.n + 1.0), estimate.n)


def requests_independent(
    quantile: float, relative: float, density_times_value: float, level: float = 0.95
) -> float:
    """Independent requests for a quantile within +- ``relative``.

    ``density_times_value`` is x f(x) at the quantile x: q (1-q) z**2 / (relative x f)**2.

    References
    ----------
    Serfling, R. J., Approximation Theorems of Mathematical Statistics, 1980, 2.3.3.
    """
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2.0))
    return quantile * (1.0 - quantile) * (z / (relative * density_times_value)) ** 2


def _missing(total: float, n: int) -> SampleSize:
    if math.isinf(total):
        return SampleSize(math.inf, math.inf)
    whole = float(math.ceil(total))
    return SampleSize(whole, max(0.0, whole - n))
