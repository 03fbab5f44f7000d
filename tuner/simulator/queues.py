"""Backlogs of overloaded lanes, in steps of ten seconds.

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
        return cls(lookup, least, total - young, young, backlog, fresh_backlog)

    def arrive(self, number: NDArray[np.int16]) -> None:
        """Instances take traffic: a group of their own if others hold a backlog."""
        apart = self.backlog > 0.0
        self.fresh += np.where(apart, number, 0)
        self.old += np.where(apart, 0, number)

    def step(self, rate_per_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Ten seconds at these rates; share of requests that violate, and the worst delay."""
        mu = self.lookup.rate_per_s
        count = self.old + self.fresh
        if self.least:
            part = np.where(self.fresh > 0, 1.0, 0.0)
        else:
            part = self.fresh / np.maximum(count, 1)
        full, fresh_full = self.old * mu, self.fresh * mu
        after = _drained(self.backlog + ((1.0 - part) * rate_per_s - full) * SUBSTEP_S)
        fresh_after = _drained(self.fresh_backlog + (part * rate_per_s - fresh_full) * SUBSTEP_S)

        share = np.ones(len(count))
        worst_s = np.zeros(len(count))
        some = np.flatnonzero((self.old > 0) & (part < 1.0))
        if len(some):
            waited = (self.backlog[some] + after[some]) / 2.0
            busy = np.minimum((1.0 - part[some]) * rate_per_s[some] / full[some], 1.0)
            share[some] = self.lookup.queued(count[some], busy, waited / full[some])
            worst_s[some] = np.maximum(self.backlog[some], after[some]) / full[some]
        young = np.flatnonzero(self.fresh > 0)
        if len(young):
            waited = (self.fresh_backlog[young] + fresh_after[young]) / 2.0
            busy = np.minimum(part[young] * rate_per_s[young] / fresh_full[young], 1.0)
            group = self.fresh[young] if self.least else count[young]
            late = self.lookup.queued(group, busy, waited / fresh_full[young])
            share[young] += part[young] * (late - share[young])
            delay_s = np.maximum(self.fresh_backlog[young], fresh_after[young]) / fresh_full[young]
            worst_s[young] = np.maximum(worst_s[young], delay_s)
        alone = np.flatnonzero(count == 0)
        if len(alone):
            worst_s[alone] = np.where(after[alone] > 0.0, np.inf, 0.0)
        self._level(after, fresh_after)
        return share, worst_s

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
