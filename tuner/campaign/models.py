"""Stages of a multi-model endpoint: what they show, their warm-up, and a virtual instance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.fleet.model import Completion, Fate, Fleet
from tuner.fleet.spec import FleetSpec
from tuner.workload.arrivals import arrival_rng, payload_rng
from tuner.workload.models import ModelMix

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

UNTOUCHED = 0.05
"""Part of the SLO's allowance that requests to models never asked for before may take up."""
MOST_WARM_REQUESTS = 200_000
LEAST_WARM_REQUESTS = 500
"""Long enough that the first loads are over when the window opens."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelStage:
    """What one stage on one instance showed, with requests spread over some models.

    Parameters
    ----------
    models
        Models the requests were spread over.
    rate_per_s
        Offered to the one instance.
    shares
        Share of requests of each model, shape (models,).
    latency_s
        In order of time, infinite for failures, shape (n,). The first request of a model
        since the campaign began is not among them: it is cold however much memory there is.
    first_loads
        How many such requests were left out.
    hit_ratio
        Average of ``ModelCacheHit`` over the stage's minutes; None where AWS was not asked.
    loaded_models
        Average of ``LoadedModelCount``.
    wait_s
        Mean wait of a cold request, by ``ModelLoadingWaitTime``.
    """

    models: int
    rate_per_s: float
    shares: FloatArray
    latency_s: FloatArray
    first_loads: int = 0
    hit_ratio: float | None = None
    loaded_models: float | None = None
    wait_s: float | None = None

    def __post_init__(self) -> None:
        if self.shares.shape != (self.models,) or self.latency_s.ndim != 1:
            raise ValueError(f"{self.models} models, but shares of shape {self.shares.shape}")

    @property
    def requests(self) -> int:
        """Requests that count."""
        return len(self.latency_s)


def warm_requests(shares: FloatArray, allowed: float) -> int:
    """Requests after which hardly any goes to a model that was never asked for.

    Parameters
    ----------
    shares
        Share of requests of each model, shape (n,).
    allowed
        Share of requests that the SLO lets be late; `UNTOUCHED` of it may be left.
    """
    goal = UNTOUCHED * allowed
    count = max(len(shares), LEAST_WARM_REQUESTS)
    while count < MOST_WARM_REQUESTS and float((shares * np.exp(-shares * count)).sum()) > goal:
        count = math.ceil(count * 1.25)
    return min(count, MOST_WARM_REQUESTS)


def repeated(model: NDArray[np.uint16], touched: BoolArray) -> BoolArray:
    """Which requests name a model that was asked for before, shape (n,).

    ``touched`` (one entry per model) holds what was asked for earlier and is brought up to
    date.
    """
    first = np.zeros(len(model), np.bool_)
    names, at = np.unique(model, return_index=True)
    first[at[~touched[names]]] = True
    touched[names] = True
    return ~first


class VirtualModels:
    """One simulated instance of a multi-model endpoint, asked on a virtual clock.

    Parameters
    ----------
    fleet
        Its instance count is taken as 1.
    seed
        Of everything the instance does.
    """

    def __init__(self, fleet: FleetSpec, mix: ModelMix, *, seed: int) -> None:
        self._mix = mix
        rng = np.random.default_rng(np.random.SeedSequence([seed, 23]))
        self._fleet = Fleet(replace(fleet, instance_count=1), rng)
        self._now_s = 0.0
        self._touched = np.zeros(len(mix), np.bool_)

    def measure(
        self, count: int, rate_per_s: float, requests: int, *, warm: int, seed: int,
        cloudwatch: bool = True,
    ) -> ModelStage:  # fmt: skip
        """Spread Poisson arrivals over the first ``count`` models, after ``warm`` more of them."""
        shares = self._mix.first(count).shares
        whole = warm + requests
        gaps = arrival_rng(seed).exponential(1.0 / rate_per_s, whole)
        arrival = self._now_s + np.cumsum(gaps)
        model = payload_rng(seed).choice(count, size=whole, p=shares).astype(np.uint16)
        latency, hit, wait = self._run(arrival, model)
        self._fleet.take_loads()
        self._now_s = float(arrival[-1]) + float(np.max(latency[np.isfinite(latency)], initial=0.0))
        kept = repeated(model, self._touched)
        kept[:warm] = False
        seen = slice(warm, None)
        cold = ~hit[seen]
        return ModelStage(
            count,
            rate_per_s,
            shares,
            latency[kept],
            int(np.count_nonzero(~kept[seen])),
            hit_ratio=float(np.mean(hit[seen])) if cloudwatch else None,
            loaded_models=float(self._fleet.loaded_models()[0]) if cloudwatch else None,
            wait_s=float(np.mean(wait[seen][cold])) if cloudwatch and cold.any() else None,
        )

    def _run(
        self, arrival_s: FloatArray, model: NDArray[np.uint16]
    ) -> tuple[FloatArray, BoolArray, FloatArray]:
        fleet, names = self._fleet, self._mix.names
        ended: list[Completion] = []
        for number, (at, which) in enumerate(zip(arrival_s.tolist(), model.tolist(), strict=True)):
            fleet.submit(at, number, model=names[which])
            ended += fleet.advance(at)
        while (due := fleet.next_event_s()) != np.inf:
            ended += fleet.advance(due)
        latency = np.full(len(arrival_s), np.inf)
        hit = np.zeros(len(arrival_s), np.bool_)
        wait = np.zeros(len(arrival_s))
        for end in ended:
            if end.fate is Fate.OK:
                latency[end.tag] = end.done_s - end.arrived_s
            hit[end.tag] = end.cache_hit is True
            wait[end.tag] = end.model_wait_s
        return latency, hit, wait
