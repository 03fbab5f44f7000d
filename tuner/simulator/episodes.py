"""Overload, from the first minute that a fleet cannot keep up until nothing waits.

Episodes are advanced all at once, each at its own place of the record: the number of steps
is that of the longest one, and not of all moments at which some lane waits. One that begins
while an earlier one of its lane still waits is part of that one, and its own account is
thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.simulator.fleets import Fleets
from tuner.simulator.inputs import SUBSTEP_S, SUBSTEPS
from tuner.simulator.lanes import Index
from tuner.simulator.lookup import Lookup
from tuner.simulator.queues import Queues
from tuner.units import SECONDS_PER_MINUTE

FloatArray = NDArray[np.float64]
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Lane-minutes worked out one by one: requests that violate, delay, whether some wait."""

    minute: Index
    lane: Index
    violating: FloatArray
    delay_s: FloatArray
    waiting: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: list[Visits]) -> Visits:
        """Several as one."""
        return cls(
            np.concatenate([p.minute for p in parts]),
            np.concatenate([p.lane for p in parts]),
            np.concatenate([p.violating for p in parts]),
            np.concatenate([p.delay_s for p in parts]),
            np.concatenate([p.waiting for p in parts]),
        )

    def seen(self, lanes: int, minutes: int) -> NDArray[np.bool_]:
        """Shape (lanes x minutes,): which lane-minutes are among them."""
        mark = np.zeros(lanes * minutes, np.bool_)
        mark[self.lane * minutes + self.minute] = True
        return mark


