"""Put a variant back to its record: every step on its own, verified, safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tuner.endpoints.describe import VariantReader
from tuner.endpoints.protocol import (
    AwsError,
    EndpointState,
    GoneError,
    RecordWriter,
    TaintedError,
    WaitCallback,
)
from tuner.endpoints.records import (
    CHANGE_BOUNDS,
    CHANGE_COUNT,
    CHANGE_POLICY,
    CHANGE_SUSPENDED,
    CHANGE_TARGET,
    Definition,
    Difference,
    RestoreRecord,
    RestoreReport,
    ScalingState,
    SuspendedState,
)
from tuner.endpoints.scaling import VariantScaling
from tuner.endpoints.waiting import DEAD, Pace, Watch
from tuner.errors import EndpointError

Step = tuple[str, tuple[str, ...], Callable[[], None]]

VERIFY_READS = 12
COUNT_ATTEMPTS = 3


def set_suspended(scaling: VariantScaling, suspended: SuspendedState, pace: Pace) -> None:
    """Set the three switches and read them back until AWS shows them.

    Raises
    ------
    EndpointError
        If AWS refuses, or never shows them.
    """
    pace.persist(lambda: scaling.suspend(suspended))
    for _ in range(VERIFY_READS):
        found = pace.persist(scaling.read).suspended
        if found == suspended:
            return
        pace.sleep(pace.poll_interval_s)
    raise EndpointError(
        "AWS accepted the suspended state but does not show it",
        value=str(found),
        allowed=str(suspended),
        hint="look whether something else writes this scalable target",
    )


class Restorer:
    """One pass over everything a record says was changed."""

    def __init__(
        self,
        scaling: VariantScaling,
        reader: VariantReader,
        watch: Watch,
        pace: Pace,
        write_record: RecordWriter | None,
    ) -> None:
        self._scaling = scaling
        self._reader = reader
        self._watch = watch
        self._pace = pace
        self._write_record = write_record
        self._actions: list[str] = []
        self._failures: list[tuple[str, EndpointError]] = []

    def run(self, record: RestoreRecord, on_wait: WaitCallback | None) -> RestoreReport:
        """Do every step, even when another failed, and verify.

        Raises
        ------
        EndpointError
            Naming each step that failed.
        """
        try:
            self._pace.persist(self._probe)
        except GoneError:
            gone = Difference("endpoint", record.endpoint, "deleted meanwhile", by_tuner=False)
            return RestoreReport(True, (), (gone,))
        except EndpointError as error:
            # Scaling may be resumed even where the endpoint cannot be looked at.
            self._failures.append(("the endpoint's state", error))
        self._left = record
        steps = [
            ("the scaling policies", (CHANGE_POLICY,), lambda: self._policies(record)),
            ("the scalable target", (CHANGE_TARGET, CHANGE_BOUNDS), lambda: self._target(record)),
            ("the instance count", (CHANGE_COUNT,), lambda: self._count(record, on_wait)),
            ("the suspended state", (CHANGE_SUSPENDED,), lambda: self._suspended(record)),
        ]
        if not record.scaling.inside(record.instance_count):
            # Registering pulls a count outside the bounds inside them: count last.
            steps[2:] = reversed(steps[2:])
        self._run_all(steps)
        differences: list[Difference] = []
        self._step("the verification", lambda: differences.extend(self._differences(record)))
        if self._failures:
            raise self._not_restored(record)
        return RestoreReport(
            complete=not any(d.by_tuner for d in differences),
            actions=tuple(self._actions),
            differences=tuple(differences),
        )

    def _run_all(self, steps: Sequence[Step]) -> None:
        """Every step, even when one before was interrupted or its record not written."""
        if not steps:
            return
        try:
            name, changes, action = steps[0]
            if self._step(name, action):
                self._forget(changes)
        finally:
            self._run_all(steps[1:])

    def _step(self, name: str, action: Callable[[], None]) -> bool:
        # A network that is down has been waited for once; the user may be waiting too.
        dark = any(isinstance(e, AwsError) and e.transient for _, e in self._failures)
        try:
            action() if dark else self._pace.persist(action)
        except EndpointError as error:
            self._failures.append((name, error))
            return False
        return True

    def _forget(self, changes: tuple[str, ...]) -> None:
        """What is put back is nobody's to put back again: policies may scale from now on."""
        left = tuple(c for c in self._left.changed if not c.startswith(changes))
        if left != self._left.changed:
            self._left = replace(self._left, changed=left)
            if self._write_record is not None:
                self._write_record(self._left)

    def _probe(self) -> None:
        self._reader.read()

    def _policies(self, record: RestoreRecord) -> None:
        names = [c.removeprefix(CHANGE_POLICY) for c in record.changed if CHANGE_POLICY in c]
        if not names:
            return
        before = {d.name: d for d in record.scaling.policies}
        now = {d.name: d for d in self._scaling.read().policies}
        # Deleting first: two policies on one target must not follow the same metric.
        for name in names:
            if name in now and name not in before:
                self._scaling.delete_policy(name)
                self._actions.append(f"deleted the policy {name}")
        for name in names:
            if name in before and now.get(name) != before[name]:
                self._scaling.put_policy(before[name])
                self._actions.append(f"put the policy {name} back")

    def _target(self, record: RestoreRecord) -> None:
        before, now = record.scaling, self._scaling.read()
        if CHANGE_TARGET in record.changed and not before.registered and now.registered:
            self._scaling.deregister()
            self._actions.append("deregistered the scalable target, as there was none before")
        elif CHANGE_BOUNDS in record.changed and before.registered and now.registered:
            bounds = (before.min_capacity, before.max_capacity)
            if bounds != (now.min_capacity, now.max_capacity) and None not in bounds:
                self._scaling.register(before.min_capacity or 0, before.max_capacity or 0)
                self._actions.append(f"set the bounds back to {bounds[0]} to {bounds[1]}")

    def _count(self, record: RestoreRecord, on_wait: WaitCallback | None) -> None:
        if CHANGE_COUNT not in record.changed:
            return
        for attempt in range(COUNT_ATTEMPTS):
            state = self._watch.idle(on_wait)
            if state.desired_instance_count == record.instance_count:
                return
            try:
                event = self._watch.reach(state, record.instance_count, on_wait)
            except TaintedError:
                if attempt == COUNT_ATTEMPTS - 1:
                    raise
            else:
                self._actions.append(
                    f"set the instance count from {event.from_count} back to {event.to_count}"
                )
                return

    def _scales_itself(self, record: RestoreRecord) -> bool:
        now = self._scaling.read()
        return (
            now.registered
            and bool(now.policies)
            and now.suspended == record.scaling.suspended
            and not now.suspended.all_suspended
        )

    def _suspended(self, record: RestoreRecord) -> None:
        if CHANGE_SUSPENDED not in record.changed:
            return
        now = self._scaling.read()
        if not now.registered or now.suspended == record.scaling.suspended:
            return
        set_suspended(self._scaling, record.scaling.suspended, self._pace)
        self._actions.append("resumed scaling as it was")

    def _not_restored(self, record: RestoreRecord) -> EndpointError:
        lines = [f"  {name}: {error.message}" for name, error in self._failures]
        done = [f"  done: {action}" for action in self._actions]
        first = self._failures[0][1]
        advice = first.hint or "repair what is named above"
        return EndpointError(
            "\n".join([f"{record.endpoint} was not put back completely", *lines, *done]),
            value=first.value,
            hint=f"{advice}, then run `tuner restore` again: the record is kept",
        )

    def _differences(self, record: RestoreRecord) -> tuple[Difference, ...]:
        before, now = record.scaling, self._scaling.read()
        found = list(_scaling_differences(record, before, now))
        state: EndpointState = self._reader.read()
        if state.status in DEAD:
            found.append(Difference("status", "InService", state.status, by_tuner=False))
        if state.desired_instance_count != record.instance_count and not self._scales_itself(
            record
        ):
            found.append(
                Difference(
                    "instance count",
                    str(record.instance_count),
                    str(state.desired_instance_count),
                    by_tuner=CHANGE_COUNT in record.changed,
                )
            )
        return tuple(found)


