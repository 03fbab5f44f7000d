"""Order an instance count and wait until the variant is settled, whatever AWS does meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tuner.campaign.types import ScaleEvent
from tuner.endpoints.aws import Aws, call
from tuner.endpoints.describe import VariantReader
from tuner.endpoints.protocol import AwsError, EndpointState, TaintedError, WaitCallback
from tuner.errors import EndpointError

T = TypeVar("T")

BUSY = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})
"""Statuses that end by themselves; an order given meanwhile is rejected."""

DEAD = {
    "Failed": "it can only be deleted; deploy it again",
    "OutOfService": "it takes no requests; deploy it again",
    "Deleting": "somebody is deleting it",
    "UpdateRollbackFailed": (
        "it serves a mix of two configurations; repair it with an UpdateEndpoint first"
    ),
}
"""Statuses that no waiting ends, each with the next step."""

REFUSED_WHILE_BUSY = frozenset(
    {"ValidationException", "ValidationError", "ResourceInUse", "ConflictException"}
)
PERSIST_ATTEMPTS = 6
POLL_FAILURES = 10
ORDER_ATTEMPTS = 6
VISIBLE_WITHIN_S = 60.0
"""How long DescribeEndpoint may still show the count of before an accepted order."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The clock and the patience of every wait, injectable so that tests take no time."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]
    poll_interval_s: float
    timeout_s: float

    def persist(self, action: Callable[[], T], also: frozenset[str] = frozenset()) -> T:
        """Do it again, with doubling pauses, while AWS says a moment may help.

        ``also`` holds codes that mean the same just here.
        """
        for attempt in range(PERSIST_ATTEMPTS - 1):
            try:
                return action()
            except AwsError as error:
                if not error.transient and error.code not in also:
                    raise
            self.sleep(self.poll_interval_s * 2.0**attempt)
        return action()


class Watch:
    """Waits on one variant."""

    def __init__(self, aws: Aws, reader: VariantReader, pace: Pace) -> None:
        self._client = aws.sagemaker
        self._reader = reader
        self._pace = pace

    def polls(self, waiting_for: str, on_wait: WaitCallback | None) -> Iterator[EndpointState]:
        """The state, again and again; a few unanswered polls in a row are forgiven."""
        started = self._pace.clock()
        failures = 0
        while True:
            try:
                state = self._reader.read()
            except AwsError as error:
                failures += 1
                if not error.transient or failures >= POLL_FAILURES:
                    raise
            else:
                failures = 0
                if on_wait is not None:
                    on_wait(state, self._pace.clock() - started)
                yield state
            waited_s = self._pace.clock() - started
            if waited_s >= self._pace.timeout_s:
                raise EndpointError(
                    f"gave up after {waited_s:.0f} s of waiting for {waiting_for}",
                    allowed=f"at most {self._pace.timeout_s:.0f} s",
                    hint="look at the endpoint's events in the SageMaker console",
                )
            self._pace.sleep(self._pace.poll_interval_s)

    def idle(self, on_wait: WaitCallback | None = None) -> EndpointState:
        """Wait until the endpoint is InService with no change of the count on its way.

        Raises
        ------
        EndpointError
            If it is in a status that no waiting ends, or the patience does.
        """
        for state in self.polls("the endpoint to be InService", on_wait):
            refuse_dead(state)
            if state.settled:
                return state
        raise AssertionError("polls() ends by raising")

    def reach(self, before: EndpointState, count: int, on_wait: WaitCallback | None) -> ScaleEvent:
        """Order the count and wait until it is there.

        Raises
        ------
        TaintedError
            If AWS rolled the change back, or something else changed the count.
        EndpointError
            If AWS refuses the order, or the endpoint fails.
        """
        ordered_at = self._order(before.variant, count, on_wait)
        milestones: dict[str, float] = {"ordered": ordered_at}
        last_current = before.current_instance_count
        for state in self.polls(f"{count} instances", on_wait):
            now = self._pace.clock()
            refuse_dead(state)
            if state.status == "RollingBack":
                raise _rolled_back(state, count)
            if state.status != "InService":
                milestones.setdefault("updating", now)
            if state.desired_instance_count == count:
                milestones.setdefault("desired", now)
            if state.current_instance_count != last_current:
                last_current = state.current_instance_count
                milestones.setdefault(f"current_{last_current}", now)
            if state.settled and state.desired_instance_count == count:
                milestones["settled"] = now
                return ScaleEvent(
                    before.current_instance_count, count, ordered_at, now, tuple(milestones.items())
                )
            if state.desired_instance_count != count and (
                "desired" in milestones or now - ordered_at > VISIBLE_WITHIN_S
            ):
                raise _other_count(state, count)
        raise AssertionError("polls() ends by raising")

    def _order(self, variant: str, count: int, on_wait: WaitCallback | None) -> float:
        """Have the order accepted; the time it was given."""
        pause_s = self._pace.poll_interval_s
        for attempt in range(ORDER_ATTEMPTS):
            ordered_at = self._pace.clock()
            try:
                call(
                    self._client.update_endpoint_weights_and_capacities,
                    EndpointName=self._reader.endpoint,
                    DesiredWeightsAndCapacities=[
                        {"VariantName": variant, "DesiredInstanceCount": count}
                    ],
                )
            except AwsError as error:
                # The rejection while Updating has no code of its own, only ValidationException.
                busy = error.code in REFUSED_WHILE_BUSY
                if not (busy or error.transient) or attempt == ORDER_ATTEMPTS - 1:
                    raise
                self._pace.sleep(pause_s)
                pause_s *= 2.0
                state = self.idle(on_wait)
                # An unanswered order may have been carried out all the same.
                if state.desired_instance_count == count:
                    return ordered_at
            else:
                return ordered_at
        raise AssertionError("the last attempt returns or raises")


def refuse_dead(state: EndpointState) -> None:
    """Raise for a status that no waiting ends.

    Raises
    ------
    EndpointError
    """
    hint = DEAD.get(state.status)
    if hint is not None:
        reason = f": {state.failure_reason}" if state.failure_reason else ""
        raise EndpointError(
            f"the endpoint {state.name} is {state.status}{reason}",
            value=state.status,
            allowed="InService",
            hint=hint,
        )


def _rolled_back(state: EndpointState, count: int) -> TaintedError:
    reason = f": {state.failure_reason}" if state.failure_reason else ""
    return TaintedError(
        f"AWS rolls the change to {count} instances back{reason}",
        value=state.status,
        allowed="Updating, then InService",
        hint="look for missing capacity or quota of the instance type, or containers that do "
        "not become healthy; stages since the order are void",
    )


def _other_count(state: EndpointState, count: int) -> TaintedError:
    reason = f" ({state.failure_reason})" if state.failure_reason else ""
    return TaintedError(
        f"{count} instances were ordered, but the endpoint now wants "
        f"{state.desired_instance_count}{reason}",
        value=state.desired_instance_count,
        allowed=str(count),
        hint="AWS reverted the change, or somebody else scales this endpoint; keep others off it "
        "and check its scaling activities",
    )
