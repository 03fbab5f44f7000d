"""The control loop and the queue of one block of lanes, minute by minute.

A lane is one policy on one day. Lanes are laid out (days, policies) so that traffic, which
depends on the day only, is broadcast along contiguous policies. Nearly all lane-minutes are
quiet: no backlog, no arrival of instances, no alarm that could act. They cost a handful of
vector operations on small integers; the others are gathered and worked out exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling import kernel
from tuner.autoscaling.policy import ScalingMetric
from tuner.simulator.inputs import SUBSTEP_S, SUBSTEPS, PolicyGrid, SimulationOptions
from tuner.simulator.lookup import Chunk, Lookup, tabulate
from tuner.simulator.queues import Queues
from tuner.units import SECONDS_PER_MINUTE

CHUNK_MIN = 120
"""Minutes tabulated at a time; below 255, so that byte counters cannot overflow between."""
_EDGE = 2e-7
"""Single precision must not turn equality with a threshold into a breach."""
Index = NDArray[np.int64]
_NO_LANES: Index = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over the scored minutes, shape (days, policies)."""

    violating: NDArray[np.float64]
    bad_minutes: NDArray[np.int64]
    spare_safe: NDArray[np.int64]
    zone_safe: NDArray[np.int64]
    instance_minutes: NDArray[np.float64]
    peak: NDArray[np.int64]
    scale_outs: NDArray[np.int64]
    scale_ins: NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Record:
    """Minute by minute what a block did, shape (minutes, lanes)."""

    in_service: NDArray[np.float64]
    starting: NDArray[np.float64]
    metric: NDArray[np.float64]
    violation_share: NDArray[np.float64]
    delay_s: NDArray[np.float64]

    @classmethod
    def empty(cls, minutes: int, lanes: int) -> Record:
        """Room for a recording."""
        return cls(*(np.zeros((minutes, lanes)) for _ in range(5)))


