"""What a fleet is made of and what it tells: instances, and the ends of requests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tuner.fleet.models import ModelMemory
from tuner.fleet.servers import Job, Server


class Fate(StrEnum):
    """How a request ended."""

    OK = "ok"
    QUEUE_FULL = "queue_full"
    TIMED_OUT = "timed_out"
    INSTANCE_LOST = "instance_lost"
    NO_CAPACITY = "no_capacity"
    MODEL_NOT_READY = "model_not_ready"


class Phase(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"
    IN_SERVICE = "in_service"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished request; times in seconds on the caller's axis.

    ``served_s`` is when the instance was done with it, ``done_s`` when the answer left the
    platform (``done_s - served_s`` is the overhead). ``instance_id`` is -1 when no instance
    was reached. ``worker_share`` is the part of a worker it used from start to served (below
    1 in a batch). ``cache_hit`` says whether its model was in memory (None: no model was
    named), ``model_wait_s`` how long it waited for that.
    """

    tag: Any
    arrived_s: float
    started_s: float
    served_s: float
    done_s: float
    fate: Fate
    instance_id: int
    worker_share: float = 1.0
    cache_hit: bool | None = None
    model_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """A watched request began its service at ``started_s``; alone it takes ``work_s``."""

    tag: Any
    started_s: float
    work_s: float


class Instance:
    """One instance of the fleet."""

    __slots__ = ("accepted", "id", "jobs", "models", "outstanding", "phase", "server", "slot",
                 "warm", "zone")  # fmt: skip

    def __init__(self, instance_id: int, zone: int, server: Server, *, warm: bool) -> None:
        self.id = instance_id
        self.zone = zone
        self.server = server
        self.warm = warm
        self.phase = Phase.STARTING
        self.outstanding = 0
        self.slot = -1
        self.accepted = 0
        self.jobs: dict[Job, None] = {}
        self.models: ModelMemory | None = None
