"""Recover the server from one instance's requests, and say whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.evidence import Failures, failures_by_load, segments, steady_failures
from tuner.campaign.predict import ServerModel
from tuner.campaign.types import StageKind, StageResult
from tuner.queueing.capacity import Gate
from tuner.queueing.independence import GroupTest
from tuner.queueing.recovery import RecoveredWork, Segment, recover
from tuner.stats.requests import FloatArray
from tuner.stats.tails import tail_check

P_LIMIT = 3e-4
"""Chance of a false alarm per test. With five tests a sound server is refused in 0.2 %."""
EFFECT_LIMIT = 0.02
"""A dependence this small (2 % of demand between groups) is tolerated however significant:
it moves capacity by less than the interval does, and real sockets always have some."""
TREND_T_LIMIT = 3.1
TREND_LIMIT = 0.04
CLUMPED_LIMIT = 0.25
SUSPECT_T = 1.2
"""A rise of demand this sure is no drift yet, but worth one more look: a drift that is real
shows in it, and of sound servers one in nine pays for it."""
CERTAIN_T = 5.0
"""A drift this sure need not be looked at again."""
OWN_T_LIMIT = 2.6
OWN_PART = 0.5
"""A drift is seen at equal load, too, and at least half as large as over all."""
LEAST_WAITED = 0.01
LEAST_DEMANDS = 400
PASSING_GATES = ("time", "noisy_neighbour", "cold_instance")
"""What a longer look may find to have passed; a server that gets slower does not recover."""
TIME_GATES = (*PASSING_GATES, "drift")
_HOLD = "hold load around the limit: local regression needs no order of service"


@dataclass(frozen=True, slots=True, eq=False)
class ServerFit:
    """The recovered server, its model, and the gates it was put to.

    Parameters
    ----------
    work
        What `recover` found.
    model
        The server for prediction, with the demands weighted to the production mix.
    weight
        Probability of drawing each demand of ``work``, shape (n,); None is all alike.
    gates
        Every check, passed or not.
    failures
        What the model's share of failures was counted from.
    """

    work: RecoveredWork
    model: ServerModel
    weight: FloatArray | None
    gates: tuple[Gate, ...]
    failures: Failures

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(g.passed for g in self.gates)

    @property
    def slowing_t(self) -> float:
        """How surely demand rose from start to end, as a t value."""
        return self.work.trend[1]

    def resampled(self, rng: np.random.Generator) -> ServerModel:
        """The same server had other requests come: blocks of time drawn again."""
        rows = self.work.resampled(rng)
        weight = None if self.weight is None else self.weight[rows]
        return replace(
            self.model,
            demand_s=_weighted(self.work.demand_s[rows], weight),
            failure_share=self.failures.drawn(rng),
        )

    def plausible(self) -> tuple[tuple[float, ServerModel], ...]:
        """Servers with other workers or another floor that the requests leave open."""
        return tuple(
            (
                h.weight,
                ServerModel(
                    h.workers,
                    h.floor_s,
                    _weighted(self.work.demand_under(h), self.weight),
                    self.model.failure_share,
                ),
            )
            for h in self.work.hypotheses
        )

    def pools(self) -> tuple[FloatArray, ...]:
        """Demands by payload class as they were offered, one array per class index."""
        kinds = self.work.payload_class
        return tuple(self.work.demand_s[kinds == k] for k in range(int(kinds.max()) + 1))

    def as_offered(self) -> ServerFit:
        """The same server under the mix of payload classes it was measured with."""
        model = replace(self.model, demand_s=np.sort(self.work.demand_s))
        return replace(self, model=model, weight=None)

    def reweighted(self, class_weight: FloatArray) -> ServerModel:
        """The same server under another mix of payload classes."""
        weight = _class_weights(self.work.payload_class, class_weight)
        return replace(self.model, demand_s=_weighted(self.work.demand_s, weight))


def fit_server(
    results: Sequence[StageResult], class_weight: FloatArray | None = None
) -> tuple[ServerFit | None, tuple[Gate, ...]]:
    """Fit the one-instance server to every sound stage on one instance.

    Parameters
    ----------
    results
        Stages of the campaign.
    class_weight
        Production share of each payload class by index; None keeps the mix offered.

    Returns
    -------
    The fit, or None with the gate that says why there is none; and all gates.
    """
    found, gates = _fit(segments(results), results, class_weight)
    if (
        found is None
        or found.passed
        or not any(g.name in PASSING_GATES for g in gates if not g.passed)
    ):
        return found, gates
    # What is slow at first is a cold instance: judge what came after the ramp alone.
    late = [r for r in results if r.spec.kind not in (StageKind.FLOOR, StageKind.RAMP)]
    again, gates_again = _fit(segments(late), results, class_weight)
    if again is not None and again.passed:
        return again, gates_again
    return found, gates


def drifts(fit: ServerFit | None) -> bool:
    """Whether a server changes for good: it has no capacity to speak of."""
    failed = set() if fit is None else {g.name for g in fit.gates if not g.passed}
    return "drift" in failed and failed <= set(TIME_GATES)


def _fit(
    parts: Sequence[Segment],
    results: Sequence[StageResult],
    class_weight: FloatArray | None,
) -> tuple[ServerFit | None, tuple[Gate, ...]]:
    size = sum(int(np.count_nonzero(s.sent_s >= s.from_s)) for s in parts)
    if size < LEAST_DEMANDS:
        return None, (_too_few(size),)
    work = recover(parts)
    if work is None:
        return None, (_no_workers(),)
    weight = _class_weights(work.payload_class, class_weight)
    failures = steady_failures(results)
    demand_s = _weighted(work.demand_s, weight)
    model = ServerModel(work.workers, work.floor_s, demand_s, failures.share)
    gates = (*_gates(work), *_refusing(results))
    return ServerFit(work, model, weight, gates, failures), gates


def _class_weights(
    payload_class: NDArray[np.uint16], class_weight: FloatArray | None
) -> FloatArray | None:
    if class_weight is None:
        return None
    share = np.bincount(payload_class, minlength=len(class_weight)) / len(payload_class)
    wanted = np.zeros(len(share))
    wanted[: len(class_weight)] = class_weight
    ratio = np.divide(wanted, share, out=np.zeros(len(share)), where=share > 0.0)
    return np.asarray(ratio[payload_class])


def _weighted(demand_s: FloatArray, weight: FloatArray | None) -> FloatArray:
    """Demands, ascending, each as often as its weight says."""
    if weight is None:
        return np.sort(demand_s)
    order = np.argsort(demand_s)
    cumulative = np.cumsum(weight[order])
    n = max(len(demand_s), 4000)
    at = (np.arange(n) + 0.5) / n * cumulative[-1]
    return np.asarray(demand_s[order][np.searchsorted(cumulative, at)])


def _too_few(size: int) -> Gate:
    return Gate(
        "demands",
        False,
        float(size),
        f">= {LEAST_DEMANDS} requests on one instance, kept one by one",
        f"only {size} requests on a single instance are on record, too few to recover what "
        "each asked of the server",
        "measure one instance for a few minutes with requests kept",
    )


def _no_workers() -> Gate:
    return Gate(
        "workers",
        False,
        0.0,
        "negative demands <= 0.5 %",
        "no number of workers serving in order of arrival explains the times: requests leave "
        "before such a server could have started them",
        "hold load around the limit: local regression needs no server model",
    )


def _gates(work: RecoveredWork) -> tuple[Gate, ...]:
    tail = tail_check(work.demand_s)
    batching = work.clumped_share > CLUMPED_LIMIT
    structure = (_state_gate(work), _future_gate(work))
    return (
        Gate(
            "batching",
            not batching,
            work.clumped_share,
            f"<= {CLUMPED_LIMIT:g} of answers given together",
            f"{work.clumped_share:.0%} of answers come together with another: "
            + ("the server batches" if batching else "no sign of batching"),
            "hold load around the limit: a batching server has no fixed demand per request"
            if batching
            else None,
        ),
        *structure,
        # Loads differ between stages: with demand that depends on load, time says nothing.
        *((_time_gate(work),) if all(g.passed for g in structure) else ()),
        Gate(
            "waiting",
            work.waited_share >= LEAST_WAITED,
            work.waited_share,
            f">= {LEAST_WAITED:g} of requests waited",
            f"{work.waited_share:.1%} of requests had to wait"
            + (
                ""
                if work.waited_share >= LEAST_WAITED
                else ": how many the server takes at once is not visible"
            ),
            None if work.waited_share >= LEAST_WAITED else "measure at a higher load",
        ),
        Gate(
            "heavy_tail",
            not (tail.heavy and tail.n < 100_000),
            tail.index,
            "tail index >= 2.2, or no request above 5 % of all work, or 100,000 requests",
            f"demand has tail index {tail.index:.1f} and its largest request is "
            f"{tail.largest_share:.1%} of all work"
            + (
                ": a limit predicted from so few requests this heavy would be a matter of luck"
                if tail.heavy and tail.n < 100_000
                else ""
            ),
            f"measure {max(100_000 - tail.n, 0):,} more requests, or set an SLO on p95: rare "
            "requests this heavy decide p99"
            if tail.heavy and tail.n < 100_000
            else None,
        ),
    )


def _refusing(results: Sequence[StageResult]) -> tuple[Gate, ...]:
    """A gate where failures rise with load: a server that sheds load is not only a queue."""
    found = failures_by_load(results)
    if found is None:
        return ()
    low, high = found
    return (
        Gate(
            "failures",
            False,
            high.share,
            f"as at lower loads, {low.share:.2%}",
            f"{low.share:.2%} of {low.of:,} requests failed at lower loads and {high.share:.2%} of "
            f"{high.of:,} at higher ones: the endpoint refuses requests under load",
            _HOLD,
        ),
    )


def _fails(test: GroupTest) -> bool:
    return test.p_value < P_LIMIT and test.effect > EFFECT_LIMIT


def _changes(work: RecoveredWork) -> bool:
    """Whether demand depends on time: in spells, or by a trend from start to end."""
    return _fails(work.time) or (_trends(work) and not _by_load(work))


def _trends(work: RecoveredWork) -> bool:
    change, t = work.trend
    return abs(t) > TREND_T_LIMIT and abs(change) > TREND_LIMIT


def _by_load(work: RecoveredWork) -> bool:
    """Whether a trend is that of the loads, which were offered one after another."""
    change, (own, own_t) = work.trend[0], work.trend_within
    return _trends(work) and (abs(own_t) < OWN_T_LIMIT or own * change < OWN_PART * change**2)


def _limit(name: str) -> str:
    return f"effect <= {EFFECT_LIMIT:g} or p >= {P_LIMIT:g} ({name})"


def _state_gate(work: RecoveredWork) -> Gate:
    # A slow spell also fills the queue: what is left inside blocks of time is structure.
    in_time = _changes(work) and not _fails(work.state_within) and not _by_load(work)
    failed = _fails(work.state) and not in_time
    return Gate(
        "state",
        not failed,
        work.state.f,
        _limit("demand against requests found on arrival"),
        f"recovered demand changes by {work.state.effect:.1%} with the requests found on arrival "
        f"(F {work.state.f:.1f})"
        + (
            ": requests slow each other down, or are not served in order of arrival"
            if failed
            else ""
        ),
        _HOLD if failed else None,
    )


def _future_gate(work: RecoveredWork) -> Gate:
    failed = _fails(work.future)
    return Gate(
        "order",
        not failed,
        work.future.f,
        _limit("demand against requests arriving later"),
        f"recovered demand changes by {work.future.effect:.1%} with the requests arriving later "
        f"(F {work.future.f:.1f})"
        + (": later requests overtake, so the queue is not in order of arrival" if failed else ""),
        _HOLD if failed else None,
    )


def _time_gate(work: RecoveredWork) -> Gate:
    failed = _changes(work)
    change = work.trend[0]
    steady = not _trends(work) or _by_load(work)
    if not failed:
        name, cause, remedy = "time", "", None
    elif steady:
        name = "noisy_neighbour"
        cause = ": service slows down in spells, as beside a noisy neighbour"
        remedy = "repeat the anchors over at least 15 minutes, or on another instance"
    elif change < 0.0:
        name = "cold_instance"
        cause = f": service got {1.0 - np.exp(change):.0%} faster, as of a cold instance"
        remedy = "warm the instance up for longer and measure again"
    else:
        name = "drift"
        cause = f": service got {np.exp(change) - 1.0:.0%} slower from start to end"
        remedy = "find out what changes, then measure again with anchors over 15 minutes"
    return Gate(
        name,
        not failed,
        work.time.f,
        _limit("demand against time") + f", trend <= {TREND_LIMIT:g} or t <= {TREND_T_LIMIT:g}",
        f"recovered demand changes by {work.time.effect:.1%} over time (F {work.time.f:.1f})"
        + cause,
        remedy,
    )
