"""The dated price file that ``tuner prices update`` writes and every answer reads.

JSON, schema 1: ``{"schema_version": 1, "prices": [{"instance_type", "usd_per_hour", "region",
"source", "date", "effective_date", "sku"}, ...]}``, one entry for each type and region.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.errors import InputError
from tuner.recommend.prices import REGION, Price, PriceTable

PRICE_FILE = Path("tuner-prices.json")
"""Looked for in the working directory."""
SCHEMA_VERSION = 1
GRADE = "A"
"""The Price List of this component and region, read by the user."""


@dataclass(frozen=True, slots=True)
class FilePrice:
    """One entry; ``date`` is the day it was read, ``effective_date`` AWS's own."""

    instance_type: str
    usd_per_hour: float
    region: str
    source: str
    date: str
    effective_date: str = ""
    sku: str = ""

    def price(self) -> Price:
        """As the price table holds it."""
        return Price(
            self.instance_type, self.usd_per_hour, GRADE, self.source, self.date, self.region
        )


def read_price_file(path: Path) -> tuple[FilePrice, ...]:
    """The entries of a price file; none where there is no file.

    Raises
    ------
    InputError
        If it cannot be read, is of another schema, or an entry is wrong.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the price file cannot be read: {error}", value=str(path)) from None
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise _wrong(path, f"it is not JSON: {error}") from None
    if not isinstance(raw, dict) or raw.get("schema_version") != SCHEMA_VERSION:
        raise _wrong(path, f"it is not of schema_version {SCHEMA_VERSION}")
    entries = raw.get("prices")
    if not isinstance(entries, list):
        raise _wrong(path, "it holds no list of prices")
    return tuple(_entry(path, e) for e in entries)


def _entry(path: Path, raw: Any) -> FilePrice:
    known = set(FilePrice.__dataclass_fields__)
    if not isinstance(raw, dict) or set(raw) - known:
        raise _wrong(path, f"an entry has unknown parts: {raw!r:.120}")
    try:
        entry = FilePrice(**raw)
        amount = float(entry.usd_per_hour)
    except (TypeError, ValueError) as error:
        raise _wrong(path, f"an entry is incomplete: {error}") from None
    texts = [getattr(entry, name) for name in known - {"usd_per_hour"}]
    if not all(isinstance(t, str) for t in texts) or isinstance(entry.usd_per_hour, str | bool):
        raise _wrong(path, f"an entry has a part of the wrong kind: {raw!r:.120}")
    if not (math.isfinite(amount) and amount > 0.0):
        raise _wrong(path, f"the price of {entry.instance_type} is not a positive number")
    return entry


def _wrong(path: Path, why: str) -> InputError:
    return InputError(
        f"the price file cannot be used: {why}",
        value=str(path),
        hint="write it again with `tuner prices update`, or take it away",
    )


def price_file_text(entries: Iterable[FilePrice]) -> str:
    """The file's text; entries in order, one of each type and region (the last given)."""
    latest = {(e.region, e.instance_type): e for e in entries}
    document = {
        "schema_version": SCHEMA_VERSION,
        "prices": [asdict(latest[key]) for key in sorted(latest)],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def with_file(table: PriceTable, entries: Iterable[FilePrice], region: str | None) -> PriceTable:
    """A table with the file's prices of a region before its own.

    Without a region: us-east-1, or the only one in the file.
    """
    known = tuple(entries)
    regions = {e.region for e in known}
    wanted = region or (next(iter(regions)) if len(regions) == 1 else REGION)
    return table.with_prices(e.price() for e in known if e.region == wanted)