class Block:
    """State of days x policies on a virtual clock.

    Parameters
    ----------
    grid
        Policies (p,).
    lookup
        Capacity.
    rates
        Shape (minutes, days, 6): offered rate per minute in every ten seconds.
    lags
        Shape (days, k): launch lags in sub-steps, drawn in order by every policy of a day.
    options
        The world around.
    """

    def __init__(
        self,
        grid: PolicyGrid,
        lookup: Lookup,
        rates: NDArray[np.float64],
        lags: NDArray[np.int64],
        options: SimulationOptions,
    ) -> None:
        self.grid, self.lookup, self.rates, self.lags = grid, lookup, rates, lags
        self.options = options
        self.mean: NDArray[np.float64] = rates.mean(axis=-1)
        self.minutes, self.days = rates.shape[:2]
        self.policies = len(grid)
        self.shape = (self.days, self.policies)
        self.lanes = self.days * self.policies
        self.fast = grid.metric is ScalingMetric.CONCURRENCY
        self.curve = None if grid.metric is ScalingMetric.INVOCATIONS else options.metric_curve
        period_s = SUBSTEP_S if self.fast else int(SECONDS_PER_MINUTE)
        self.high_delay = -int(-options.publish_delay_s // period_s)
        self.low_delay = -int(-options.publish_delay_s // SECONDS_PER_MINUTE)
        self._make_policies()
        self._make_state()
        self._make_counters()

    # -- set-up --------------------------------------------------------------------------

    def _make_policies(self) -> None:
        grid, days = self.grid, self.days
        self.target = np.tile(grid.target_value, days)
        self.low_bound = np.tile(grid.min_capacity, days)
        self.high_bound = np.tile(grid.max_capacity, days)
        self.own_low, self.own_high = self.low_bound.copy(), self.high_bound.copy()
        self.out_cooldown_s = np.tile(grid.scale_out_cooldown_s, days).astype(np.float64)
        self.in_cooldown_s = np.tile(grid.scale_in_cooldown_s, days).astype(np.float64)
        self.no_scale_in = np.tile(grid.disable_scale_in, days)
        self.day = np.repeat(np.arange(self.days), self.policies)

    def _make_state(self) -> None:
        lanes, stride = self.lanes, self.lookup.max_count + 1
        self.row = self.day * stride
        self.count = np.zeros(lanes, np.int16)
        self.capacity = np.zeros(lanes, np.int64)
        self.place = self.row.copy()
        self.high_limit, self.low_limit, self.in_limit = (
            np.zeros(lanes, np.float32) for _ in range(3)
        )
        self.below_max = np.zeros(lanes, np.bool_)
        self.above_min = np.zeros(lanes, np.bool_)
        self.high_run, self.low_run = (np.zeros(lanes, np.uint8) for _ in range(2))
        self.high_ring = np.zeros((self.high_delay + 1, lanes), np.bool_)
        self.low_ring = np.zeros((self.low_delay + 1, lanes), np.bool_)
        slow_metric = self.curve is not None
        self.need_ring = np.zeros((self.high_delay + 1, lanes if slow_metric else 0), np.float32)
        self.minute_metric = np.zeros(lanes if self.fast else 0, np.float32)
        self.updating_until = np.zeros(lanes, np.int64)
        self.out_until_s = np.full(lanes, -np.inf)
        self.out_added = np.zeros(lanes)
        self.in_until_s = np.full(lanes, -np.inf)
        self.backlog, self.fresh_backlog = np.zeros(lanes), np.zeros(lanes)
        self.fresh = np.zeros(lanes, np.int64)
        self.waiting = np.zeros(lanes, np.bool_)
        self.launched = np.zeros(lanes, np.int64)
        self.span = int(self.lags.max()) // SUBSTEPS + 2
        self.arriving = np.zeros((self.span * SUBSTEPS, lanes), np.int16)
        self.arrives = np.zeros((self.span, lanes), np.bool_)
        self.any_arrives = np.zeros(self.span, np.bool_)

    def _make_counters(self) -> None:
        lanes = self.lanes
        self.violating = np.zeros(lanes, np.float32)
        self.violating_total = np.zeros(lanes)
        self.marks = np.zeros((3, lanes), np.uint8)
        self.mark_totals = np.zeros((3, lanes), np.int64)
        self.instance_minutes = np.zeros(lanes)
        self.peak = np.zeros(lanes, np.int64)
        self.scale_outs, self.scale_ins = (np.zeros(lanes, np.int32) for _ in range(2))
        self.v = np.empty(lanes, np.float32)
        self.m = np.empty(lanes if self.curve is not None else 0, np.float32)
        self.flag = np.empty((4, *self.shape), np.bool_)
        self.ready, self.fits = (np.empty(lanes, np.bool_) for _ in range(2))

    def _start(self, chunk: Chunk) -> None:
        """Begin with the instances that the first minute's load belongs on."""
        if self.options.initial_capacity is not None:
            first = np.full(self.lanes, self.options.initial_capacity, np.int64)
        elif self.curve is None:
            rate = chunk.mean_per_min[0][self.day]
            first = kernel.wanted_capacity(1.0, rate, self.target).astype(np.int64)
        else:
            first = np.ones(self.lanes, np.int64)
            for day in range(self.days):
                lanes = self.day == day
                above = chunk.metric[0, day][None, 1:] > self.target[lanes][:, None]
                first[lanes] = above.sum(axis=1) + 1
        self.capacity[:] = np.clip(first, self.low_bound, self.high_bound)
        self.count[:] = self.capacity
        self.instance_minutes += self.capacity * float(self.minutes - self.options.lead_in_min)
        self._refresh(np.arange(self.lanes))

    # -- the loop ------------------------------------------------------------------------

    def run(self, record: Record | None = None) -> Tally:
        """All minutes; sums over those after the lead-in."""
        options = self.options
        for start in range(0, self.minutes, CHUNK_MIN):
            part = self.rates[start : start + CHUNK_MIN]
            chunk = tabulate(self.lookup, part, options.allowance, options.zones, self.curve)
            if start == 0:
                self._start(chunk)
            for i in range(len(part)):
                minute = start + i
                if minute == options.lead_in_min:
                    self._reset_counters()
                self._minute(minute, i, chunk, record)
            self._flush()
        return self._tally()

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
            changing = np.flatnonzero(self.arrives[slot])
            self.arrives[slot] = False
            self.any_arrives[slot] = False
            if self.curve is None:
                easy = changing[~queues[changing]]
                self._serve_minutes(minute, i, chunk, np.flatnonzero(queues), easy, record)
            else:
                queues[changing] = True
                self._serve_minutes(minute, i, chunk, np.flatnonzero(queues), _NO_LANES, record)
        else:
            self._serve_minutes(minute, i, chunk, np.flatnonzero(queues), _NO_LANES, record)
        np.add(self.violating, self.v, out=self.violating)
        np.add(self.marks, self.flag[:3].reshape(3, -1).view(np.uint8), out=self.marks)
        if record is not None:
            rate = chunk.mean_per_min[i][self.day]
            share = np.divide(self.v, rate, out=np.zeros(self.lanes), where=rate > 0.0)
            record.violation_share[minute] = np.minimum(share, 1.0)
            record.in_service[minute] = self.count
            record.starting[minute] = self.capacity - self.count

    def _serve_minutes(
        self,
        minute: int,
        i: int,
        chunk: Chunk,
        lanes: Index,
        easy: Index,
        record: Record | None,
    ) -> None:
        """Serve the minute and evaluate the policies.

        ``lanes`` wait, are overloaded or change their metric's curve; ``easy`` ones only
        receive instances.
        """
        rate = chunk.rate_per_min[i]
        violating = np.zeros(len(lanes))
        worst_s = np.zeros(len(lanes))
        steps = 1 if self.fast else SUBSTEPS
        changed = np.concatenate([lanes, easy]) if len(easy) else lanes
        for first in range(0, SUBSTEPS, steps):
            tick = minute * SUBSTEPS + first
            measured: NDArray[np.float64] = np.zeros(0)
            if len(lanes):
                served, measured, delay_s = self._serve(tick, steps, rate[:, first:], lanes)
                violating += served
                np.maximum(worst_s, delay_s, out=worst_s)
            if len(easy):
                measured = np.concatenate([measured, self._receive(tick, i, chunk, easy)])
            mean = rate[:, first] if self.fast else chunk.mean_per_min[i]
            self._datapoint(tick, i, chunk, mean, changed, measured, record)
            self._evaluate(tick + steps)
        if len(lanes):
            self._settle(violating, chunk.mean_per_min[i][self.day[lanes]], lanes)
        if record is not None:
            record.delay_s[minute, lanes] = worst_s

    def _receive(self, tick: int, i: int, chunk: Chunk, lanes: Index) -> NDArray[np.float64]:
        """Instances arrive on lanes that keep up anyway; the minute's metric."""
        slots = (tick + np.arange(SUBSTEPS))[:, None] % len(self.arriving)
        count = self.arriving[slots, lanes].cumsum(axis=0, dtype=np.int16) + self.count[lanes]
        self.arriving[slots, lanes] = 0
        self.v[lanes] = chunk.violating[i].reshape(-1)[self.row[lanes] + count].mean(axis=0)
        self.count[lanes] = count[-1]
        self._refresh(lanes)
        rate = chunk.mean_per_min[i][self.day[lanes]]
        bad = self.flag[0].reshape(-1)
        bad[lanes] = self.v[lanes] > self.options.allowance * rate * (1 + 1e-6)
        metric: NDArray[np.float64] = rate * (1.0 / count).mean(axis=0)
        return metric

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
        if self.curve is None:
            per_instance: NDArray[np.float64] = rate_per_s * SECONDS_PER_MINUTE / alive
            return per_instance
        waiting = queues.backlog + queues.fresh_backlog
        busy = np.minimum(rate_per_s / (alive * self.lookup.rate_per_s), 1.0)
        load = np.where(waiting > 0.0, 1.0, busy)
        value = np.interp(load, self.curve.utilization, self.curve.value)
        metric: NDArray[np.float64] = value + self.curve.per_waiting * waiting / alive
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
        mean: NDArray[np.float64],
        lanes: Index,
        measured: NDArray[np.float64],
        record: Record | None,
    ) -> None:
        """Measure one period and publish the datapoint that is due now to the alarms."""
        period = tick if self.fast else tick // SUBSTEPS
        here, due = period % len(self.high_ring), (period + 1) % len(self.high_ring)
        high = self.high_ring[here]
        if self.curve is None:
            rate = mean.astype(np.float32)[:, None]
            low = self.low_ring[(tick // SUBSTEPS) % len(self.low_ring)]
            np.greater(rate, self.high_limit.reshape(self.shape), out=high.reshape(self.shape))
            np.less(rate, self.low_limit.reshape(self.shape), out=low.reshape(self.shape))
            if len(lanes):
                high[lanes], low[lanes] = kernel.breaches(measured, self.target[lanes])
        else:
            np.take(chunk.metric[i].reshape(-1), self.place, out=self.m, mode="clip")
            self.m[lanes] = measured
            target = self.target.astype(np.float32)
            np.greater(self.m, target * np.float32(1 + _EDGE), out=high)
            np.multiply(self.m, self.count, out=self.need_ring[here], casting="unsafe")
            self._low_datapoint(tick, target)
        kernel.count_run(self.high_run, self.high_ring[due], kernel.OUT_DATAPOINTS)
        if not self.fast or tick % SUBSTEPS == SUBSTEPS - 1:
            due_minute = (tick // SUBSTEPS + 1) % len(self.low_ring)
            kernel.count_run(self.low_run, self.low_ring[due_minute], kernel.IN_DATAPOINTS)
        if record is not None:
            self._record_metric(tick // SUBSTEPS, mean, lanes, measured, record)

    def _low_datapoint(self, tick: int, target: NDArray[np.float32]) -> None:
        """The low alarm's datapoint: the metric, or the minute's Maximum of 10 s ones."""
        low = self.low_ring[(tick // SUBSTEPS) % len(self.low_ring)]
        value = self.m
        if self.fast:
            if tick % SUBSTEPS == 0:
                self.minute_metric[:] = 0.0
            np.maximum(self.minute_metric, self.m, out=self.minute_metric)
            value = self.minute_metric
        np.less(value, target * np.float32(kernel.IN_THRESHOLD * (1 - _EDGE)), out=low)

    def _record_metric(
        self,
        minute: int,
        mean: NDArray[np.float64],
        lanes: Index,
        measured: NDArray[np.float64],
        record: Record,
    ) -> None:
        value = (
            mean[self.day] / np.maximum(self.count, 1)
            if self.curve is None
            else self.m.astype(np.float64)
        )
        value[lanes] = measured
        record.metric[minute] = np.maximum(record.metric[minute], value) if self.fast else value

    # -- scaling -------------------------------------------------------------------------

    def _evaluate(self, tick: int) -> None:
        """Let policies act whose alarm is on and could change something."""
        np.equal(self.high_run, kernel.OUT_DATAPOINTS, out=self.ready)
        np.logical_and(self.ready, self.below_max, out=self.ready)
        out = np.flatnonzero(self.ready)
        if self.options.serialised and len(out):
            out = out[self.updating_until[out] <= tick]
        lanes = out
        if tick % SUBSTEPS == 0:
            inward = self._could_shrink(tick)
            if len(inward):
                lanes = np.concatenate([out, inward]) if len(out) else inward
                lanes = np.unique(lanes) if self.fast else lanes
        if len(lanes):
            self._decide(tick, lanes)

    def _could_shrink(self, tick: int) -> Index:
        """Lanes in low alarm with nothing starting whose load fits on fewer instances."""
        np.equal(self.low_run, kernel.IN_DATAPOINTS, out=self.ready)
        np.logical_and(self.ready, self.above_min, out=self.ready)
        if self.curve is None:
            rate = self.mean[max(tick // SUBSTEPS - 1 - self.high_delay, 0)]
            np.less_equal(
                rate.astype(np.float32)[:, None],
                self.in_limit.reshape(self.shape),
                out=self.fits.reshape(self.shape),
            )
            np.logical_and(self.ready, self.fits, out=self.ready)
        inward = np.flatnonzero(self.ready)
        if not len(inward):
            return inward
        inward = inward[self.in_until_s[inward] <= tick * SUBSTEP_S]
        return inward[self.capacity[inward] <= self.count[inward]]

    def _needed(self, tick: int, lanes: Index) -> NDArray[np.float64]:
        """Instances x metric of the datapoint seen now."""
        if self.curve is None:
            seen = tick // SUBSTEPS - 1 - self.high_delay
            rate: NDArray[np.float64] = self.mean[max(seen, 0)]
            return rate[self.day[lanes]]
        period = (tick if self.fast else tick // SUBSTEPS) - 1
        need: NDArray[np.float64] = np.asarray(
            self.need_ring[(period + 1) % len(self.need_ring), lanes], np.float64
        )
        return need

    def _decide(self, tick: int, lanes: Index) -> None:
        now_s = float(tick * SUBSTEP_S)
        target = self.target[lanes]
        capacity = self.capacity[lanes]
        none = np.zeros(len(lanes), np.bool_)
        high = (self.high_run[lanes] == kernel.OUT_DATAPOINTS)[None]
        busy = (
            self.updating_until[lanes] > tick
            if self.options.serialised
            else ~high[0] & (capacity > self.count[lanes])
        )
        moves = kernel.decide(
            now_s,
            high,
            (self.low_run[lanes] == kernel.IN_DATAPOINTS)[None],
            kernel.wanted_capacity(1.0, self._needed(tick, lanes), target)[None],
            capacity,
            busy,
            kernel.Cooldowns(
                self.out_until_s[lanes], self.out_added[lanes], self.in_until_s[lanes]
            ),
            kernel.Rules(
                target[None],
                self.out_cooldown_s[lanes][None],
                self.in_cooldown_s[lanes][None],
                self.no_scale_in[lanes][None],
                self.low_bound[lanes],
                self.high_bound[lanes],
                none,
                none,
            ),
        )
        change = moves.desired - capacity
        grown, shrunk = np.flatnonzero(moves.out), np.flatnonzero(moves.inward)
        if len(grown):
            self._scale_out(tick, lanes[grown], change[grown])
        if len(shrunk):
            self._scale_in(tick, lanes[shrunk], change[shrunk])

    def _scale_out(self, tick: int, lanes: Index, added: Index) -> None:
        last = self._launch(tick, lanes, added)
        done = tick + last if self.options.serialised else np.full(len(lanes), tick)
        self.updating_until[lanes] = np.maximum(self.updating_until[lanes], tick + last)
        here = np.ones(len(lanes), np.bool_)
        before = kernel.Cooldowns(
            self.out_until_s[lanes], self.out_added[lanes], self.in_until_s[lanes]
        )
        until_s = done * float(SUBSTEP_S) + self.out_cooldown_s[lanes]
        after = kernel.scaled_out(before, here, added, until_s)
        self.out_until_s[lanes] = after.out_until_s
        self.out_added[lanes] = after.out_added
        self.in_until_s[lanes] = after.in_until_s
        self.capacity[lanes] += added
        self.scale_outs[lanes] += 1
        self._pay(tick, lanes, added)
        self._refresh(lanes)

    def _scale_in(self, tick: int, lanes: Index, change: Index) -> None:
        self.capacity[lanes] += change
        self.count[lanes] += change.astype(np.int16)
        self.in_until_s[lanes] = tick * float(SUBSTEP_S) + self.in_cooldown_s[lanes]
        self.scale_ins[lanes] += 1
        self._pay(tick, lanes, change)
        self._refresh(lanes)

    def _launch(self, tick: int, lanes: Index, added: Index) -> Index:
        """Order instances; sub-steps until the last of each lane takes traffic."""
        start = np.cumsum(added) - added
        which = np.repeat(np.arange(len(lanes)), added)
        turn = np.arange(len(which)) - start[which]
        lane = lanes[which]
        lag = self.lags[self.day[lane], (self.launched[lane] + turn) % self.lags.shape[1]]
        self.launched[lanes] += added
        arrival = tick + lag
        if tick % SUBSTEPS:
            # Ordered inside a minute whose lanes are already sorted: the next one at the soonest.
            arrival = np.maximum(arrival, (tick // SUBSTEPS + 1) * SUBSTEPS)
        np.add.at(self.arriving, (arrival % len(self.arriving), lane), 1)
        slot = (arrival // SUBSTEPS) % self.span
        self.arrives[slot, lane] = True
        self.any_arrives[slot] = True
        return np.maximum.reduceat(lag, start)

    def _pay(self, tick: int, lanes: Index, change: Index) -> None:
        """Instances cost from order to end: starting ones too."""
        since = max(tick / SUBSTEPS, float(self.options.lead_in_min))
        self.instance_minutes[lanes] += change * (self.minutes - since)
        self.peak[lanes] = np.maximum(self.peak[lanes], self.capacity[lanes])

    def _outside_events(self, minute: int) -> None:
        """Scheduled minima and losses: neither knows cooldowns."""
        tick = minute * SUBSTEPS
        floor = self.options.min_capacity_by_minute
        if floor is not None and (minute == 0 or floor[minute] != floor[minute - 1]):
            self.low_bound = np.maximum(self.own_low, floor[minute])
            self.high_bound = np.maximum(self.own_high, floor[minute])
            lanes = np.flatnonzero(self.capacity < self.low_bound)
            if len(lanes):
                added = self.low_bound[lanes] - self.capacity[lanes]
                last = self._launch(tick, lanes, added)
                self.updating_until[lanes] = np.maximum(self.updating_until[lanes], tick + last)
                self.capacity[lanes] += added
                self._pay(tick, lanes, added)
            self._refresh(np.arange(self.lanes))
        for loss in self.options.losses:
            if loss.minute == minute:
                gone = loss.count(self.count.astype(np.int64))
                lanes = np.flatnonzero(gone)
                self.count[lanes] -= gone[lanes].astype(np.int16)
                if len(lanes):
                    self._launch(tick, lanes, gone[lanes])
                self._refresh(lanes)

    def _refresh(self, lanes: Index) -> None:
        """Recompute what hangs on the counts of ``lanes``."""
        count = self.count[lanes].astype(np.int64)
        capacity, target = self.capacity[lanes], self.target[lanes]
        self.place[lanes] = self.row[lanes] + count
        self.high_limit[lanes] = target * count * (1.0 + _EDGE)
        self.low_limit[lanes] = target * count * (kernel.IN_THRESHOLD * (1.0 - _EDGE))
        self.in_limit[lanes] = target * (capacity - 1) * (1.0 + _EDGE)
        self.below_max[lanes] = capacity < self.high_bound[lanes]
        self.above_min[lanes] = (capacity > self.low_bound[lanes]) & ~self.no_scale_in[lanes]

    # -- sums ----------------------------------------------------------------------------

    def _reset_counters(self) -> None:
        self.violating[:] = 0.0
        self.violating_total[:] = 0.0
        self.marks[:] = 0
        self.mark_totals[:] = 0
        self.scale_outs[:] = 0
        self.scale_ins[:] = 0
        self.peak[:] = self.capacity

    def _flush(self) -> None:
        self.violating_total += self.violating
        self.violating[:] = 0.0
        self.mark_totals += self.marks
        self.marks[:] = 0

    def _tally(self) -> Tally:
        shape = self.shape
        return Tally(
            self.violating_total.reshape(shape),
            self.mark_totals[0].reshape(shape),
            self.mark_totals[1].reshape(shape),
            self.mark_totals[2].reshape(shape),
            self.instance_minutes.reshape(shape),
            self.peak.reshape(shape),
            self.scale_outs.reshape(shape).astype(np.int64),
            self.scale_ins.reshape(shape).astype(np.int64),
        )
