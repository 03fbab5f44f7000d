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
    # Flat views: a lane's value is at its row times the lanes, plus the lane.
    arrival_flat, demand_flat, speed_flat = arrival.ravel(), demand_s.ravel(), speed.ravel()
    latency = np.empty((steps, lanes))
    latency_flat = latency.ravel()
    # Those in service fill the first places of their lane, in no order.
    ends = np.full((lanes, places), np.inf)
    holder = np.zeros((lanes, places), np.int64)
    ends_flat, holder_flat = ends.ravel(), holder.ravel()
    first_at, first_end = lane * places, np.full(lanes, np.inf)
    now, attained, pace = np.zeros(lanes), np.zeros(lanes), speed[0].copy()
    inside = np.zeros(lanes, np.int64)
    arrived, started = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    next_arrival = arrival[0].copy()
    for _ in range(2 * steps):
        departs = now + np.maximum(first_end - attained, 0.0) / pace
        leaving = departs <= next_arrival
        then = np.where(leaving, departs, next_arrival)
        # An empty server forgets what it attained: sums of work stay small and exact.
        attained = np.where(inside > 0, attained + (then - now) * pace, 0.0)
        now = then
        gone, came = np.flatnonzero(leaving), np.flatnonzero(~leaving)
        at = first_at[gone]
        request = holder_flat[at] * lanes + gone
        latency_flat[request] = now[gone] - arrival_flat[request]
        left = inside[gone] - 1
        last = gone * places + left
        ends_flat[at], holder_flat[at] = ends_flat[last], holder_flat[last]
        ends_flat[last] = np.inf
        inside[gone] = left
        arrived[came] += 1
        next_arrival[came] = arrival_flat[arrived[came] * lanes + came]
        enters = np.flatnonzero((started < arrived) & (inside < places))
        at, request = enters * places + inside[enters], started[enters]
        end = attained[enters] + demand_flat[request * lanes + enters]
        ends_flat[at], holder_flat[at] = end, request
        inside[enters] += 1
        started[enters] += 1
        sooner = end < first_end[enters]
        first_end[enters[sooner]], first_at[enters[sooner]] = end[sooner], at[sooner]
        # Whoever left was the first: only there another one has to be looked for.
        at = gone * places + ends[gone].argmin(axis=1)
        first_at[gone], first_end[gone] = at, ends_flat[at]
        pace = speed_flat[inside * lanes + lane]
    return latency
