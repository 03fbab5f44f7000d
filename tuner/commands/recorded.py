"""What a run directory holds, and what an instance carries by it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner import __version__
from tuner.campaign.analyse import analyse
from tuner.campaign.types import Routing, ScaleEvent, StageResult
from tuner.commands.inputs import traffic_of
from tuner.errors import InputError, InsufficientDataError, RunDirectoryError
from tuner.plan.parse import Plan, parse_plan
from tuner.plan.tables import slo_of
from tuner.queueing.capacity import CapacityModel
from tuner.slo import Slo, Verdict
from tuner.store.run import Run
from tuner.units import SECONDS_PER_MINUTE
from tuner.workload.traffic import TrafficProfile

UNKNOWN_TYPE = "unknown"
CANARY = "canary"
"""``kind`` of a run directory that tuner canary wrote."""


@dataclass(frozen=True, slots=True)
class Question:
    """What may be asked of a finished run beside its own plan; None and empty change nothing."""

    slo: Mapping[str, float] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    traffic: tuple[str, str] | None = None
    """Name and text of another traffic file."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """Everything a run directory holds that an answer is made from."""

    path: Path
    plan: Plan
    meta: Mapping[str, Any]
    stages: tuple[StageResult, ...]
    events: tuple[ScaleEvent, ...]
    notes: tuple[tuple[str, str], ...]
    records: tuple[str, ...] = ()
    """The endpoint before the campaign changed it, as JSON; empty where nothing was changed."""

    @property
    def routing(self) -> Routing:
        """The endpoint's routing."""
        return Routing(self.meta["endpoint"]["routing"])

    @property
    def instance_type(self) -> str:
        """What was measured, or what the plan names."""
        known = self.plan.capacity.instance_type or self.meta["endpoint"]["instance_type"]
        return str(known or UNKNOWN_TYPE)


def read_run(path: Path, question: Question | None = None) -> Recorded:
    """A run directory, with the question's overrides applied to its plan.

    Raises
    ------
    RunDirectoryError, PlanError
        If the directory is damaged, or an override does not fit.
    """
    question = question or Question()
    with Run.open(path) as run:
        meta, stages, events = run.meta(), run.stages(), run.scale_events()
        if meta.get("kind") == CANARY:
            raise RunDirectoryError(
                "this is the run of a canary: it compares two variants and knows no capacity",
                value=str(path),
                allowed="a run directory of tuner run",
                hint=f"tuner report {path}",
            )
        notes = tuple((n.kind, n.text) for n in run.notes())
        records = run.records()
    plan = parse_plan(
        str(meta["plan"]),
        source=str(meta["plan_source"]),
        base_dir=path.resolve(),
        overrides={**meta.get("overrides", {}), **question.overrides},
        files=False,
    )
    return Recorded(path, plan, meta, stages, events, notes, records)


def slo_for(plan: Plan, changes: Mapping[str, float]) -> Slo:
    """The plan's SLO with single objectives replaced or added."""
    if not changes:
        return plan.slo
    return slo_of({**plan.slo_table.model_dump(), **changes})


def capacity_of(recorded: Recorded, slo: Slo) -> CapacityModel:
    """What an instance carries inside an SLO, by this run.

    Raises
    ------
    InsufficientDataError
        If the run has no completed stage.
    InputError
        If the SLO is below what an unloaded endpoint takes.
    """
    if not recorded.stages:
        raise InsufficientDataError(
            "the run has no completed stage",
            value=str(recorded.path),
            hint="go on with: tuner run PLAN --out DIR --resume",
        )
    plan = recorded.plan
    timeout = plan.timeout_s
    if slo.slowest_threshold_s * 4.0 > timeout + 1e-9:
        raise InputError(
            "this SLO cannot be judged from the run: its client timeout cut slow answers off",
            value=slo.describe(),
            allowed=f"objectives up to {timeout / 4.0 * 1e3:g} ms (a quarter of {timeout:g} s)",
            hint="measure again with this SLO in the plan",
        )
    capacity = analysed(recorded, slo)
    if capacity.verdict is Verdict.VIOLATED:
        gate = next((g for g in capacity.gates if not g.passed), None)
        raise InputError(
            gate.sentence if gate else "the SLO is not held even at the lightest load",
            value=slo.describe(),
            allowed=gate.limit if gate else None,
            hint=(gate.remedy if gate else None) or "a faster model or instance, or a wider SLO",
        )
    return capacity


def analysed(recorded: Recorded, slo: Slo) -> CapacityModel:
    """The analysis of a run for an SLO, whatever its verdict."""
    plan = recorded.plan
    found = analyse(
        slo,
        recorded.stages,
        routing=recorded.routing,
        instance_counts_max=plan.capacity.max_capacity,
        launch_events=recorded.events,
        classes=tuple(recorded.meta["payload_classes"]),
        mix=plan.traffic.mix or None,
        level=plan.load.level,
        precision=plan.load.precision,
        seed=plan.load.seed,
    )
    # Launches on an emulator with a faster clock took less than the minutes they stand for.
    lags = tuple(s / plan.endpoint.minute_s * SECONDS_PER_MINUTE for s in found.launch_lag_s)
    return replace(found, launch_lag_s=lags)


def traffic_for(recorded: Recorded, question: Question) -> TrafficProfile:
    """The question's traffic, else the plan's.

    Raises
    ------
    InputError
        If there is none at all.
    """
    name, csv = question.traffic or (None, recorded.meta.get("traffic_csv"))
    traffic = traffic_of(recorded.plan, csv, name=name)
    if traffic is None:
        raise InputError(
            "there is no traffic to plan for",
            allowed="traffic.csv or traffic.peak_per_min in the plan, or --traffic CSV",
        )
    return traffic


def provenance(recorded: Recorded) -> dict[str, object]:
    """Where an answer comes from; nothing in it changes between two calls."""
    meta = recorded.meta
    return {
        **made_with(recorded.path, meta),
        "seed": recorded.plan.load.seed,
        "endpoint": meta["endpoint"],
        "python": meta["python"],
    }


def made_with(path: Path, meta: Mapping[str, Any]) -> dict[str, object]:
    """The run, its day, and the versions that measured and that answer."""
    return {
        "run": path.name,
        "measured": run_date(meta),
        "measured_with": meta["tuner_version"],
        "tuner_version": __version__,
    }


def date_of(recorded: Recorded) -> str:
    """The day the run was made, UTC."""
    return run_date(recorded.meta)


def run_date(meta: Mapping[str, Any]) -> str:
    """The day of a run by its journal, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(float(meta["created_at_unix_s"])))
