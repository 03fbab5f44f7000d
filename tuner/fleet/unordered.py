"""Many replications at once of a server that takes waiting requests in random order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def unordered_latencies(
    gap_s: FloatArray, demand_s: FloatArray, choice: FloatArray, workers: int
) -> FloatArray:
    """Latencies where a free worker takes any of the waiting, every lane a replication.

    Demands belong to starts of service: whom a worker takes changes who waits, never when
    work is done. So the starts are those of service in order of arrival, and each then draws
    one of the requests waiting. The cost of the interpreter is shared by all lanes. Every lane
    starts empty.

    Parameters
    ----------
    gap_s
        Time since the previous arrival, shape (steps, lanes).
    demand_s
        Service of the request that starts k-th, shape (steps, lanes).
    choice
        Whom the k-th start takes, uniform on [0, 1), shape (steps, lanes).
    workers
        Requests in service at once.

    Returns
    -------
    From arrival to end, shape (steps, lanes).

    Raises
    ------
    ValueError
        If the shapes differ or there is no worker.

    References
    ----------
    Kiefer and Wolfowitz (1955), On the theory of queues with many servers, Trans. Am. Math.
    Soc. 78 (the starts); Kingman (1962), On queues in which customers are served in random
    order, Proc. Camb. Phil. Soc. 58.
    """
    if gap_s.shape != demand_s.shape or gap_s.shape != choice.shape or gap_s.ndim != 2:
        raise ValueError(f"shapes differ: {gap_s.shape}, {demand_s.shape}, {choice.shape}")
    if workers < 1:
        raise ValueError("a server needs at least one worker")
    steps, lanes = gap_s.shape
    arrival = np.concatenate([np.cumsum(gap_s, axis=0), np.full((1, lanes), np.inf)])
    latency = np.empty((steps, lanes))
    free = np.full((lanes, workers), -np.inf)
    lane = np.arange(lanes)
    waiting = np.empty((lanes, steps), np.int64)
    arrived, crowd = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    for k in range(steps):
        worker = free.argmin(axis=1)
        start = np.maximum(arrival[k], free[lane, worker])
        _admit(arrival, start, waiting, arrived, crowd)
        place = (choice[k] * crowd).astype(np.int64)
        request = waiting[lane, place]
        crowd -= 1
        waiting[lane, place] = waiting[lane, crowd]
        end = start + demand_s[k]
        free[lane, worker] = end
        latency[request, lane] = end - arrival[request, lane]
    return latency


def _admit(
    arrival: FloatArray, now: FloatArray, waiting: IntArray, arrived: IntArray, crowd: IntArray
) -> None:
    """Let those wait who have come by now; changes the last three."""
    lane = np.flatnonzero(arrival[arrived, np.arange(len(now))] <= now)
    while len(lane):
        waiting[lane, crowd[lane]] = arrived[lane]
        crowd[lane] += 1
        arrived[lane] += 1
        lane = lane[arrival[arrived[lane], lane] <= now[lane]]
