"""Payload classes: from the mix that was offered to the mix of production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tuner.campaign.types import StageResult
from tuner.errors import InputError, InsufficientDataError
from tuner.stats.requests import FloatArray


def offered_shares(results: Sequence[StageResult], classes: int = 0) -> FloatArray:
    """Share of each payload class among the requests on record, by index."""
    logs = [r.log.payload_class for r in results if r.log is not None and len(r.log)]
    if not logs:
        return np.ones(max(classes, 1)) / max(classes, 1)
    count = np.bincount(np.concatenate(logs), minlength=max(classes, 1))
    return np.asarray(count / count.sum(), dtype=np.float64)


def production_shares(
    classes: Sequence[str], mix: Mapping[str, float], offered: FloatArray
) -> FloatArray:
    """Shares in production by index; classes the mix does not name keep their proportions.

    Raises
    ------
    InputError
        For an unknown class, a share outside [0, 1], or shares above 1 in total.
    InsufficientDataError
        When a class of the mix was never sent.
    """
    unknown = sorted(set(mix) - set(classes))
    if unknown:
        raise InputError(
            f"there is no payload class {unknown[0]!r}",
            value=unknown[0],
            allowed=", ".join(classes) or "this run has a single class without a name",
        )
    total = sum(mix.values())
    if any(not 0.0 <= v <= 1.0 for v in mix.values()) or total > 1.0 + 1e-9:
        raise InputError(
            "the shares of a mix must lie inside [0, 1] and add up to at most 1",
            value=dict(mix),
            allowed="for example heavy=12%",
        )
    wanted = np.array([mix.get(name, np.nan) for name in classes])
    shares = np.zeros(len(classes))
    shares[: len(offered)] = offered[: len(classes)]
    free = np.isnan(wanted)
    rest = float(shares[free].sum())
    filled = np.where(free, shares * ((1.0 - total) / rest) if rest > 0.0 else 0.0, wanted)
    if abs(float(filled.sum()) - 1.0) > 1e-6:
        raise InputError(
            "the mix names every class but does not add up to 1", value=dict(mix), allowed="total 1"
        )
    unseen = [n for n, w, s in zip(classes, filled, shares, strict=True) if w > 0.0 and s == 0.0]
    if unseen:
        raise InsufficientDataError(
            f"payload class {unseen[0]!r} was never sent, so its demand is unknown",
            value=unseen[0],
            hint="measure with a payload of this class",
        )
    return filled
