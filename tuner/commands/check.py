"""``tuner check``: everything a campaign depends on, before anything is changed."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.commands.inputs import campaign_of, price_in, traffic_of, traffic_text
from tuner.commands.legs import legs_of, require_prices
from tuner.commands.preview import estimate_of
from tuner.commands.session import open_endpoint, payloads_of
from tuner.commands.ui import Ui
from tuner.commands.unrestored import remind
from tuner.endpoints.operations import iam_policy
from tuner.endpoints.protocol import Finding
from tuner.plan.parse import Plan, load_plan
from tuner.workload.payloads import PayloadSet

MARKS = {"ok": "ok  ", "warn": "warn", "stop": "STOP"}


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Look, say, change nothing; 2 if something forbids the campaign."""
    if args.iam_policy:
        ui.result(iam_policy())
        return 0
    remind(ui)
    plan = load_plan(Path(args.plan))
    payloads = payloads_of(plan)
    csv = traffic_text(plan.path(plan.traffic.csv)) if plan.traffic.csv else None
    traffic = traffic_of(plan, csv)
    ui.result(f"ok    the plan is valid: {plan.slo.describe()}")
    ui.result(
        f"ok    {len(payloads.payloads)} payload(s) in classes {', '.join(payloads.class_names)}, "
        f"largest {payloads.largest_bytes:,} bytes"
    )
    if traffic is not None:
        ui.result(f"ok    traffic {traffic.name}: peak {traffic.peak_per_min:,.0f} per minute")
        for note in traffic.notes:
            ui.result(f"      {note}")
    legs = legs_of(plan)
    require_prices(legs)
    stopped = False
    for leg in legs:
        if len(legs) > 1:
            ui.result(f"ok    instance type {leg.name}")
        findings = _look(leg.plan, payloads, ui, agreed=args.yes_this_is_production)
        for finding in findings:
            ui.result(finding_text(finding))
        stopped = stopped or any(f.level == "stop" for f in findings)
    return 2 if stopped else 0


def _look(plan: Plan, payloads: PayloadSet, ui: Ui, *, agreed: bool) -> tuple[Finding, ...]:
    """What one campaign depends on."""
    with open_endpoint(plan, ui) as opened:
        instance_type = plan.capacity.instance_type or opened.state.instance_type
        price = price_in(plan, instance_type)
        config = campaign_of(plan, opened.routing, payloads, price)
        estimate = estimate_of(plan, config, price)
        return opened.driver.preflight(estimate, production_agreed=agreed)


def finding_text(finding: Finding) -> str:
    """One finding in a line, with what is allowed and the next step below it."""
    text = f"{MARKS[finding.level]}  {finding.sentence}"
    if finding.value is not None:
        text += f" (got {finding.value})"
    if finding.allowed is not None:
        text += f"\n        allowed: {finding.allowed}"
    if finding.hint is not None:
        text += f"\n        next:    {finding.hint}"
    return text
