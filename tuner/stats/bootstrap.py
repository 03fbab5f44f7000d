"""Bootstrap over days: the block that traffic repeats in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.stats.requests import FloatArray


def day_bootstrap(
    per_day: ArrayLike,
    rng: np.random.Generator,
    *,
    stratum: ArrayLike | None = None,
    resamples: int = 1000,
) -> FloatArray:
    """Means over resampled days.

    Parameters
    ----------
    per_day
        Quantities of each day, shape (days,) or (days, k): a day is drawn whole, so the
        columns stay paired.
    rng
        Seeded generator.
    stratum
        Type of each day (weekday or weekend), shape (days,); days are drawn within it.
    resamples
        Number of means.

    Returns
    -------
    ndarray
        Shape (resamples,) or (resamples, k).

    Raises
    ------
    InsufficientDataError
        Without days.

    References
    ----------
    Efron, B. and Tibshirani, R. J., An Introduction to the Bootstrap, 1993, chapter 8.
    """
    x = np.asarray(per_day, dtype=np.float64)
    if not len(x):
        raise InsufficientDataError("no days to resample", hint="give at least one day")
    group = np.zeros(len(x), np.int64) if stratum is None else np.asarray(stratum)
    weight = np.zeros((resamples, len(x)))
    row = np.arange(resamples)[:, None]
    for kind in np.unique(group):
        members = np.flatnonzero(group == kind)
        drawn = members[rng.integers(len(members), size=(resamples, len(members)))]
        np.add.at(weight, (row, drawn), 1.0 / len(x))
    return np.asarray(weight @ x)


def day_mean_interval(
    per_day: ArrayLike,
    rng: np.random.Generator,
    *,
    stratum: ArrayLike | None = None,
    level: float = 0.9,
    resamples: int = 1000,
) -> Interval:
    """Percentile interval of the mean of a daily quantity, shape (days,).

    With one day the interval is unbounded: one day says nothing of the next.
    """
    x = np.asarray(per_day, dtype=np.float64)
    means = day_bootstrap(x, rng, stratum=stratum, resamples=resamples)
    mid = float(x.mean())
    if len(x) == 1:
        return Interval(-np.inf, mid, np.inf, level)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(min(float(low), mid), mid, max(float(high), mid), level)
