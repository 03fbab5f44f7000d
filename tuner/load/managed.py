"""What a session tells its generator processes, and the Locust environment they share."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.util.load_locustfile import load_locustfile

from tuner.errors import GeneratorError, InputError
from tuner.load.plan import SessionPlan
from tuner.load.target import InvokeTarget
from tuner.load.users import ArrivalUser, ManagedUser
from tuner.workload.payloads import PayloadSet

FAULTS_KEPT = 10


class OneEach(UsersDispatcher):
    """Gives every worker exactly one user, for good.

    Locust's own dispatcher balances users: it would move an arrival user in the middle of a
    stage when a worker joins or dies.
    """

    def new_dispatch(self, *_: Any, **__: Any) -> None:
        self._given = False

    def __next__(self) -> dict[str, dict[str, int]]:
        if self._given:
            raise StopIteration
        self._given = True
        each = {c.__name__: 1 for c in self._user_classes}
        return {node.id: dict(each) for node in self._worker_nodes}

    def add_worker(self, worker_node: Any) -> None:
        if worker_node not in self._worker_nodes:
            self._worker_nodes.append(worker_node)

    def remove_worker(self, worker_node: Any) -> None:
        self._worker_nodes = [w for w in self._worker_nodes if w.id != worker_node.id]


class ManagedEnvironment(Environment):
    """A Locust environment whose load is told by a tuner session."""

    tuner_managed = True

    def __init__(self) -> None:
        super().__init__(user_classes=[])
        self.tuner_target: InvokeTarget | None = None
        self.tuner_payloads: PayloadSet | None = None
        self.faults: list[Exception] = []
        self.events.user_error.add_listener(self._on_user_error)  # type: ignore[no-untyped-call]

    def _on_user_error(self, user_instance: Any, exception: Exception, tb: Any) -> None:
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(exception)

    @property
    def open_loop(self) -> bool:
        """Whether every user class offers arrivals of its own accord."""
        return all(issubclass(c, ArrivalUser) for c in self.user_classes)

    def adopt(self, plan: SessionPlan) -> None:
        """Take target, payloads and user classes from a plan."""
        self.tuner_target = plan.target
        self.tuner_payloads = plan.payloads
        self.user_classes = (
            [ManagedUser] if plan.locustfile is None else load_users(plan.locustfile)
        )
        # As with Locust's own --host: the plan says where load goes, not the locustfile.
        self.host = plan.target.origin
        if self.open_loop:
            self.dispatcher_class = OneEach


def load_users(path: str) -> list[Any]:
    """The User classes of a locustfile.

    Raises
    ------
    InputError
        If the file cannot be run or holds no User.
    """
    if not Path(path).is_file():
        raise InputError("there is no such locustfile", value=path)
    try:
        found, _ = load_locustfile(os.path.abspath(path))  # noqa: PTH100
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"the locustfile cannot be run: {type(error).__name__}: {error}", value=path
        ) from None
    if not found:
        raise InputError("the locustfile holds no User class that is not abstract", value=path)
    classes = list(found.values())
    if any(issubclass(c, ArrivalUser) for c in classes) and len(classes) > 1:
        # One such user offers the whole rate: others beside it would get none, or add to it.
        raise InputError(
            "the locustfile holds several User classes, and one of them is open-loop",
            value=", ".join(c.__name__ for c in classes),
            allowed="one open-loop class (it may send several payloads), or closed-loop ones only",
        )
    return classes


def machine_id() -> str:
    """Equal for processes that share a monotonic clock."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/time")
    if boot.exists():
        clock = namespace.readlink() if namespace.is_symlink() else ""
        return f"{boot.read_text().strip()}/{clock}"
    return socket.gethostname()


def fault_of(environment: ManagedEnvironment) -> Exception | None:
    """The first thing a user died of, taken off the list."""
    return environment.faults.pop(0) if environment.faults else None


def user_fault(error: Exception) -> GeneratorError:
    """An exception of a user, as an error for people."""
    return GeneratorError(f"a user of the load generator failed: {type(error).__name__}: {error}")
