"""Everything tuner can raise on purpose, in one place.

::

    TunerError                      exit code 1
    ├── InputError                  2   the user gave something that cannot be used
    │   ├── PlanError                   tuner.toml or flags; carries every problem at once
    │   ├── TrafficError                a traffic file
    │   ├── PayloadError                a payload file
    │   ├── RunDirectoryError           a run directory: unreadable, truncated, another schema
    │   └── EndpointError               the endpoint is not there, not ready, or refuses
    ├── SloUnreachableError         3   no allowed capacity can meet the SLO
    ├── InsufficientDataError       4   the measurements do not support an answer
    ├── GeneratorError              1   the load generator failed or could not keep up
    └── RunInterruptedError         130 stopped by the user; what was measured is kept
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TunerError(Exception):
    """What was wrong, the offending value, what is allowed, and the next step."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        value: object | None = None,
        allowed: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.value = value
        self.allowed = allowed
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.value is not None:
            lines.append(f"  got:     {self.value!r}")
        if self.allowed is not None:
            lines.append(f"  allowed: {self.allowed}")
        if self.hint is not None:
            lines.append(f"  next:    {self.hint}")
        return "\n".join(lines)


class InputError(TunerError):
    """The user gave something that cannot be used."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a plan: the dotted key, the value, and what is allowed."""

    key: str
    message: str
    value: object | None = None
    allowed: str | None = None

    def __str__(self) -> str:
        text = f"{self.key}: {self.message}"
        if self.value is not None:
            text += f" (got {self.value!r})"
        if self.allowed is not None:
            text += f"; allowed: {self.allowed}"
        return text


class PlanError(InputError):
    """A plan with one or more problems, all of them listed."""

    def __init__(
        self, source: str, problems: Sequence[Problem], *, hint: str | None = None
    ) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{source}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  - {p}" for p in self.problems)]), hint=hint)


class TrafficError(InputError):
    """A traffic file that cannot be used."""


class PayloadError(InputError):
    """A payload file that is missing, empty or malformed."""


class RunDirectoryError(InputError):
    """A run directory that is unreadable, truncated or of another schema version."""


class EndpointError(InputError):
    """An endpoint that is not there, not InService, or refuses to be driven."""


class SloUnreachableError(TunerError):
    """No allowed capacity can meet the SLO."""

    exit_code = 3


class InsufficientDataError(TunerError):
    """The measurements do not support an answer; the hint says what to measure."""

    exit_code = 4


class GeneratorError(TunerError):
    """The load generator failed; nothing is known about the endpoint."""


class RunInterruptedError(TunerError):
    """Stopped by the user. What was measured is on disk."""

    exit_code = 130
