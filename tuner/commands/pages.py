"""What a report shows of a run: gathered here, drawn in ``report``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from tuner.campaign.types import GeneratorHealth
from tuner.commands.recorded import Recorded, date_of
from tuner.commands.tables import gap_tables, knob_tables
from tuner.commands.ui import duration_text
from tuner.commands.verified import KEY
from tuner.commands.verified import tables as verification_tables
from tuner.recommend.types import Recommendation
from tuner.report.data import ReportData, View
from tuner.report.figures import draw_all
from tuner.report.page import render_html
from tuner.slo import Slo
from tuner.store.files import write_whole
from tuner.terraform.snippets import aws_cli_text, cloudformation_text
from tuner.units import s_to_h, s_to_ms


def write_page(
    recorded: Recorded,
    slo: Slo,
    recommendation: Recommendation,
    tfvars: str | None,
    out: Path,
    *,
    png: bool,
) -> list[Path]:
    """Write ``report.html`` and the figures; returns what was written."""
    data = report_data(recorded, slo, recommendation, tfvars)
    drawn = draw_all(View.of(data), png=png)
    page = out / "report.html"
    write_whole(page, render_html(data, drawn))
    figures = out / "figures"
    fresh = set()
    for figure in drawn:
        for suffix, content in (("svg", figure.svg), ("png", figure.png)):
            if content is not None:
                fresh.add(f"{figure.name}.{suffix}")
                write_whole(figures / f"{figure.name}.{suffix}", content)
    _remove_stale(figures, fresh)
    return [page, figures]


def _remove_stale(figures: Path, fresh: set[str]) -> None:
    # A figure of an earlier answer beside the new ones would be taken for one of them.
    if not fresh:
        shutil.rmtree(figures, ignore_errors=True)
        return
    for old in figures.iterdir():
        if old.suffix in (".svg", ".png") and old.name not in fresh:
            old.unlink()


def report_data(
    recorded: Recorded, slo: Slo, recommendation: Recommendation | None, tfvars: str | None
) -> ReportData:
    """Everything the page shows."""
    stages = recorded.stages
    seconds = sum(s.spec.settle_s + s.spec.duration_s for s in stages)
    hours = sum(s_to_h(s.spec.settle_s + s.spec.duration_s) * s.spec.instance_count for s in stages)
    price = recommendation.price_per_hour_usd if recommendation else None
    endpoint = recorded.meta["endpoint"]
    return ReportData(
        title=f"{endpoint['name']} on {recorded.instance_type}",
        run_name=recorded.path.name,
        date_text=date_of(recorded),
        slo=slo,
        stages=stages,
        capacity=recommendation.capacity if recommendation else None,
        recommendation=recommendation,
        scale_events=recorded.events,
        plan_rows=_plan_rows(recorded),
        provenance=_provenance(recorded),
        generator_check=_generator_check(recorded),
        refusals=tuple(
            f"{kind}: {text}" for kind, text in recorded.notes if kind not in ("finished", KEY)
        ),
        commands=(
            f"tuner run {recorded.meta['plan_source']}",
            f"tuner recommend reports/{recorded.path.name}",
            f"tuner report reports/{recorded.path.name}",
        ),
        tfvars=tfvars,
        snippets=_snippets(recorded, recommendation) if tfvars is not None else (),
        choices=knob_tables(recommendation),
        tables=(*gap_tables(stages), *verification_tables(recommendation)),
        duration_s=seconds,
        money_spent_usd=hours * price if price is not None else None,
    )


def _snippets(
    recorded: Recorded, recommendation: Recommendation | None
) -> tuple[tuple[str, str], ...]:
    if recommendation is None or recommendation.chosen is None:
        return ()
    endpoint = recorded.meta["endpoint"]
    names = {"endpoint_name": str(endpoint["name"]), "variant_name": str(endpoint["variant"])}
    texts = (
        ("AWS CLI", aws_cli_text(recommendation, **names)),
        ("CloudFormation", cloudformation_text(recommendation, **names)),
    )
    return tuple((title, text) for title, text in texts if text)


def _plan_rows(recorded: Recorded) -> tuple[tuple[str, str], ...]:
    plan = recorded.plan
    rows: list[tuple[str, str]] = []
    for name in ("endpoint", "load", "traffic", "capacity"):
        table = getattr(plan, name)
        for key in sorted(table.model_fields_set):
            value = getattr(table, key)
            rows.append((f"{name}.{key}", _shown(value)))
    return tuple(rows)


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 120 else text[:117] + "…"


def _provenance(recorded: Recorded) -> tuple[tuple[str, str], ...]:
    meta = recorded.meta
    endpoint = meta["endpoint"]
    return (
        ("endpoint", f"{endpoint['name']} / {endpoint['variant']} ({endpoint['kind']})"),
        ("routing", str(endpoint["routing"])),
        ("measured with", f"tuner {meta['tuner_version']}, Python {meta['python']}"),
        ("machine", str(meta["platform"])),
        ("seed", str(meta["seed"])),
    )


def _generator_check(recorded: Recorded) -> tuple[tuple[str, str], ...]:
    sound = [s.health for s in recorded.stages if not s.void]
    if not sound:
        return ()
    voided = len(recorded.stages) - len(sound)
    rows = [
        ("generator processes", str(max(h.workers for h in sound))),
        (
            "send lag, p99, worst stage",
            f"{s_to_ms(_worst(h.send_lag_p99_s for h in sound)):.3g} ms",
        ),
        (
            "event-loop lag, p99, worst",
            f"{s_to_ms(_worst(h.loop_lag_p99_s for h in sound)):.3g} ms",
        ),
        ("busiest process", f"{_worst(h.cpu_share_max for h in sound):.0%} of a core"),
        ("most in flight", f"{max(h.in_flight_max for h in sound):,}"),
        ("stages voided", str(voided)),
        ("arrivals", _arrivals(sound)),
        ("clocks of the generators", _clocks(sound)),
    ]
    own = recorded.meta.get("own_latency")
    if own is not None:
        rows.append(
            (
                "tuner's own latency",
                f"p50 {s_to_ms(own['p50_s']):.3g} ms, p99 {s_to_ms(own['p99_s']):.3g} ms, against "
                f"a server that takes no time, at {own['rate_per_s']:g}/s on this machine",
            )
        )
    lags = [e.lag_s for e in recorded.events if e.to_count > e.from_count]
    if lags:
        rows.append(("launch lag seen", ", ".join(duration_text(x) for x in lags)))
    return tuple(rows)


def _arrivals(sound: Sequence[GeneratorHealth]) -> str:
    closed = sum(not h.open_loop for h in sound)
    if not closed:
        return "open-loop"
    return f"CLOSED-LOOP in {closed} of {len(sound)} stages: users waited for answers"


def _clocks(sound: Sequence[GeneratorHealth]) -> str:
    apart = sum(not h.clock_shared for h in sound)
    if not apart:
        return "one, shared"
    return (
        f"NOT COMPARABLE in {apart} of {len(sound)} stages: each machine timed its own requests; "
        "latencies are exact, the order of requests between machines is not"
    )


def _worst(values: Iterable[float]) -> float:
    return max((v for v in values if v == v), default=float("nan"))
