"""From a run directory to capacity, policy and files; no endpoint is needed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner import __version__
from tuner.autoscaling.policy import ScalingMetric
from tuner.campaign.analyse import analyse
from tuner.campaign.types import Routing, ScaleEvent, StageResult
from tuner.commands.capture_file import capture_decision
from tuner.commands.inputs import (
    constraints_of,
    price_in,
    prices_of,
    schedule_rules_of,
    today_of,
    traffic_of,
)
from tuner.commands.legs import Leg, legs_of
from tuner.commands.mix_effect import mix_statements
from tuner.commands.models_file import room_for_models
from tuner.commands.pages import write_page
from tuner.commands.signals import curves_of, fitted_signals
from tuner.commands.sizing import TypeAnswer, compare, with_sizing, without_type
from tuner.commands.ui import Ui
from tuner.commands.verified import holds_back, with_verification
from tuner.errors import InputError, InsufficientDataError, RunDirectoryError
from tuner.plan.parse import Plan, parse_plan
from tuner.plan.tables import slo_of
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.as_json import to_json
from tuner.recommend.recommend import recommend
from tuner.recommend.signals import explain
from tuner.recommend.types import Recommendation, Statement
from tuner.report.console import console_text
from tuner.slo import Slo, Verdict
from tuner.store.files import write_whole
from tuner.store.run import JOURNAL, Run
from tuner.terraform.tfvars import copy_module, tfvars_text
from tuner.units import SECONDS_PER_MINUTE, per_min_to_per_s
from tuner.workload.traffic import TrafficProfile

UNKNOWN_TYPE = "unknown"
CANARY = "canary"
"""``kind`` of a run directory that tuner canary wrote."""
CHECK_REQUESTS = 600_000
"""Replayed one by one under the policy chosen: about a third of a second."""


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

    @property
    def routing(self) -> Routing:
        """The endpoint's routing."""
        return Routing(self.meta["endpoint"]["routing"])

    @property
    def instance_type(self) -> str:
        """What was measured, or what the plan names."""
        known = self.plan.capacity.instance_type or self.meta["endpoint"]["instance_type"]
        return str(known or UNKNOWN_TYPE)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A recommendation and the files that were written for it."""

    recommendation: Recommendation
    json_text: str
    files: tuple[Path, ...]

    @property
    def exit_code(self) -> int:
        """0 when the SLO is reachable, 3 when it is not, 4 when nobody can say."""
        if holds_back(self.recommendation):
            return 3
        return {Verdict.MET: 0, Verdict.VIOLATED: 3, Verdict.INCONCLUSIVE: 4}[
            self.recommendation.verdict
        ]


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
    plan = parse_plan(
        str(meta["plan"]),
        source=str(meta["plan_source"]),
        base_dir=path.resolve(),
        overrides={**meta.get("overrides", {}), **question.overrides},
        files=False,
    )
    return Recorded(path, plan, meta, stages, events, notes)


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
    capacity = _analysed(recorded, slo)
    if capacity.verdict is Verdict.VIOLATED:
        gate = next((g for g in capacity.gates if not g.passed), None)
        raise InputError(
            gate.sentence if gate else "the SLO is not held even at the lightest load",
            value=slo.describe(),
            allowed=gate.limit if gate else None,
            hint=(gate.remedy if gate else None) or "a faster model or instance, or a wider SLO",
        )
    return capacity


def _analysed(recorded: Recorded, slo: Slo) -> CapacityModel:
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


def answer(
    path: Path,
    ui: Ui,
    question: Question | None = None,
    *,
    out: Path | None = None,
    page: bool = True,
    png: bool = True,
    override_verification: bool = False,
) -> Answer:
    """Work out the recommendation of a run and write its files.

    After a failed verification no ``terraform.tfvars`` is written, unless that is overridden.

    Raises
    ------
    TunerError
        As `read_run` and `capacity_of`, or when there is no traffic to plan for.
    """
    question = question or Question()
    recorded, recommendation = _decided(read_run(path, question), question)
    recommendation = with_verification(
        path, recorded.meta, recommendation, ui, override=override_verification
    )
    slo = recommendation.slo
    target = out or path
    json_text = to_json(recommendation, provenance(recorded))
    tfvars = None
    if recommendation.chosen is not None and not holds_back(recommendation):
        tfvars = tfvars_text(
            recommendation,
            run_name=path.name,
            date_text=date_of(recorded),
            passthrough=recorded.plan.terraform,
        )
    files = [target / "recommendation.json"]
    write_whole(files[0], json_text)
    if tfvars is not None:
        files.append(target / "terraform.tfvars")
        write_whole(files[-1], tfvars)
        files.append(copy_module(target / "terraform"))
    else:
        # An older answer must not be applied by mistake.
        (target / "terraform.tfvars").unlink(missing_ok=True)
    if page:
        files.extend(write_page(recorded, slo, recommendation, tfvars, target, png=png))
    return Answer(recommendation, json_text, tuple(files))


def _decided(recorded: Recorded, question: Question) -> tuple[Recorded, Recommendation]:
    """The run that is answered from and its answer; of several types, that of the best."""
    legs = legs_of(recorded.plan, files=False)
    if len(legs) == 1:
        return recorded, _recommended(recorded, question)
    runs: list[Recorded | None] = [recorded]
    answers = [_type_answer(legs[0], recorded, question)]
    own = replace(question, overrides=without_type(question.overrides))
    for leg in legs[1:]:
        there = (recorded.path / leg.directory / JOURNAL).is_file()
        run = read_run(recorded.path / leg.directory, own) if there else None
        runs.append(run)
        answers.append(_type_answer(leg, run, own))
    sized = compare(answers, traffic_for(recorded, question), recorded.plan.load.seed)
    order = sorted(answers, key=lambda a: a.name != sized.chosen)
    best = next((a for a in order if a.recommendation is not None), None)
    if best is None or best.recommendation is None:
        raise InsufficientDataError("no instance type has an answer", value=sized.sentence)
    run = runs[answers.index(best)]
    assert run is not None
    return replace(run, path=recorded.path), with_sizing(
        best.recommendation, sized, answers[0].recommendation
    )


def _recommended(recorded: Recorded, question: Question) -> Recommendation:
    slo = slo_for(recorded.plan, question.slo)
    return recommendation_of(recorded, slo, capacity_of(recorded, slo), question)


def _type_answer(leg: Leg, recorded: Recorded | None, question: Question) -> TypeAnswer:
    """One type's own answer; what keeps it from having one is its reason."""
    plan = leg.plan if recorded is None else recorded.plan
    kind = plan.capacity.instance_type or UNKNOWN_TYPE
    blank = TypeAnswer(leg.name, plan, kind, constraints_of(plan, kind), None)
    if recorded is None:
        return replace(blank, reason="It was not measured yet: go on with --resume.")
    slo = slo_for(plan, question.slo)
    try:
        found = _recommended(recorded, question)
        traffic = traffic_for(recorded, question)
        fitted = fitted_signals(recorded.meta, recorded.stages, plan, found.capacity, traffic)
        return replace(blank, recommendation=found, metric_curves=curves_of(fitted))
    except InsufficientDataError as error:
        return replace(blank, reason=error.message)
    except InputError as error:
        # Only an SLO that the unloaded endpoint misses is the type's own fault.
        if not recorded.stages or _analysed(recorded, slo).verdict is not Verdict.VIOLATED:
            raise
        return replace(blank, reason=error.message, misses=True)


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


