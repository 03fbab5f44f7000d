"""One table of a spec file, read key by key."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from tuner.errors import Problem

E = TypeVar("E", bound=StrEnum)


class Table:
    """One TOML table read key by key; what is wrong is noted, what is unread is unknown."""

    def __init__(
        self,
        data: Mapping[str, Any],
        key: str,
        problems: list[Problem],
        folder: Path = Path(),
    ) -> None:
        self._folder = folder
        self._data = dict(data)
        self._key = key
        self._problems = problems

    def _path(self, key: str) -> str:
        return f"{self._key}.{key}" if self._key else key

    def problem(self, key: str, message: str, value: object, allowed: str) -> None:
        """Note a problem of this table."""
        self._problems.append(Problem(self._path(key), message, value, allowed))

    def number(self, key: str, default: float, *, low: float = 0.0, high: float = math.inf,
               above: bool = False) -> float:  # fmt: skip
        """A number within [low, high]; ``above`` excludes ``low``."""
        value = self._data.pop(key, default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        endless = number and math.isinf(value) and not math.isinf(default)
        good = number and low <= value <= high and not endless and not (above and value == low)
        if not good:
            least = f"above {low:g}" if above else f"{low:g} or more"
            most = "" if math.isinf(high) else f", at most {high:g}"
            self.problem(key, "not a number in range", value, f"a number, {least}{most}")
            return default
        return float(value)

    def integer(self, key: str, default: int, *, low: int = 0, high: int = 1_000_000) -> int:
        """A whole number within [low, high]."""
        value = self._data.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.problem(key, "not a whole number in range", value, f"{low} to {high}")
            return default
        return value

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self._data.pop(key, default)
        if not isinstance(value, str):
            self.problem(key, "not a string", value, "a string")
            return default
        return value

    def choice(self, key: str, kind: type[E], default: E) -> E:
        """One of an enumeration's values."""
        value = self._data.pop(key, default)
        try:
            return kind(value)
        except ValueError:
            self.problem(key, "not a known value", value, ", ".join(kind))
            return default

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._data.pop(key, default)
        if not isinstance(value, bool):
            self.problem(key, "not true or false", value, "true, false")
            return default
        return value

    def table(self, key: str) -> Table | None:
        """A table inside this one, or None."""
        value = self._data.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.problem(key, "not a table", value, "a table")
            return None
        return Table(value, self._path(key), self._problems, self._folder)

    def tables(self, key: str) -> list[Table]:
        """An array of tables."""
        value = self._data.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            self.problem(key, "not an array of tables", value, f"[[{self._path(key)}]]")
            return []
        return [
            Table(v, f"{self._path(key)}[{i}]", self._problems, self._folder)
            for i, v in enumerate(value)
        ]

    def numbers(self, key: str) -> tuple[float, ...]:
        """An array of numbers that are not negative."""
        value = self._data.pop(key, [])
        numbers = isinstance(value, list) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < math.inf
            for v in value
        )
        if not numbers:
            self.problem(key, "not an array of numbers", value, "numbers, 0 or more")
            return ()
        return tuple(float(v) for v in value)

    def csv_numbers(self, key: str) -> tuple[float, ...]:
        """The first column of a CSV file beside the specification; a header line is skipped."""
        name = self.text(key, "")
        if not name:
            return ()
        try:
            with (self._folder / name).open(newline="", encoding="utf-8") as file:
                cells = [row[0].strip() for row in csv.reader(file) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self.problem(key, f"cannot be read: {error}", name, "a CSV file")
            return ()
        values = []
        for number, cell in enumerate(cells):
            try:
                value = float(cell)
            except ValueError:
                if number == 0:
                    continue
                value = math.nan
            if not 0.0 <= value < math.inf:
                self.problem(key, f"value {number + 1} is not a time", cell, "numbers, 0 or more")
                return ()
            values.append(value)
        return tuple(values)

    def has(self, key: str) -> bool:
        """Whether the key is there and not read yet."""
        return key in self._data

    def done(self) -> None:
        """Note every key nobody asked for."""
        for key, value in self._data.items():
            self.problem(key, "unknown key", value, "see the presets for the keys there are")
