"""What becomes of the requests on fleets whose instances are known.

Without a backlog a minute hangs on its traffic and its number of instances alone: all
minutes are looked up at once. Where a fleet is overloaded, and until nothing waits after
that, `episodes` takes over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.simulator.episodes import Episodes, Visits
from tuner.simulator.fleets import Fleets
from tuner.simulator.inputs import SUBSTEPS, SimulationOptions
from tuner.simulator.lanes import Index, Record, Served
from tuner.simulator.lookup import Lookup
from tuner.units import SECONDS_PER_MINUTE

FloatArray = NDArray[np.float64]
_AT_ONCE = 1 << 18
"""Lane-minutes looked up at once: their arrays stay inside a processor's cache."""
_MOST_MINUTES = 240
"""Below 255, so that byte counters cannot overflow."""
_EDGE = 1 + 1e-6
"""Single precision must not make a minute bad that just keeps the allowance."""


class Service:
    """One capacity under the fleets of days x policies.

    Parameters
    ----------
    fleets
        Instances of every lane; lanes are laid out (days, policies).
    rates
        Shape (minutes, days, 6): offered rate per minute in every ten seconds.
    lookup
        Capacity.
    options
        Allowance, zones, lead-in and routing.
    """

    def __init__(
        self, fleets: Fleets, rates: FloatArray, lookup: Lookup, options: SimulationOptions
    ) -> None:
        self.fleets, self.rates, self.lookup, self.options = fleets, rates, lookup, options
        self.minutes, self.days = rates.shape[:2]
        self.lanes = fleets.start.shape[1]
        self.policies = self.lanes // self.days
        self.even = bool((rates == rates[..., :1]).all())
        self.mean: FloatArray = rates.mean(axis=-1)
        parts = 1 if self.even else SUBSTEPS
        self.parts = np.ascontiguousarray(np.moveaxis(rates[..., :parts], -1, 0), np.float32)
        self.limit = (options.allowance * self.mean * _EDGE).astype(np.float32)
        full = lookup.rate_per_s * SECONDS_PER_MINUTE
        keep_up = np.ceil(rates.max(axis=-1) / full * (1.0 - 1e-12))
        self.need_keep_up = np.minimum(keep_up, np.iinfo(np.int16).max).astype(np.int16)
        self.need_good = self._need_good()
        self.need_zone = _with_zone(self.need_good, options.zones)

    def run(self, record: Record | None = None) -> Served:
        """Sums over the minutes after the lead-in."""
        violating = np.zeros(self.lanes)
        marks = np.zeros((3, self.lanes), np.int64)
        slow = []
        step = max(1, min(_MOST_MINUTES, _AT_ONCE // self.lanes))
        lead = self.options.lead_in_min
        for first in range(0, self.minutes, step):
            part = slice(first, min(first + step, self.minutes))
            count = self.fleets.start[part].reshape(-1, self.days, self.policies)
            overloaded = np.less(count, self.need_keep_up[part, :, None])
            if overloaded.any():
                slow.append(np.flatnonzero(overloaded) + first * self.lanes)
            late = self._late(count, part)
            if record is not None:
                record.violation_share[part] = late.reshape(-1, self.lanes)
            scored = slice(max(0, lead - first), None)
            if part.stop > lead:
                violating += late[scored].sum(axis=0).ravel()
                self._mark(count[scored], slice(max(first, lead), part.stop), marks)
        visits = self._visit(np.concatenate([np.zeros(0, np.int64), *slow]))
        self._correct(visits, violating, marks)
        if record is not None:
            record.violation_share[visits.minute, visits.lane] = visits.violating
            record.delay_s[visits.minute, visits.lane] = visits.delay_s
            rate = np.repeat(self.mean, self.policies, axis=1)
            share = record.violation_share
            np.divide(share, rate, out=share, where=rate > 0.0)
            np.minimum(share, 1.0, out=share)
        return Served(violating, marks[0], marks[1], marks[2])

    # -- while nothing waits -------------------------------------------------------------

    def _late(self, count: NDArray[np.int16], part: slice) -> NDArray[np.float32]:
        """Requests of each minute that miss the SLO, shape (m, days, policies)."""
        rates = self.parts[:, part, :, None]
        stride = self.lookup.max_count + 1
        if self.policies <= 2 * stride:
            return _mean([self.lookup.late(count, rate) for rate in rates])
        each = np.arange(stride)
        table = _mean([self.lookup.late(each, rate) for rate in rates])
        place = np.arange(table.shape[0] * self.days).reshape(-1, self.days, 1) * stride
        return np.take(table.ravel(), place + count)

    def _mark(self, count: NDArray[np.int16], part: slice, marks: Index) -> None:
        """Count bad, spare-safe and zone-safe minutes by the instances in service."""
        good = self.need_good[part, :, None]
        zone = self.need_zone[part, :, None]
        flags = (count < good, count > good, count >= zone)
        for total, flag in zip(marks, flags, strict=True):
            total += np.add.reduce(flag.view(np.uint8), axis=0, dtype=np.uint8).ravel()

    def _need_good(self) -> NDArray[np.int16]:
        """Least count at which each minute is good, shape (minutes, days), by bisection.

        One more than the largest count where none is.
        """
        shape = self.mean.shape
        low = np.zeros(shape, np.int64)
        high = np.full(shape, self.lookup.max_count + 1, np.int64)
        while True:
            middle = (low + high) // 2
            open_ = high - low > 1
            if not open_.any():
                break
            late = _mean([self.lookup.late(middle, rate) for rate in self.parts])
            good = late <= self.limit
            high = np.where(open_ & good, middle, high)
            low = np.where(open_ & ~good, middle, low)
        return high.astype(np.int16)

    # -- one by one ----------------------------------------------------------------------

    def _visit(self, slow: Index) -> Visits:
        """Overloaded minutes and those after them until nothing waits; arrivals elsewhere.

        ``slow`` are the overloaded lane-minutes as minute x lanes + lane.
        """
        fleets, length = self.fleets, self.minutes
        arrive = fleets.lane * length + fleets.minute
        order = np.argsort(arrive)
        parts: list[Visits] = []
        quiet = np.arange(len(arrive))
        if len(slow):
            begin = np.sort(slow % self.lanes * length + slow // self.lanes)
            least = self.options.least_outstanding
            episodes = Episodes(fleets, self.rates, self.lookup, least, arrive[order], order)
            parts.append(episodes.run(begin, self.options.give_up_min))
            quiet = np.flatnonzero(~parts[0].seen(self.lanes, length)[arrive])
        minute, lane = fleets.minute[quiet], fleets.lane[quiet]
        rate = self.rates[minute, lane // self.policies].astype(np.float32)
        late = self.lookup.late(fleets.count[quiet], rate).mean(axis=1).astype(np.float64)
        none = np.zeros(len(quiet))
        parts.append(Visits(minute, lane, late, none, none.astype(np.bool_)))
        return Visits.joined(parts)

    def _correct(self, visits: Visits, violating: FloatArray, marks: Index) -> None:
        """Replace what the instances alone say of the minutes visited."""
        keep = np.flatnonzero(visits.minute >= self.options.lead_in_min)
        minute, lane = visits.minute[keep], visits.lane[keep]
        if not len(keep):
            return
        day = lane // self.policies
        count = self.fleets.start[minute, lane]
        late = _mean([self.lookup.late(count, rate[minute, day]) for rate in self.parts])
        good, zone = self.need_good[minute, day], self.need_zone[minute, day]
        now = visits.violating[keep]
        waiting = visits.waiting[keep]
        bad = (now > self.options.allowance * self.mean[minute, day] * _EDGE).astype(np.int64)
        changes = (
            bad - (count < good),
            -(waiting & (count > good)).astype(np.int64),
            -(waiting & (count >= zone)).astype(np.int64),
        )
        violating += np.bincount(lane, now - late, self.lanes)
        for total, change in zip(marks, changes, strict=True):
            total += np.rint(np.bincount(lane, change, self.lanes)).astype(np.int64)


def _mean(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of arrays of one shape."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total if len(parts) == 1 else total / np.float32(len(parts))


def _with_zone(need: NDArray[np.int16], zones: int) -> NDArray[np.int16]:
    """Least count of which ``need`` are left without one of ``zones``."""
    size = int(need.max()) * 2 + 2
    left = np.arange(size) - -(-np.arange(size) // zones)
    return np.searchsorted(left, need).astype(np.int16)
