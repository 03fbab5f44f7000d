"""``tuner rehearse``: the whole campaign in virtual time, before anyone pays."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.campaign.rehearse import Rehearsal, rehearse
from tuner.campaign.types import Routing
from tuner.commands.emulate import spec_from
from tuner.commands.inputs import campaign_of, price_in
from tuner.commands.session import payloads_of
from tuner.commands.ui import Ui
from tuner.plan.parse import Plan, load_plan


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Rehearse the plan's campaign against a stated server model."""
    plan = load_plan(Path(args.plan))
    preset, spec_file = args.preset, args.spec
    if preset is None and spec_file is None:
        preset = plan.endpoint.preset
        spec_file = str(plan.path(plan.endpoint.spec)) if plan.endpoint.spec else None
    spec = spec_from(preset, spec_file)
    fleet = spec.variants[0].fleet
    price = price_in(plan, plan.capacity.instance_type)
    config = campaign_of(plan, Routing(fleet.routing.value), payloads_of(plan), price)
    ui.say(f"rehearsing {args.campaigns} campaigns against {spec.name}")
    found = rehearse(config, fleet, n_campaigns=args.campaigns, seed=plan.load.seed)
    ui.result(rehearsal_text(plan, found))
    return 0 if found.answered > 0.0 else 4


def rehearsal_text(plan: Plan, found: Rehearsal) -> str:
    """What to expect, in a few lines."""
    cost = (
        f"{found.cost_usd:.2f} USD (nine in ten under {found.cost_usd_p90:.2f})"
        if found.cost_usd is not None and found.cost_usd_p90 is not None
        else "unknown: no price for the instance type; give capacity.price_per_hour_usd"
    )
    verdicts = ", ".join(f"{name} {count}" for name, count in found.verdicts)
    return (
        f"{found.campaigns} campaigns of this plan ({plan.slo.describe()}), in virtual time:\n"
        f"  load       {found.minutes:.1f} min (nine in ten under {found.minutes_p90:.1f})\n"
        f"  requests   {found.requests:,.0f} (nine in ten under {found.requests_p90:,.0f})\n"
        f"  instances  {cost}\n"
        f"  precision  +-{found.precision:.1%} (nine in ten within {found.precision_p90:.1%})\n"
        f"  answered   {found.answered:.0%} ({verdicts})\n"
        f"  capacity   {found.capacity_per_s:.4g} requests/s per instance for this model"
    )
