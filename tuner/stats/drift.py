"""Did the endpoint change between repeats of the same load?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuner.errors import InsufficientDataError
from tuner.stats.quantiles import BATCHES
from tuner.stats.steady import block_means, finite_latency


@dataclass(frozen=True, slots=True)
class DriftTest:
    """One-way analysis of variance of ln latency over repeated anchors.

    ``f`` compares anchors with the batches inside them; ``ratio`` is the slowest anchor
    over the fastest in geometric mean.
    """

    f: float
    p_value: float
    ratio: float
    anchors: int

    def drifted(self, alpha: float = 0.01) -> bool:
        """Whether the anchors differ by more than their batches explain."""
        return self.p_value < alpha


def drift_test(anchors: Sequence[ArrayLike], *, batches: int = BATCHES) -> DriftTest:
    """Compare repeats of one load on one instance count.

    Parameters
    ----------
    anchors
        Latencies of each repeat in order of intended start, each of shape (n_i,).
    batches
        Batches per anchor; their means are taken as independent.

    Raises
    ------
    InsufficientDataError
        With fewer than two anchors, or fewer than five requests a batch in one.

    References
    ----------
    Law, A. M., Simulation Modeling and Analysis, 5th ed., 2015, section 9.5 (batch means).
    """
    from scipy.special import fdtrc

    if len(anchors) < 2:
        raise InsufficientDataError(
            "drift needs two repeats of one load", value=len(anchors), hint="repeat the anchor"
        )
    rows = []
    for values in anchors:
        x = finite_latency(values)
        if len(x) < 5 * batches:
            raise InsufficientDataError(
                "an anchor is too short to be compared",
                value=len(x),
                allowed=f"at least {5 * batches} requests",
                hint="repeat the anchor for longer",
            )
        rows.append(block_means(np.log(np.maximum(x, 1e-9)), batches))
    means = np.array(rows)
    k = len(means)
    between = batches * float(np.var(means.mean(axis=1), ddof=1))
    within = float(np.var(means, axis=1, ddof=1).mean())
    f = between / within if within > 0.0 else (0.0 if between == 0.0 else float("inf"))
    ratio = float(np.exp(np.ptp(means.mean(axis=1))))
    return DriftTest(f, float(fdtrc(k - 1, k * (batches - 1), f)), ratio, k)
