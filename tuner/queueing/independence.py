"""Does a column depend on a group, on time, or on neither?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_GROUP = 20
STATE_BINS = 8


@dataclass(frozen=True, slots=True)
class GroupTest:
    """One-way analysis of variance of ln demand.

    ``effect`` is the spread of the group means beyond noise, in ln units: what a failed
    independence amounts to.
    """

    f: float
    p_value: float
    effect: float
    groups: int


def group_test(values: FloatArray, group: IntArray) -> GroupTest:
    """F test of equal means over the groups that have at least 20 members.

    Parameters
    ----------
    values
        Shape (n,).
    group
        Group of each, shape (n,), not negative.
    """
    from scipy.special import fdtrc

    table = _means(values, group)
    if table is None:
        groups = int(np.count_nonzero(np.bincount(group) >= MIN_GROUP)) if len(group) else 0
        return GroupTest(0.0, 1.0, 0.0, groups)
    count, mean, noise = table
    groups, n = len(count), float(count.sum())
    between = float(np.sum(count * (mean - float(np.average(mean, weights=count))) ** 2))
    f = between / (groups - 1) / noise
    effect = max(0.0, (between - (groups - 1) * noise) / n) ** 0.5
    return GroupTest(f, float(fdtrc(groups - 1, n - groups, f)), effect, groups)


def tolerant_misfit(values: FloatArray, group: IntArray, tolerated: float) -> float:
    """Chi-squared of equal means when each group may stray by its own small error as well.

    Parameters
    ----------
    values, group
        As in `group_test`.
    tolerated
        Standard deviation of what sets the group means apart besides noise.
    """
    table = _means(values, group)
    if table is None:
        return 0.0
    count, mean, noise = table
    weight = 1.0 / (noise / count + tolerated**2)
    return float(np.sum(weight * (mean - float(np.average(mean, weights=weight))) ** 2))


def _means(values: FloatArray, group: IntArray) -> tuple[FloatArray, FloatArray, float] | None:
    """Size and mean of the groups with enough members, and the variance inside them."""
    count = np.bincount(group)
    if np.any((count > 0) & (count < MIN_GROUP)):
        keep = count[group] >= MIN_GROUP
        values, group = values[keep], group[keep]
        count = np.bincount(group) if len(group) else np.zeros(0, np.int64)
    used = count > 0
    groups, n = int(np.count_nonzero(used)), len(values)
    if groups < 2 or n <= groups:
        return None
    size = count[used].astype(np.float64)
    mean = np.bincount(group, weights=values)[used] / size
    grand = float(values.mean())
    within = float(np.sum((values - grand) ** 2)) - float(np.sum(size * (mean - grand) ** 2))
    return size, mean, max(within, 1e-18 * n) / (n - groups)


def centred(log: FloatArray, block: IntArray) -> FloatArray:
    """ln demand less the mean of its block."""
    count = np.maximum(np.bincount(block), 1)
    return np.asarray(log - (np.bincount(block, weights=log) / count)[block])


def trend(log: FloatArray, block: IntArray, cell: IntArray | None = None) -> tuple[float, float]:
    """Least-squares change of ln demand over all blocks, and its t value.

    Parameters
    ----------
    log, block
        ln demand and its block of time, shape (n,).
    cell
        Group of each; the trend is then the one inside the groups.
    """
    whole = np.zeros(len(log), np.int64) if cell is None else cell
    x = centred(block / max(int(block.max(initial=0)), 1), whole)
    y = centred(log, whole)
    spread = float(np.sum(x * x))
    if spread <= 0.0 or len(log) < 3:
        return 0.0, 0.0
    slope = float(np.sum(x * y)) / spread
    rest = float(np.std(y - slope * x)) or 1e-12
    return slope, slope * spread**0.5 / rest


def quantile_bins(count: IntArray) -> IntArray:
    """Group small counts singly and merge the rest, about eight groups of similar size."""
    if not len(count):
        return count
    size = np.bincount(count)
    before = np.cumsum(size) - size
    # A count belongs to the eighth in which its first request falls; ties stay together.
    group = (before * STATE_BINS) // len(count)
    return np.asarray(group[count], dtype=np.int64)
