"""``tuner simulate``: what would this policy have done with that traffic?"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.commands.in_use import policy_in_use
from tuner.commands.inputs import constraints_of, prices_of, traffic_of
from tuner.commands.recommend import question_of
from tuner.commands.recorded import capacity_of, read_run, slo_for
from tuner.commands.signals import curves_of, fitted_signals, key_of
from tuner.commands.ui import Ui
from tuner.commands.unrestored import remind
from tuner.errors import InputError, InsufficientDataError
from tuner.recommend.as_json import candidate_to_json
from tuner.recommend.what_if import WhatIf, what_if
from tuner.report.console import beside
from tuner.report.names import said
from tuner.slo import Verdict

METRICS = {key_of(m): m for m in ScalingMetric}
ALLOWED = (
    f"target=N,min=N,max=N[,out=S][,in=S][,metric=METRIC], or fixed=N; METRIC: {', '.join(METRICS)}"
)


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Simulate one policy with the capacity of a run; 3 when it misses the budget."""
    remind(ui, Path(args.run))
    policy, bounds = parse_policy(args.policy)
    question = question_of(args)
    recorded = read_run(Path(args.run), question)
    slo = slo_for(recorded.plan, question.slo)
    capacity = capacity_of(recorded, slo)
    if capacity.verdict is not Verdict.MET:
        raise InsufficientDataError(
            "the run does not support a capacity, so nothing can be simulated",
            hint="; ".join(g.remedy for g in capacity.gates if g.remedy) or None,
        )
    name, csv = question.traffic or (None, recorded.meta.get("traffic_csv"))
    traffic = traffic_of(recorded.plan, csv, name=name)
    if traffic is None:
        raise InputError("there is no traffic", hint="give --traffic CSV")
    fitted = fitted_signals(recorded.meta, recorded.stages, recorded.plan, capacity, traffic)
    constraints = constraints_of(recorded.plan, recorded.instance_type)
    found = what_if(
        capacity,
        traffic,
        policy,
        bounds,
        slo=slo,
        constraints=dataclasses.replace(constraints, min_capacity=1, max_capacity=None),
        metric_curves=curves_of(fitted),
        launch_lag_s=recorded.plan.capacity.launch_lag_s,
        prices=prices_of(recorded.plan, recorded.instance_type),
        seed=recorded.plan.load.seed,
        today=policy_in_use(recorded),
    )
    ui.result(
        candidate_to_json(found.candidate, found.alternatives) if args.json else what_if_text(found)
    )
    return 0 if found.candidate.meets else 3


def parse_policy(text: str) -> tuple[TargetTrackingPolicy | None, CapacityBounds]:
    """``target=1200,min=2,max=10,out=0,in=300``, or ``fixed=4``.

    Raises
    ------
    InputError
        For anything else.
    """
    try:
        pairs = dict(part.strip().split("=", 1) for part in text.split(","))
        if set(pairs) == {"fixed"}:
            count = int(pairs["fixed"])
            return None, CapacityBounds(_least(count), count)
        bounds = CapacityBounds(_least(int(pairs.pop("min"))), int(pairs.pop("max")))
        policy = TargetTrackingPolicy(
            METRICS[pairs.pop("metric", "invocations")],
            float(pairs.pop("target")),
            int(pairs.pop("out", "300")),
            int(pairs.pop("in", "300")),
        )
    except (KeyError, ValueError) as error:
        reason = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"the policy is not understood: {reason}", value=text, allowed=ALLOWED
        ) from None
    if pairs:
        raise InputError("the policy has unknown parts", value=", ".join(pairs), allowed=ALLOWED)
    return policy, bounds


def _least(count: int) -> int:
    if count < 1:
        raise ValueError("a real-time variant has at least one instance")
    return count


def what_if_text(found: WhatIf) -> str:
    """The prospects of one policy in a few lines."""
    candidate, expected = found.candidate, found.candidate.expected
    inside = expected.slo_attainment
    lines = [
        f"{'meets' if candidate.meets else 'MISSES'} the budget: {candidate.reason}",
        f"  inside the SLO  {inside.mid:.4%} ({inside.low:.4%} to {inside.high:.4%}) of requests",
        f"  bad minutes     {expected.bad_minute_share:.3%}",
        f"  instance-hours  {expected.instance_hours_per_day.mid:,.1f} a day",
    ]
    if expected.cost_per_month_usd is not None:
        lines.append(f"  cost            ${expected.cost_per_month_usd.mid:,.0f} a month")
    lines += [
        f"  against         {said(other.name)}: {beside(other, candidate)}"
        for other in found.alternatives
    ]
    lines += [f"  {s.sentence}" for s in found.statements]
    lines += [f"  warning: {w}" for w in found.warnings]
    return "\n".join(lines)
