"""``tuner rehearse``: the whole campaign in virtual time, before anyone pays."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.campaign.rehearse import Rehearsal, Rehearsed, each_rehearsed, expectation
from tuner.campaign.types import Routing
from tuner.campaign.virtual import PayloadClass, Streaming, VirtualBackend
from tuner.commands.inputs import campaign_of, price_in
from tuner.commands.interrupts import terminable
from tuner.commands.legs import Leg, legs_of
from tuner.commands.session import payloads_of
from tuner.commands.ui import Tick, Ui
from tuner.emulator.options import Options, spec_of
from tuner.emulator.spec import EmulatorSpec
from tuner.errors import InputError
from tuner.plan.parse import Plan, load_plan
from tuner.workload.payloads import PayloadSet


@dataclass(frozen=True, slots=True)
class RehearsedLeg:
    """One campaign of the plan, and what to expect of it; ``whole`` unless it was broken off."""

    leg: Leg
    model: str
    found: Rehearsal
    whole: bool


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Rehearse every campaign of the plan against a stated server model."""
    legs = legs_of(load_plan(Path(args.plan)))
    done: list[RehearsedLeg] = []
    for leg in legs:
        done.append(_rehearse(leg, args, ui))
        if not done[-1].whole:
            break
    whole = all(r.whole for r in done)
    texts = [rehearsal_text(r.leg.plan, r.found) for r in done]
    if len(legs) > 1:
        texts = [f"{r.leg.name} (model {r.model}): {t}" for r, t in zip(done, texts, strict=True)]
        if whole:
            texts.append(total_text([r.found for r in done]))
    ui.result("\n".join(texts))
    if not whole:
        return 130
    return 0 if all(r.found.answered > 0.0 for r in done) else 4


def _rehearse(leg: Leg, args: argparse.Namespace, ui: Ui) -> RehearsedLeg:
    plan = leg.plan
    spec = model_of(leg, args.preset, args.spec)
    fleet = spec.variants[0].fleet
    price = price_in(plan, plan.capacity.instance_type)
    payloads = payloads_of(plan)
    config = campaign_of(plan, Routing(fleet.routing.value), payloads, price)
    classes = classes_of(payloads)
    if len(classes) > 1 and fleet.instance.per_byte_s == 0.0:
        ui.warn(
            f"model {spec.name} takes as long for every payload class: give its spec per_kib_ms "
            "under [instance] to tell them apart"
        )
    response = spec.response
    streaming = (
        Streaming(response.first_chunk_share, response.stream_chunks)
        if plan.endpoint.streaming
        else None
    )
    ui.say(f"rehearsing {_campaigns(args.campaigns)} against {spec.name}")
    sized = len(classes) > 1 or fleet.instance.per_byte_s > 0.0
    runs = each_rehearsed(
        config,
        fleet,
        n_campaigns=args.campaigns,
        seed=plan.load.seed,
        backend=lambda seed: VirtualBackend(
            fleet, seed=seed, classes=classes if sized else (), streaming=streaming
        ),
    )
    done = _watched(runs, args.campaigns, ui)
    found = expectation(done, config.limits.price_per_instance_hour_usd)
    return RehearsedLeg(leg, spec.name, found, len(done) == args.campaigns)


def _watched(runs: Iterator[Rehearsed], of: int, ui: Ui) -> list[Rehearsed]:
    """Every campaign, with the time left; after Ctrl-C those that were finished.

    Raises
    ------
    KeyboardInterrupt
        If none was.
    """
    done: list[Rehearsed] = []
    begun = time.monotonic()
    try:
        with terminable(), ui.live():
            while len(done) < of:
                gone = time.monotonic() - begun
                left = gone / len(done) * (of - len(done)) if done else None
                headline = f"campaign {len(done) + 1} of {of}"
                ui.tick(Tick(headline, gone, left, len(done) / of))
                done.append(next(runs))
    except KeyboardInterrupt:
        if not done:
            raise
        ui.warn(f"stopped: what follows is from {len(done)} of {_campaigns(of)}")
    return done


def model_of(leg: Leg, preset: str | None, spec_file: str | None) -> EmulatorSpec:
    """The server model of a campaign: of the flags, else of the plan.

    A further type of ``[[types]]`` that names a model of its own keeps it.

    Raises
    ------
    InputError
        If nothing says what answers: the plan is of a real endpoint.
    """
    plan = leg.plan
    endpoint = plan.endpoint
    own = endpoint.preset is not None or endpoint.spec is not None
    if (preset is not None or spec_file is not None) and not (leg.directory and own):
        return spec_of(Options(preset, None if spec_file is None else Path(spec_file)))
    if not own and endpoint.kind != "emulator":
        raise InputError(
            f"nothing says how {leg.name or 'the endpoint'} would answer",
            value=endpoint.name or endpoint.url,
            hint="state a server model: --preset NAME (tuner emulate --list) or --spec FILE "
            "(tuner emulate --example)",
        )
    return spec_of(Options(endpoint.preset, plan.path(endpoint.spec) if endpoint.spec else None))


def classes_of(payloads: PayloadSet) -> tuple[PayloadClass, ...]:
    """Every payload class with its share of the requests and the mean size of its bodies."""
    index, share = payloads.class_index, payloads.shares
    size = [len(p.body) for p in payloads.payloads]
    found = []
    for number, name in enumerate(payloads.class_names):
        mine = index == number
        total = float(share[mine].sum())
        mean = sum(s * w for s, w, m in zip(size, share, mine, strict=True) if m) / total
        found.append(PayloadClass(name, total, request_bytes=round(mean)))
    return tuple(found)


def rehearsal_text(plan: Plan, found: Rehearsal) -> str:
    """What to expect, in a few lines."""
    cost = (
        f"{found.cost_usd:.2f} USD (nine in ten under {found.cost_usd_p90:.2f})"
        if found.cost_usd is not None and found.cost_usd_p90 is not None
        else "unknown: no price for the instance type; give capacity.price_per_hour_usd"
    )
    verdicts = ", ".join(f"{name} {count}" for name, count in found.verdicts)
    return (
        f"{_campaigns(found.campaigns)} of this plan ({plan.slo.describe()}), in virtual time:\n"
        f"  load       {found.minutes:.1f} min (nine in ten under {found.minutes_p90:.1f})\n"
        f"  requests   {found.requests:,.0f} (nine in ten under {found.requests_p90:,.0f})\n"
        f"  instances  {cost}\n"
        f"  precision  +-{found.precision:.1%} (nine in ten within {found.precision_p90:.1%})\n"
        f"  answered   {found.answered:.0%} ({verdicts})\n"
        f"  capacity   {found.capacity_per_s:.4g} requests/s per instance for this model"
    )


def _campaigns(count: int) -> str:
    return f"{count} campaign{'' if count == 1 else 's'}"


def total_text(found: Sequence[Rehearsal]) -> str:
    """All campaigns of a plan together, by their medians."""
    costs = [f.cost_usd for f in found]
    known = [c for c in costs if c is not None]
    cost = f"{sum(known):.2f} USD" if len(known) == len(costs) else "an unknown sum of money"
    return (
        f"all {len(found)} campaigns: {sum(f.minutes for f in found):.1f} min of load, "
        f"{sum(f.requests for f in found):,.0f} requests, {cost}"
    )
