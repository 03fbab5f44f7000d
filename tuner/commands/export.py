"""``tuner export``: every measured request, for other tools."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from tuner.campaign.types import StageResult
from tuner.commands.ui import Ui
from tuner.errors import InputError
from tuner.load.hdr import hdr_log
from tuner.stats.requests import Outcome
from tuner.store.files import write_whole
from tuner.store.parquet import parquet_bytes
from tuner.store.run import Run

STAGE_FIELDS = (
    "stage",
    "kind",
    "instance_count",
    "rate_per_s",
    "duration_s",
    "started_at_unix_s",
    "requests",
    "failures",
    "void",
    "open_loop",
    "clock_shared",
    "chunk_gap_p50_s",
    "chunk_gap_p95_s",
    "chunk_gap_p99_s",
)
REQUEST_FIELDS = (
    "stage",
    "scheduled_s",
    "sent_s",
    "first_chunk_s",
    "done_s",
    "outcome",
    "payload_class",
    "worker",
    "longest_gap_s",
)


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Write ``stages.csv`` and the requests in the format asked for."""
    path = Path(args.run)
    out = Path(args.out) if args.out else path / "export"
    with Run.open(path) as run:
        stages = run.stages()
    if not stages:
        raise InputError("the run has no completed stage", value=str(path))
    written = [out / "stages.csv"]
    write_whole(written[0], _stages_csv(stages))
    raw = [s for s in stages if s.log is not None]
    if args.format == "csv":
        written.append(out / "requests.csv")
        write_whole(written[-1], _requests_csv(raw))
    elif args.format == "parquet":
        written.append(out / "requests.parquet")
        write_whole(written[-1], parquet_bytes(raw))
    else:
        written.append(out / "latency.hlog")
        write_whole(written[-1], hdr_log(stages))
    if len(raw) < len(stages) and args.format != "hdr":
        ui.warn(f"{len(stages) - len(raw)} stages were kept as histograms only: use --format hdr")
    for file in written:
        ui.result(str(file))
    return 0


def _stages_csv(stages: tuple[StageResult, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(STAGE_FIELDS)
    for s in stages:
        writer.writerow(
            (
                s.spec.index,
                s.spec.kind.value,
                s.spec.instance_count,
                repr(s.spec.rate_per_s),
                repr(s.spec.duration_s),
                repr(s.started_at_unix_s),
                s.requests,
                s.failures,
                int(s.void),
                int(s.health.open_loop),
                int(s.health.clock_shared),
                *_gap_quantiles(s),
            )
        )
    return text.getvalue()


def _gap_quantiles(stage: StageResult) -> tuple[str, ...]:
    gaps = stage.chunk_gaps
    quantiles = (0.5, 0.95, 0.99)
    return tuple("" if gaps is None else repr(gaps.quantile_s(q)) for q in quantiles)


def _seconds(time_s: float) -> str:
    return "" if time_s != time_s else f"{time_s:.9f}"


def _requests_csv(stages: list[StageResult]) -> str:
    text = io.StringIO()
    text.write(",".join(REQUEST_FIELDS) + "\n")
    names = {int(o): o.name.lower() for o in Outcome}
    for s in stages:
        assert s.log is not None
        columns = [c.tolist() for c in s.log.columns().values()]
        for *when, outcome, payload_class, worker, gap in zip(*columns, strict=True):
            times = ",".join(_seconds(t) for t in when)
            text.write(
                f"{s.spec.index},{times},{names[outcome]},{payload_class},{worker},{_seconds(gap)}\n"
            )
    return text.getvalue()
