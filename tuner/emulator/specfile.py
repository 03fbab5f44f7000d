"""TOML text to an EmulatorSpec, with every problem reported at once."""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from tuner.emulator.params import NAME
from tuner.emulator.spec import (
    LONGEST_MINUTE_S,
    SHORTEST_MINUTE_S,
    CaptureSpec,
    EmulatorSpec,
    Fault,
    FaultKind,
    ResponseSpec,
    VariantSpec,
)
from tuner.errors import PlanError, Problem
from tuner.fleet.service import ServiceTime, Shape
from tuner.fleet.spec import (
    Batching,
    ColdStart,
    Contention,
    FleetSpec,
    InstanceSpec,
    ModelsSpec,
    QueueOrder,
    RoutingStrategy,
)
from tuner.units import ms_to_s

E = TypeVar("E", bound=StrEnum)
MIB = 1024.0**2


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


def _service_time(parent: Table, key: str, default: ServiceTime) -> ServiceTime:
    table = parent.table(key)
    if table is None:
        return default
    shape = table.choice("shape", Shape, Shape.DETERMINISTIC)
    time = default
    if shape is Shape.EMPIRICAL:
        values = table.numbers("values_ms") or table.csv_numbers("csv")
        if values:
            time = ServiceTime.empirical(tuple(ms_to_s(v) for v in values))
        else:
            table.problem("values_ms", "an empirical time needs values", [], "numbers, or csv")
    elif shape in (Shape.TWO_POINT, Shape.HYPEREXPONENTIAL):
        fast = ms_to_s(table.number("fast_ms", 10.0))
        slow = ms_to_s(table.number("slow_ms", 100.0))
        time = ServiceTime(shape, (fast, slow), table.number("slow_share", 0.1, high=1.0))
    else:
        mean = ms_to_s(table.number("mean_ms", 20.0))
        if shape in (Shape.GAMMA, Shape.LOGNORMAL):
            time = ServiceTime(shape, (mean,), table.number("cv", 1.0, above=True))
        else:
            time = ServiceTime(shape, (mean,))
    table.done()
    return time


def _models(table: Table) -> ModelsSpec | None:
    """``[models]``: a multi-model endpoint."""
    memory = table.number("memory_mib", 4096.0, above=True)
    size = table.number("model_mib", 256.0, above=True)
    if size > memory:
        table.problem("model_mib", "does not fit into memory", size, f"at most {memory:g}")
        size = memory
    spec = ModelsSpec(
        memory * MIB,
        size * MIB,
        _service_time(table, "load", ServiceTime.deterministic(1.0)),
        _service_time(table, "download", ServiceTime.deterministic(0.0)),
        _service_time(table, "unload", ServiceTime.deterministic(0.0)),
        size_cv=table.number("size_cv", 0.0),
        loaders=table.integer("loaders", 1, low=1, high=1024),
        wait_limit_s=table.number("wait_limit_s", 60.0, above=True),
        load_limit_s=table.number("load_limit_s", 360.0, above=True),
        affinity=table.flag("affinity", True),
        spill=table.integer("spill", 1, low=1) if table.has("spill") else None,
    )
    table.done()
    return spec


def _instance(table: Table | None) -> InstanceSpec:
    base = InstanceSpec(ServiceTime.lognormal(0.020, 0.6), workers=4)
    if table is None:
        return base
    contention = table.table("contention")
    batching = table.table("batching")
    cold = table.table("cold_start")
    parts = {"contention": contention, "batching": batching, "cold_start": cold}
    sharing = None
    if contention is not None:
        sharing = Contention(contention.number("alpha", 0.0), contention.number("beta", 0.0))
    if sharing is not None and batching is not None:
        table.problem("batching", "excludes contention", "both", "one of the two")
        sharing = None
    order = table.choice("order", QueueOrder, QueueOrder.FIFO)
    if order is QueueOrder.RANDOM and (contention or batching):
        table.problem("order", "needs independent workers", order.value, "fifo")
        order = QueueOrder.FIFO
    spec = InstanceSpec(
        _service_time(table, "service", base.service),
        workers=table.integer("workers", 4, low=1, high=4096),
        queue_limit=table.integer("queue_limit", 0) if table.has("queue_limit") else None,
        order=order,
        contention=sharing,
        batching=None
        if batching is None
        else Batching(
            batching.integer("max_size", 8, low=1, high=4096),
            ms_to_s(batching.number("max_wait_ms", 0.0)),
            ms_to_s(batching.number("per_item_ms", 0.0)),
        ),
        cold_start=None
        if cold is None
        else ColdStart(cold.integer("requests", 20), cold.number("factor", 5.0, low=1.0)),
        per_byte_s=ms_to_s(table.number("per_kib_ms", 0.0)) / 1024.0,
        overhead=_service_time(table, "overhead", ServiceTime.deterministic(0.0)),
        vcpus=table.integer("vcpus", 4, low=1, high=1024),
    )
    for part in parts.values():
        if part is not None:
            part.done()
    table.done()
    return spec


