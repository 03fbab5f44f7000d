"""What a simulated fleet is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from tuner.fleet.service import ServiceTime


class RoutingStrategy(StrEnum):
    """SageMaker's routing strategies (``ProductionVariant.RoutingConfig``)."""

    RANDOM = "RANDOM"
    LEAST_OUTSTANDING_REQUESTS = "LEAST_OUTSTANDING_REQUESTS"


class QueueOrder(StrEnum):
    """Which waiting request an instance starts next."""

    FIFO = "fifo"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Contention:
    """Requests in service slow each other down.

    With k requests in service each progresses at ``1 / (1 + alpha (k-1) + beta k (k-1))`` of
    its unloaded speed: Gunther's universal scalability law read as limited processor sharing.
    alpha = 1, beta = 0 is exact processor sharing.
    """

    alpha: float
    beta: float = 0.0

    def __post_init__(self) -> None:
        if self.alpha < 0.0 or self.beta < 0.0:
            raise ValueError(f"contention must not be negative: {self.alpha}, {self.beta}")

    def speed(self, in_service: int) -> float:
        """Progress per second of each of ``in_service`` requests, 1 when alone."""
        others = in_service - 1
        return 1.0 / (1.0 + self.alpha * others + self.beta * in_service * others)


@dataclass(frozen=True, slots=True)
class Batching:
    """A worker serves up to ``max_size`` requests at once.

    A batch starts when it is full, or when its oldest request has waited ``max_wait_s``; it
    takes the longest service time drawn for its requests plus ``per_item_s`` for each of them.
    """

    max_size: int
    max_wait_s: float = 0.0
    per_item_s: float = 0.0

    def __post_init__(self) -> None:
        if self.max_size < 1 or self.max_wait_s < 0.0 or self.per_item_s < 0.0:
            raise ValueError("a batch needs max_size >= 1 and times that are not negative")


@dataclass(frozen=True, slots=True)
class ColdStart:
    """The first ``requests`` on a new instance take ``factor`` times as long."""

    requests: int
    factor: float

    def __post_init__(self) -> None:
        if self.requests < 0 or self.factor < 1.0:
            raise ValueError("a cold start needs requests >= 0 and factor >= 1")


