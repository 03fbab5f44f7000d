"""Campaign values to and from the journal's JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from tuner.campaign.types import GeneratorHealth, ScaleEvent, StageKind, StageSpec
from tuner.stats.histogram import LatencyHistogram


def to_json(value: object) -> str:
    """Canonical JSON: sorted keys, NaN and infinities as tagged strings."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def from_json(text: str) -> Any:
    """The value of `to_json`'s text; lists stay lists."""
    return json.loads(text, object_hook=lambda d: float(d["$float"]) if set(d) == {"$float"} else d)


def spec_json(spec: StageSpec) -> str:
    """A stage's specification as JSON."""
    return to_json(asdict(spec))


def spec_of(text: str) -> StageSpec:
    """A stage's specification from JSON."""
    data = from_json(text)
    rates = tuple(data.get("rates_per_s", ()))
    return StageSpec(**{**data, "kind": StageKind(data["kind"]), "rates_per_s": rates})


def health_json(health: GeneratorHealth) -> str:
    """The generator's self-check as JSON."""
    return to_json(asdict(health))


def health_of(text: str) -> GeneratorHealth:
    """The generator's self-check from JSON."""
    data = from_json(text)
    return GeneratorHealth(**{**data, "void_reasons": tuple(data["void_reasons"])})


def event_json(event: ScaleEvent) -> str:
    """A scale event as JSON."""
    return to_json(asdict(event))


def event_of(text: str) -> ScaleEvent:
    """A scale event from JSON."""
    data = from_json(text)
    milestones = tuple((str(n), float(t)) for n, t in data.pop("milestones"))
    return ScaleEvent(**data, milestones=milestones)


def bins_of(histogram: LatencyHistogram) -> list[list[int]]:
    """A histogram as bins and counts."""
    return [histogram.index.tolist(), histogram.count.tolist()]


def histogram_of(bins: list[list[int]] | None) -> LatencyHistogram | None:
    """The inverse of `bins_of`; None stays None."""
    if bins is None:
        return None
    index, count = bins
    return LatencyHistogram(np.array(index, np.int32), np.array(count, np.int64))
