"""What was there before tuner touched an endpoint: durable, re-puttable, readable later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tuner.errors import RunDirectoryError

RECORD_SCHEMA_VERSION = 1

CHANGE_SUSPENDED = "suspended_state"
CHANGE_COUNT = "instance_count"
CHANGE_BOUNDS = "bounds"
CHANGE_TARGET = "target"
CHANGE_POLICY = "policy:"
"""What tuner may have changed; a policy's change carries its name after the colon."""


@dataclass(frozen=True, slots=True)
class SuspendedState:
    """Application Auto Scaling's three switches; true means that kind of scaling is off."""

    dynamic_scaling_in: bool = False
    dynamic_scaling_out: bool = False
    scheduled_scaling: bool = False

    @property
    def all_suspended(self) -> bool:
        """Nothing scales the target."""
        return self.dynamic_scaling_in and self.dynamic_scaling_out and self.scheduled_scaling

    @property
    def any_suspended(self) -> bool:
        """At least one kind of scaling is off."""
        return self.dynamic_scaling_in or self.dynamic_scaling_out or self.scheduled_scaling

    def __str__(self) -> str:
        words = {
            "scaling in": self.dynamic_scaling_in,
            "scaling out": self.dynamic_scaling_out,
            "scheduled scaling": self.scheduled_scaling,
        }
        off = [word for word, suspended in words.items() if suspended]
        return f"{', '.join(off)} suspended" if off else "nothing suspended"


ALL_SUSPENDED = SuspendedState(True, True, True)


@dataclass(frozen=True, slots=True)
class Definition:
    """A policy or scheduled action as the JSON arguments that would put it again."""

    name: str
    kind: str
    arguments_json: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for boto3, a fresh copy."""
        loaded: dict[str, Any] = json.loads(self.arguments_json)
        return loaded


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What is registered with Application Auto Scaling for one variant.

    ``policies`` are sorted by name; ``kind`` is the ``PolicyType``. Of scheduled actions
    ``kind`` is ``"ScheduledAction"``.
    """

    registered: bool
    min_capacity: int | None = None
    max_capacity: int | None = None
    suspended: SuspendedState = SuspendedState()
    policies: tuple[Definition, ...] = ()
    scheduled_actions: tuple[Definition, ...] = ()
    role_arn: str | None = None

    def inside(self, count: int) -> bool:
        """Whether the bounds allow this count (always, when nothing is registered)."""
        if self.min_capacity is None or self.max_capacity is None:
            return True
        return self.min_capacity <= count <= self.max_capacity


@dataclass(frozen=True, slots=True)
class RestoreRecord:
    """Enough to put a variant back from a fresh process. ``changed`` grows before each change.

    ``instance_count`` is the count that was desired when the record was taken.
    """

    endpoint: str
    variant: str
    region: str
    endpoint_url: str | None
    taken_at_unix_s: float
    instance_count: int
    scaling: ScalingState
    changed: tuple[str, ...] = ()
    schema_version: int = RECORD_SCHEMA_VERSION

    def with_change(self, change: str) -> RestoreRecord:
        """The record that also names this change."""
        if change in self.changed:
            return self
        return replace(self, changed=(*self.changed, change))

    def to_json(self) -> str:
        """One line of JSON; the same record gives the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RestoreRecord:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        RunDirectoryError
            If the text is not a record, or one of another schema version.
        """
        try:
            data = json.loads(text)
            version = data["schema_version"]
            if version != RECORD_SCHEMA_VERSION:
                raise RunDirectoryError(
                    "the restore record has another schema version",
                    value=version,
                    allowed=f"version {RECORD_SCHEMA_VERSION}",
                    hint="restore with the version of tuner that wrote the run",
                )
            return cls(
                **{
                    **data,
                    "scaling": _scaling_from(data["scaling"]),
                    "changed": tuple(str(c) for c in data["changed"]),
                }
            )
        except (ValueError, TypeError, KeyError) as error:
            raise RunDirectoryError(
                f"the restore record cannot be read: {error}",
                value=text[:80],
                allowed="the JSON text tuner wrote when the campaign began",
                hint="put the endpoint back by hand: instance count and suspended state",
            ) from error


def _scaling_from(data: Mapping[str, Any]) -> ScalingState:
    return ScalingState(
        **{
            **data,
            "suspended": SuspendedState(**data["suspended"]),
            "policies": tuple(Definition(**d) for d in data["policies"]),
            "scheduled_actions": tuple(Definition(**d) for d in data["scheduled_actions"]),
        }
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was recorded, and whether tuner had changed it."""

    field: str
    recorded: str
    found: str
    by_tuner: bool

    def __str__(self) -> str:
        whose = "changed by tuner" if self.by_tuner else "not changed by tuner, left alone"
        return f"{self.field}: recorded {self.recorded}, found {self.found} ({whose})"


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did, and what still differs from the record.

    ``complete`` means that nothing tuner changed is left changed. ``differences`` are what
    others changed meanwhile; they are reported and left alone.
    """

    complete: bool
    actions: tuple[str, ...]
    differences: tuple[Difference, ...] = ()
