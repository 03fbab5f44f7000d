"""What the answer says about the payload mix it hangs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuner.campaign.sensitivity import mix_sensitivity
from tuner.campaign.types import StageResult
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.types import Statement
from tuner.slo import Slo

MOST = 3
LEAST_CHANGE = 0.01
"""A class that moves capacity by less is not worth a line."""


def mix_statements(
    slo: Slo,
    capacity: CapacityModel,
    stages: Sequence[StageResult],
    classes: Sequence[str],
    mix: Mapping[str, float] | None,
    seed: int,
) -> tuple[Statement, ...]:
    """Classes whose share moves capacity, the strongest first; none without a server model."""
    if len(classes) < 2 or capacity.method != "work_recovery":
        return ()
    found = mix_sensitivity(slo, stages, classes, mix=mix, seed=seed)
    strong = [s for s in found if abs(s.change) >= LEAST_CHANGE]
    said = sorted(strong, key=lambda s: -abs(s.change))[:MOST]
    return tuple(
        Statement(f"mix_{s.payload_class}", f"{s.sentence}.", s.change, "share") for s in said
    )
