"""How much capacity hangs on the payload mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.evidence import measured
from tuner.campaign.members import shifts
from tuner.campaign.mix import offered_shares, production_shares
from tuner.campaign.predict import crossing
from tuner.campaign.server import fit_server
from tuner.campaign.types import StageResult
from tuner.slo import Slo

STEP = 0.02
"""Two more points of a class, the smallest change of mix worth a warning."""
_REQUESTS = 400_000
"""Simulated for each mix."""


@dataclass(frozen=True, slots=True)
class MixSensitivity:
    """Relative change of capacity when a class takes ``step`` more of the requests."""

    payload_class: str
    share: float
    step: float
    change: float

    @property
    def sentence(self) -> str:
        """One line for people."""
        verb = "cost" if self.change < 0.0 else "free"
        return (
            f"{self.step * 100:g} more points of {self.payload_class} requests {verb} "
            f"{abs(self.change):.0%} of capacity"
        )


def mix_sensitivity(
    slo: Slo,
    results: Sequence[StageResult],
    classes: Sequence[str],
    *,
    mix: Mapping[str, float] | None = None,
    step: float = STEP,
    seed: int = 0,
) -> tuple[MixSensitivity, ...]:
    """Move ``step`` of the requests into each class in turn, at one instance.

    Empty when there is one class, or when the demand of single requests is unknown.

    Raises
    ------
    InputError, InsufficientDataError
        For a mix that names an unknown or unmeasured class.
    """
    used = measured(results)
    if len(classes) < 2 or not used:
        return ()
    shares = production_shares(classes, mix or {}, offered_shares(used, len(classes)))
    base, _ = fit_server(used, shares)
    if base is None or not base.passed:
        return ()
    found = []
    for objective in slo.objectives:
        rng = np.random.default_rng(seed)
        at = crossing(base.model, objective, rng=rng)
        if at is None:
            return ()
        moved = [base.reweighted(_moved(shares, i, step)) for i in range(len(classes))]
        change = shifts(base.model, moved, objective, at, rng, _REQUESTS).log
        found.append((at.rate_per_s, np.expm1(change)))
    _, least = min(found, key=lambda f: f[0])
    return tuple(
        MixSensitivity(name, float(share), step, float(c))
        for name, share, c in zip(classes, shares, least, strict=True)
    )


def _moved(
    shares: np.ndarray[tuple[int], np.dtype[np.float64]], index: int, step: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The mix with ``step`` more of one class, taken from the others in proportion."""
    moved = shares * (1.0 - step / max(1.0 - float(shares[index]), step))
    moved[index] = 0.0
    moved[index] = 1.0 - float(moved.sum())
    return moved
