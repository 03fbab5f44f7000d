"""What a verification of the live policy means for the files: a failed one holds them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.commands.ui import Ui
from tuner.errors import InputError, RunDirectoryError
from tuner.recommend.types import Recommendation
from tuner.recommend.verify_json import verification_of, verification_value
from tuner.recommend.verify_types import Verification
from tuner.report.data import Table
from tuner.report.words import milliseconds, number, percent
from tuner.store.files import write_whole
from tuner.store.run import Run

KEY = "verification"
"""Of the journal's meta and its notes."""
FILE = "verification.json"


def keep(run: Run, verification: Verification) -> Path:
    """Write ``verification.json`` and note it in the journal; returns the file."""
    value = verification_value(verification)
    run.set_meta(KEY, value)
    run.add_note(KEY, verification.sentence)
    file = run.path / FILE
    write_whole(file, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    if verification.blocks:
        # What was written before must not be applied now.
        (run.path / "terraform.tfvars").unlink(missing_ok=True)
    return file


def read(meta: Mapping[str, Any], path: Path) -> Verification | None:
    """The last verification of a run, from its meta.

    Raises
    ------
    RunDirectoryError
        If what is kept cannot be understood.
    """
    if KEY not in meta:
        return None
    try:
        return verification_of(meta[KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(
            f"the run's verification cannot be read: {error}",
            value=str(path),
            hint=f"tuner verify {path}",
        ) from None


def accept(path: Path) -> Verification:
    """Accept a failed verification: Terraform output is written again.

    Raises
    ------
    InputError
        If there is none to accept.
    """
    with Run.open(path) as run:
        found = read(run.meta(), path)
        if found is None or not found.blocks:
            raise InputError(
                "there is no failed verification to override",
                value="not verified" if found is None else found.verdict.value,
                hint=f"tuner verify {path}",
            )
        accepted = replace(found, overridden=True)
        keep(run, accepted)
    return accepted


def with_verification(
    path: Path, meta: Mapping[str, Any], recommendation: Recommendation, ui: Ui, *, override: bool
) -> Recommendation:
    """The recommendation with what a replay has shown of it, and a warning where that is bad.

    Raises
    ------
    RunDirectoryError
        If what is kept cannot be understood.
    """
    found = read(meta, path)
    if found is not None and found.blocks and override:
        found = accept(path)
    if found is None:
        return recommendation
    if found.blocks:
        ui.warn(
            "terraform.tfvars is not written: the last verification failed. Accept that with: "
            f"tuner recommend {path} --override-verification"
        )
    bad = found.verdict.value != "MET"
    warnings = (found.sentence, *recommendation.warnings) if bad else recommendation.warnings
    return replace(recommendation, verification=found, warnings=warnings)


def holds_back(recommendation: Recommendation) -> bool:
    """Whether a failed verification forbids handing the policy on."""
    return recommendation.verification is not None and recommendation.verification.blocks


def tables(recommendation: Recommendation | None) -> tuple[Table, ...]:
    """The report's tables of a verification."""
    found = recommendation.verification if recommendation is not None else None
    if found is None:
        return ()
    state = found.verdict.value + (", accepted" if found.overridden else "")
    compared = Table(
        f"Verification on the live endpoint: {state}",
        ("what", "expected", "seen", "allowed"),
        tuple(
            (f"{c.verdict.value}: {c.sentence}", _shown(c.name, c.predicted),
             _shown(c.name, c.observed), _shown(c.name, c.limit))
            for c in found.comparisons
        ),
    )  # fmt: skip
    minutes = Table(
        f"Replayed minutes: {found.piece}",
        ("minute", "requests", "late", "late expected", "quantile", "instances", "expected"),
        tuple(
            (
                str(i + 1),
                f"{m.requests:,}",
                percent(m.late / m.requests if m.requests else None),
                percent(m.predicted_share),
                milliseconds(m.p99_s) if m.p99_s is not None else "failures",
                number(m.instances),
                number(m.predicted_instances),
            )
            for i, m in enumerate(found.minutes)
        ),
    )
    return (compared, minutes)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return percent(value) if name.startswith(("requests", "errors")) else number(value)
