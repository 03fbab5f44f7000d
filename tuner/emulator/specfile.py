"""TOML text to an EmulatorSpec, with every problem reported at once."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from tuner.emulator.spec_instance import instance_of, models_of, service_time
from tuner.emulator.spectable import Table
from tuner.errors import PlanError, Problem
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec, RoutingStrategy


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
    return service_time(table, "launch_lag", default)


def parse_faults(tables: list[Table]) -> tuple[Fault, ...]:
    """The faults of ``[[faults]]``; problems are noted in the tables."""
    faults = []
    for table in tables:
        start = table.number("from_s", 0.0)
        if not table.has("kind"):
            table.problem("kind", "is missing", None, ", ".join(FaultKind))
        kind = table.choice("kind", FaultKind, FaultKind.ERROR)
        usual = 400 if kind is FaultKind.CONTROL_ERROR else 500
        fault = Fault(
            kind,
            from_s=start,
            until_s=table.number("until_s", math.inf, low=start),
            share=table.number("share", 1.0, high=1.0),
            status=table.integer("status", usual, low=400, high=599),
            drip_s=table.number("drip_s", 5.0),
            factor=table.number("factor", 10.0, above=True),
            count=table.integer("count", 1, low=1),
            zone=table.integer("zone", 0, high=5),
            endpoint=table.text("endpoint", ""),
            operation=table.text("operation", ""),
            code=table.text("code", "ThrottlingException"),
            applied=table.flag("applied", False),
            delay_s=table.number("delay_s", 30.0),
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
    instance = instance_of(top.table("instance"))
    models = top.table("models")
    if models is not None:
        instance = replace(instance, models=models_of(models))
    endpoint = top.table("endpoint") or Table({}, "endpoint", problems)
    name = endpoint.text("name", "tuner-demo")
    variants = [_variant(endpoint, instance)]
    endpoint.done()
    for table in top.tables("variants"):
        own = table.table("instance")
        variants.append(_variant(table, instance if own is None else instance_of(own)))
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
