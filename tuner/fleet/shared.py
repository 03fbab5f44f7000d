"""Many replications at once of a server whose requests slow each other down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def shared_latencies(gap_s: FloatArray, demand_s: FloatArray, speed: FloatArray) -> FloatArray:
    """Latencies under limited processor sharing, every lane an independent replication.

    Up to ``places`` requests are in service and progress at one speed, which depends on how
    many they are; more wait in order of arrival. One step is one event of every lane, so the
    cost of the interpreter is shared by all lanes. Every lane starts empty.

    Parameters
    ----------
    gap_s
        Time since the previous arrival, shape (steps, lanes).
    demand_s
        Time a request alone would take, shape (steps, lanes).
    speed
        Progress per second of each request with k in service, shape (places + 1, lanes);
        row 0 is not used.

    Returns
    -------
    From arrival to end, shape (steps, lanes).

    Raises
    ------
    ValueError
        If the shapes differ or there is no place.

    References
    ----------
    Kleinrock (1976), Queueing Systems II, section 4.4: all in service attain work at one
    rate, so the attained work at which each ends orders the departures.
    """
    if gap_s.shape != demand_s.shape or gap_s.ndim != 2 or speed.shape[1:] != gap_s.shape[1:]:
        raise ValueError(f"shapes differ: {gap_s.shape}, {demand_s.shape}, {speed.shape}")
    if len(speed) < 2:
        raise ValueError("a server needs at least one place")
    steps, lanes = gap_s.shape
    places, lane = len(speed) - 1, np.arange(lanes)
    arrival = np.concatenate([np.cumsum(gap_s, axis=0), np.full((1, lanes), np.inf)])
    ends = np.full((lanes, places), np.inf)
    holder = np.zeros((lanes, places), np.int64)
    latency = np.empty((steps, lanes))
    now, attained = np.zeros(lanes), np.zeros(lanes)
    inside = np.zeros(lanes, np.int64)
    arrived, started = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    for _ in range(2 * steps):
        first = ends.argmin(axis=1)
        pace = speed[inside, lane]
        departs = now + np.maximum(ends[lane, first] - attained, 0.0) / pace
        arrives = arrival[arrived, lane]
        leaving = departs <= arrives
        then = np.where(leaving, departs, arrives)
        # An empty server forgets what it attained: sums of work stay small and exact.
        attained = np.where(inside > 0, attained + (then - now) * pace, 0.0)
        now = then
        gone = np.flatnonzero(leaving)
        place = first[gone]
        request = holder[gone, place]
        latency[request, gone] = now[gone] - arrival[request, gone]
        ends[gone, place] = np.inf
        inside[gone] -= 1
        arrived += ~leaving
        enters = np.flatnonzero((started < arrived) & (inside < places))
        free = ends[enters].argmax(axis=1)
        request = started[enters]
        ends[enters, free] = attained[enters] + demand_s[request, enters]
        holder[enters, free] = request
        inside[enters] += 1
        started[enters] += 1
    return latency
