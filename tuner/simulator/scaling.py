"""Scaling of a block of lanes: evaluation, orders, launches, and what comes from outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling import kernel
from tuner.simulator.inputs import SUBSTEP_S, SUBSTEPS
from tuner.simulator.lanes import Index, Lanes


class ScalingLanes(Lanes):
    """Lanes whose policies act."""

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
