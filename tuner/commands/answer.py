"""From a run directory to capacity, policy and files; no endpoint is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.autoscaling.policy import ScalingMetric
from tuner.commands.capture_file import capture_decision
from tuner.commands.in_use import policy_in_use
from tuner.commands.inputs import (
    constraints_of,
    price_in,
    prices_of,
    schedule_rules_of,
)
from tuner.commands.legs import Leg, legs_of
from tuner.commands.mix_effect import mix_statements
from tuner.commands.models_file import room_for_models
from tuner.commands.pages import write_page
from tuner.commands.recorded import (
    UNKNOWN_TYPE,
    Question,
    Recorded,
    analysed,
    capacity_of,
    date_of,
    provenance,
    read_run,
    slo_for,
    traffic_for,
)
from tuner.commands.signals import curves_of, fitted_signals
from tuner.commands.sizing import TypeAnswer, compare, with_sizing, without_type
from tuner.commands.ui import Ui
from tuner.commands.verified import holds_back, with_verification
from tuner.errors import InputError, InsufficientDataError
from tuner.queueing.capacity import CapacityModel
from tuner.recommend.as_json import to_json
from tuner.recommend.recommend import recommend
from tuner.recommend.signals import explain
from tuner.recommend.types import Recommendation, Statement
from tuner.report.console import console_text
from tuner.slo import Slo, Verdict
from tuner.store.files import write_whole
from tuner.store.run import JOURNAL
from tuner.terraform.tfvars import copy_module, tfvars_text
from tuner.units import per_min_to_per_s

CHECK_REQUESTS = 300_000
"""Replayed one by one under the policy chosen: a fifth of a second or so."""


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
        if not recorded.stages or analysed(recorded, slo).verdict is not Verdict.VIOLATED:
            raise
        return replace(blank, reason=error.message, misses=True)


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
        today=policy_in_use(recorded),
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
