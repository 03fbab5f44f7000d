"""``tuner apply``: register the recommended policy; a dry run unless told otherwise."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.commands.interrupts import patient
from tuner.commands.legs import TYPES
from tuner.commands.ui import Ui
from tuner.commands.unrestored import remind
from tuner.endpoints.apply import apply_plan, plan_apply
from tuner.endpoints.records import RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError, InputError
from tuner.plan.parse import parse_plan
from tuner.recommend.as_json import Document, from_json
from tuner.store.run import APPLY, Run
from tuner.terraform.tfvars import safe_target


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Show the difference; with ``--yes`` make it so, recorded first."""
    remind(ui, Path(args.run))
    path = Path(args.run)
    document = read_recommendation(path)
    policy, bounds = policy_to_apply(document)
    with Run.open(path) as run:
        _same_type(run, document)
        driver = driver_of(run)
        plan = plan_apply(driver, policy, bounds, replace_others=args.replace_others)
        for change in plan.changes:
            ui.result(str(change))
        for warning in plan.warnings:
            ui.warn(warning)
        if document.scheduled_actions:
            ui.warn(
                f"{len(document.scheduled_actions)} scheduled actions belong to this policy and "
                "are not applied here: Terraform sets them, and the commands that `tuner report` "
                f"shows; until then the minimum stays at {bounds.min_capacity}"
            )
        if plan.empty:
            ui.result("nothing to change")
            return 0
        if not args.yes:
            ui.result("dry run: nothing was changed; apply with --yes")
            return 0
        refuse_production(driver, agreed=args.yes_this_is_production)

        def keep(record: RestoreRecord) -> None:
            run.record_before_change(record.to_json(), APPLY)

        try:
            with patient(ui, "the policy is being registered"):
                apply_plan(driver, plan, keep)
        except EndpointError:
            if run.unrestored(APPLY):
                ui.warn(
                    "not everything was applied; go on with the same command, or take back what "
                    f"was done: tuner restore --applied {path}"
                )
            raise
    ui.result(f"applied; take it back with: tuner restore --applied {path}")
    return 0


def refuse_production(driver: SageMakerEndpoint, *, agreed: bool) -> None:
    """A production endpoint is neither changed nor loaded unasked.

    Raises
    ------
    EndpointError
        If the endpoint is one and the user has not agreed.
    """
    state = driver.describe()
    if state.production and not agreed:
        raise EndpointError(
            f"this endpoint is taken for production: {state.production_reason}",
            value=state.name,
            hint="add --yes-this-is-production",
        )


def _same_type(run: Run, document: Document) -> None:
    """The policy of another instance type does not fit the endpoint of ``[endpoint]``."""
    measured = run.meta()["endpoint"]["instance_type"]
    if (run.path / TYPES).is_dir() and document.instance_type != measured:
        raise InputError(
            "the recommended policy is one for another instance type than this endpoint has",
            value=document.instance_type,
            allowed=measured,
            hint="apply the variables with Terraform, or for that endpoint: "
            f"tuner recommend {run.path / TYPES}/…, then tuner apply the same directory",
        )


def policy_to_apply(document: Document) -> tuple[TargetTrackingPolicy, CapacityBounds]:
    """The recommended policy, its target rounded as in ``terraform.tfvars``.

    Raises
    ------
    InputError
        If there is none.
    """
    policy = document.policy
    if policy is None or document.bounds is None:
        raise InputError(
            "the recommendation holds no policy", value=document.verdict.value, allowed="MET"
        )
    return replace(policy, target_value=safe_target(policy.target_value)), document.bounds


def read_recommendation(path: Path) -> Document:
    """The run's ``recommendation.json``.

    Raises
    ------
    InputError
        If there is none, or it cannot be used.
    """
    file = path / "recommendation.json"
    try:
        text = file.read_text("utf-8")
    except OSError:
        raise InputError(
            "the run has no recommendation", value=str(file), hint=f"tuner recommend {path}"
        ) from None
    return from_json(text, str(file))


def driver_of(run: Run) -> SageMakerEndpoint:
    """The SageMaker endpoint a run was made on.

    Raises
    ------
    InputError
        If the run was made on something that has no scaling policy.
    """
    meta = run.meta()
    plan = parse_plan(
        str(meta["plan"]),
        source=str(meta["plan_source"]),
        base_dir=run.path.resolve(),
        overrides=meta.get("overrides", {}),
        files=False,
    )
    table = plan.endpoint
    private = table.kind == "emulator" and table.endpoint_url is None
    if table.kind == "http" or private:
        raise InputError(
            "the run was not made on an endpoint that is still there and scales",
            value=table.kind,
            allowed="a SageMaker endpoint, or an emulator named by endpoint.endpoint_url",
        )
    known = meta["endpoint"]
    return SageMakerEndpoint(
        str(known["name"]), str(known["variant"]), table.region, table.profile, table.endpoint_url
    )
