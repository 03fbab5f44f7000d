"""The instance of a spec file: its workers, service times, models and meters."""

from __future__ import annotations

from tuner.emulator.spectable import Table
from tuner.fleet.service import ServiceTime, Shape
from tuner.fleet.spec import (
    Batching,
    ColdStart,
    Contention,
    InstanceSpec,
    Meters,
    ModelsSpec,
    QueueOrder,
)
from tuner.units import ms_to_s

MIB = 1024.0**2


def service_time(parent: Table, key: str, default: ServiceTime) -> ServiceTime:
    """A table that says how long something takes."""
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


def models_of(table: Table) -> ModelsSpec | None:
    """``[models]``: a multi-model endpoint."""
    memory = table.number("memory_mib", 4096.0, above=True)
    size = table.number("model_mib", 256.0, above=True)
    if size > memory:
        table.problem("model_mib", "does not fit into memory", size, f"at most {memory:g}")
        size = memory
    spec = ModelsSpec(
        memory * MIB,
        size * MIB,
        service_time(table, "load", ServiceTime.deterministic(1.0)),
        service_time(table, "download", ServiceTime.deterministic(0.0)),
        service_time(table, "unload", ServiceTime.deterministic(0.0)),
        size_cv=table.number("size_cv", 0.0),
        loaders=table.integer("loaders", 1, low=1, high=1024),
        wait_limit_s=table.number("wait_limit_s", 60.0, above=True),
        load_limit_s=table.number("load_limit_s", 360.0, above=True),
        affinity=table.flag("affinity", True),
        spill=table.integer("spill", 1, low=1) if table.has("spill") else None,
    )
    table.done()
    return spec


def instance_of(table: Table | None) -> InstanceSpec:
    """``[instance]``, or the demo's when there is none."""
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
        service_time(table, "service", base.service),
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
        overhead=service_time(table, "overhead", ServiceTime.deterministic(0.0)),
        meters=_meters(table),
    )
    for part in parts.values():
        if part is not None:
            part.done()
    table.done()
    return spec


def _meters(table: Table) -> Meters:
    """Cores, GPUs and memory: keys of ``[instance]``."""
    base = Meters()
    return Meters(
        vcpus=table.integer("vcpus", base.vcpus, low=1, high=1024),
        gpus=table.integer("gpus", base.gpus, high=64),
        cpu_share=table.number("cpu_share", base.cpu_share, high=1.0),
        gpu_share=table.number("gpu_share", base.gpu_share, high=1.0),
        memory_share=table.number("memory_share", base.memory_share, high=1.0),
        memory_per_request=table.number("memory_per_request", base.memory_per_request, high=1.0),
        gpu_memory_share=table.number("gpu_memory_share", base.gpu_memory_share, high=1.0),
        gpu_memory_per_request=table.number(
            "gpu_memory_per_request", base.gpu_memory_per_request, high=1.0
        ),
    )
