"""What a report is made from, and the few figures worked out of it once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.campaign.types import ScaleEvent, StageKind, StageResult
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.types import Recommendation
from tuner.slo import Measure, Slo, Verdict
from tuner.stats.quantiles import quantile_interval, quantile_interval_of_windows

Pairs = tuple[tuple[str, str], ...]

SHOWN_QUANTILES = (0.5, 0.95, 0.99)

USUAL_REMEDIES: dict[Verdict, tuple[str, ...]] = {
    Verdict.MET: (),
    Verdict.VIOLATED: (
        "Measure a larger instance type, or relax the objective that binds.",
        "If it is the bounds that bind, raise max_capacity; if it is spikes faster than "
        "launches, raise min_capacity or schedule it ahead of them.",
    ),
    Verdict.INCONCLUSIVE: ("Run longer stages near the SLO and make the report again.",),
}


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report shows. Texts are untrusted: they are escaped where they are used.

    Parameters
    ----------
    title, run_name, date_text
        Head of the page.
    slo
        What had to hold.
    stages
        In the order they were run; ``log`` may be None.
    capacity, recommendation
        None when the run never got so far; then ``problem`` should say why.
    plan_rows, provenance, generator_check
        Name and value pairs for people.
    refusals
        What was refused and why, one sentence each.
    next_steps
        What the reader should do now; added to the remedies of failed gates.
    commands
        Shell lines that make this run and this report again.
    tfvars
        Text of ``terraform.tfvars``, or None.
    snippets
        Title and text of further ready-made pieces (AWS CLI, CloudFormation).
    choices
        Tables on what the answer chose between: instance types, signals, models per instance.
    tables
        Further tables on what was measured.
    answer, badge, headline, facts, tfvars_name
        Replace the verdict, its word, its headline, the facts and the file of a campaign on the
        page of something else that was measured.
    """

    title: str
    run_name: str
    date_text: str
    slo: Slo
    stages: tuple[StageResult, ...] = ()
    capacity: CapacityModel | None = None
    recommendation: Recommendation | None = None
    scale_events: tuple[ScaleEvent, ...] = ()
    plan_rows: Pairs = ()
    provenance: Pairs = ()
    generator_check: Pairs = ()
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    tfvars: str | None = None
    snippets: Pairs = ()
    choices: tuple[Table, ...] = ()
    tables: tuple[Table, ...] = ()
    problem: str | None = None
    answer: Verdict | None = None
    badge: str | None = None
    headline: str | None = None
    facts: Pairs = ()
    tfvars_name: str = "terraform.tfvars"
    duration_s: float | None = None
    money_spent_usd: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The answer given, else the recommendation's verdict, else the capacity's."""
        if self.answer is not None:
            return self.answer
        for part in (self.recommendation, self.capacity):
            if part is not None:
                return part.verdict
        return Verdict.INCONCLUSIVE

    def threshold_s(self, quantile: float, measure: Measure = Measure.LATENCY) -> float | None:
        """The SLO's threshold at this quantile, if it has one."""
        for objective in self.slo.objectives:
            if objective.measure is measure and objective.quantile == quantile:
                return objective.threshold_s
        return None

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """Warnings of every source, each once."""
        parts = [self.warnings]
        if self.capacity is not None:
            parts.append(self.capacity.warnings)
        if self.recommendation is not None:
            parts.append(self.recommendation.warnings)
        return tuple(dict.fromkeys(w for part in parts for w in part))

    @property
    def remedies(self) -> tuple[str, ...]:
        """Remedies of failed gates, a proposal, ``next_steps``; else the usual ones."""
        gates = self.capacity.gates if self.capacity is not None else ()
        failed = [g.remedy for g in gates if not g.passed and g.remedy]
        said = self.recommendation.statements if self.recommendation is not None else ()
        failed += [s.sentence for s in said if s.name == "proposal"]
        usual = () if failed or self.next_steps else USUAL_REMEDIES[self.verdict]
        return tuple(dict.fromkeys([*failed, *self.next_steps, *usual]))


