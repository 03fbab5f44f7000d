"""Answers without a policy: nothing inside the bounds holds, or nothing is known."""

from __future__ import annotations

from dataclasses import replace

from tuner.queueing.capacity import CapacityModel
from tuner.recommend.alternatives import Named, candidates_of, near_misses, standard
from tuner.recommend.constraints import Constraints
from tuner.recommend.evaluate import Choice, describe, evaluate
from tuner.recommend.prices import PriceTable
from tuner.recommend.search import Found
from tuner.recommend.setup import Setup
from tuner.recommend.types import Candidate, Failing, Recommendation, Statement
from tuner.slo import Slo, Verdict
from tuner.workload.profile import TrafficProfile


def impossible(
    capacity: CapacityModel,
    setup: Setup,
    slo: Slo,
    constraints: Constraints,
    found: Found | None,
    beyond: Found,
    today: Choice | None,
) -> Recommendation:
    """VIOLATED: what came nearest, and a policy outside the bounds that would do.

    ``found`` is the search inside the bounds (None when they leave nothing to search),
    ``beyond`` the one without them.
    """
    named = standard(capacity, setup.ground, today)
    near = near_misses(found, setup.budgets.requests) if found is not None else []
    named += [n for n, _ in near]
    if beyond.choice.index is not None:
        choice = beyond.grid.policy(beyond.choice.index)
        named.append(Named("proposal", choice, "The cheapest policy that would do."))
    basis_found = found or beyond
    at = evaluate(setup.world, [n.choice for n in named])
    candidates = candidates_of(setup, basis_found, named, at)
    by_name = {c.name: c for c in candidates}
    proposal = by_name.get("proposal")
    if proposal is not None:
        proposal = replace(proposal, failing=(Failing.BOUND,), meets=False)
    return Recommendation(
        verdict=Verdict.VIOLATED,
        slo=slo,
        capacity=capacity,
        chosen=None,
        alternatives=tuple(
            c for c in candidates if c.name in ("aws_half_of_maximum", "70_percent_of_maximum")
        ),
        rejected=tuple(c for c in candidates if c.name.startswith("rejected_")),
        front=(),
        statements=tuple(_refusal(setup, constraints, proposal)),
        sensitivities=(),
        hardest_day=None,
        traffic_name=setup.traffic.name,
        peak_per_min=setup.ground.peak_per_min,
        warnings=setup.warnings,
        instance_type=constraints.instance_type,
        price_per_hour_usd=setup.world.price.usd_per_hour if setup.world.price else None,
        price=setup.world.price,
        basis=setup.basis(basis_found.choice.chosen_on.tolist(), (), len(basis_found.grid)),
        today=by_name.get("today"),
        proposal=proposal,
    )


def _refusal(setup: Setup, constraints: Constraints, proposal: Candidate | None) -> list[Statement]:
    ground = setup.ground
    bounds = f"{ground.lowest_minimum} to {ground.ceiling} instances"
    out = [
        Statement(
            "refused:no_policy",
            f"No policy with {bounds} holds the SLO on this traffic, whose largest minute has "
            f"{ground.peak_per_min:.0f} requests.",
        )
    ]
    if proposal is None:
        out.append(
            Statement(
                "proposal", "No policy without these bounds was found either: loosen the SLO."
            )
        )
        return out
    cost = proposal.expected.cost_per_month_usd
    price = "" if cost is None else f", about {cost.mid:.0f} USD a month"
    what = describe((proposal.policy, proposal.bounds))
    out.append(
        Statement(
            "proposal",
            f"With the bounds lifted this would do: {what}{price}. If surges come at known "
            "times, raise the minimum by schedule before them.",
            None if cost is None else cost.mid,
            "USD per month",
        )
    )
    return out


def unanswered(
    capacity: CapacityModel,
    traffic: TrafficProfile,
    slo: Slo,
    constraints: Constraints,
    prices: PriceTable,
) -> Recommendation:
    """The capacity model's own verdict, passed on with its gates and no policy."""
    price = prices.lookup(constraints.instance_type)
    sentence = (
        "The SLO is missed even by a single unloaded instance: no scaling policy can help."
        if capacity.verdict is Verdict.VIOLATED
        else "The measurements do not support an answer; the gates say what to measure."
    )
    return Recommendation(
        verdict=capacity.verdict,
        slo=slo,
        capacity=capacity,
        chosen=None,
        alternatives=(),
        rejected=(),
        front=(),
        statements=(Statement("refused:capacity", sentence),),
        sensitivities=(),
        hardest_day=None,
        traffic_name=traffic.name,
        peak_per_min=traffic.peak_per_min,
        warnings=capacity.warnings,
        instance_type=constraints.instance_type,
        price_per_hour_usd=price.usd_per_hour if price else None,
        price=price,
    )
