"""Are the demands so heavy-tailed that a test of this size says little?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuner.errors import InsufficientDataError

HEAVY_INDEX = 2.2
LARGEST_SHARE_LIMIT = 0.05


@dataclass(frozen=True, slots=True)
class TailCheck:
    """Tail index of demands and the weight of the largest one.

    Parameters
    ----------
    index
        Hill's estimate over the top 1 %; the variance of demand is infinite below 2.
    index_further_out
        The same over the top quarter of a per cent. It grows for a lognormal, whose tail
        only looks like a power, and stays for a Pareto.
    index_se
        Standard error of ``index``.
    largest_share
        The largest demand over the sum of all.
    n
        Demands looked at.
    """

    index: float
    index_further_out: float
    index_se: float
    largest_share: float
    n: int

    @property
    def heavy(self) -> bool:
        """Whether p99 and capacity from fewer than 100,000 requests should be refused."""
        power = max(self.index, self.index_further_out) < HEAVY_INDEX
        return power or self.largest_share > LARGEST_SHARE_LIMIT


def tail_check(demand_s: ArrayLike) -> TailCheck:
    """Tail index and largest share of positive demands (or unloaded latencies), any shape.

    Raises
    ------
    InsufficientDataError
        With fewer than 100 positive finite values.

    References
    ----------
    Hill, B. M., Ann. Statist. 3, 1975.
    """
    x = np.asarray(demand_s, dtype=np.float64).ravel()
    x = x[np.isfinite(x) & (x > 0.0)]
    if len(x) < 100:
        raise InsufficientDataError(
            "a tail needs at least 100 demands", value=len(x), hint="measure a longer stage"
        )
    near = min(max(50, math.ceil(len(x) / 100)), len(x) // 2)
    far = max(25, near // 4)
    top = np.sort(np.partition(x, len(x) - near - 1)[len(x) - near - 1 :])[::-1]
    index = _hill(np.log(top), near)
    return TailCheck(
        index, _hill(np.log(top), far), index / math.sqrt(near), float(top[0] / x.sum()), len(x)
    )


def _hill(log_top: np.ndarray[tuple[int], np.dtype[np.float64]], k: int) -> float:
    excess = float((log_top[:k] - log_top[k]).mean())
    return 1.0 / excess if excess > 0.0 else math.inf
