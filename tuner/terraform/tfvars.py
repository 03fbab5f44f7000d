"""``terraform.tfvars`` from a recommendation, rounded to the safe side once."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from functools import cache
from pathlib import Path

from tuner import __version__
from tuner.autoscaling.policy import TargetTrackingPolicy
from tuner.errors import InputError, InsufficientDataError, SloUnreachableError
from tuner.recommend.types import Candidate, Recommendation
from tuner.slo import Verdict
from tuner.terraform.hcl import attributes, one_line
from tuner.terraform.knobs import knob_variables

MODULE = Path(__file__).parent / "module"

TEMPLATE = ("name", "sm_role_arn", "image_uri", "model_data_s3")
"""Variables without a default: what the tuner does not know unless the plan says it."""

DECIDED = (
    "instance_type",
    "instance_count",
    "min_capacity",
    "max_capacity",
    "target_value",
    "scale_in_cooldown",
    "scale_out_cooldown",
    "disable_scale_in",
    "predefined_metric_type",
    "customized_metric",
)


@cache
def module_variables() -> frozenset[str]:
    """Names of the module's variables."""
    text = "".join(p.read_text("utf-8") for p in sorted(MODULE.glob("variables*.tf")))
    return frozenset(re.findall(r'^variable "([a-z0-9_]+)"', text, flags=re.MULTILINE))


def safe_target(target_value: float) -> float:
    """The target rounded down: to a whole number from 100 on, else to three digits.

    A lower target scales out earlier, so rounding down never gives up what was proved.
    """
    exact = Decimal(repr(target_value))
    digits = 0 if exact >= 100 else exact.adjusted() - 2
    return float(exact.quantize(Decimal(1).scaleb(digits), rounding=ROUND_FLOOR))


def scaling_variables(chosen: Candidate) -> dict[str, object]:
    """The module's scaling variables for a candidate; empty for a fixed fleet."""
    if chosen.policy is None:
        return {}
    policy = chosen.policy
    return {
        "min_capacity": chosen.bounds.min_capacity,
        "max_capacity": chosen.bounds.max_capacity,
        "target_value": safe_target(policy.target_value),
        "scale_in_cooldown": policy.scale_in_cooldown_s,
        "scale_out_cooldown": policy.scale_out_cooldown_s,
        **({"disable_scale_in": True} if policy.disable_scale_in else {}),
        **_metric(policy),
    }


def _metric(policy: TargetTrackingPolicy) -> dict[str, object]:
    if policy.metric.customized:
        return {"customized_metric": {"metric_name": policy.metric.value}}
    return {"predefined_metric_type": policy.metric.value}


def decided(recommendation: Recommendation) -> Candidate:
    """The chosen policy.

    Raises
    ------
    SloUnreachableError, InsufficientDataError
        If there is none.
    """
    if recommendation.chosen is not None:
        return recommendation.chosen
    if recommendation.verdict is Verdict.VIOLATED:
        raise SloUnreachableError("no allowed capacity meets the SLO: there is nothing to write")
    raise InsufficientDataError(
        "the data do not support a policy: there is nothing to write",
        hint="; ".join(g.remedy for g in recommendation.capacity.gates if g.remedy) or None,
    )


def tfvars_text(
    recommendation: Recommendation,
    *,
    run_name: str,
    date_text: str,
    passthrough: Mapping[str, object],
) -> str:
    """The whole of ``terraform.tfvars``, formatted as ``terraform fmt`` would.

    Raises
    ------
    InputError
        If ``passthrough`` names an unknown variable, contradicts a decided one or holds a
        value Terraform has no word for.
    SloUnreachableError, InsufficientDataError
        If the recommendation holds no policy.
    """
    chosen = decided(recommendation)
    count = max(chosen.bounds.min_capacity, 1)
    numbers = {
        "instance_type": recommendation.instance_type,
        "instance_count": count,
        **scaling_variables(chosen),
        **knob_variables(recommendation),
    }
    given = _checked(passthrough, numbers)
    parts = ["".join(f"# {line}\n" for line in _header(recommendation, run_name, date_text))]
    template = {name: given.pop(name) for name in TEMPLATE if name in given}
    if template:
        parts.append("".join(attributes(template)))
    missing = [name for name in TEMPLATE if name not in template]
    if missing:
        parts.append(f"# Not known to tuner, still to be set: {', '.join(missing)}.\n")
    parts.append("".join(attributes(numbers)))
    if given:
        parts.append("".join(attributes(given)))
    return "\n".join(parts)


