"""``tuner import``: what another tool has measured, as a run or as a bracket of the limit."""

from __future__ import annotations

import argparse
import gzip
import math
import platform
import zlib
from collections.abc import Sequence
from pathlib import Path

from tuner.campaign.analyse import analyse
from tuner.campaign.evidence import evidence, sound
from tuner.campaign.published import limit_of_summaries
from tuner.campaign.types import Routing, StageResult
from tuner.commands.arguments_base import SLO_KEYS
from tuner.commands.ui import Ui
from tuner.errors import InputError
from tuner.plan.parse import Plan, load_plan, parse_plan
from tuner.queueing.capacity import CapacityModel
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.requests import Outcome
from tuner.store.load_sums import summaries_of
from tuner.store.measured_columns import Table, read_table
from tuner.store.measurements import class_names, has_requests, stages_of
from tuner.store.run import Run
from tuner.units import per_s_to_per_min

LONGEST_TIMEOUT_S = 3600.0
EXIT = {Verdict.MET: 0, Verdict.VIOLATED: 3, Verdict.INCONCLUSIVE: 4}


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Read the file; requests become a run directory, sums of loads a bracket."""
    path = Path(args.file)
    table = read_table(_text(path), path.name, [_condition(text) for text in args.where])
    if has_requests(table):
        return _requests(args, table, ui)
    return _sums(args, table, ui)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, zlib.error, EOFError) as error:
        raise InputError(
            f"the file cannot be read: {error}", value=str(path), allowed="a CSV file, or CSV.gz"
        ) from None


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column:
        raise InputError("a condition is not understood", value=text, allowed="COLUMN=VALUE")
    return column, value


def _requests(args: argparse.Namespace, table: Table, ui: Ui) -> int:
    if args.out is None:
        raise InputError(
            "requests become a run directory, and none is named", hint="give one with --out DIR"
        )
    stages = stages_of(table, instance_count=args.instances, settle_s=args.settle_s)
    plan = _plan(args, stages)
    classes = class_names(table)
    routing = Routing(args.routing)
    found = analyse(
        plan.slo,
        stages,
        routing=routing,
        classes=classes,
        mix=plan.traffic.mix or None,
        level=plan.load.level,
        precision=plan.load.precision,
        seed=plan.load.seed,
    )
    with Run.create(Path(args.out), _meta(plan, classes, routing, table)) as run:
        for stage in stages:
            run.add_stage(stage)
        run.add_note("imported", f"requests measured by another tool: {table.file}")
    _warn(stages, ui)
    count = max(s.spec.instance_count for s in stages)
    ui.result(_stage_lines(stages, plan.slo) + _answer_lines(found, plan.slo, count, args.out))
    return EXIT[found.verdict]


def _plan(args: argparse.Namespace, stages: Sequence[StageResult]) -> Plan:
    """The plan given, or one made of the SLO flags."""
    slo = {k: v for k in SLO_KEYS if (v := getattr(args, f"slo_{k}")) is not None}
    if args.slo_max_error_rate is not None:
        slo["max_error_rate"] = args.slo_max_error_rate
    if args.plan is not None:
        return load_plan(Path(args.plan), {f"slo.{key}": value for key, value in slo.items()})
    if not slo:
        raise InputError(
            "there is no SLO to judge by", allowed="--plan PLAN, or --slo-p99-ms N and its like"
        )
    counts = sorted({s.spec.instance_count for s in stages}) or [1]
    lines = [
        "# Written by tuner import: the requests were measured by another tool.",
        "[endpoint]",
        'kind = "http"',
        'url = "http://imported.invalid/"',
        f'routing = "{args.routing}"',
        f"instance_count = {counts[0]}",
        f"streaming = {'true' if any(k.startswith(('ttft', 'chunk')) for k in slo) else 'false'}",
        "[slo]",
        *(f"{key} = {float(value)!r}" for key, value in slo.items()),
        "[load]",
        'body = ""',
        f"instance_counts = {counts}",
        f"timeout_s = {_timeout_s(stages)!r}",
        "[traffic]               # none was given: the highest load measured stands for its peak",
        f"peak_per_min = {_highest_per_min(stages)!r}",
        "[capacity]",
    ]
    text = "\n".join(lines) + "\n"
    return parse_plan(text, source="imported.toml", base_dir=Path.cwd(), files=False)


def _highest_per_min(stages: Sequence[StageResult]) -> float:
    return per_s_to_per_min(max((s.spec.rate_per_s for s in stages), default=1.0))


def _timeout_s(stages: Sequence[StageResult]) -> float:
    """After how long the other tool gave up; the longest allowed when it never did."""
    cut = [
        float(end - start)
        for stage in stages
        if stage.log is not None
        for start, end, outcome in zip(
            stage.log.scheduled_s, stage.log.done_s, stage.log.outcome, strict=True
        )
        if outcome == Outcome.TIMEOUT and end > start
    ]
    return min([*cut, LONGEST_TIMEOUT_S])


def _meta(
    plan: Plan, classes: tuple[str, ...], routing: Routing, table: Table
) -> dict[str, object]:
    csv = plan.traffic.csv
    return {
        "plan": plan.text,
        "plan_source": Path(plan.source).name,
        "traffic_csv": plan.path(csv).read_text("utf-8-sig") if csv else None,
        "seed": plan.load.seed,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "imported_from": table.file,
        "endpoint": {
            "kind": plan.endpoint.kind,
            "name": plan.endpoint.name or "imported",
            "variant": plan.endpoint.variant or "imported",
            "instance_type": plan.capacity.instance_type,
            "routing": routing.value,
            "config": None,
            "profile": plan.endpoint.profile,
        },
        "payload_classes": list(classes),
    }


def _warn(stages: Sequence[StageResult], ui: Ui) -> None:
    even = [s for s in stages if s.spec.arrivals == "constant"]
    if even:
        worst = min(s.health.arrivals_dispersion or 1.0 for s in even)
        ui.warn(
            f"arrivals of {len(even)} of {len(stages)} loads are more even than those of "
            f"independent callers (variance over mean {worst:.2f}, 1 is Poisson): with independent "
            "callers queues are longer, so the limit is at most the one found"
        )
    for stage in stages:
        for reason in stage.health.void_reasons:
            ui.warn(f"load {stage.spec.rate_per_s:.4g}/s is not used: {reason}")


def _stage_lines(stages: Sequence[StageResult], slo: Slo) -> str:
    lines = [f"{len(stages)} loads; share over each objective, with its 95 % interval:"]
    for stage in sound(stages):
        spec = stage.spec
        parts = []
        for objective in slo.objectives:
            if objective.measure.streamed and not _streamed(stage):
                continue
            seen = evidence(stage, objective)
            share = seen.share.interval
            verdict = (
                Verdict.VIOLATED if seen.overloaded else seen.share.verdict(objective.allowance)
            )
            parts.append(
                f"{objective.name} {share.mid:.1%} ({share.low:.1%}-{share.high:.1%}) "
                f"{verdict.value}{', overloaded' if seen.overloaded else ''}"
            )
        lines.append(
            f"  {spec.rate_per_s:9.4g}/s on {spec.instance_count}: {stage.requests} requests, "
            + "; ".join(parts)
        )
    return "\n".join(lines) + "\n"


def _streamed(stage: StageResult) -> bool:
    return stage.log is not None and any(math.isfinite(t) for t in stage.log.first_chunk_s)


def _answer_lines(found: CapacityModel, slo: Slo, count: int, out: str) -> str:
    lines = [f"{found.verdict.value}: {slo.describe()}"]
    entry = found.at(count)
    if entry is not None:
        rate = entry.rate_per_s
        lines.append(
            f"  {rate.mid:.4g}/s per instance ({rate.low:.4g}-{rate.high:.4g}) on {count}, by "
            f"{found.method.replace('_', ' ')}"
        )
    lines += [f"  {g.sentence}" for g in found.gates if not g.passed]
    lines += [f"  next: {g.remedy}" for g in found.gates if not g.passed and g.remedy]
    lines += [f"  {text}" for text in found.warnings]
    lines.append(f"policy for a traffic: tuner recommend {out} --traffic TRAFFIC.csv")
    return "\n".join(dict.fromkeys(lines))


def _sums(args: argparse.Namespace, table: Table, ui: Ui) -> int:
    """One bracket for each instance count and objective."""
    slo = load_plan(Path(args.plan)).slo if args.plan else _slo(args)
    lines, answered = [], True
    for objective in slo.objectives:
        loads = summaries_of(table, objective, instance_count=args.instances)
        for count in sorted({s.instance_count for s in loads}):
            some = [s for s in loads if s.instance_count == count]
            limit, gate = limit_of_summaries(some, objective, inflation=args.inflation)
            answered = answered and limit is not None
            name = f"{_named(objective)} at {count}"
            if limit is None:
                lines += [f"INCONCLUSIVE: {name}: {gate.sentence}", f"  next: {gate.remedy}"]
            else:
                lines += [
                    f"MET up to {limit.low:.4g}/s per instance, VIOLATED from {limit.high:.4g}/s: "
                    f"{name}",
                    f"  {gate.sentence}",
                ]
    if args.out is not None:
        ui.warn("sums of loads make no run directory: a policy needs the requests themselves")
    ui.result("\n".join(lines))
    return 0 if answered else 4


def _named(objective: LatencyObjective) -> str:
    return f"{objective.name} <= {objective.threshold_s * 1e3:g} ms"


def _slo(args: argparse.Namespace) -> Slo:
    return _plan(args, ()).slo