def recommendation_of(
    recorded: Recorded, slo: Slo, capacity: CapacityModel, question: Question
) -> Recommendation:
    """The policy search on the plan's traffic or another one.

    Raises
    ------
    InputError
        If there is no traffic at all.
    """
    plan = recorded.plan
    traffic = traffic_for(recorded, question)
    fitted = fitted_signals(recorded.meta, recorded.stages, plan, capacity, traffic)
    curves = curves_of(fitted)
    metrics = (ScalingMetric.INVOCATIONS, *curves)
    room = room_for_models(
        recorded.path,
        plan,
        slo,
        replace(constraints_of(plan, recorded.instance_type), metrics=metrics),
        peak_per_s=per_min_to_per_s(traffic.peak_per_min),
        price=price_in(plan, recorded.instance_type),
    )
    found = recommend(
        capacity,
        traffic,
        slo=slo,
        constraints=room.constraints,
        metric_curves=curves,
        launch_lag_s=plan.capacity.launch_lag_s,
        prices=prices_of(plan, recorded.instance_type),
        today=today_of(plan),
        seed=plan.load.seed,
        check_requests=CHECK_REQUESTS,
        schedule=schedule_rules_of(plan),
    )
    if fitted:
        assert plan.signals is not None
        found = explain(found, fitted, vcpus=plan.signals.vcpus, gpus=plan.signals.gpus)
    found = room.told(found)
    effects = mix_statements(
        slo,
        capacity,
        recorded.stages,
        tuple(recorded.meta["payload_classes"]),
        plan.traffic.mix or None,
        plan.load.seed,
    )
    found = replace(found, statements=(*found.statements, *effects))
    decision = capture_decision(
        recorded.path,
        plan.data_capture,
        recorded.meta.get("payload_bytes"),
        found,
        traffic.mean_per_min,
    )
    if decision is None:
        return found
    said = Statement("data_capture", decision.sentence)
    return replace(found, data_capture=decision, statements=(*found.statements, said))


def provenance(recorded: Recorded) -> dict[str, object]:
    """Where an answer comes from; nothing in it changes between two calls."""
    meta = recorded.meta
    return {
        "run": recorded.path.name,
        "measured": date_of(recorded),
        "measured_with": meta["tuner_version"],
        "tuner_version": __version__,
        "seed": recorded.plan.load.seed,
        "endpoint": meta["endpoint"],
        "python": meta["python"],
    }


def date_of(recorded: Recorded) -> str:
    """The day the run was made, UTC."""
    return run_date(recorded.meta)


def run_date(meta: Mapping[str, Any]) -> str:
    """The day of a run by its journal, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(float(meta["created_at_unix_s"])))


def deliver(result: Answer, ui: Ui, *, as_json: bool = False) -> int:
    """Print the answer and say where the files are; returns the exit code."""
    if as_json:
        ui.result(result.json_text)
    else:
        ui.result(console_text(result.recommendation))
        ui.result(files_text(result.files))
    return result.exit_code


def files_text(files: Sequence[Path]) -> str:
    """One line per file."""
    return "files:\n" + "\n".join(f"  {f}" for f in files)
