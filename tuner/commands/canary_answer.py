"""From a canary's run directory to its answer, page and deployment variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.campaign.canary import CanaryTest, CanaryVerdict, Look, MinutePair, Side, look, side_of
from tuner.campaign.types import StageResult
from tuner.commands.answer import files_text
from tuner.commands.recorded import CANARY, made_with, run_date
from tuner.commands.ui import Ui
from tuner.errors import InsufficientDataError, RunDirectoryError
from tuner.interval import Interval
from tuner.plan.knobs import CanaryTable
from tuner.plan.parse import Plan, parse_plan
from tuner.recommend.deployment import Deployment, Release, plan_deployment, statistic_s
from tuner.recommend.release_json import canary_to_json
from tuner.report import words
from tuner.report.data import Pairs, ReportData, Table
from tuner.report.figures.canary import draw_canary
from tuner.report.junit import Check, junit_xml
from tuner.report.page import render_html
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.histogram import LatencyHistogram, Window
from tuner.store.files import write_whole
from tuner.store.run import Run
from tuner.terraform.release import deployment_tfvars_text

EXIT_CODE = {CanaryVerdict.NOT_SLOWER: 0, CanaryVerdict.SLOWER: 3, CanaryVerdict.OPEN: 4}
VERDICT = {
    CanaryVerdict.NOT_SLOWER: Verdict.MET,
    CanaryVerdict.SLOWER: Verdict.VIOLATED,
    CanaryVerdict.OPEN: Verdict.INCONCLUSIVE,
}
HEADLINE = {
    CanaryVerdict.NOT_SLOWER: "the candidate is not slower",
    CanaryVerdict.SLOWER: "the candidate is slower",
    CanaryVerdict.OPEN: "not known yet",
}
TFVARS = "deployment.auto.tfvars"
SHOWN = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("mean", None))


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What a canary's run directory holds."""

    path: Path
    plan: Plan
    table: CanaryTable
    meta: Mapping[str, Any]
    stages: tuple[StageResult, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CanaryAnswer:
    """The answer and the files that were written for it."""

    seen: Look
    test: CanaryTest
    deployment: Deployment | None
    json_text: str
    files: tuple[Path, ...]


def objective_of(slo: Slo) -> LatencyObjective:
    """The objective furthest out in the tail: a request beyond it is late."""
    return max(slo.objectives, key=lambda o: (o.quantile, o.threshold_s))


def asked_of(plan: Plan, table: CanaryTable) -> CanaryTest:
    """What is asked of the minutes."""
    return CanaryTest(
        table.slower_by,
        objective_of(plan.slo).allowance,
        table.alpha,
        table.max_minutes,
        plan.load.max_error_share,
    )


def pairs_of(stages: tuple[StageResult, ...], objective: LatencyObjective) -> list[MinutePair]:
    """The minutes of which both sides are sound; even stages are the baseline's."""
    by_index = {s.spec.index: s for s in stages}
    return [
        MinutePair(index // 2, side_of(stage, objective), side_of(other, objective))
        for index, stage in sorted(by_index.items())
        if index % 2 == 0
        and (other := by_index.get(index + 1)) is not None
        and not (stage.void or other.void)
    ]


def is_canary(path: Path) -> bool:
    """Whether tuner canary wrote this run directory."""
    with Run.open(path) as run:
        return run.meta().get("kind") == CANARY


def read_canary(path: Path) -> Recorded:
    """A canary's run directory.

    Raises
    ------
    RunDirectoryError
        If it is damaged, or another command's.
    """
    with Run.open(path) as run:
        meta, stages = run.meta(), run.stages()
        notes = tuple(n.text for n in run.notes() if n.kind == "interrupted")
    if meta.get("kind") != CANARY:
        raise RunDirectoryError("not the run of a canary", value=str(path))
    settings = dict(meta[CANARY])
    plan = parse_plan(
        str(meta["plan"]),
        source=str(meta["plan_source"]),
        base_dir=path.resolve(),
        overrides={f"canary.{k}": v for k, v in settings.items() if v is not None},
        files=False,
        traffic=False,
    )
    assert plan.canary is not None
    return Recorded(path, plan, plan.canary, meta, stages, notes)


def answer_canary(path: Path, ui: Ui, *, out: Path | None = None) -> CanaryAnswer:
    """Decide on what was kept and write every file; no endpoint is needed."""
    recorded = read_canary(path)
    target = out or path
    test = asked_of(recorded.plan, recorded.table)
    pairs = pairs_of(recorded.stages, objective_of(recorded.plan.slo))
    looks = [look(pairs[:n], test) for n in range(1, len(pairs) + 1)]
    seen = looks[-1] if looks else look(pairs, test)
    release, note = _release(recorded)
    deployment, tfvars = None, None
    try:
        deployment = plan_deployment(pairs, test, recorded.plan.slo, release)
    except InsufficientDataError as error:
        ui.warn(f"no deployment variables: {error.message}")
    json_text = canary_to_json(seen, test, deployment, _provenance(recorded))
    files = [target / "canary.json"]
    write_whole(files[0], json_text)
    if deployment is not None:
        tfvars = deployment_tfvars_text(
            deployment,
            run_name=path.name,
            date_text=run_date(recorded.meta),
            answer=seen.sentence,
            notes=(note,),
        )
        files.append(target / TFVARS)
        write_whole(files[-1], tfvars)
    else:
        (target / TFVARS).unlink(missing_ok=True)
    page = target / "report.html"
    drawn = draw_canary(
        [float(np.expm1(p.candidate.mean_ln - p.baseline.mean_ln)) for p in pairs],
        [x.slower for x in looks],
        test.slower_by,
        png=False,
    )
    data = _page(recorded, pairs, seen, test, deployment, tfvars, note)
    write_whole(page, render_html(data, (drawn,) if pairs else ()))
    return CanaryAnswer(seen, test, deployment, json_text, (*files, page))


def _release(recorded: Recorded) -> tuple[Release, str]:
    """Where the candidate would go, and what its thresholds rest on."""
    table, beyond = recorded.table, recorded.meta.get("beyond_model_s")
    assert table.rate_per_s is not None
    release = Release(
        rate_per_s=table.traffic_per_s or table.rate_per_s,
        instance_count=int(recorded.meta["endpoint"]["instance_count"]),
        minute_s=table.minute_s,
        beyond_model_s=max(0.0, float(beyond)) if beyond is not None else 0.0,
        size_percent=table.size_percent,
    )
    if beyond is None:
        return release, (
            "CloudWatch's ModelLatency was not known: thresholds are of what clients waited, "
            "and so wider than they need to be."
        )
    return release, (
        f"Clients waited {words.milliseconds(release.beyond_model_s)} ms beyond ModelLatency, "
        "which thresholds leave out."
    )


def _provenance(recorded: Recorded) -> dict[str, object]:
    meta = recorded.meta
    return {
        **made_with(recorded.path, meta),
        "seed": meta["seed"],
        "baseline": meta["endpoint"],
        "candidate": meta["candidate"],
    }


def client_mean_s(stages: Sequence[StageResult]) -> float:
    """Mean latency of all answered requests, in seconds."""
    whole = LatencyHistogram.merge(Window.merge(s.windows).ok for s in stages)
    return float(np.average(whole.middles_s(), weights=whole.count))


# -- page and words ---------------------------------------------------------------------------


def _page(
    recorded: Recorded,
    pairs: Sequence[MinutePair],
    seen: Look,
    test: CanaryTest,
    deployment: Deployment | None,
    tfvars: str | None,
    note: str,
) -> ReportData:
    meta = recorded.meta
    names = _names(meta)
    tables = [_sides_table(pairs, names), _minutes_table(pairs)] if pairs else []
    seconds = sum(s.spec.duration_s + s.spec.settle_s for s in recorded.stages) / 2
    return ReportData(
        title=f"{names[1]} against {names[0]}",
        run_name=recorded.path.name,
        date_text=run_date(meta),
        slo=recorded.plan.slo,
        answer=VERDICT[seen.verdict],
        badge=seen.verdict.value.replace("_", " "),
        headline=HEADLINE[seen.verdict],
        tfvars_name=TFVARS,
        problem=_capital(seen.sentence) + ".",
        facts=_facts(recorded, seen, test, deployment, seconds),
        next_steps=_next_steps(seen, test),
        refusals=recorded.notes,
        warnings=(note,) if deployment is not None else (),
        tables=tuple(tables),
        tfvars=tfvars,
        commands=(f"tuner canary {meta['plan_source']}", f"tuner report {recorded.path.name}"),
        plan_rows=tuple((f"canary.{k}", str(v)) for k, v in meta[CANARY].items() if v is not None),
        provenance=(
            ("measured with", f"tuner {meta['tuner_version']}, Python {meta['python']}"),
            ("machine", str(meta["platform"])),
            ("seed", str(meta["seed"])),
        ),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _names(meta: Mapping[str, Any]) -> tuple[str, str]:
    sides = [meta["endpoint"], meta["candidate"]]
    if sides[0]["name"] == sides[1]["name"]:
        return str(sides[0]["variant"]), str(sides[1]["variant"])
    return tuple(f"{s['name']}/{s['variant']}" for s in sides)  # type: ignore[return-value]


def _facts(
    recorded: Recorded, seen: Look, test: CanaryTest, deployment: Deployment | None, seconds: float
) -> Pairs:
    requests = sum(s.requests for s in recorded.stages)
    needed = seen.minutes_needed
    facts = [
        ("SLO", recorded.plan.slo.describe()),
        ("Asked", f"a slow-down of {words.percent(test.slower_by)}, false alarms at most "
                  f"{words.percent(test.alpha)} however often one looks"),
        ("Latency", _share_text(seen.slower)),
        ("Late or failed", _share_text(seen.late)),
        ("Measured", f"{seen.minutes} minutes, {requests:,} requests in {words.span(seconds)}"),
    ]  # fmt: skip
    if needed is not None:
        facts.append(("Such a test takes", f"{needed} minutes to see it, nine times in ten"))
    if deployment is not None:
        facts += [(f"Deployment, {i}", s) for i, s in enumerate(deployment.sentences, 1)]
    return tuple(facts)


def _share_text(change: Interval | None) -> str:
    if change is None:
        return words.NONE
    return f"{change.mid:+.2%} ({change.low:+.2%} to {change.high:+.2%}) against the baseline"


def _next_steps(seen: Look, test: CanaryTest) -> tuple[str, ...]:
    if seen.verdict is CanaryVerdict.NOT_SLOWER:
        return (f"Release it with {TFVARS} beside terraform.tfvars.",)
    if seen.verdict is CanaryVerdict.SLOWER:
        return ("Do not release the candidate; compare what it does differently.",)
    more = seen.minutes_needed
    if more is None:
        return ("Go on with --resume: too few minutes were measured.",)
    if more > test.max_minutes:
        return (
            f"At this rate the question takes about {more} minutes: raise max_minutes or the "
            "rate, or ask for a larger slow-down.",
        )
    return ("Ask for more minutes with --max-minutes, or accept a larger slow-down.",)


def _sides_table(pairs: Sequence[MinutePair], names: tuple[str, str]) -> Table:
    rows = []
    sides = ([p.baseline for p in pairs], [p.candidate for p in pairs])
    for role, name, side in zip(("baseline", "candidate"), names, sides, strict=True):
        whole = _whole(side)
        values = (words.milliseconds(statistic_s(whole, q)) for _, q in SHOWN)
        late, failed = words.percent(whole.late_share), words.percent(whole.error_share)
        rows.append((f"{role} {name}", f"{whole.requests:,}", *values, late, failed))
    header = ("Variant", "Requests", *(f"{n}, ms" for n, _ in SHOWN), "Late", "Failed")
    return Table("Both variants over all minutes", header, tuple(rows))


def _whole(sides: Sequence[Side]) -> Side:
    return Side(
        sum(s.requests for s in sides),
        sum(s.failures for s in sides),
        sum(s.late for s in sides),
        float(np.mean([s.mean_ln for s in sides])),
        LatencyHistogram.merge(s.answered for s in sides),
    )


def _minutes_table(pairs: Sequence[MinutePair]) -> Table:
    rows = tuple(
        (
            str(p.number + 1),
            *(words.milliseconds(statistic_s(s, 0.5)) for s in (p.baseline, p.candidate)),
            *(words.milliseconds(statistic_s(s, 0.99)) for s in (p.baseline, p.candidate)),
            f"{np.expm1(p.candidate.mean_ln - p.baseline.mean_ln):+.2%}",
            words.percent(p.baseline.late_share),
            words.percent(p.candidate.late_share),
        )
        for p in pairs
        if p.baseline.answered.total and p.candidate.answered.total
    )
    header = ("Minute", "p50 baseline, ms", "candidate", "p99 baseline, ms", "candidate",
              "Latency", "Late baseline", "candidate")  # fmt: skip
    return Table("Minute by minute", header, rows)


def canary_text(found: CanaryAnswer) -> str:
    """The answer in a few lines."""
    seen = found.seen
    lines = [
        f"{seen.verdict.value.replace('_', ' ')}: {HEADLINE[seen.verdict]}",
        "",
        f"  after {seen.minutes} minutes: {seen.sentence}",
        f"  latency         {_share_text(seen.slower)}",
        f"  late or failed  {_share_text(seen.late)}",
    ]
    if seen.minutes_needed is not None:
        lines.append(
            f"  such a test takes {seen.minutes_needed} minutes to see {found.test.slower_by:.1%}, "
            "nine times in ten"
        )
    lines += [f"  {s}" for s in (found.deployment.sentences if found.deployment else ())]
    lines += ["", *(f"next: {s}" for s in _next_steps(seen, found.test))]
    return "\n".join(lines)


def deliver_canary(
    found: CanaryAnswer, ui: Ui, *, as_json: bool = False, junit: str | None = None
) -> int:
    """Print the answer and say where the files are; returns the exit code."""
    if junit:
        check = Check("candidate not slower", VERDICT[found.seen.verdict], found.seen.sentence)
        write_whole(Path(junit), junit_xml("tuner canary", (check,)))
    if as_json:
        ui.result(found.json_text)
    else:
        ui.result(canary_text(found))
        ui.result(files_text(found.files))
    return EXIT_CODE[found.seen.verdict]
