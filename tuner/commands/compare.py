"""``tuner compare``: did the second run get slower than the first?"""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.campaign.changes import Change, change_text
from tuner.campaign.compare import Comparison, compare
from tuner.commands.recorded import Recorded, capacity_of, date_of, read_run
from tuner.commands.ui import Ui
from tuner.commands.unrestored import remind
from tuner.errors import InputError, InsufficientDataError
from tuner.interval import Interval
from tuner.recommend.release_json import comparison_to_json
from tuner.report.junit import Check, junit_xml
from tuner.slo import Verdict
from tuner.store.files import write_whole
from tuner.units import s_to_ms

EXIT_CODE = {Verdict.MET: 0, Verdict.VIOLATED: 3, Verdict.INCONCLUSIVE: 4}


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Read both runs, compare, print."""
    paths = (Path(args.baseline), Path(args.candidate))
    remind(ui, *paths)
    runs = (read_run(paths[0]), read_run(paths[1]))
    for remark in (*_differences(*runs), *left_out(runs[0]), *left_out(runs[1])):
        ui.warn(remark)
    slo = runs[0].plan.slo
    capacity = None if args.no_capacity else _capacities(runs, ui)
    found = compare(
        runs[0].stages,
        runs[1].stages,
        slo,
        slower_by=args.slower_by,
        level=args.level,
        capacity=capacity,
    )
    if args.junit:
        write_whole(Path(args.junit), junit_xml("tuner compare", checks_of(found)))
    if args.json:
        ui.result(comparison_to_json(found, {"runs": [_about(r) for r in runs]}))
    else:
        ui.result(comparison_text(found))
    return EXIT_CODE[found.verdict]


def _capacities(runs: tuple[Recorded, Recorded], ui: Ui) -> tuple[Interval, Interval] | None:
    """Rate per instance of both runs at the smallest count they share; None where not known."""
    found = []
    for run in runs:
        try:
            model = capacity_of(run, runs[0].plan.slo)
        except (InsufficientDataError, InputError) as error:
            ui.warn(f"{run.path.name} has no capacity to compare: {error.message}")
            return None
        found.append({c.instance_count: c.rate_per_s for c in model.by_count})
    shared = sorted(set(found[0]) & set(found[1]))
    if not shared:
        ui.warn("the runs know the capacity of no instance count in common")
        return None
    return found[0][shared[0]], found[1][shared[0]]


def _differences(baseline: Recorded, candidate: Recorded) -> list[str]:
    """What differs between the runs besides what is compared."""
    rows = [
        ("instance type", baseline.instance_type, candidate.instance_type),
        ("routing", baseline.routing.value, candidate.routing.value),
        ("SLO", baseline.plan.slo.describe(), candidate.plan.slo.describe()),
        ("tuner", baseline.meta["tuner_version"], candidate.meta["tuner_version"]),
        (
            "payload classes",
            ", ".join(baseline.meta["payload_classes"]),
            ", ".join(candidate.meta["payload_classes"]),
        ),
        ("mean request size", _body(baseline), _body(candidate)),
        ("arrivals", baseline.plan.load.arrivals, candidate.plan.load.arrivals),
        ("client timeout", f"{baseline.plan.timeout_s:g} s", f"{candidate.plan.timeout_s:g} s"),
    ]
    return [f"the runs differ in {name}: {a} and {b}" for name, a, b in rows if a != b]


def _body(run: Recorded) -> str:
    """Mean size of what was sent, as far as the journal knows."""
    known = run.meta.get("payload_bytes")
    return f"{known[0]:,.0f} bytes" if isinstance(known, list) else "unknown"


def left_out(run: Recorded) -> list[str]:
    """Which stages of a run cannot be compared, and why."""
    closed = sum(not s.health.open_loop for s in run.stages)
    void = sum(s.void for s in run.stages)
    said = []
    if closed:
        said.append(
            f"{closed} of the {len(run.stages)} stages of {run.path.name} are closed-loop and not "
            "compared: users that wait for answers send less to a slower endpoint, which hides "
            "how slow it is"
        )
    if void:
        said.append(
            f"{void} of the {len(run.stages)} stages of {run.path.name} were limited by the "
            "generator and are not compared"
        )
    return said


def _about(run: Recorded) -> dict[str, object]:
    return {"run": run.path.name, "measured": date_of(run), "endpoint": run.meta["endpoint"]}


def checks_of(comparison: Comparison) -> tuple[Check, ...]:
    """The answer's figures as checks for CI; loads one by one are for information."""
    overall = tuple(
        Check(c.name, c.verdict, change_text(c), informative=not c.deciding)
        for c in comparison.overall
    )
    return (Check("no regression", comparison.verdict, comparison.sentence), *overall)


def comparison_text(comparison: Comparison) -> str:
    """The answer, the figures it rests on, and every common load."""
    lines = [comparison.sentence, ""]
    lines += [_line("overall", c) for c in comparison.overall]
    for stage in comparison.stages:
        load = f"{stage.rate_per_s:.4g}/s on {stage.instance_count}"
        lines += [_line(load, c) for c in stage.changes[:-1]]
    alone = [len(x) for x in comparison.unmatched]
    if any(alone):
        lines += ["", f"without a partner at the same load: {alone[0]} and {alone[1]} stages"]
    return "\n".join(lines)


def _line(load: str, change: Change) -> str:
    if change.name == "capacity lost":
        values = f"{change.baseline:.4g} -> {change.candidate:.4g} /s"
    elif change.relative:
        values = f"{s_to_ms(change.baseline):.4g} -> {s_to_ms(change.candidate):.4g} ms"
    else:
        values = f"{change.baseline:.3%} -> {change.candidate:.3%}"
    mark = "  REGRESSION" if change.verdict is Verdict.VIOLATED else ""
    return f"  {load:<16} {change.name:<26} {values:<24} {change_text(change)}{mark}"