@dataclass(slots=True, eq=False)
class _State:
    """Episodes under way; every array has shape (k,). ``tick`` counts the record in 10 s."""

    episode: Index
    lane: Index
    tick: Index
    old: Index
    fresh: Index
    backlog: FloatArray
    fresh_backlog: FloatArray
    violating: FloatArray
    delay_s: FloatArray

    def only(self, keep: Index) -> None:
        """Forget the others."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name)[keep])


class Episodes:
    """Episodes of overload of one capacity under given fleets.

    Parameters
    ----------
    fleets, rates, lookup
        As in `serving.Service`.
    least
        Routing by least outstanding requests.
    arrivals, order
        Shape (a,): minutes in which instances arrive, as lane x minutes + minute, ascending,
        and their places in the fleets.
    """

    def __init__(
        self,
        fleets: Fleets,
        rates: FloatArray,
        lookup: Lookup,
        least: bool,
        arrivals: Index,
        order: Index,
    ) -> None:
        self.fleets, self.lookup, self.least = fleets, lookup, least
        self.minutes, self.days = rates.shape[:2]
        self.policies = fleets.start.shape[1] // self.days
        self.rate_per_s = rates / SECONDS_PER_MINUTE
        self.even = (rates == rates[..., :1]).all(axis=-1)
        self.arrivals, self.order = arrivals, order
        self.changing = np.zeros(fleets.start.size, np.bool_)
        self.changing[arrivals] = True

    def run(self, slow: Index, give_up_min: int | None = None) -> Visits:
        """All episodes.

        Parameters
        ----------
        slow
            Shape (s,), s > 0: overloaded minutes as lane x minutes + minute, ascending.
        give_up_min
            See `SimulationOptions`.
        """
        follows = np.zeros(len(slow), np.bool_)
        follows[1:] = (np.diff(slow) == 1) & (slow[1:] % self.minutes > 0)
        begin = slow[~follows]
        ends = begin.copy()
        ahead = np.append(slow, _NEVER)
        count = len(begin)
        lane = begin // self.minutes
        none = np.zeros(count, np.int64)
        level = np.zeros((4, count))
        tick = begin % self.minutes * SUBSTEPS
        state = _State(np.arange(count), lane, tick, none, none.copy(), *level)
        parts: list[Visits] = []
        episodes: list[Index] = []
        while len(state.lane):
            waiting = self._step(state)
            done = np.flatnonzero(state.tick % SUBSTEPS == 0)
            if not len(done):
                continue
            minute, lane = state.tick[done] // SUBSTEPS - 1, state.lane[done]
            parts.append(
                Visits(minute, lane, state.violating[done], state.delay_s[done], waiting[done])
            )
            episodes.append(state.episode[done])
            state.violating[done] = 0.0
            after = lane * self.minutes + minute + 1
            more = waiting[done] | (ahead[np.searchsorted(ahead, after)] == after)
            more &= minute + 1 < self.minutes
            if give_up_min is not None:
                lost = more & (after - begin[state.episode[done]] >= give_up_min)
                if lost.any():
                    rest, owner = self._lost(lane[lost], minute[lost], state, done[lost])
                    parts.append(rest)
                    episodes.append(owner)
                    after[lost] = (lane[lost] + 1) * self.minutes
                    more &= ~lost
            state.delay_s[done] = 0.0
            over = done[~more]
            if len(over):
                ends[state.episode[over]] = after[~more]
                keep = np.ones(len(state.lane), np.bool_)
                keep[over] = False
                state.only(np.flatnonzero(keep))
        own = _first_of_their_own(begin, ends)[np.concatenate(episodes)]
        whole = Visits.joined(parts)
        return Visits(
            whole.minute[own],
            whole.lane[own],
            whole.violating[own],
            whole.delay_s[own],
            whole.waiting[own],
        )

    def _lost(self, lane: Index, minute: Index, state: _State, at: Index) -> tuple[Visits, Index]:
        """The minutes after ``minute`` until the day ends, all missed; and their episodes."""
        left = self.minutes - 1 - minute
        which = np.repeat(np.arange(len(lane)), left)
        later = np.arange(len(which)) - np.repeat(np.cumsum(left) - left, left)
        minutes, lanes = minute[which] + 1 + later, lane[which]
        offered = self.rate_per_s[minutes, lanes // self.policies].mean(axis=1)
        visits = Visits(
            minutes,
            lanes,
            offered * SECONDS_PER_MINUTE,
            state.delay_s[at][which],
            np.ones(len(which), np.bool_),
        )
        return visits, state.episode[at][which]

    def _step(self, state: _State) -> NDArray[np.bool_]:
        """One step of every episode: the minute if nothing changes in it, else ten seconds."""
        minute, part = state.tick // SUBSTEPS, state.tick % SUBSTEPS
        lane = state.lane
        day = lane // self.policies
        self._take_away(state, np.flatnonzero(part == 0), minute)
        queues = Queues(
            self.lookup, self.least, state.old, state.fresh, state.backlog, state.fresh_backlog
        )
        key = lane * self.minutes + minute
        changes = self.changing[key]
        here = np.flatnonzero(changes)
        if len(here):
            row = self.order[np.searchsorted(self.arrivals, key[here])]
            now = self.fleets.count[row, part[here]].astype(np.int64)
            added = np.zeros(len(lane), np.int64)
            added[here] = now - queues.old[here] - queues.fresh[here]
            queues.arrive(added)
        rate_per_s = self.rate_per_s[minute, day, part]
        whole = (part == 0) & ~changes & self.even[minute, day]
        if self.least:
            whole &= ~queues.level_within(rate_per_s, SECONDS_PER_MINUTE)
        step_s = np.where(whole, SECONDS_PER_MINUTE, float(SUBSTEP_S))
        share, delay_s = queues.step(rate_per_s, step_s)
        state.violating += share * rate_per_s * step_s
        np.maximum(state.delay_s, delay_s, out=state.delay_s)
        state.tick += np.where(whole, SUBSTEPS, 1)
        state.old, state.fresh = queues.old, queues.fresh
        state.backlog, state.fresh_backlog = queues.backlog, queues.fresh_backlog
        return (queues.backlog > 0.0) | (queues.fresh_backlog > 0.0)

    def _take_away(self, state: _State, begin: Index, minute: Index) -> None:
        """Instances leave between minutes."""
        if not len(begin):
            return
        count = self.fleets.start[minute[begin], state.lane[begin]]
        queues = Queues.of(
            self.lookup,
            self.least,
            count,
            state.fresh[begin],
            state.backlog[begin],
            state.fresh_backlog[begin],
        )
        state.old[begin], state.fresh[begin] = queues.old, queues.fresh
        state.backlog[begin] = queues.backlog
        state.fresh_backlog[begin] = queues.fresh_backlog


def _first_of_their_own(begin: Index, end: Index) -> NDArray[np.bool_]:
    """Which episodes, ascending, do not begin inside an earlier one.

    Times are lane x minutes + minute, so episodes of different lanes do not overlap.
    """
    own = np.ones(len(begin), np.bool_)
    until = -1
    for i, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        if first < until:
            own[i] = False
        else:
            until = last
    return own
