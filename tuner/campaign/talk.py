"""The conversation between a search and whoever runs its stages."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.campaign.config import CampaignConfig, Limits
from tuner.campaign.types import ScaleEvent, StageKind, StageResult, StageSpec
from tuner.units import s_to_h

_MAX_DRAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The campaign is over.

    ``reason`` is ``"precision"``, ``"plan"``, ``"time"``, ``"requests"``, ``"cost"``,
    ``"unreachable"``, ``"drift"``, ``"generator"`` or ``"not_reached"``; ``sentence`` says
    it to people.
    """

    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A stage somebody wants: load per instance, and why.

    ``brief_settle`` when the load hardly differs from the stage before.
    """

    kind: StageKind
    instance_count: int
    rate_per_instance_per_s: float
    duration_s: float
    purpose: str
    brief_settle: bool = False


Talk = Generator[Ask, StageResult, Finished]


class Conversation:
    """Turns asks into stage specs, repeats void stages once, and passes results on."""

    def __init__(self, config: CampaignConfig, script: Talk) -> None:
        self._config = config
        self._script = script
        self._ask: Ask | None = None
        self._index = 0
        self._repeated = False
        self._drain_s = 0.0

    @property
    def repeating(self) -> bool:
        """Whether the stage last named repeats a void one."""
        return self._repeated

    def start(self) -> StageSpec | Finished:
        """The first stage."""
        return self._advance(None)

    def tell(self, result: StageResult) -> StageSpec | Finished:
        """Take the result of the stage last named; the next one, or the end."""
        self._index = max(self._index, result.spec.index) + 1
        self._drain_s = _drain_s(result)
        if result.void and not self._repeated and self._ask is not None:
            self._repeated = True
            return self._spec(replace(self._ask, purpose=f"{self._ask.purpose} (repeated)"))
        self._repeated = False
        return self._advance(result)

    def over_limit(
        self, results: Sequence[StageResult], events: Sequence[ScaleEvent], action: StageSpec
    ) -> Finished | None:
        """The end of the campaign if this stage would pass a limit of time, requests or cost."""
        return _over_limit(self._config.limits, results, events, action)

    def _advance(self, result: StageResult | None) -> StageSpec | Finished:
        try:
            self._ask = next(self._script) if result is None else self._script.send(result)
        except StopIteration as end:
            finished: Finished = end.value
            return finished
        return self._spec(self._ask)

    def _settle(self, ask: Ask) -> float:
        if ask.kind in (StageKind.WARM_UP, StageKind.FLOOR):
            return 0.0
        if ask.kind is StageKind.RAMP or ask.brief_settle:
            return self._config.pace.ramp_settle_s + self._drain_s
        return self._config.settle_s + self._drain_s

    def _spec(self, ask: Ask) -> StageSpec:
        tree = np.random.SeedSequence([self._config.seed, self._index])
        return StageSpec(
            index=self._index,
            kind=ask.kind,
            instance_count=ask.instance_count,
            rate_per_s=ask.rate_per_instance_per_s * ask.instance_count,
            duration_s=ask.duration_s,
            settle_s=self._settle(ask),
            arrivals=self._config.arrivals,
            seed=int(tree.generate_state(1)[0]),
            purpose=ask.purpose,
        )


def _drain_s(result: StageResult) -> float:
    """Extra settling after a stage that left a backlog behind, at about its own pace."""
    excess = result.in_flight_at_end - 2 * result.in_flight_at_start - 20
    if excess <= 0 or result.spec.rate_per_s <= 0.0:
        return 0.0
    return float(min(3.0 * excess / result.spec.rate_per_s, _MAX_DRAIN_S))


def _over_limit(
    limits: Limits,
    results: Sequence[StageResult],
    scale_events: Sequence[ScaleEvent],
    action: StageSpec,
) -> Finished | None:
    time_s = sum(r.spec.settle_s + r.spec.duration_s for r in results)
    requests = sum((r.spec.settle_s + r.spec.duration_s) * r.spec.rate_per_s for r in results)
    held = sum(
        (r.spec.settle_s + r.spec.duration_s) * r.spec.instance_count for r in results
    ) + sum(e.lag_s * max(e.to_count, e.from_count) for e in scale_events)
    more_s = action.settle_s + action.duration_s
    if limits.time_s is not None and time_s + more_s > limits.time_s:
        return Finished("time", f"the time limit of {limits.time_s:g} s of load is reached")
    if limits.requests is not None and requests + more_s * action.rate_per_s > limits.requests:
        return Finished("requests", f"the limit of {limits.requests:,} requests is reached")
    price = limits.price_per_instance_hour_usd
    if limits.cost_usd is not None and price is not None:
        cost = s_to_h(held + more_s * action.instance_count) * price
        if cost > limits.cost_usd:
            return Finished("cost", f"the cost limit of {limits.cost_usd:g} USD is reached")
    return None
