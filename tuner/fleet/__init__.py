"""Simulated instances behind a router: one model for the virtual and the wall clock."""

from tuner.fleet.model import Completion, Fate, Fleet, Phase, Started
from tuner.fleet.models import ModelLoad
from tuner.fleet.quick import Simulated, simulate
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

__all__ = [
    "Batching",
    "ColdStart",
    "Completion",
    "Contention",
    "Fate",
    "Fleet",
    "FleetSpec",
    "InstanceSpec",
    "ModelLoad",
    "ModelsSpec",
    "Phase",
    "QueueOrder",
    "RoutingStrategy",
    "ServiceTime",
    "Shape",
    "Simulated",
    "Started",
    "simulate",
]