@dataclass(frozen=True, slots=True)
class View:
    """The data with what is worked out of it once for figures and page alike.

    ``quantiles`` are shown of latency, ``streamed`` of the times that only chunks have.
    """

    data: ReportData
    quantiles: tuple[float, ...]
    streamed: tuple[tuple[Measure, float], ...]
    rows: tuple[StageRow, ...]

    @classmethod
    def of(cls, data: ReportData) -> View:
        """Work out the stage rows at p50, p95, p99 and the SLO's quantiles."""
        named = {o.quantile for o in data.slo.objectives if o.measure is Measure.LATENCY}
        quantiles = tuple(sorted(named | set(SHOWN_QUANTILES)))
        used = data.capacity.stages_used if data.capacity is not None else None
        objectives = [(o.measure, o.quantile) for o in data.slo.objectives if o.measure.streamed]
        streamed = tuple(sorted(objectives, key=lambda o: (list(Measure).index(o[0]), o[1])))
        rows = tuple(stage_row(s, quantiles, used, streamed) for s in data.stages)
        return cls(data, quantiles, streamed, rows)

    @property
    def shown(self) -> tuple[tuple[Measure, float], ...]:
        """Every measure and quantile shown, latency first."""
        return (*((Measure.LATENCY, q) for q in self.quantiles), *self.streamed)

    @property
    def requests(self) -> int:
        """Requests of all stages."""
        return sum(r.requests for r in self.rows)


@dataclass(frozen=True, slots=True)
class Table:
    """One further table of the page; the first column is text, the others are set right.

    With ``prose`` the last column holds sentences.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    prose: bool = False


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage as the report shows it.

    ``quantiles`` holds (quantile, interval in seconds, or None without requests); ``streamed``
    the same for times between chunks, which only a stage with its requests kept can tell.
    ``standing`` is ``"used"``, ``"void"`` or ``"unused"``, with the reason in ``note``.
    """

    stage: StageResult
    requests: int
    failures: int
    quantiles: tuple[tuple[float, Interval | None], ...]
    standing: str
    note: str
    streamed: tuple[tuple[tuple[Measure, float], Interval | None], ...] = ()

    def at(self, quantile: float, measure: Measure = Measure.LATENCY) -> Interval | None:
        """The interval at this quantile."""
        if measure is Measure.LATENCY:
            return dict(self.quantiles).get(quantile)
        return dict(self.streamed).get((measure, quantile))

    @property
    def error_share(self) -> float | None:
        """Share of requests that failed; None without requests."""
        return self.failures / self.requests if self.requests else None


def stage_row(
    stage: StageResult,
    quantiles: tuple[float, ...],
    used: tuple[int, ...] | None,
    streamed: tuple[tuple[Measure, float], ...] = (),
) -> StageRow:
    """Work out one row; ``used`` are the stages of the capacity estimate, if there is one."""
    log = stage.log
    requests = stage.requests if log is None or stage.windows else len(log)
    failures = stage.failures if log is None or stage.windows else int((~log.ok).sum())
    if requests == 0:
        found: list[tuple[float, Interval | None]] = [(q, None) for q in quantiles]
    elif log is not None and len(log):
        latency = log.latency_s()
        found = [(q, _sound(quantile_interval(latency, q).interval)) for q in quantiles]
    else:
        found = [
            (q, _sound(quantile_interval_of_windows(stage.windows, q).interval)) for q in quantiles
        ]
    standing, note = _standing(stage, used)
    chunks = tuple(((m, q), _of_chunks(stage, m, q)) for m, q in streamed)
    return StageRow(stage, requests, failures, tuple(found), standing, note, chunks)


def _of_chunks(stage: StageResult, measure: Measure, quantile: float) -> Interval | None:
    if stage.log is None or not len(stage.log):
        return None
    values = stage.log.times_s(measure)
    # NaN: answered, but not as a stream.
    return None if np.isnan(values).any() else _sound(quantile_interval(values, quantile).interval)


def _sound(interval: Interval) -> Interval:
    """The interval with a lower end of at least 0."""
    if interval.low >= 0.0:
        return interval
    return Interval(0.0, max(interval.mid, 0.0), max(interval.high, 0.0), interval.level)


def _standing(stage: StageResult, used: tuple[int, ...] | None) -> tuple[str, str]:
    if stage.void:
        return "void", "; ".join(stage.health.void_reasons)
    if not stage.health.open_loop:
        achieved = stage.health.achieved_rate_per_s
        return "unused", (
            f"closed-loop: users waited for answers and sent {achieved:.4g}/s; latency counts "
            "from the actual start and hides stalls"
        )
    if stage.spec.kind not in (StageKind.MEASURE, StageKind.ANCHOR, StageKind.VERIFY):
        return "unused", f"{stage.spec.kind.value.replace('_', '-')} stage: shown, not used"
    if used is not None and stage.spec.index not in used:
        return "unused", "not used by the capacity estimate"
    return "used", ""


def quantile_name(measure: Measure, quantile: float) -> str:
    """``p99``, ``first chunk p99``, ``chunk gap p99``."""
    name = f"p{quantile * 100:.10g}"
    before = {Measure.LATENCY: "", Measure.TTFT: "first chunk ", Measure.CHUNK_GAP: "chunk gap "}
    return before[measure] + name
