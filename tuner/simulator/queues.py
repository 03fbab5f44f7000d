"""Backlogs of overloaded lanes.

A backlog belongs to the instances that were there when it grew: a request that waits on one
is not moved to another. Instances that arrive meanwhile start empty, so a lane has two
groups, *old* (with ``backlog``) and *fresh* (with ``fresh_backlog``), until they are level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.simulator.inputs import SUBSTEP_S
from tuner.simulator.lookup import Lookup

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_BRIEF_UTILIZATION = 0.97
"""A group that takes all traffic for a minute or two has no time to grow the random queue of
a higher utilisation; what it cannot serve at all is in its backlog."""
_DRAINED = 1e-6
"""Requests: less than this left over by rounding is no backlog."""


@dataclass(slots=True, eq=False)
class Queues:
    """Two groups of instances per lane; every array has shape (k,)."""

    lookup: Lookup
    least: bool
    old: IntArray
    fresh: IntArray
    backlog: FloatArray
    fresh_backlog: FloatArray

    @classmethod
    def of(
        cls,
        lookup: Lookup,
        least: bool,
        count: NDArray[np.int16],
        fresh: IntArray,
        backlog: FloatArray,
        fresh_backlog: FloatArray,
    ) -> Queues:
        """From counts in service; instances that were taken away leave the fresh group last."""
        total = count.astype(np.int64)
        young = np.minimum(fresh, total)
        # A group that is gone leaves its requests to the other.
        backlog = np.where(young > 0, backlog, backlog + fresh_backlog)
        fresh_backlog = np.where(young > 0, fresh_backlog, 0.0)
        return cls(lookup, least, total - young, young, backlog, fresh_backlog)

    def arrive(self, number: NDArray[np.int16] | IntArray) -> None:
        """Instances take traffic: a group of their own if others hold a backlog."""
        apart = self.backlog > 0.0
        self.fresh += np.where(apart, number, 0)
        self.old += np.where(apart, 0, number)

    def step(
        self, rate_per_s: FloatArray, step_s: float | FloatArray = SUBSTEP_S
    ) -> tuple[FloatArray, FloatArray]:
        """A while at these rates; share of requests that violate, and the worst delay."""
        mu = self.lookup.rate_per_s
        count = self.old + self.fresh
        anew = bool(self.fresh.any())
        part = np.zeros(len(count))
        if anew:
            part = self.fresh / np.maximum(count, 1)
            if self.least:
                part = np.where(self.fresh > 0, 1.0, 0.0)
        full, fresh_full = self.old * mu, self.fresh * mu
        level = self.backlog + ((1.0 - part) * rate_per_s - full) * step_s
        fresh_level = self.fresh_backlog + (part * rate_per_s - fresh_full) * step_s
        busy = np.minimum(rate_per_s / np.maximum(count * mu, 1e-9), 1.0)
        share = np.ones(len(count))
        worst_s = np.zeros(len(count))
        some = np.flatnonzero((self.old > 0) & (part < 1.0))
        if len(some):
            begin_s, end_s = self.backlog[some] / full[some], level[some] / full[some]
            share[some] = self._late(count[some], busy[some], begin_s, end_s)
            worst_s[some] = np.maximum(begin_s, end_s)
        if anew:
            young = np.flatnonzero(self.fresh > 0)
            begin_s = self.fresh_backlog[young] / fresh_full[young]
            end_s = fresh_level[young] / fresh_full[young]
            group, load = count[young], busy[young]
            if self.least:
                group = self.fresh[young]
                load = np.minimum(rate_per_s[young] / fresh_full[young], _BRIEF_UTILIZATION)
            late = self._late(group, load, begin_s, end_s)
            share[young] += part[young] * (late - share[young])
            worst_s[young] = np.maximum(worst_s[young], np.maximum(begin_s, end_s))
        after, fresh_after = _drained(level), _drained(fresh_level)
        alone = np.flatnonzero(count == 0)
        if len(alone):
            worst_s[alone] = np.where(after[alone] > 0.0, np.inf, 0.0)
        if anew:
            self._level(after, fresh_after)
        else:
            self.backlog = after
        return share, worst_s

    def _late(
        self, count: IntArray, busy: FloatArray, begin_s: FloatArray, end_s: FloatArray
    ) -> FloatArray:
        """Mean P(violation) while the delay runs evenly; an end below 0 has waited there at 0."""
        share = self.lookup.queued(count, busy, begin_s, np.maximum(end_s, 0.0))
        idle = np.flatnonzero((end_s < 0.0) & (begin_s > 0.0))
        if len(idle):
            none = np.zeros(len(idle))
            rest = self.lookup.queued(count[idle], busy[idle], none, none)
            queued = begin_s[idle] / (begin_s[idle] - end_s[idle])
            share[idle] = rest + (share[idle] - rest) * queued
        return share

    def level_within(self, rate_per_s: FloatArray, step_s: float) -> NDArray[np.bool_]:
        """Whether new instances, which take all the traffic, are level with the old by then."""
        mu = self.lookup.rate_per_s
        left = self.backlog - self.old * mu * step_s
        grown = self.fresh_backlog + (rate_per_s - self.fresh * mu) * step_s
        level = (left <= 0.0) | (grown * self.old >= left * self.fresh)
        return (self.fresh > 0) & level

    def _level(self, after: FloatArray, fresh_after: FloatArray) -> None:
        """Make one group of those that are level again."""
        level = after <= 0.0
        if self.least:
            level |= fresh_after * self.old >= after * self.fresh
        level &= self.fresh > 0
        self.backlog = np.where(level, after + fresh_after, after)
        self.fresh_backlog = np.where(level, 0.0, fresh_after)
        self.old = np.where(level, self.old + self.fresh, self.old)
        self.fresh = np.where(level, 0, self.fresh)


def _drained(backlog: FloatArray) -> FloatArray:
    """No less than nothing, and nothing where rounding left a crumb."""
    return np.where(backlog < _DRAINED, 0.0, backlog)