def _checked(passthrough: Mapping[str, object], numbers: Mapping[str, object]) -> dict[str, object]:
    unknown = sorted(set(passthrough) - module_variables())
    if unknown:
        raise InputError(
            "the Terraform module has no such variable",
            value=", ".join(unknown),
            allowed=", ".join(sorted(module_variables() - set(DECIDED))),
        )
    ours = {*DECIDED, *numbers}
    clash = sorted(k for k in passthrough if k in ours and passthrough[k] != numbers.get(k))
    if clash:
        raise InputError(
            "tuner decides this variable; take it out of [terraform]",
            value=", ".join(clash),
            hint="bounds and instance type belong in [capacity]",
        )
    return {k: v for k, v in passthrough.items() if k not in ours}


def _header(recommendation: Recommendation, run_name: str, date_text: str) -> list[str]:
    lines = [
        f'Written by tuner {__version__} on {one_line(date_text)} from run "{one_line(run_name)}".',
        f"SLO: {one_line(recommendation.slo.describe())}",
        *_capacity_lines(recommendation),
    ]
    chosen = decided(recommendation)
    met = chosen.expected.slo_attainment
    lines.append(
        f'Expected on "{one_line(recommendation.traffic_name)}": {_percent(met.mid)} of requests '
        f"inside the SLO ({_percent(met.low)} to {_percent(met.high)})."
    )
    if chosen.policy is not None:
        lines.append(
            f"target_value is {chosen.policy.target_value:.6g} before rounding down; "
            f"the metric is {chosen.policy.metric.value}."
        )
        lines.append(
            "instance_count is what a new endpoint or a new release starts with; for an endpoint "
            "that runs already, put its present count there."
        )
    if recommendation.scheduled_actions:
        lines.append(
            "An apply sets the bounds to min_capacity and max_capacity; they hold until the next "
            "scheduled action fires."
        )
    if recommendation.adopted_schedule is not None:
        lines.append(
            "min_capacity is the highest minimum of the schedule, which is safe at any hour; what "
            "is expected counts from the first scheduled action on."
        )
    return lines


def _capacity_lines(recommendation: Recommendation) -> list[str]:
    lines = []
    for entry in recommendation.capacity.by_count[:1]:
        rate = entry.rate_per_s
        high = f"{rate.high:.4g}" if math.isfinite(rate.high) else "unknown"
        plural = "" if entry.instance_count == 1 else "s"
        lines.append(
            f"Capacity per instance at {entry.instance_count} instance{plural}: {rate.mid:.4g} "
            f"requests/s ({rate.level:.0%} interval {rate.low:.4g} to {high}; "
            f"{entry.requests} requests, {one_line(entry.source)})."
        )
    return lines


def _percent(share: float) -> str:
    """A share in percent, cut and never rounded up to 100."""
    return f"{math.floor(share * 1e6) / 1e4:g} %"


def copy_module(destination: Path) -> Path:
    """Put the module at ``destination``; of an earlier copy only its own files are replaced.

    A Terraform state, a lock file or a ``.terraform`` directory beside them stays.

    Raises
    ------
    InputError
        If something that is not such a module is in the way.
    """
    if destination.exists() and not (destination / "scaling.tf").is_file():
        raise InputError(
            "this path is taken by something that is not the Terraform module",
            value=str(destination),
            hint="name a directory that does not exist yet",
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".module-") as aside:
        fresh = Path(aside) / "new"
        shutil.copytree(MODULE, fresh, ignore=shutil.ignore_patterns(".terraform*", "__pycache__"))
        if not destination.exists():
            fresh.rename(destination)
            return destination
        for source in sorted(fresh.iterdir()):
            source.replace(destination / source.name)
    return destination
