"""What one table cannot know of itself: checks over keys, tables and the file system."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import Problem
from tuner.plan.knobs import ModelsTable, SignalsTable, TypeTable
from tuner.plan.tables import (
    CLIENT_TIMEOUT_FACTOR,
    EndpointTable,
    LoadTable,
    SloTable,
    TrafficTable,
)
from tuner.slo import Measure
from tuner.units import ms_to_s

STREAMED_PREFIXES = tuple(f"{m.value}_" for m in Measure if m.streamed)


def cross_checks(
    tables: Mapping[str, Any], base_dir: Path | None, *, traffic: bool = True
) -> Iterator[Problem]:
    """Every problem between keys of one table, and between tables."""
    if endpoint := tables.get("endpoint"):
        yield from _check_endpoint(endpoint, base_dir)
    if slo := tables.get("slo"):
        yield from _check_slo(slo, tables.get("load"))
        yield from _check_streaming(slo, tables.get("endpoint"))
    if load := tables.get("load"):
        yield from _check_load(load, base_dir)
        yield from _check_client(load, tables.get("endpoint"))
    if traffic and (asked := tables.get("traffic")):
        yield from _check_traffic(asked, base_dir)
    capacity = tables.get("capacity")
    if capacity and capacity.min_capacity > capacity.max_capacity:
        yield Problem(
            "capacity.min_capacity",
            "is above capacity.max_capacity",
            capacity.min_capacity,
            f"at most {capacity.max_capacity}",
        )


def check_models(
    models: ModelsTable | None, tables: Mapping[str, Any], base_dir: Path | None
) -> Iterator[Problem]:
    """A multi-model endpoint: how many models, under which names, and what excludes it."""
    if models is None:
        return
    if (models.count is None) == (models.trace is None):
        yield Problem("models", 'needs either count = … or trace = "…"')
    if models.count is not None and models.count > 1 and "{n}" not in models.name:
        yield Problem("models.name", "needs {n}, the number of the model", models.name)
    if base_dir and models.trace is not None and not (base_dir / models.trace).is_file():
        yield Problem("models.trace", "no such file", models.trace)
    if models.count is not None and any(n > models.count for n in models.sweep):
        yield Problem(
            "models.sweep", "goes beyond models.count", list(models.sweep),
            f"at most {models.count}",
        )  # fmt: skip
    load, endpoint = tables.get("load"), tables.get("endpoint")
    if load and load.target_model is not None:
        yield Problem("load.target_model", "cannot be given with [models]", load.target_model)
    if endpoint and endpoint.streaming:
        yield Problem("endpoint.streaming", "AWS streams from no multi-model endpoint", True)


def _check_endpoint(endpoint: EndpointTable, base_dir: Path | None) -> Iterator[Problem]:
    if endpoint.kind == "sagemaker" and endpoint.name is None:
        yield Problem("endpoint.name", "is required for kind = sagemaker")
    if endpoint.kind == "http" and endpoint.url is None:
        yield Problem("endpoint.url", "is required for kind = http", allowed="http(s)://…")
    if endpoint.kind != "http" and endpoint.url is not None:
        yield Problem("endpoint.url", "is only for kind = http; use endpoint_url", endpoint.url)
    if endpoint.preset is not None and endpoint.spec is not None:
        yield Problem("endpoint.spec", "cannot be given together with endpoint.preset")
    if endpoint.kind != "emulator":
        for key in ("preset", "spec"):
            if (value := getattr(endpoint, key)) is not None:
                yield Problem(f"endpoint.{key}", "is only for kind = emulator", value)
    local = endpoint.kind == "emulator" or endpoint.endpoint_url is not None
    if endpoint.minute_seconds is not None and not local:
        yield Problem(
            "endpoint.minute_seconds",
            "is only for an emulator: AWS has real minutes",
            endpoint.minute_seconds,
        )
    if base_dir and endpoint.spec is not None and not (base_dir / endpoint.spec).is_file():
        yield Problem("endpoint.spec", "no such file", endpoint.spec)


def _check_slo(slo: SloTable, load: LoadTable | None) -> Iterator[Problem]:
    objectives = {k: v for k, v in slo.model_dump().items() if k.endswith("_ms") and v is not None}
    if not objectives:
        yield Problem(
            "slo", "needs at least one of p50_ms … p99_9_ms, ttft_p95_ms, chunk_gap_p95_ms"
        )
        return
    for prefix in ("p", "ttft_p", "chunk_gap_p"):
        ordered = [(k, v) for k, v in objectives.items() if k.startswith(prefix)]
        for (lower, a), (upper, b) in itertools.pairwise(ordered):
            if a > b:
                yield Problem(f"slo.{lower}", f"is above slo.{upper}", a, f"at most {b}")
    if load is not None and load.timeout_s is not None:
        least = CLIENT_TIMEOUT_FACTOR * ms_to_s(max(objectives.values()))
        if load.timeout_s < least:
            yield Problem(
                "load.timeout_s",
                "is too short: slow answers would be cut off before the SLO could be judged",
                load.timeout_s,
                f"at least {least:g} (four times the slowest objective)",
            )


def _check_streaming(slo: SloTable, endpoint: EndpointTable | None) -> Iterator[Problem]:
    """An answer that comes whole has no chunks to judge."""
    if endpoint is None or endpoint.streaming:
        return
    for key, value in slo.model_dump().items():
        if value is not None and key.startswith(STREAMED_PREFIXES):
            yield Problem(
                f"slo.{key}",
                "is about the chunks of streamed answers, and endpoint.streaming is not set",
                value,
                "endpoint.streaming = true",
            )


def _check_client(load: LoadTable, endpoint: EndpointTable | None) -> Iterator[Problem]:
    if load.client == "boto3" and endpoint is not None and endpoint.kind == "http":
        yield Problem(
            "load.client",
            "invokes SageMaker endpoints only, and endpoint.kind is http",
            load.client,
            '"fast"',
        )


def _check_load(load: LoadTable, base_dir: Path | None) -> Iterator[Problem]:
    if load.body is None and not load.payloads:
        yield Problem("load", 'needs body = "…" or payloads = [{ file = "…" }]')
    if load.body is not None and load.payloads:
        yield Problem("load.body", "cannot be given together with load.payloads")
    for number, entry in enumerate(load.payloads):
        if base_dir and not _matches(base_dir, entry.file):
            yield Problem(f"load.payloads.{number}.file", "no such file", entry.file)
    if len(set(load.instance_counts)) != len(load.instance_counts):
        yield Problem("load.instance_counts", "names a count twice", list(load.instance_counts))


def check_signals(signals: SignalsTable | None, tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Signals are read from CloudWatch, and a faster clock is only an emulator's."""
    endpoint, capacity = tables.get("endpoint"), tables.get("capacity")
    if signals is None or endpoint is None or capacity is None:
        return
    if not signals.metrics or len(set(signals.metrics)) != len(signals.metrics):
        yield Problem("signals.metrics", "names none, or one twice", list(signals.metrics))
    if endpoint.kind == "http" and set(signals.metrics) != {"invocations"}:
        yield Problem(
            "signals.metrics",
            "need CloudWatch, which a plain server does not have",
            list(signals.metrics),
            "kind = sagemaker or emulator",
        )
    if signals.minute_s is None:
        return
    if endpoint.minute_seconds not in (None, signals.minute_s):
        yield Problem(
            "signals.minute_s",
            "contradicts endpoint.minute_seconds",
            signals.minute_s,
            f"{endpoint.minute_seconds:g}, or one of the two",
        )
    if endpoint.kind != "emulator" or endpoint.endpoint_url is not None:
        yield Problem(
            "signals.minute_s",
            "is for an emulator that tuner starts",
            signals.minute_s,
            "endpoint.minute_seconds for one that runs already; 60 on AWS",
        )
    if signals.minute_s != 60.0 and capacity.launch_lag_s is None:
        yield Problem(
            "capacity.launch_lag_s",
            "is required with signals.minute_s: launches run on the emulator's faster clock",
        )


