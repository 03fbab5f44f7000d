"""A verification to and from plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tuner.recommend.json_values import number_value
from tuner.recommend.verify_types import Comparison, MinuteSeen, Verification
from tuner.slo import Verdict

SCHEMA_VERSION = 1


def verification_value(verification: Verification) -> dict[str, Any]:
    """As ``verification.json`` holds it; numbers that are not finite are null."""
    value = asdict(verification)
    value["verdict"] = verification.verdict.value
    value["sentence"] = verification.sentence
    for row in value["comparisons"]:
        row["verdict"] = row["verdict"].value
    for row in (*value["comparisons"], *value["minutes"]):
        row.update({k: number_value(v) for k, v in row.items() if isinstance(v, float)})
    return {"schema_version": SCHEMA_VERSION, **value}


def verification_of(value: Mapping[str, Any]) -> Verification:
    """The inverse of `verification_value`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If a part is missing or wrong.
    """
    fields = {k: v for k, v in value.items() if k not in ("schema_version", "sentence")}
    comparisons = tuple(
        Comparison(**{**c, "verdict": Verdict(c["verdict"])}) for c in fields["comparisons"]
    )
    return Verification(
        **{
            **fields,
            "verdict": Verdict(fields["verdict"]),
            "comparisons": comparisons,
            "minutes": tuple(MinuteSeen(**m) for m in fields["minutes"]),
            "activities": tuple(fields["activities"]),
        }
    )