@dataclass(frozen=True, slots=True)
class ModelsSpec:
    """Memory for models, and what it takes to bring one in.

    Parameters
    ----------
    memory_bytes
        Room for models on an instance.
    model_bytes
        Size of a model; the mean of a lognormal when ``size_cv`` is above 0.
    size_cv
        Coefficient of variation of the size between models.
    download, load, unload
        From S3 to the disk (once per model and instance), from disk into memory, and out of
        it again.
    loaders
        Models loaded at once on an instance.
    wait_limit_s
        A request whose model is not loaded by then is answered ModelNotReadyException (429);
        the load goes on.
    load_limit_s
        A load that takes longer is given up.
    affinity
        Requests follow their model to an instance that holds it, as AWS documents.
    spill
        Requests in flight on that instance from which on another one is taken; None is the
        number of its workers.
    """

    memory_bytes: float
    model_bytes: float
    load: ServiceTime
    download: ServiceTime = field(default_factory=lambda: ServiceTime.deterministic(0.0))
    unload: ServiceTime = field(default_factory=lambda: ServiceTime.deterministic(0.0))
    size_cv: float = 0.0
    loaders: int = 1
    wait_limit_s: float = 60.0
    load_limit_s: float = 360.0
    affinity: bool = True
    spill: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.model_bytes <= self.memory_bytes < math.inf:
            raise ValueError(
                f"a model must fit into memory: {self.model_bytes}, {self.memory_bytes}"
            )
        if self.size_cv < 0.0 or self.loaders < 1:
            raise ValueError("need size_cv >= 0 and loaders >= 1")
        if not self.wait_limit_s > 0.0 or not self.load_limit_s > 0.0:
            raise ValueError("waiting and loading need time")
        if self.spill is not None and self.spill < 1:
            raise ValueError(f"spill must be at least 1: {self.spill}")

    @property
    def slots(self) -> int:
        """Models of mean size that fit at once."""
        return int(self.memory_bytes // self.model_bytes)


@dataclass(frozen=True, slots=True)
class Meters:
    """How an instance's work shows in CloudWatch's utilisation metrics.

    Parameters
    ----------
    vcpus, gpus
        ``CPUUtilization`` runs from 0 to 100 x vcpus, ``GPUUtilization`` and
        ``GPUMemoryUtilization`` from 0 to 100 x gpus; without GPUs there are none of the two.
    cpu_share, gpu_share
        Part of the cores and GPUs that work when every worker is busy.
    memory_share, gpu_memory_share
        Part of the memory in use while the instance idles.
    memory_per_request, gpu_memory_per_request
        Part of the memory that each request in flight takes.
    """

    vcpus: int = 4
    gpus: int = 0
    cpu_share: float = 1.0
    gpu_share: float = 1.0
    memory_share: float = 0.3
    memory_per_request: float = 0.0
    gpu_memory_share: float = 0.5
    gpu_memory_per_request: float = 0.0

    def __post_init__(self) -> None:
        if self.vcpus < 1 or self.gpus < 0:
            raise ValueError(f"need vcpus >= 1 and gpus >= 0: {self.vcpus}, {self.gpus}")
        shares = (self.cpu_share, self.gpu_share, self.memory_share, self.gpu_memory_share)
        if not all(0.0 <= share <= 1.0 for share in shares):
            raise ValueError(f"shares must lie within 0 and 1: {shares}")
        if self.memory_per_request < 0.0 or self.gpu_memory_per_request < 0.0:
            raise ValueError("a request cannot take less than no memory")


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One instance: its workers, its queue, and how long a request takes.

    Parameters
    ----------
    service
        Time a request occupies one worker that works for nobody else.
    workers
        Requests served at once.
    queue_limit
        Requests that may wait beyond those in service; None is no limit. One more is refused.
    order
        Which waiting request starts next.
    contention, batching
        At most one of the two; neither is independent workers.
    cold_start
        Slow first requests of an instance launched later (not of the initial ones).
    per_byte_s
        Service time added for each byte of the request body.
    overhead
        Time the platform adds to the answer outside the instance (``OverheadLatency``).
    meters
        What CloudWatch shows of its cores, GPUs and memory.
    models
        Memory for the models of a multi-model endpoint; None serves one model.
    """

    service: ServiceTime
    workers: int = 1
    queue_limit: int | None = None
    order: QueueOrder = QueueOrder.FIFO
    contention: Contention | None = None
    batching: Batching | None = None
    cold_start: ColdStart | None = None
    per_byte_s: float = 0.0
    overhead: ServiceTime = field(default_factory=lambda: ServiceTime.deterministic(0.0))
    meters: Meters = field(default_factory=Meters)
    models: ModelsSpec | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1: {self.workers}")
        if self.queue_limit is not None and self.queue_limit < 0:
            raise ValueError(f"queue_limit must not be negative: {self.queue_limit}")
        if self.per_byte_s < 0.0:
            raise ValueError(f"per_byte_s must not be negative: {self.per_byte_s}")
        if self.contention is not None and self.batching is not None:
            raise ValueError("an instance either batches or shares its processor, not both")
        if self.order is QueueOrder.RANDOM and (self.contention or self.batching):
            raise ValueError("random order of service is for independent workers only")

    @property
    def plain(self) -> bool:
        """Independent workers in order of arrival: completion is known on arrival."""
        fifo = self.order is QueueOrder.FIFO
        one_model = self.models is None
        return fifo and one_model and self.contention is None and self.batching is None


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """Instances behind a router.

    Parameters
    ----------
    instance
        Every instance is the same.
    instance_count
        Instances in service at the start.
    routing
        How the router picks an instance.
    launch_lag
        From the order of an instance to its taking traffic.
    drain_s
        How long an instance taken out may finish its requests before it is killed (SageMaker:
        SIGTERM, SIGKILL 30 s later).
    timeout_s
        When the platform gives up on an answer (SageMaker: 60 s); infinite for never.
    zones
        Availability zones, filled evenly.
    """

    instance: InstanceSpec
    instance_count: int = 1
    routing: RoutingStrategy = RoutingStrategy.RANDOM
    launch_lag: ServiceTime = field(default_factory=lambda: ServiceTime.deterministic(0.0))
    drain_s: float = 30.0
    timeout_s: float = 60.0
    zones: int = 3

    def __post_init__(self) -> None:
        if self.instance_count < 0 or self.zones < 1:
            raise ValueError("need instance_count >= 0 and zones >= 1")
        if self.drain_s < 0.0 or not self.timeout_s > 0.0:
            raise ValueError("need drain_s >= 0 and timeout_s > 0")
