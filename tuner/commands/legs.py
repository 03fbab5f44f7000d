"""The campaigns of a plan: one for its endpoint, one more for each ``[[types]]``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.commands.inputs import price_in
from tuner.errors import InputError
from tuner.plan.knobs import TypeTable
from tuner.plan.parse import Plan, parse_plan
from tuner.store.run import JOURNAL, Run

TYPES = "types"
"""Directory of a run that holds those of the further types."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One campaign: ``overrides`` make its plan from the text of the whole one.

    ``directory`` is relative to the run's; empty for the campaign on ``[endpoint]``.
    """

    name: str
    directory: str
    plan: Plan
    overrides: Mapping[str, Any]


def legs_of(plan: Plan, *, files: bool = True) -> tuple[Leg, ...]:
    """Every campaign of a plan, the one on its endpoint first.

    Raises
    ------
    PlanError
        If a type does not fit the plan it is put into.
    """
    names = _names(plan)
    main = Leg(names[0], "", plan, {})
    return (
        main,
        *(
            _leg(plan, table, name, files)
            for table, name in zip(plan.types, names[1:], strict=True)
        ),
    )


def _leg(plan: Plan, table: TypeTable, name: str, files: bool) -> Leg:
    overrides = _overrides(plan, table)
    own = parse_plan(
        plan.text, source=plan.source, base_dir=plan.base_dir, overrides=overrides, files=files
    )
    # What flags or another question changed in the whole plan holds for every type.
    own = replace(own, slo_table=plan.slo_table, load=plan.load, traffic=plan.traffic)
    return Leg(name, f"{TYPES}/{_directory(name)}", own, overrides)


def _overrides(plan: Plan, table: TypeTable) -> dict[str, Any]:
    endpoint = plan.endpoint
    own_emulator = table.preset is not None or table.spec is not None
    same_place = endpoint.kind == "sagemaker"
    changes: dict[str, Any] = {
        TYPES: [],
        "endpoint.variant": table.variant,
        "endpoint.preset": table.preset,
        "endpoint.spec": table.spec,
        "endpoint.name": None if own_emulator else table.name or endpoint.name,
        "endpoint.endpoint_url": table.endpoint_url
        or (endpoint.endpoint_url if same_place else None),
        "endpoint.url": table.url,
        "capacity.instance_type": table.instance_type,
        "capacity.price_per_hour_usd": table.price_per_hour_usd,
        # Today's policy is one of the type in use today.
        "capacity.today_target_per_min": None,
        "capacity.today_min_capacity": None,
        "capacity.today_max_capacity": None,
    }
    if plan.signals is not None:
        changes |= {"signals.vcpus": table.vcpus, "signals.gpus": table.gpus}
    return changes


def _names(plan: Plan) -> list[str]:
    """Names that tell the campaigns apart: the type, with its endpoint where that is not enough."""
    own = (plan.capacity.instance_type or "", plan.endpoint.name or plan.endpoint.preset or "")
    rows = [own, *((t.instance_type, t.name or t.preset or t.variant or "") for t in plan.types)]
    kinds = [kind for kind, _ in rows]
    names: list[str] = []
    for kind, where in rows:
        name = kind if kinds.count(kind) == 1 else f"{kind} {where}".strip()
        taken = sum(n == name or n.startswith(f"{name} #") for n in names)
        names.append(f"{name} #{taken + 1}" if taken else name)
    return names


def _directory(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def require_prices(legs: Sequence[Leg]) -> None:
    """Types are compared by their cost: each needs a price before anything is measured.

    Raises
    ------
    InputError
        Naming the types without one.
    """
    if len(legs) < 2:
        return
    kinds = [(leg.plan, leg.plan.capacity.instance_type) for leg in legs]
    unknown = [kind for plan, kind in kinds if price_in(plan, kind) is None]
    if unknown:
        raise InputError(
            "types are compared by what they cost, and no price is known for some",
            value=", ".join(map(str, unknown)),
            hint=f"tuner prices update {' '.join(map(str, unknown))}, or price_per_hour_usd in the "
            "plan",
        )


def finished(path: Path) -> bool:
    """Whether a run directory is there and its campaign has come to its end."""
    if not (path / JOURNAL).is_file():
        return False
    with Run.open(path) as run:
        return "finished" in run.meta()
