"""Many replications of one fleet at once, for prediction.

One step advances every lane (an independent replication) by one arrival, so the cost of the
interpreter is shared by all lanes. Lanes differ in whatever the caller likes: seed, load,
demands. Times are in seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_INSERTION_LIMIT = 24
"""Up to this many workers a compare-exchange chain beats a search for the minimum."""
_SPARE_SLOTS = 12
_BYTE = 255
_TIE_SETS = 61
"""Tie-breaking draws are reused in a cycle: a prime length keeps them from locking to it."""


def fifo_waits(gap_s: FloatArray, demand_s: FloatArray, workers: int) -> FloatArray:
    """Waiting times in first-come-first-served queues with ``workers`` servers each.

    The Kiefer-Wolfowitz recursion on the sorted vector of remaining work, starting empty.

    Parameters
    ----------
    gap_s
        Time since the previous arrival, shape (steps, lanes).
    demand_s
        Service demand, shape (steps, lanes).
    workers
        Servers per lane, at least 1.

    Returns
    -------
    Waiting time of each arrival, shape (steps, lanes).

    Raises
    ------
    ValueError
        If the shapes differ or ``workers`` is below 1.

    References
    ----------
    Kiefer, Wolfowitz (1955), On the theory of queues with many servers, Trans. AMS 78.
    """
    if gap_s.shape != demand_s.shape or gap_s.ndim != 2:
        raise ValueError(f"gaps and demands differ in shape: {gap_s.shape}, {demand_s.shape}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1: {workers}")
    if workers > _INSERTION_LIMIT:
        return _fifo_waits_wide(gap_s, demand_s, workers)
    steps, lanes = gap_s.shape
    waits = np.empty((steps, lanes))
    work = np.zeros((workers, lanes))
    carry = np.empty(lanes)
    for step in range(steps):
        np.subtract(work, gap_s[step], out=work)
        np.maximum(work, 0.0, out=work)
        waits[step] = work[0]
        np.add(work[0], demand_s[step], out=carry)
        for i in range(1, workers):
            np.minimum(work[i], carry, out=work[i - 1])
            np.maximum(work[i], carry, out=carry)
        work[workers - 1] = carry
    return waits


def _fifo_waits_wide(gap_s: FloatArray, demand_s: FloatArray, workers: int) -> FloatArray:
    """The same with a search for the least loaded worker: linear, not a chain of calls."""
    steps, lanes = gap_s.shape
    waits = np.empty((steps, lanes))
    work = np.zeros((lanes, workers))
    lane = np.arange(lanes)
    for step in range(steps):
        np.subtract(work, gap_s[step][:, None], out=work)
        np.maximum(work, 0.0, out=work)
        least = work.argmin(axis=1)
        waits[step] = work[lane, least]
        work[lane, least] += demand_s[step]
    return waits


def least_outstanding_waits(
    gap_s: FloatArray,
    demand_s: FloatArray,
    workers: int,
    instances: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Waiting times when each arrival joins the instance with the fewest requests in flight.

    Ties are broken at random. Each instance serves first come first served with ``workers``
    servers; every lane starts empty.

    Parameters
    ----------
    gap_s, demand_s
        As in `fifo_waits`; the gaps are those of the whole endpoint.
    workers
        Servers per instance.
    instances
        Instances behind the router.
    rng
        Breaks ties.

    Returns
    -------
    Waiting time of each arrival, shape (steps, lanes).

    Raises
    ------
    ValueError
        If the shapes differ, or a count is below 1.
    """
    if gap_s.shape != demand_s.shape or gap_s.ndim != 2:
        raise ValueError(f"gaps and demands differ in shape: {gap_s.shape}, {demand_s.shape}")
    if workers < 1 or instances < 1:
        raise ValueError(f"workers and instances must be at least 1: {workers}, {instances}")
    if instances == 1:
        return fifo_waits(gap_s, demand_s, workers)
    return _least_outstanding(gap_s, demand_s, workers, instances, rng)


def _least_outstanding(
    gap_s: FloatArray, demand_s: FloatArray, workers: int, instances: int, rng: np.random.Generator
) -> FloatArray:
    steps, lanes = gap_s.shape
    width = instances * lanes
    waits = np.empty((steps, lanes))
    free = np.zeros((workers, width))
    present = _Present(workers + _SPARE_SLOTS, instances, lanes)
    lane = np.arange(lanes)
    ties = rng.random((_TIE_SETS, instances, lanes)).astype(np.float32) * np.float32(0.5)
    now = np.zeros(lanes)
    for step in range(steps):
        now += gap_s[step]
        order = present.counts(now) + ties[step % _TIE_SETS]
        pick = order.argmin(axis=0) * lanes + lane
        chosen = free[:, pick]
        start = np.maximum(chosen[0], now)
        np.subtract(start, now, out=waits[step])
        done = start + demand_s[step]
        present.enter(pick, done)
        for i in range(1, workers):
            np.minimum(chosen[i], done, out=chosen[i - 1])
            done = np.maximum(chosen[i], done)
        chosen[workers - 1] = done
        free[:, pick] = chosen
    return waits


class _Present:
    """Who is on each instance of each lane: times of leaving in slots, taken round and round."""

    def __init__(self, slots: int, instances: int, lanes: int) -> None:
        width = instances * lanes
        # Single precision is enough to count who is present, and half the memory to read.
        self._leaves = np.zeros((slots, width), np.float32)
        self._still = np.empty((slots, width), np.bool_)
        self._clock = np.empty((instances, lanes), np.float32)
        self._cursor = np.zeros(width, np.int64)

    def counts(self, now_s: FloatArray) -> NDArray[np.uint16]:
        """Requests present on each instance, shape (instances, lanes)."""
        self._clock[:] = now_s
        np.greater(self._leaves, self._clock.reshape(-1), out=self._still)
        kind = np.uint8 if len(self._still) <= _BYTE else np.uint16
        present = np.add.reduce(self._still.view(np.uint8), axis=0, dtype=kind)
        return np.asarray(present.reshape(self._clock.shape))

    def enter(self, pick: NDArray[np.int64], leaves_s: FloatArray) -> None:
        """One request more at each place picked, shape (lanes,), after `counts`."""
        slot = self._cursor[pick]
        taken = self._still[slot, pick]
        if taken.any():
            slot[taken] = self._room(pick[taken])
        self._leaves[slot, pick] = leaves_s
        self._cursor[pick] = (slot + 1) % len(self._leaves)

    def _room(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """A slot that somebody left, or a new one."""
        slot = np.asarray(self._still[:, places].argmin(axis=0))
        full = self._still[slot, places]
        if full.any():
            slot[full] = len(self._leaves)
            more = np.zeros((_SPARE_SLOTS, self._leaves.shape[1]), np.float32)
            self._leaves = np.concatenate([self._leaves, more])
            self._still = np.empty(self._leaves.shape, np.bool_)
        return slot
