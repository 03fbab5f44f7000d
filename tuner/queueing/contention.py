"""Work recovery on a server whose requests slow each other down.

Limited processor sharing: up to ``places`` requests are in service, each at the speed
1 / (1 + a (k - 1) + b k (k - 1)) with k in service; more wait in order of arrival. Given
(places, a, b), what each request asked of the server is the integral of the speed over its
service. The likelihood of the departures chooses them: the density of the demands, whatever
it is, times the speed at which each request ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.queueing.independence import (
    MIN_GROUP,
    GroupTest,
    centred,
    group_test,
    quantile_bins,
    trend,
)
from tuner.queueing.recovery import Segment, in_system, running_departures
from tuner.queueing.sharing import contention_speed

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_PLACES = 128
_MOST_REQUESTS = 40_000
_BLOCK_S = 5.0
_SPELLS = (1, 4, 12)
_LEAST_LEFT = 0.7
"""A stretch of which more than this is cut at its end says too little."""
_UNSTARTED = 15.0
"""Cost, in ln likelihood, of a request that leaves before the model lets it start."""
_FLOORS = 8
_FLOOR_GAIN = 3.0
"""A network floor is believed when it adds this much to the ln likelihood."""
_UNSTARTED_SHARE = 0.002
"""A larger share of such requests is another server."""
_GRID = 400
_REACH = 4.0
_BANDWIDTH = 0.7
"""Of Silverman's: the density of demands may have several humps."""
_NARROWEST = 0.01
_SIMPLEX = ((0.1, 0.003), (0.2, 0.003), (0.1, 0.012))
_STEP = (0.03, 0.0015)
_EVALUATIONS = 70
_PLACES = (1, 2, 3, 4, 6, 8, 11, 14, 17, 20, 24, 28, 32, 40, 48, 64, 96, 128)


@dataclass(frozen=True, slots=True, eq=False)
class SharedWork:
    """Demands under the likeliest contention, and how sure it is.

    Parameters
    ----------
    places, floor_s, contention, coherence
        The server, and the time a request spends outside it.
    demand_s, block
        Per request, shape (n,); ``block`` numbers stretches of about five seconds.
    slope
        Change of each ln demand with (contention, coherence), shape (n, 2).
    influence
        What each request adds to (contention, coherence), shape (n, 2), summing to about 0.
    state, future, time
        Demand against requests found on arrival, requests arriving afterwards, and time.
    trend
        Change of ln demand from the first to the last measured request, with its t value.
    """

    places: int
    floor_s: float
    contention: float
    coherence: float
    demand_s: FloatArray
    block: IntArray
    slope: FloatArray
    influence: FloatArray
    state: GroupTest
    future: GroupTest
    time: GroupTest
    trend: tuple[float, float]

    def drawn(self, rng: np.random.Generator) -> tuple[FloatArray, float, float]:
        """Demands, contention and coherence had other blocks of time come, by one step."""
        blocks = int(self.block.max()) + 1
        times = np.bincount(rng.integers(blocks, size=blocks), minlength=blocks)[self.block]
        moved = (times - times.mean()) @ self.influence
        a = max(self.contention + float(moved[0]), 0.0)
        b = max(self.coherence + float(moved[1]), 0.0)
        shift = self.slope @ np.array([a - self.contention, b - self.coherence])
        return np.repeat(self.demand_s * np.exp(shift), times), a, b


def recover_shared(segments: Sequence[Segment]) -> SharedWork | None:
    """The likeliest limited processor sharing for these requests.

    Parameters
    ----------
    segments
        Stretches served by single instances of the same kind.

    Returns
    -------
    SharedWork or None
        None with too few requests; otherwise the likeliest server, whose tests may still
        reject it.

    References
    ----------
    Gunther (2007), Guerrilla Capacity Planning, chapter 4 (the law of the speed); Murphy and
    van der Vaart (2000), On profile likelihood, J. Am. Stat. Assoc. 95.
    """
    stretches = _stretches(segments)
    if sum(s.size for s in stretches) < 20 * MIN_GROUP:
        return None
    most = min(MOST_PLACES, max(int(s.found.max()) for s in stretches) + 1)
    server = _Server.of(stretches, most)
    best, at = server.likeliest(_SIMPLEX)
    for nearby in (False, True):
        tried = range(server.places - 3, server.places + 4) if nearby else _PLACES
        others = [_Server.of(stretches, m) for m in tried if 1 <= m <= most]
        other = max(others, key=lambda s: s.log_likelihood(at))
        found, there = other.likeliest(_around(at))
        if found > best:
            server, best, at = other, found, there
    server, at = _floored(server, best, at)
    return server.work(at)


