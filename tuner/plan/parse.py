"""``tuner.toml`` and flags to a Plan, with every problem reported at once."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuner.errors import PlanError, Problem
from tuner.plan.checks import check_models, check_signals, check_types, cross_checks
from tuner.plan.knobs import (
    KNOBS,
    CanaryTable,
    DataCaptureTable,
    ModelsTable,
    ScheduleTable,
    SignalsTable,
    TypeTable,
)
from tuner.plan.tables import (
    CLIENT_TIMEOUT_FACTOR,
    TABLES,
    CapacityTable,
    EndpointTable,
    LoadTable,
    SloTable,
    Table,
    TrafficTable,
)
from tuner.slo import Slo


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan, valid in itself. Paths inside are relative to ``base_dir``."""

    endpoint: EndpointTable
    slo_table: SloTable
    load: LoadTable
    traffic: TrafficTable
    capacity: CapacityTable
    terraform: Mapping[str, Any]
    text: str
    source: str
    base_dir: Path
    signals: SignalsTable | None = None
    models: ModelsTable | None = None
    data_capture: DataCaptureTable | None = None
    canary: CanaryTable | None = None
    schedule: ScheduleTable | None = None
    types: tuple[TypeTable, ...] = ()

    @property
    def slo(self) -> Slo:
        """The objectives as a value."""
        return self.slo_table.slo()

    @property
    def timeout_s(self) -> float:
        """The client timeout: given, or ten times the slowest objective, 5 s to 60 s."""
        if self.load.timeout_s is not None:
            return self.load.timeout_s
        slowest = self.slo.slowest_threshold_s
        return max(min(60.0, max(5.0, 10.0 * slowest)), CLIENT_TIMEOUT_FACTOR * slowest)

    def path(self, relative: str) -> Path:
        """A path of the plan, resolved against the plan's own directory."""
        return self.base_dir / relative


def load_plan(
    path: Path, overrides: Mapping[str, Any] | None = None, *, traffic: bool = True
) -> Plan:
    """Read and check a plan file; with ``traffic`` false it may say nothing of the traffic.

    Raises
    ------
    PlanError
        With every problem found, each with its key.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise PlanError(
            str(path),
            [Problem("file", "no such file", str(path))],
            hint="write one with: tuner init",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(str(path), [Problem("file", f"cannot be read: {error}")]) from None
    base_dir = path.resolve().parent
    return parse_plan(
        text, source=str(path), base_dir=base_dir, overrides=overrides, traffic=traffic
    )


def parse_plan(
    text: str,
    *,
    source: str,
    base_dir: Path,
    overrides: Mapping[str, Any] | None = None,
    files: bool = True,
    traffic: bool = True,
) -> Plan:
    """Check the text of a plan; ``overrides`` are dotted keys from flags (None takes one away).

    With ``files`` false the files it names need not be there any more: a run directory keeps
    what it needs of them. With ``traffic`` false it may say nothing of the traffic.

    Raises
    ------
    PlanError
        With every problem found, each with its key.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(source, [Problem("syntax", str(error), allowed="TOML 1.0")]) from None
    for dotted, value in (overrides or {}).items():
        table, _, key = dotted.partition(".")
        if not key:
            raw[table] = value
        elif value is None:
            raw.get(table, {}).pop(key, None)
        else:
            raw.setdefault(table, {})[key] = value
    problems = [*_unknown_tables(raw)]
    tables: dict[str, Any] = {}
    for name, model in TABLES.items():
        try:
            tables[name] = model.model_validate(_frozen(raw.get(name, {})))
        except ValidationError as error:
            problems.extend(_problems(name, model, error))
    knobs, types = _optional(raw, problems)
    needs_traffic = traffic or bool(raw.get("traffic"))
    problems.extend(cross_checks(tables, base_dir if files else None, traffic=needs_traffic))
    problems.extend(check_signals(knobs.get("signals"), tables))
    problems.extend(check_models(knobs.get("models"), tables, base_dir if files else None))
    problems.extend(check_types(types, tables, base_dir if files else None))
    terraform = raw.get("terraform", {})
    if not isinstance(terraform, dict):
        problems.append(Problem("terraform", "is not a table", terraform))
    if problems:
        raise PlanError(source, problems)
    return Plan(
        tables["endpoint"],
        tables["slo"],
        tables["load"],
        tables["traffic"],
        tables["capacity"],
        terraform,
        text,
        source,
        base_dir,
        **knobs,
        types=types,
    )


def _optional(
    raw: Mapping[str, Any], problems: list[Problem]
) -> tuple[dict[str, Any], tuple[TypeTable, ...]]:
    """The tables that may be absent, and the list of types."""
    knobs: dict[str, Any] = {}
    for name, model in KNOBS.items():
        if name in raw:
            try:
                knobs[name] = model.model_validate(_frozen(raw[name]))
            except ValidationError as error:
                problems.extend(_problems(name, model, error))
    types = []
    entries = raw.get("types", [])
    if not isinstance(entries, list):
        problems.append(Problem("types", "is not a list", allowed="[[types]] tables"))
        entries = []
    for number, entry in enumerate(entries):
        try:
            types.append(TypeTable.model_validate(_frozen(entry)))
        except ValidationError as error:
            problems.extend(_problems(f"types.{number}", TypeTable, error))
    return knobs, tuple(types)


def _frozen(value: Any) -> Any:
    """Lists become tuples, so that strict validation takes them."""
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    return value


def _unknown_tables(raw: Mapping[str, Any]) -> Iterator[Problem]:
    known = [*TABLES, *KNOBS, "types", "terraform"]
    for key in raw:
        if key not in known:
            yield Problem(
                key, "unknown table" + _did_you_mean(key, known), allowed=", ".join(known)
            )


def _did_you_mean(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _problems(table: str, model: type[Table], error: ValidationError) -> Iterator[Problem]:
    seen: set[str] = set()
    for item in error.errors(include_url=False):
        parts = [str(p) for p in item["loc"] if not str(p).startswith(("literal[", "tuple["))]
        key = ".".join([table, *parts])
        value = item["input"]
        context = item.get("ctx", {})
        if item["type"] == "extra_forbidden":
            known = [f.alias or n for n, f in model.model_fields.items()]
            yield Problem(key, "unknown key" + _did_you_mean(parts[-1], known), value)
            continue
        if key in seen:
            continue
        seen.add(key)
        if item["type"] == "missing":
            yield Problem(key, "is required", allowed=_allowed(model, parts[0]))
            continue
        message = str(item["msg"]).replace("Input should", "must").replace("String should", "must")
        allowed = _allowed(model, parts[0]) if parts else None
        shown = value.get(parts[-1]) if isinstance(value, dict) and not parts else value
        # A word or a list: the error about the word alone would hide that a list is allowed.
        either = any(str(p).startswith("literal[") for p in item["loc"])
        message = "is not allowed" if either else message
        yield Problem(key, message, shown, allowed if either or "pattern" in context else None)


def _allowed(model: type[Table], field: str) -> str | None:
    info = model.model_fields.get(field)
    if info is None:
        return None
    texts = {
        "kind": "sagemaker, emulator, http",
        "name": "letters, digits and inner hyphens, at most 63",
        "variant": "letters, digits and inner hyphens, at most 63",
        "region": "an AWS region such as us-east-1",
        "url": "http:// or https://",
        "endpoint_url": "http:// or https://",
        "instance_type": "an ml.* type such as ml.m5.xlarge",
        "rates": '"auto", or requests per second per instance such as [40, 80, 120]',
        "lose": '"none", "1 instance", "2 instances", ..., "1 zone of 3"',
    }
    return texts.get(field)