def _scaling_differences(
    record: RestoreRecord, before: ScalingState, now: ScalingState
) -> list[Difference]:
    changed = record.changed
    found: list[Difference] = []
    if before.registered != now.registered:
        words = {True: "registered", False: "not registered"}
        mine = CHANGE_TARGET in changed and not before.registered
        found.append(
            Difference(
                "scalable target", words[before.registered], words[now.registered], by_tuner=mine
            )
        )
        return found
    pairs = (
        (
            "capacity bounds",
            f"{before.min_capacity} to {before.max_capacity}",
            f"{now.min_capacity} to {now.max_capacity}",
            CHANGE_BOUNDS in changed,
        ),
        (
            "suspended state",
            str(before.suspended),
            str(now.suspended),
            CHANGE_SUSPENDED in changed,
        ),
    )
    found += [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
    for kind, old, new in (
        ("policy", before.policies, now.policies),
        ("scheduled action", before.scheduled_actions, now.scheduled_actions),
    ):
        found += _definition_differences(kind, old, new, changed)
    return found


def _definition_differences(
    kind: str,
    before: tuple[Definition, ...],
    now: tuple[Definition, ...],
    changed: tuple[str, ...],
) -> list[Difference]:
    old = {d.name: d.arguments_json for d in before}
    new = {d.name: d.arguments_json for d in now}
    return [
        Difference(
            f"{kind} {name}",
            old.get(name, "none"),
            new.get(name, "none"),
            by_tuner=kind == "policy" and f"{CHANGE_POLICY}{name}" in changed,
        )
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
