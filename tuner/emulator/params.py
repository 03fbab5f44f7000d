"""Members of a request body, checked as AWS checks them."""

from __future__ import annotations

import math
import re
from typing import Any

from tuner.emulator.errors import AwsError, validation

NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"


def _kind_error(key: str, wanted: str) -> AwsError:
    return AwsError("SerializationException", f"{key} can not be converted to a {wanted}")


class Params:
    """A JSON object of a request, read member by member."""

    def __init__(self, data: object, where: str = "") -> None:
        if not isinstance(data, dict):
            raise AwsError("SerializationException", "Start of structure or map expected.")
        self.data: dict[str, Any] = data
        self._where = where

    def _path(self, key: str) -> str:
        name = key[:1].lower() + key[1:]
        return f"{self._where}.{name}" if self._where else name

    def _missing(self, key: str) -> AwsError:
        return validation(
            f"1 validation error detected: Value null at '{self._path(key)}' failed to satisfy "
            "constraint: Member must not be null"
        )

    def _bad(self, key: str, value: object, constraint: str) -> AwsError:
        return validation(
            f"1 validation error detected: Value '{value}' at '{self._path(key)}' failed to "
            f"satisfy constraint: {constraint}"
        )

    def has(self, key: str) -> bool:
        """Whether the member is there and not null."""
        return self.data.get(key) is not None

    def text(self, key: str, *, pattern: str | None = None, longest: int = 2048) -> str:
        """A required string."""
        value = self.data.get(key)
        if value is None:
            raise self._missing(key)
        if not isinstance(value, str):
            raise _kind_error(key, "String")
        if len(value) > longest:
            constraint = f"Member must have length less than or equal to {longest}"
            raise self._bad(key, value[:64] + "...", constraint)
        if pattern is not None and not re.fullmatch(pattern, value):
            constraint = f"Member must satisfy regular expression pattern: {pattern}"
            raise self._bad(key, value, constraint)
        return value

    def maybe_text(self, key: str) -> str | None:
        """An optional string."""
        return self.text(key) if self.has(key) else None

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """A string out of an enumeration."""
        if not self.has(key) and default is not None:
            return default
        value = self.text(key)
        if value not in allowed:
            constraint = f"Member must satisfy enum value set: [{', '.join(allowed)}]"
            raise self._bad(key, value, constraint)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        value = self.data.get(key)
        if value is None:
            if default is None:
                raise self._missing(key)
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _kind_error(key, "Double")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._bad(key, str(value)[:64], "Member must be a finite number")
        return number

    def integer(self, key: str, default: int | None = None, *, low: int = 0,
                high: int = 2**31 - 1) -> int:  # fmt: skip
        """A whole number within [low, high]."""
        value = self.data.get(key)
        if value is None:
            if default is None:
                raise self._missing(key)
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise _kind_error(key, "Integer")
        if value < low:
            constraint = f"Member must have value greater than or equal to {low}"
            raise self._bad(key, value, constraint)
        if value > high:
            constraint = f"Member must have value less than or equal to {high}"
            raise self._bad(key, value, constraint)
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise _kind_error(key, "Boolean")
        return value

    def items(self, key: str, *, required: bool = False) -> list[Any]:
        """A list."""
        value = self.data.get(key)
        if value is None:
            if required:
                raise self._missing(key)
            return []
        if not isinstance(value, list):
            raise _kind_error(key, "List")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings."""
        values = self.items(key)
        if not all(isinstance(v, str) for v in values):
            raise _kind_error(key, "String")
        return values

    def structures(self, key: str, *, required: bool = False) -> list[Params]:
        """A list of structures."""
        values = self.items(key, required=required)
        return [Params(v, f"{self._path(key)}.{i + 1}.member") for i, v in enumerate(values)]

    def structure(self, key: str) -> Params | None:
        """A structure, or None."""
        value = self.data.get(key)
        return None if value is None else Params(value, self._path(key))
