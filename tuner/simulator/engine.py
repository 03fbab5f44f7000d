"""The minute loop of one block of lanes whose metric hangs on the queues: CPU, concurrency.

What such a policy orders depends on what becomes of the requests, so both go minute by
minute. Policies on invocations do not need this: see `fleets` and `serving`.

Nearly all lane-minutes are quiet: no backlog, no arrival of instances, no alarm that could
act. They cost a handful of vector operations on small integers; the others are gathered and
worked out exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling import kernel
from tuner.simulator.inputs import (
    SUBSTEP_S,
    SUBSTEPS,
    MetricCurve,
    PolicyGrid,
    SimulationOptions,
)
from tuner.simulator.lanes import EDGE, Index, Record, Served, Tally
from tuner.simulator.lookup import Chunk, Lookup, tabulate
from tuner.simulator.queues import Queues
from tuner.simulator.scaling import ScalingLanes
from tuner.units import SECONDS_PER_MINUTE

CHUNK_MIN = 120
"""Minutes tabulated at a time; below 255, so that byte counters cannot overflow between."""


class Block(ScalingLanes):
    """Days x policies on a virtual clock; see `Lanes` for the parameters.

    Parameters
    ----------
    curve
        How the metric answers to load.
    """

    def __init__(
        self,
        grid: PolicyGrid,
        lookup: Lookup,
        rates: NDArray[np.float64],
        lags: NDArray[np.int64],
        options: SimulationOptions,
        curve: MetricCurve,
    ) -> None:
        super().__init__(grid, rates, lags, options)
        self.lookup, self.relation = lookup, curve
        lanes = self.lanes
        self.row = self.day * (lookup.max_count + 1)
        self.place = self.row.copy()
        self.backlog, self.fresh_backlog = np.zeros(lanes), np.zeros(lanes)
        self.fresh = np.zeros(lanes, np.int64)
        self.waiting = np.zeros(lanes, np.bool_)
        self.violating = np.zeros(lanes, np.float32)
        self.violating_total = np.zeros(lanes)
        self.marks = np.zeros((3, lanes), np.uint8)
        self.mark_totals = np.zeros((3, lanes), np.int64)
        self.v = np.empty(lanes, np.float32)
        self.flag = np.empty((4, *self.shape), np.bool_)

    def run(self, record: Record | None = None) -> Tally:
        """All minutes; sums over those after the lead-in."""
        options = self.options
        for start in range(0, self.minutes, CHUNK_MIN):
            part = self.rates[start : start + CHUNK_MIN]
            chunk = tabulate(self.lookup, part, options.allowance, options.zones, self.relation)
            if start == 0:
                self._start(chunk)
            for i in range(len(part)):
                minute = start + i
                if minute == options.lead_in_min:
                    self._reset_counters()
                self._minute(minute, i, chunk, record)
            self._flush()
        marks = self.mark_totals
        return self.tally(Served(self.violating_total, marks[0], marks[1], marks[2]))

    def _start(self, chunk: Chunk) -> None:
        """The fewest instances at which the first minute's metric is within the target."""
        first = np.ones(self.lanes, np.int64)
        for day in range(self.days):
            lanes = self.day == day
            above = chunk.metric[0, day][None, 1:] > self.target[lanes][:, None]
            first[lanes] = above.sum(axis=1) + 1
        self._begin_with(first)

    def _refresh(self, lanes: Index) -> None:
        super()._refresh(lanes)
        self.place[lanes] = self.row[lanes] + self.count[lanes]

    def _reset_counters(self) -> None:
        super()._reset_counters()
        self.violating[:] = 0.0
        self.violating_total[:] = 0.0
        self.marks[:] = 0
        self.mark_totals[:] = 0

    def _flush(self) -> None:
        self.violating_total += self.violating
        self.violating[:] = 0.0
        self.mark_totals += self.marks
        self.marks[:] = 0

    def _minute(self, minute: int, i: int, chunk: Chunk, record: Record | None) -> None:
        self._outside_events(minute)
        np.take(chunk.violating[i].reshape(-1), self.place, out=self.v, mode="clip")
        bad, spare, zone, slow = self.flag
        count = self.count.reshape(self.shape)
        np.less(count, chunk.need_keep_up[i][:, None], out=slow)
        np.less(count, chunk.need_good[i][:, None], out=bad)
        np.greater_equal(count, chunk.need_spare[i][:, None], out=spare)
        np.greater_equal(count, chunk.need_zone[i][:, None], out=zone)
        queues = slow.reshape(-1)
        np.logical_or(queues, self.waiting, out=queues)
        slot = minute % self.span
        if self.any_arrives[slot]:
            queues |= self.arrives[slot]
            self.arrives[slot] = False
            self.any_arrives[slot] = False
        self._serve_minutes(minute, i, chunk, np.flatnonzero(queues), record)
        np.add(self.violating, self.v, out=self.violating)
        np.add(self.marks, self.flag[:3].reshape(3, -1).view(np.uint8), out=self.marks)
        if record is not None:
            rate = chunk.mean_per_min[i][self.day]
            share = np.divide(self.v, rate, out=np.zeros(self.lanes), where=rate > 0.0)
            record.violation_share[minute] = np.minimum(share, 1.0)
            record.in_service[minute] = self.count
            record.starting[minute] = self.capacity - self.count

    def _serve_minutes(
        self, minute: int, i: int, chunk: Chunk, lanes: Index, record: Record | None
    ) -> None:
        """Serve the minute on ``lanes``, which wait, are overloaded or change; evaluate all."""
        rate = chunk.rate_per_min[i]
        violating = np.zeros(len(lanes))
        worst_s = np.zeros(len(lanes))
        steps = 1 if self.fast else SUBSTEPS
        for first in range(0, SUBSTEPS, steps):
            tick = minute * SUBSTEPS + first
            measured: NDArray[np.float64] = np.zeros(0)
            if len(lanes):
                served, measured, delay_s = self._serve(tick, steps, rate[:, first:], lanes)
                violating += served
                np.maximum(worst_s, delay_s, out=worst_s)
            self._datapoint(tick, i, chunk, lanes, measured, record)
            self._evaluate(tick + steps)
        if len(lanes):
            self._settle(violating, chunk.mean_per_min[i][self.day[lanes]], lanes)
        if record is not None:
            record.delay_s[minute, lanes] = worst_s

    def _serve(
        self, tick: int, steps: int, rate: NDArray[np.float64], lanes: Index
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Sub-steps of lanes that are overloaded, wait or change; violating, metric, delay."""
        day = self.day[lanes]
        queues = Queues.of(
            self.lookup,
            self.options.least_outstanding,
            self.count[lanes],
            self.fresh[lanes],
            self.backlog[lanes],
            self.fresh_backlog[lanes],
        )
        violating, metric, worst_s = (np.zeros(len(lanes)) for _ in range(3))
        for step in range(steps):
            slot = (tick + step) % len(self.arriving)
            queues.arrive(self.arriving[slot, lanes])
            self.arriving[slot, lanes] = 0
            rate_per_s = rate[day, step] / SECONDS_PER_MINUTE
            share, delay_s = queues.step(rate_per_s)
            violating += share * rate_per_s * SUBSTEP_S
            np.maximum(worst_s, delay_s, out=worst_s)
            metric += self._metric(rate_per_s, queues)
        self.backlog[lanes] = queues.backlog
        self.fresh_backlog[lanes] = queues.fresh_backlog
        self.fresh[lanes] = queues.fresh
        count = queues.old + queues.fresh
        changed = np.flatnonzero(count != self.count[lanes])
        if len(changed):
            self.count[lanes[changed]] = count[changed]
            self._refresh(lanes[changed])
        return violating, metric / steps, worst_s

    def _metric(self, rate_per_s: NDArray[np.float64], queues: Queues) -> NDArray[np.float64]:
        """The policies' metric of a sub-step."""
        alive = np.maximum(queues.old + queues.fresh, 1)
        waiting = queues.backlog + queues.fresh_backlog
        busy = np.minimum(rate_per_s / (alive * self.lookup.rate_per_s), 1.0)
        load = np.where(waiting > 0.0, 1.0, busy)
        value = np.interp(load, self.relation.utilization, self.relation.value)
        metric: NDArray[np.float64] = value + self.relation.per_waiting * waiting / alive
        return metric

    def _settle(
        self, violating: NDArray[np.float64], rate: NDArray[np.float64], lanes: Index
    ) -> None:
        """Overwrite what the tables say of the minute by what happened in slow lanes."""
        bad, spare, zone, _ = self.flag.reshape(4, -1)
        queue = (self.backlog[lanes] > 0.0) | (self.fresh_backlog[lanes] > 0.0)
        self.v[lanes] = violating
        bad[lanes] = violating > self.options.allowance * rate * (1 + 1e-6)
        spare[lanes] &= ~queue
        zone[lanes] &= ~queue
        self.waiting[lanes] = queue

    def _datapoint(
        self,
        tick: int,
        i: int,
        chunk: Chunk,
        lanes: Index,
        measured: NDArray[np.float64],
        record: Record | None,
    ) -> None:
        """Measure one period and publish the datapoint that is due now to the alarms."""
        period = tick if self.fast else tick // SUBSTEPS
        here, due = period % len(self.high_ring), (period + 1) % len(self.high_ring)
        np.take(chunk.metric[i].reshape(-1), self.place, out=self.m, mode="clip")
        self.m[lanes] = measured
        target = self.target.astype(np.float32)
        np.greater(self.m, target * np.float32(1 + EDGE), out=self.high_ring[here])
        np.multiply(self.m, self.count, out=self.need_ring[here], casting="unsafe")
        self._low_datapoint(tick, target)
        kernel.count_run(self.high_run, self.high_ring[due], kernel.OUT_DATAPOINTS)
        if not self.fast or tick % SUBSTEPS == SUBSTEPS - 1:
            due_minute = (tick // SUBSTEPS + 1) % len(self.low_ring)
            kernel.count_run(self.low_run, self.low_ring[due_minute], kernel.IN_DATAPOINTS)
        if record is not None:
            value = self.m.astype(np.float64)
            value[lanes] = measured
            row = record.metric[tick // SUBSTEPS]
            row[:] = np.maximum(row, value) if self.fast else value

    def _low_datapoint(self, tick: int, target: NDArray[np.float32]) -> None:
        """The low alarm's datapoint: the metric, or the minute's Maximum of 10 s ones."""
        low = self.low_ring[(tick // SUBSTEPS) % len(self.low_ring)]
        value = self.m
        if self.fast:
            if tick % SUBSTEPS == 0:
                self.minute_metric[:] = 0.0
            np.maximum(self.minute_metric, self.m, out=self.minute_metric)
            value = self.minute_metric
        np.less(value, target * np.float32(kernel.IN_THRESHOLD * (1 - EDGE)), out=low)
