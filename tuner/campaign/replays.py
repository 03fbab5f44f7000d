"""A window's own arrivals sent through the recovered server: what it would have shown.

Arrivals come in bursts, and a window near the limit owes most of its late requests to a few of
them. The arrivals are on record, so the question is not how late requests would be under any
arrivals at this load, but under these: a burst then explains what it caused, and what is left
to chance is the work of each request and the routing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.predict import ServerModel, warm_up_steps
from tuner.campaign.types import Routing
from tuner.fleet.batch import fifo_waits, least_outstanding_waits
from tuner.stats.requests import FloatArray, RequestLog

IntArray = NDArray[np.int64]

MOST_REQUESTS = 30_000
"""Requests of a window that are compared: the first ones, when there are more."""
_CHUNK = 5_000
"""A long window is cut and its parts are replayed side by side, each after a run-up."""
_LANES = 96
_LEAST_COPIES = 16
"""Fewer copies know the mean, but not how far single windows stray from it."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """Late requests among the first ``n`` of a window, by replays at several loads.

    Parameters
    ----------
    n
        Requests compared.
    share
        Expected share of late requests at each load, shape (k,).
    inflation
        Variance of their number over that of independent requests, shape (k,), >= 1.
    """

    n: int
    share: FloatArray
    inflation: FloatArray


def replay(
    model: ServerModel,
    pools: tuple[FloatArray, ...],
    log: RequestLog,
    threshold_s: float,
    factors: FloatArray,
    *,
    instances: int,
    routing: Routing,
    rng: np.random.Generator,
) -> Replay:
    """Send a window's arrivals through the server at its own load times each factor.

    Parameters
    ----------
    model
        Workers, floor and failures.
    pools
        Demands to draw from, one pool per payload class by index.
    log
        The window; its arrivals and payload classes are used, nothing of its answers.
    threshold_s
        A request is late above it.
    factors
        Loads as multiples of the window's, shape (k,): time between arrivals shrinks.
    instances, routing
        The endpoint; which instance served a request is not on record and drawn afresh.
    rng
        Of demands, routing, and of what came before the window.
    """
    n = min(len(log), MOST_REQUESTS)
    pooled = instances if routing is Routing.LEAST_OUTSTANDING_REQUESTS else 1
    rate = len(log) / max(float(log.scheduled_s[-1] - log.scheduled_s[0]), 1e-9)
    parts = math.ceil(n / _CHUNK)
    length = math.ceil(n / parts)
    busiest = min(rate / instances * float(factors.max()), model.saturation_per_s)
    # Instances that share a queue relax in as many arrivals as one; others each in their own.
    warm = warm_up_steps(model, busiest, length) * (instances if pooled == 1 else 1)
    copies = max(_LANES // (parts * pooled), _LEAST_COPIES)
    gaps, kinds, counted = _lanes(log, n, parts, length, warm, rate, copies, rng)
    demand = _demands(pools, kinds, rng)
    if pooled == 1 and instances > 1:
        gaps, demand, counted = _thinned(gaps, demand, counted, instances, rng)
    lanes = gaps.shape[1]
    gap = (gaps[:, None, :] / factors[None, :, None]).reshape(len(gaps), -1)
    work = np.tile(demand, len(factors))
    if pooled == 1:
        waits = fifo_waits(gap, work, model.workers)
    else:
        waits = least_outstanding_waits(gap, work, model.workers, pooled, rng)
    late = (waits + work > threshold_s - model.floor_s).reshape(len(gaps), len(factors), lanes)
    per_lane = (late & counted[:, None, :]).sum(axis=0)
    return _summed(per_lane, n, parts, copies, model.failure_share)


def _lanes(
    log: RequestLog,
    n: int,
    parts: int,
    length: int,
    warm: int,
    rate_per_s: float,
    copies: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, IntArray, NDArray[np.bool_]]:
    """Gaps, payload classes and what counts, shape (warm + length, parts x copies).

    Before the window came arrivals that are not on record: Poisson ones at its load.
    """
    seen = np.diff(log.scheduled_s[:n], prepend=log.scheduled_s[0])
    kind = log.payload_class[:n].astype(np.int64)
    gaps = np.empty((warm + length, parts, copies))
    kinds = np.zeros((warm + length, parts, copies), np.int64)
    counted = np.zeros((warm + length, parts, copies), np.bool_)
    for part in range(parts):
        at = np.arange(part * length - warm, (part + 1) * length)
        real = (at >= 0) & (at < n)
        gaps[:, part] = rng.standard_exponential((len(at), copies)) / rate_per_s
        kinds[:, part] = kind[rng.integers(n, size=(len(at), copies))]
        gaps[real, part] = seen[at[real], None]
        kinds[real, part] = kind[at[real], None]
        counted[:, part] = (real & (at >= part * length))[:, None]
    shape = (warm + length, parts * copies)
    return gaps.reshape(shape), kinds.reshape(shape), counted.reshape(shape)


def _demands(
    pools: tuple[FloatArray, ...], kinds: IntArray, rng: np.random.Generator
) -> FloatArray:
    """A demand for every request from the pool of its class; shape of ``kinds``."""
    demand = np.empty(kinds.shape)
    everything = np.concatenate(pools)
    for kind in np.unique(kinds):
        pool = pools[kind] if kind < len(pools) and len(pools[kind]) else everything
        mine = kinds == kind
        demand[mine] = pool[rng.integers(len(pool), size=int(mine.sum()))]
    return demand


def _thinned(
    gaps: FloatArray,
    demand: FloatArray,
    counted: NDArray[np.bool_],
    instances: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Each lane dealt out to instances at random: one lane per instance, shorter and padded."""
    steps, lanes = gaps.shape
    when = np.cumsum(gaps, axis=0)
    owner = rng.integers(instances, size=(steps, lanes))
    longest = max(int((owner == i).sum(axis=0).max()) for i in range(instances))
    shape = (longest, instances * lanes)
    new_gaps, work = np.zeros(shape), np.zeros(shape)
    counts = np.zeros(shape, np.bool_)
    for i in range(instances):
        for lane in range(lanes):
            rows = np.flatnonzero(owner[:, lane] == i)
            column = i * lanes + lane
            new_gaps[: len(rows), column] = np.diff(when[rows, lane], prepend=0.0)
            work[: len(rows), column] = demand[rows, lane]
            counts[: len(rows), column] = counted[rows, lane]
    return new_gaps, work, counts


def _summed(per_lane: IntArray, n: int, parts: int, copies: int, failure_share: float) -> Replay:
    """Mean and variance over copies of the late requests of all parts and instances."""
    loads = len(per_lane)
    # Lanes run over instances, parts and copies, the last fastest.
    cells = per_lane.reshape(loads, -1, parts, copies).sum(axis=1)
    mean = cells.mean(axis=2).sum(axis=1)
    variance = cells.var(axis=2, ddof=1).sum(axis=1)
    share = np.maximum(mean, 0.1) / n
    inflation = np.maximum(variance / (n * share * (1.0 - np.minimum(share, 0.999))), 1.0)
    return Replay(n, np.asarray(failure_share + (1.0 - failure_share) * share), inflation)
