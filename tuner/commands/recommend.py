"""``tuner recommend``: the policy for a traffic or another SLO, from a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tuner.commands.answer import answer, deliver
from tuner.commands.arguments_base import SLO_KEYS
from tuner.commands.inputs import traffic_text
from tuner.commands.recorded import Question
from tuner.commands.ui import Ui
from tuner.commands.unrestored import remind
from tuner.errors import InputError

OVERRIDES = {
    "growth": "traffic.growth",
    "lose": "capacity.lose",
    "min_capacity": "capacity.min_capacity",
    "max_capacity": "capacity.max_capacity",
    "instance_type": "capacity.instance_type",
    "price_per_hour_usd": "capacity.price_per_hour_usd",
    "launch_lag_s": "capacity.launch_lag_s",
}
"""Flags to keys of the plan they replace; the plan's own checks apply."""


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Work out, write, print."""
    remind(ui, Path(args.run))
    result = answer(
        Path(args.run),
        ui,
        question_of(args),
        out=Path(args.out) if args.out else None,
        page=not args.no_report,
        png=args.png,
        override_verification=args.override_verification,
    )
    return deliver(result, ui, as_json=args.json)


def question_of(args: argparse.Namespace) -> Question:
    """What the flags ask beside the run's own plan."""
    slo: dict[str, Any] = {
        key: value for key in SLO_KEYS if (value := getattr(args, f"slo_{key}")) is not None
    }
    if args.slo_max_error_rate is not None:
        slo["max_error_rate"] = args.slo_max_error_rate
    overrides = {
        key: value for flag, key in OVERRIDES.items() if (value := getattr(args, flag)) is not None
    }
    if args.mix:
        overrides["traffic.mix"] = dict(_share(text) for text in args.mix)
    traffic = None
    if args.traffic is not None:
        path = Path(args.traffic)
        traffic = (path.name, traffic_text(path))
    return Question(slo, overrides, traffic)


def _share(text: str) -> tuple[str, float]:
    name, equals, share = text.rpartition("=")
    try:
        value = float(share.removesuffix("%")) / (100.0 if share.endswith("%") else 1.0)
    except ValueError:
        equals = ""
    if not equals or not name:
        raise InputError("a mix is not understood", value=text, allowed="CLASS=12% or CLASS=0.12")
    return name, value
