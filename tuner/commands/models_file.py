"""``models.json`` of a run: the sweep over the number of models, and the answer from it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.campaign.models import ModelStage
from tuner.errors import PayloadError, RunDirectoryError
from tuner.plan.knobs import ModelsTable
from tuner.plan.parse import Plan
from tuner.recommend.constraints import Constraints
from tuner.recommend.density import Need, decide_density
from tuner.recommend.density_types import Density
from tuner.recommend.prices import Price
from tuner.recommend.types import Recommendation, Statement
from tuner.slo import Slo
from tuner.store.files import write_whole
from tuner.units import s_to_us, us_to_s
from tuner.workload.models import ModelMix, law, parse_model_trace

if TYPE_CHECKING:
    from tuner.endpoints.models import ModelActivity

MODELS_FILE = "models.json"
SCHEMA_VERSION = 1
WARM_MODELS = 4
"""The campaign itself is about warm models: few enough for any instance."""


def mix_of(plan: Plan, table: ModelsTable) -> ModelMix:
    """The models of a plan and their shares.

    Raises
    ------
    PayloadError
        If the trace cannot be read or names no model.
    """
    if table.trace is None:
        return law(
            table.count or 1, table.name, popularity=table.popularity, exponent=table.exponent
        )
    path = plan.path(table.trace)
    try:
        return parse_model_trace(path.read_text("utf-8-sig"), source=path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise PayloadError(
            f"the trace of models cannot be read: {error}", value=table.trace
        ) from None


def warm_count(table: ModelsTable, total: int) -> int:
    """How many models the campaign itself keeps warm."""
    return min([total, WARM_MODELS, *table.sweep])


def write_sweep(
    path: Path,
    mix: ModelMix,
    stages: Sequence[ModelStage],
    activity: Sequence[ModelActivity | None],
) -> None:
    """Keep a sweep; latencies in whole microseconds, failures as null."""
    rows = [
        {
            "models": s.models,
            "rate_per_s": s.rate_per_s,
            "first_loads": s.first_loads,
            "hit_ratio": s.hit_ratio,
            "loaded_models": s.loaded_models,
            "wait_s": s.wait_s,
            "loads": None if a is None else a.loads,
            "unloads": None if a is None else a.unloads,
            "downloads": None if a is None else a.downloads,
            "load_s": None if a is None else a.load_s,
            "download_s": None if a is None else a.download_s,
            "latency_us": [
                round(s_to_us(x)) if math.isfinite(x) else None for x in s.latency_s.tolist()
            ],
        }
        for s, a in zip(stages, activity, strict=True)
    ]
    document = {
        "schema_version": SCHEMA_VERSION,
        "names": list(mix.names),
        "shares": mix.shares.tolist(),
        "stages": rows,
    }
    write_whole(path, json.dumps(document, indent=None, separators=(",", ":")) + "\n")


def read_sweep(path: Path) -> tuple[ModelMix, list[ModelStage]]:
    """The inverse of `write_sweep`.

    Raises
    ------
    RunDirectoryError
        If the file is damaged.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {raw['schema_version']}")
        mix = ModelMix(tuple(raw["names"]), np.array(raw["shares"], dtype=np.float64))
        return mix, [_stage(row, mix) for row in raw["stages"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"the sweep over models cannot be read: {error}",
            value=str(path),
            hint="measure again, or remove the file",
        ) from None


def _stage(row: dict[str, Any], mix: ModelMix) -> ModelStage:
    times = [math.inf if x is None else us_to_s(x) for x in row["latency_us"]]
    return ModelStage(
        row["models"],
        row["rate_per_s"],
        mix.first(row["models"]).shares,
        np.array(times, dtype=np.float64),
        row["first_loads"],
        row["hit_ratio"],
        row["loaded_models"],
        row["wait_s"],
    )


@dataclass(frozen=True, slots=True)
class Room:
    """What a sweep says of a run's constraints.

    ``constraints`` hold every model; ``warning`` says why they do not.
    """

    density: Density | None
    constraints: Constraints
    warning: str | None = None

    def told(self, recommendation: Recommendation) -> Recommendation:
        """The recommendation with the answer about models in it."""
        if self.density is None:
            return recommendation
        warnings = (self.warning,) if self.warning else ()
        return replace(
            recommendation,
            models=self.density,
            statements=(*recommendation.statements, Statement("models", sentence(self.density))),
            warnings=(*recommendation.warnings, *warnings),
        )


def room_for_models(
    run: Path,
    plan: Plan,
    slo: Slo,
    constraints: Constraints,
    *,
    peak_per_s: float,
    price: Price | None,
) -> Room:
    """The answer from a run's sweep, and the constraints with a minimum that holds every model.

    Raises
    ------
    RunDirectoryError
        If the file is damaged.
    """
    path = run / MODELS_FILE
    if plan.models is None or not path.is_file():
        return Room(None, constraints)
    mix, stages = read_sweep(path)
    if not stages:
        return Room(None, constraints)
    usd = None if price is None else price.usd_per_hour
    need = Need(mix, peak_per_s, constraints.resilience, usd, plan.load.level)
    density = decide_density(stages, slo, need)
    wanted = density.min_instances
    if wanted is None:
        return Room(density, constraints)
    most = constraints.max_capacity
    if most is not None and wanted > most:
        return Room(
            density,
            constraints,
            f"{density.total_models} models need {wanted} instances, more than "
            f"capacity.max_capacity ({most}): some models load again and again.",
        )
    least = max(constraints.min_capacity, wanted)
    return Room(density, replace(constraints, min_capacity=least))


def sentence(density: Density) -> str:
    """The answer in one sentence."""
    if density.recommended is None:
        why = "; ".join([*density.refusals, *density.sentences])
        return f"How many models an instance can hold is not known: {why}."
    found = density.models_per_instance
    assert found is not None
    top = "or more" if math.isinf(found.high) else f"to {found.high:.0f}"
    return (
        f"An instance holds {density.recommended} models inside the SLO, as measured at "
        f"{density.rate_per_s:.4g} requests/s; its limit is {found.mid:.0f} ({found.level:.0%} "
        f"interval {found.low:.0f} {top}). {density.total_models} models need at least "
        f"{density.min_instances} instances."
    )
