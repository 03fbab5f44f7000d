"""How many instances policies on invocations order: a matter of traffic alone.

Invocations per instance do not depend on how long requests take, so what a policy orders is
worked out once, without queues, and any number of capacities can be served on it afterwards
(see `serving`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling import kernel
from tuner.simulator.inputs import SUBSTEPS
from tuner.simulator.lanes import Index, Record
from tuner.simulator.scaling import ScalingLanes

_NO_LANES: Index = np.zeros(0, np.int64)
_NOTHING: NDArray[np.float64] = np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Fleets:
    """Instances in service.

    Parameters
    ----------
    start
        Shape (minutes, lanes): at the start of each minute.
    minute, lane
        Shape (a,): where instances arrive within a minute, ascending in the minute.
    count
        Shape (a, 6): instances in service there in every ten seconds.
    """

    start: NDArray[np.int16]
    minute: Index
    lane: Index
    count: NDArray[np.int16]


class FleetBlock(ScalingLanes):
    """Days x policies on a virtual clock, without their requests."""

    def run(self, record: Record | None = None) -> Fleets:
        """All minutes; sums over those after the lead-in."""
        first = kernel.wanted_capacity(1.0, self.mean[0][self.day], self.target)
        self._begin_with(first.astype(np.int64))
        start = np.empty((self.minutes, self.lanes), np.int16)
        limits = self.mean.astype(np.float32)
        arrivals: list[tuple[int, Index, NDArray[np.int16]]] = []
        for minute in range(self.minutes):
            if minute == self.options.lead_in_min:
                self._reset_counters()
            self._outside_events(minute)
            start[minute] = self.count
            lanes, measured = _NO_LANES, _NOTHING
            slot = minute % self.span
            if self.any_arrives[slot]:
                lanes = np.flatnonzero(self.arrives[slot])
                self.arrives[slot] = False
                self.any_arrives[slot] = False
                count, measured = self._receive(minute, lanes)
                arrivals.append((minute, lanes, count))
            self._datapoint(minute, limits[minute], lanes, measured)
            if record is not None:
                value = self.mean[minute][self.day] / np.maximum(self.count, 1)
                value[lanes] = measured
                record.metric[minute] = value
            self._evaluate((minute + 1) * SUBSTEPS)
            if record is not None:
                record.in_service[minute] = self.count
                record.starting[minute] = self.capacity - self.count
        sizes = [len(lanes) for _, lanes, _ in arrivals]
        return Fleets(
            start,
            np.repeat(np.array([m for m, _, _ in arrivals], np.int64), sizes),
            np.concatenate([_NO_LANES, *(lanes for _, lanes, _ in arrivals)]),
            np.concatenate([np.zeros((0, SUBSTEPS), np.int16), *(c for _, _, c in arrivals)]),
        )

    def _receive(self, minute: int, lanes: Index) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Instances arrive: counts in every ten seconds, and the minute's metric."""
        slots = (minute * SUBSTEPS + np.arange(SUBSTEPS))[:, None] % len(self.arriving)
        count = self.arriving[slots, lanes].cumsum(axis=0, dtype=np.int16) + self.count[lanes]
        self.arriving[slots, lanes] = 0
        self.count[lanes] = count[-1]
        self._refresh(lanes)
        rate = self.rates[minute][self.day[lanes]].T
        metric: NDArray[np.float64] = (rate / np.maximum(count, 1)).mean(axis=0)
        return np.ascontiguousarray(count.T), metric

    def _datapoint(
        self,
        minute: int,
        rate: NDArray[np.float32],
        lanes: Index,
        measured: NDArray[np.float64],
    ) -> None:
        """Measure the minute and publish the datapoint that is due now to the alarms."""
        size = len(self.high_ring)
        here, due = minute % size, (minute + 1) % size
        high, low = self.high_ring[here], self.low_ring[here]
        day = rate[:, None]
        np.greater(day, self.high_limit.reshape(self.shape), out=high.reshape(self.shape))
        np.less(day, self.low_limit.reshape(self.shape), out=low.reshape(self.shape))
        if len(lanes):
            high[lanes], low[lanes] = kernel.breaches(measured, self.target[lanes])
        kernel.count_run(self.high_run, self.high_ring[due], kernel.OUT_DATAPOINTS)
        kernel.count_run(self.low_run, self.low_ring[due], kernel.IN_DATAPOINTS)