def _floored(server: _Server, best: float, at: FloatArray) -> tuple[_Server, FloatArray]:
    """The same with the network floor that explains the times best; none when in doubt."""
    fastest = [float(np.quantile(s.done_s - s.sent_s, 0.002)) for s in server.stretches]
    most, least = min(fastest), best + _FLOOR_GAIN
    kept = server
    step = most / _FLOORS
    tried = [step * i for i in range(1, _FLOORS)]
    for _ in range(2):
        others = [_Server.of(server.stretches, server.places, f) for f in tried]
        other = max(others, key=lambda s: s.log_likelihood(at))
        found, there = other.likeliest(_around(at))
        if found > least:
            kept, least, at = other, found, there
        step /= 3.0
        near = (other.floor_s + step * i for i in (-2, -1, 1, 2))
        tried = [f for f in near if 0.0 < f < most]
    return kept, at


def _around(at: FloatArray) -> tuple[tuple[float, float], ...]:
    a, b = float(at[0]), float(at[1])
    return ((a, b), (a + 0.04, b), (a, b + 0.002))


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """One segment; ``kept`` are the requests whose whole stay is on record, ``size`` of them."""

    sent_s: FloatArray
    done_s: FloatArray
    kept: NDArray[np.bool_]
    found: IntArray
    later: IntArray
    block: IntArray

    @property
    def size(self) -> int:
        return int(self.kept.sum())

    @property
    def departures(self) -> IntArray:
        """Order of the departures of all requests."""
        return np.argsort(self.done_s, kind="stable")


def _stretches(segments: Sequence[Segment]) -> list[_Stretch]:
    """The latest segments, as many as are needed."""
    stretches: list[_Stretch] = []
    size = 0
    for segment in reversed(segments):
        if size >= _MOST_REQUESTS:
            break
        stretch = _stretch(segment)
        if stretch is not None:
            stretches.append(stretch)
            size += stretch.size
    return stretches[::-1]


def _stretch(segment: Segment) -> _Stretch | None:
    sent, done = segment.sent_s, segment.done_s
    # Who came after the last arrival on record also slowed what was then in service.
    end = float(sent[-1]) - float((done - sent).max())
    whole = sent >= segment.from_s
    kept = whole & (sent <= end)
    if kept.sum() < max(_LEAST_LEFT * whole.sum(), MIN_GROUP):
        return None
    found = in_system(sent, done)
    reach = float(np.median(done - sent))
    later = np.searchsorted(sent, sent + reach, side="right") - np.arange(1, len(sent) + 1)
    block = np.floor((sent - segment.from_s) / _BLOCK_S).astype(np.int64)
    return _Stretch(sent, done, kept, found[kept], later[kept], block[kept])


