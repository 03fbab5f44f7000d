"""Many replications at once of a server that takes waiting requests in random order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.fleet.batch import fifo_waits

FloatArray = NDArray[np.float64]


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
    # Flat views: a lane's value is at its row times the lanes, plus the lane.
    arrival_flat, latency_flat = arrival.ravel(), latency.ravel()
    starts = arrival[:-1] + fifo_waits(gap_s, demand_s, workers)
    lane = np.arange(lanes)
    waiting = np.empty((steps, lanes), np.int64).ravel()
    arrived, crowd = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    next_arrival = arrival[0].copy()
    for k in range(steps):
        start = starts[k]
        come = np.flatnonzero(next_arrival <= start)
        while len(come):
            # Let those wait who have come by now.
            waiting[crowd[come] * lanes + come] = arrived[come]
            crowd[come] += 1
            arrived[come] += 1
            upcoming = arrival_flat[arrived[come] * lanes + come]
            next_arrival[come] = upcoming
            come = come[upcoming <= start[come]]
        place = (choice[k] * crowd).astype(np.int64) * lanes + lane
        crowd -= 1
        request = waiting[place] * lanes + lane
        waiting[place] = waiting[crowd * lanes + lane]
        latency_flat[request] = (start + demand_s[k]) - arrival_flat[request]
    return latency