def check_types(
    types: Sequence[TypeTable], tables: Mapping[str, Any], base_dir: Path | None
) -> Iterator[Problem]:
    """Each ``[[types]]`` must say what is measured for it, in the way of ``endpoint.kind``."""
    endpoint, capacity = tables.get("endpoint"), tables.get("capacity")
    if not types or endpoint is None:
        return
    if capacity is not None and capacity.instance_type is None:
        yield Problem(
            "capacity.instance_type",
            "is required with [[types]]: it names the type of [endpoint]",
            allowed="an ml.* type such as ml.m5.xlarge",
        )
    needs = {
        "sagemaker": ("name", "variant"),
        "emulator": ("preset", "spec", "endpoint_url"),
        "http": ("url",),
    }
    for number, table in enumerate(types):
        key = f"types.{number}"
        for other in ("preset", "spec", "url"):
            if other not in needs[endpoint.kind] and (value := getattr(table, other)) is not None:
                yield Problem(f"{key}.{other}", f"is not for kind = {endpoint.kind}", value)
        given = [n for n in needs[endpoint.kind] if getattr(table, n) is not None]
        if not given:
            yield Problem(
                key,
                f"does not say what is measured as {table.instance_type}",
                allowed=" or ".join(needs[endpoint.kind]),
            )
        if endpoint.kind == "emulator" and len(given) > 1:
            yield Problem(f"{key}.{given[1]}", f"cannot be given together with {key}.{given[0]}")
        if table.endpoint_url is not None and endpoint.kind == "emulator" and table.name is None:
            yield Problem(f"{key}.name", "is required with endpoint_url")
        if base_dir and table.spec is not None and not (base_dir / table.spec).is_file():
            yield Problem(f"{key}.spec", "no such file", table.spec)


def _matches(base_dir: Path, pattern: str) -> bool:
    path = Path(pattern)
    if path.is_absolute():
        return path.is_file() or any(path.parent.glob(path.name))
    return (base_dir / pattern).is_file() or any(base_dir.glob(pattern))


def _check_traffic(traffic: TrafficTable, base_dir: Path | None) -> Iterator[Problem]:
    if traffic.csv is None and traffic.peak_per_min is None:
        yield Problem("traffic", 'needs csv = "…" or peak_per_min', allowed="requests per minute")
    if traffic.csv is not None and traffic.peak_per_min is not None:
        yield Problem("traffic.peak_per_min", "cannot be given together with traffic.csv")
    if base_dir and traffic.csv is not None and not (base_dir / traffic.csv).is_file():
        yield Problem("traffic.csv", "no such file", traffic.csv)
    if traffic.mix and sum(traffic.mix.values()) > 1.0 + 1e-9:
        yield Problem("traffic.mix", "shares add up to more than 1", dict(traffic.mix))
    trough, peak = traffic.trough_per_min, traffic.peak_per_min
    if trough is not None and peak is not None and trough > peak:
        yield Problem("traffic.trough_per_min", "is above traffic.peak_per_min", trough)