def _variant(table: Table, instance: InstanceSpec) -> VariantSpec:
    fleet = FleetSpec(
        instance,
        instance_count=table.integer("instance_count", 1, high=10_000),
        routing=table.choice("routing", RoutingStrategy, RoutingStrategy.RANDOM),
        launch_lag=_launch_lag(table),
        drain_s=table.number("drain_s", 30.0),
        timeout_s=table.number("timeout_s", 60.0, above=True),
        zones=table.integer("zones", 3, low=1, high=6),
    )
    return VariantSpec(
        table.text("variant", "AllTraffic"),
        table.text("instance_type", "ml.m5.xlarge"),
        fleet,
        table.number("weight", 1.0),
        table.number("price_per_hour_usd", 0.23),
    )


def _launch_lag(table: Table) -> ServiceTime:
    default = ServiceTime.deterministic(180.0)
    if table.has("launch_lag_s"):
        return ServiceTime.deterministic(table.number("launch_lag_s", 180.0))
    return _service_time(table, "launch_lag", default)


def parse_faults(tables: list[Table]) -> tuple[Fault, ...]:
    """The faults of ``[[faults]]``; problems are noted in the tables."""
    faults = []
    for table in tables:
        start = table.number("from_s", 0.0)
        if not table.has("kind"):
            table.problem("kind", "is missing", None, ", ".join(FaultKind))
        fault = Fault(
            table.choice("kind", FaultKind, FaultKind.ERROR),
            from_s=start,
            until_s=table.number("until_s", math.inf, low=start),
            share=table.number("share", 1.0, high=1.0),
            status=table.integer("status", 500, low=400, high=599),
            drip_s=table.number("drip_s", 5.0),
            factor=table.number("factor", 10.0, above=True),
            count=table.integer("count", 1, low=1),
            zone=table.integer("zone", 0, high=5),
            endpoint=table.text("endpoint", ""),
        )
        table.done()
        faults.append(fault)
    return tuple(faults)


def parse_fault_script(text: str, source: str) -> tuple[Fault, ...]:
    """Read a TOML file that holds nothing but ``[[faults]]``.

    Raises
    ------
    PlanError
        With every problem found.
    """
    problems: list[Problem] = []
    top = Table(_toml(text, source), "", problems, Path(source).parent)
    faults = parse_faults(top.tables("faults"))
    top.done()
    if problems:
        raise PlanError(source, problems)
    return faults


def _toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(source, [Problem("(file)", f"not valid TOML: {error}")]) from None


def _response(table: Table | None) -> ResponseSpec:
    if table is None:
        return ResponseSpec()
    body = table.text("body", ResponseSpec().body)
    size = table.integer("size_bytes", 0, high=25_000_000)
    spec = ResponseSpec(
        body if len(body) >= size else body + " " * (size - len(body)),
        table.text("content_type", "application/json"),
        table.integer("stream_chunks", 16, low=1, high=10_000),
        table.number("first_chunk_share", 0.25, high=1.0),
    )
    table.done()
    return spec


def _capture(table: Table | None) -> CaptureSpec:
    if table is None:
        return CaptureSpec()
    percents = table.numbers("sampling_percents")
    if not all(p.is_integer() and p <= 100 for p in percents):
        table.problem("sampling_percents", "not percentages", percents, "whole numbers to 100")
        percents = ()
    spec = CaptureSpec(
        table.number("service_share", 0.0, high=10.0), tuple(int(p) for p in percents)
    )
    table.done()
    return spec


def parse_spec(text: str, source: str) -> EmulatorSpec:
    """Read an emulator's TOML; files it names are looked for beside ``source``.

    Raises
    ------
    PlanError
        With every problem found, if the text is not a valid specification.
    """
    problems: list[Problem] = []
    top = Table(_toml(text, source), "", problems, Path(source).parent)
    instance = _instance(top.table("instance"))
    models = top.table("models")
    if models is not None:
        instance = replace(instance, models=_models(models))
    endpoint = top.table("endpoint") or Table({}, "endpoint", problems)
    name = endpoint.text("name", "tuner-demo")
    variants = [_variant(endpoint, instance)]
    endpoint.done()
    for table in top.tables("variants"):
        own = table.table("instance")
        variants.append(_variant(table, instance if own is None else _instance(own)))
        table.done()
    spec = EmulatorSpec(
        name=top.text("name", source),
        endpoint_name=name,
        variants=tuple(variants),
        description=top.text("description", ""),
        response=_response(top.table("response")),
        faults=parse_faults(top.tables("faults")),
        region=top.text("region", "us-east-1"),
        account_id=top.text("account_id", "123456789012"),
        seed=top.integer("seed", 1, high=2**31),
        minute_seconds=top.number(
            "minute_seconds", 60.0, low=SHORTEST_MINUTE_S, high=LONGEST_MINUTE_S
        ),
        publish_delay_s=top.number("publish_delay_s", 60.0, high=600.0),
        instance_quota=top.integer("instance_quota", 1000),
        max_payload_bytes=top.integer("max_payload_bytes", 25 * 1024**2, high=2**30),
        capture=_capture(top.table("data_capture")),
    )
    names = [v.name for v in variants]
    for text, key in [(name, "endpoint.name"), *((n, "variant") for n in names)]:
        if not re.fullmatch(NAME, text):
            top.problem(key, "not a SageMaker name", text, "letters, digits and hyphens, 1 to 63")
    if len(set(names)) != len(names):
        top.problem("variants", "a variant name is used twice", names, "different names")
    if not spec.response.content_type.isprintable():
        top.problem("response.content_type", "not a header value", spec.response.content_type,
                    "printable text")  # fmt: skip
    top.done()
    if problems:
        raise PlanError(source, problems)
    return spec