@dataclass(frozen=True, slots=True, eq=False)
class _Events:
    """Starts and ends of service of one stretch, in order of time.

    ``crowd`` is the number in service after each event and ``lasts_s`` until the next one;
    ``start`` and ``end`` are the kept requests' places in that order, ``company`` the number
    in service up to each one's end.
    """

    crowd: IntArray
    lasts_s: FloatArray
    start: IntArray
    end: IntArray
    company: IntArray

    @classmethod
    def of(cls, stretch: _Stretch, start_s: FloatArray) -> _Events:
        n = len(start_s)
        when = np.concatenate([np.minimum(start_s, stretch.done_s), stretch.done_s])
        step = np.repeat([1, -1], n)
        # At one instant the one who leaves makes room for the one who starts.
        order = np.lexsort((step, when))
        at = np.empty(2 * n, np.int64)
        at[order] = np.arange(2 * n)
        crowd = np.maximum(np.cumsum(step[order]), 0)
        lasts = np.diff(when[order], append=when[order][-1])
        start, end = at[:n][stretch.kept], at[n:][stretch.kept]
        return cls(crowd, lasts, start, end, np.maximum(crowd[end] + 1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Server:
    """One number of places: who was in service when, whatever the speed."""

    places: int
    floor_s: float
    stretches: tuple[_Stretch, ...]
    events: tuple[_Events, ...]
    served: NDArray[np.bool_]

    @classmethod
    def of(cls, stretches: Sequence[_Stretch], places: int, floor_s: float = 0.0) -> _Server:
        events, served = [], []
        for stretch in stretches:
            threshold = _departed(stretch.done_s, places)
            start = np.maximum(stretch.sent_s + floor_s, threshold)
            events.append(_Events.of(stretch, start))
            served.append((stretch.done_s > start)[stretch.kept])
        return cls(places, floor_s, tuple(stretches), tuple(events), np.concatenate(served))

    def demand(self, at: FloatArray) -> FloatArray:
        """Demands of the kept requests, shape (n,); not positive where never served."""
        speed = self._speed(at)
        parts = []
        for e in self.events:
            work = np.concatenate([[0.0], np.cumsum(e.lasts_s * speed[e.crowd])])
            parts.append(work[e.end] - work[e.start])
        return np.concatenate(parts)

    def _speed(self, at: FloatArray) -> FloatArray:
        k = np.maximum(np.arange(max(int(e.crowd.max()) for e in self.events) + 2), 1)
        return contention_speed(k, abs(float(at[0])), abs(float(at[1])))

    def log_parts(self, at: FloatArray) -> FloatArray:
        """ln likelihood of each served request's end, shape (served,)."""
        log = np.log(np.maximum(self.demand(at)[self.served], 1e-12))
        company = np.concatenate([e.company for e in self.events])[self.served]
        return np.asarray(_log_density(log) - log + np.log(self._speed(at)[company]))

    def log_likelihood(self, at: FloatArray) -> float:
        missing = int((~self.served).sum())
        if missing > _UNSTARTED_SHARE * len(self.served):
            return -math.inf
        return float(self.log_parts(at).sum()) - _UNSTARTED * missing

    def likeliest(self, simplex: Sequence[tuple[float, float]]) -> tuple[float, FloatArray]:
        """Largest ln likelihood, and where it is."""
        from scipy.optimize import minimize

        start = np.array(simplex)
        if not math.isfinite(self.log_likelihood(start[0])):
            return -math.inf, start[0]
        search: Any = minimize  # its stubs do not know a simplex that was chosen
        found = search(
            lambda at: -self.log_likelihood(at),
            start[0],
            method="Nelder-Mead",
            options={
                "initial_simplex": start,
                "xatol": 2e-4,
                "fatol": 0.05,
                "maxfev": _EVALUATIONS,
            },
        )
        return -float(found.fun), np.abs(found.x)

    def work(self, at: FloatArray) -> SharedWork:
        keep = self.served
        log = np.log(np.maximum(self.demand(at)[keep], 1e-12))
        found, later, block = (
            np.concatenate(columns)[keep]
            for columns in (
                [s.found for s in self.stretches],
                [s.later for s in self.stretches],
                _numbered([s.block for s in self.stretches]),
            )
        )
        slope, influence = self._sensitivity(at)
        within = centred(log, block)
        time = [group_test(log, block // spell) for spell in _SPELLS]
        return SharedWork(
            places=self.places,
            floor_s=self.floor_s,
            contention=float(at[0]),
            coherence=float(at[1]),
            demand_s=np.exp(log),
            block=block,
            slope=slope,
            influence=influence,
            state=group_test(log, quantile_bins(found)),
            future=group_test(within, quantile_bins(later)),
            time=min(time, key=lambda t: t.p_value),
            trend=trend(log, block),
        )

    def _sensitivity(self, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Change of ln demand with the speed, and what each request adds to it."""
        step = np.array(_STEP)
        centre = np.maximum(at, step)
        slope, score = [], []
        for move in np.diag(step):
            (log_up, up), (log_down, down) = self._both(centre + move), self._both(centre - move)
            slope.append((log_up - log_down) / (2.0 * move.sum()))
            score.append((up - down) / (2.0 * move.sum()))
        own = np.column_stack(score)
        own -= own.mean(axis=0)
        # The information is the variance of the scores: steadier than a second difference.
        return np.column_stack(slope), own @ np.linalg.pinv(own.T @ own)

    def _both(self, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.log(np.maximum(self.demand(at)[self.served], 1e-12)), self.log_parts(at)


def _departed(done_s: FloatArray, places: int) -> FloatArray:
    """The ``places``-th latest departure among earlier requests, shape (n,)."""
    return next(islice(running_departures(done_s), places - 1, None))


def _numbered(blocks: Sequence[IntArray]) -> list[IntArray]:
    """Blocks of all stretches, each with a number of its own."""
    offset, numbered = 0, []
    for block in blocks:
        numbered.append(block + offset)
        offset += int(block.max(initial=0)) + 1
    return numbered


def _log_density(x: FloatArray) -> FloatArray:
    """ln of a kernel estimate of the density of x at each x, by a grid."""
    low, high = np.quantile(x, [0.25, 0.75])
    width = max(_BANDWIDTH * float(high - low) / 1.35 * len(x) ** -0.2, _NARROWEST)
    first = float(x.min()) - _REACH * width
    step = (float(x.max()) + _REACH * width - first) / _GRID
    where = (x - first) / step
    cell = where.astype(np.int64)
    part = where - cell
    mass = np.bincount(cell, 1.0 - part, _GRID + 2) + np.bincount(cell + 1, part, _GRID + 2)
    reach = int(_REACH * width / step) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    smooth = np.convolve(mass, kernel / kernel.sum(), "same") / (len(x) * step)
    density = (1.0 - part) * smooth[cell] + part * smooth[cell + 1]
    return np.asarray(np.log(np.maximum(density, 1e-12)))
