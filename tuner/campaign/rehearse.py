"""Whole campaigns in virtual time, before anybody pays for one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tuner.campaign.analyse import analyse
from tuner.campaign.config import CampaignConfig
from tuner.campaign.search import conversation
from tuner.campaign.talk import Finished
from tuner.campaign.types import LoadBackend, ScaleEvent, StageResult
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.spec import FleetSpec
from tuner.queueing.capacity import CapacityModel
from tuner.slo import Verdict
from tuner.stats.requests import FloatArray
from tuner.units import s_to_h


@dataclass(frozen=True, slots=True, eq=False)
class Campaign:
    """One finished campaign: its stages, its end, and what it spent on load."""

    results: tuple[StageResult, ...]
    events: tuple[ScaleEvent, ...]
    finished: Finished

    @property
    def load_s(self) -> float:
        """Seconds of settling and measuring."""
        return sum(r.spec.settle_s + r.spec.duration_s for r in self.results)

    @property
    def requests(self) -> float:
        """Requests offered, settling included."""
        return sum((r.spec.settle_s + r.spec.duration_s) * r.spec.rate_per_s for r in self.results)

    @property
    def instance_hours(self) -> float:
        """Instances times hours under load and while scaling."""
        load = sum(
            (r.spec.settle_s + r.spec.duration_s) * r.spec.instance_count for r in self.results
        )
        return s_to_h(load + sum(e.lag_s * max(e.to_count, e.from_count) for e in self.events))


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What to expect of a campaign: medians, and the nine-in-ten worst in ``_p90``.

    ``precision`` is the half-width of the printed interval as a share of the capacity;
    ``answered`` the share of campaigns that end with a number.
    """

    campaigns: int
    minutes: float
    minutes_p90: float
    requests: float
    requests_p90: float
    cost_usd: float | None
    cost_usd_p90: float | None
    precision: float
    precision_p90: float
    answered: float
    capacity_per_s: float
    verdicts: tuple[tuple[str, int], ...] = field(default=())


def run_campaign(config: CampaignConfig, backend: LoadBackend) -> Campaign:
    """Drive one campaign to its end on any backend, within its limits."""
    talk = conversation(config)
    results: list[StageResult] = []
    events: list[ScaleEvent] = []
    count: int | None = None
    action = talk.start()
    while not isinstance(action, Finished):
        over = talk.over_limit(results, events, action)
        if over is not None:
            action = over
            break
        if action.instance_count != count:
            event = backend.set_instance_count(action.instance_count)
            if event.to_count != event.from_count:
                events.append(event)
            count = action.instance_count
        results.append(backend.measure(action))
        action = talk.tell(results[-1])
    return Campaign(tuple(results), tuple(events), action)


def judge(config: CampaignConfig, campaign: Campaign) -> CapacityModel:
    """The campaign's answer."""
    return analyse(
        config.slo,
        campaign.results,
        routing=config.routing,
        launch_events=campaign.events,
        classes=config.classes,
        mix=dict(config.mix) or None,
        level=config.level,
        precision=config.precision,
        seed=config.seed,
    )


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What one campaign took, and what it found; NaN where it gave no answer."""

    minutes: float
    requests: float
    instance_hours: float
    precision: float
    capacity_per_s: float
    verdict: str


def each_rehearsed(
    config: CampaignConfig,
    fleet: FleetSpec,
    n_campaigns: int = 20,
    seed: int = 1,
    *,
    backend: Callable[[int], LoadBackend] | None = None,
) -> Iterator[Rehearsed]:
    """Run campaigns against a stated fleet in virtual time, one after the other.

    Parameters
    ----------
    config
        The campaign; its own seed is replaced by one for each run.
    fleet
        The server model.
    n_campaigns, seed
        How many, and the seed of the first.
    backend
        Makes the backend of a run from its seed; None simulates ``fleet``.
    """
    make = backend or (lambda s: VirtualBackend(fleet, seed=s))
    for run in range(n_campaigns):
        own = config.with_seed(seed + run)
        campaign = run_campaign(own, make(seed + run))
        model = judge(own, campaign)
        met = model.verdict is Verdict.MET
        first = model.by_count[0].rate_per_s if met else None
        yield Rehearsed(
            campaign.load_s / 60.0,
            campaign.requests,
            campaign.instance_hours,
            first.relative_half_width if first else math.nan,
            first.mid if first else math.nan,
            model.verdict.value,
        )


def expectation(
    done: Sequence[Rehearsed], price_per_instance_hour_usd: float | None = None
) -> Rehearsal:
    """What finished rehearsals let one expect.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not done:
        raise ValueError("nothing was rehearsed")
    minutes = np.array([d.minutes for d in done])
    requests = np.array([d.requests for d in done])
    hours = np.array([d.instance_hours for d in done])
    answered = [d for d in done if math.isfinite(d.capacity_per_s)]
    precision = np.array([d.precision for d in answered])
    verdicts = [d.verdict for d in done]
    price = price_per_instance_hour_usd
    return Rehearsal(
        campaigns=len(done),
        minutes=float(np.median(minutes)),
        minutes_p90=float(np.quantile(minutes, 0.9)),
        requests=float(np.median(requests)),
        requests_p90=float(np.quantile(requests, 0.9)),
        cost_usd=None if price is None else float(np.median(hours)) * price,
        cost_usd_p90=None if price is None else float(np.quantile(hours, 0.9)) * price,
        precision=_over(precision, 0.5),
        precision_p90=_over(precision, 0.9),
        answered=len(answered) / len(done),
        capacity_per_s=_over(np.array([d.capacity_per_s for d in answered]), 0.5),
        verdicts=tuple((v, verdicts.count(v)) for v in sorted(set(verdicts))),
    )


def _over(values: FloatArray, q: float) -> float:
    return float(np.quantile(values, q)) if len(values) else math.inf
