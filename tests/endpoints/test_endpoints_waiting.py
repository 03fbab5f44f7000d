"""Setting a count while AWS is slow, busy, rolls back, fails or is not alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_aws import NAME, Clock, FakeAws, Fault, serve

from tuner.endpoints.protocol import AwsError, EndpointState, TaintedError
from tuner.endpoints.records import CHANGE_COUNT, RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError


class Lab:
    """A fake AWS in made-up time, and a driver that waits in it."""

    def __init__(self, fake: FakeAws, clock: Clock, url: str) -> None:
        self.fake, self.clock, self.url = fake, clock, url
        self.records: list[RestoreRecord] = []

    def driver(self, timeout_s: float = 3600.0) -> SageMakerEndpoint:
        return SageMakerEndpoint(
            NAME,
            endpoint_url=self.url,
            poll_interval_s=5.0,
            timeout_s=timeout_s,
            attempts=1,
            clock=self.clock.time,
            sleep=self.clock.sleep,
        )

    def frozen(self, timeout_s: float = 3600.0) -> SageMakerEndpoint:
        endpoint = self.driver(timeout_s)
        endpoint.freeze(self.records.append)
        return endpoint


@pytest.fixture
def lab() -> Iterator[Lab]:
    clock = Clock()
    fake = FakeAws(clock.time)
    with serve(fake) as url:
        yield Lab(fake, clock, url)


def test_waits_until_current_is_desired_and_measures_the_lag(lab: Lab) -> None:
    lab.fake.lag_s = 240.0
    seen: list[tuple[EndpointState, float]] = []
    event = lab.frozen().set_instance_count(6, lambda s, w: seen.append((s, w)))
    assert (event.from_count, event.to_count) == (3, 6)
    assert event.lag_s == pytest.approx(240.0, abs=5.0)
    names = [name for name, _ in event.milestones]
    counts = ["current_4", "current_5", "current_6"]
    assert names == ["ordered", "updating", "desired", *counts, "settled"]
    times = [t for _, t in event.milestones]
    assert times == sorted(times)
    assert {s.status for s, _ in seen} == {"InService", "Updating"}
    assert lab.fake.snapshot()["count"] == (6, 6)


def test_a_count_that_is_there_costs_no_call(lab: Lab) -> None:
    endpoint = lab.frozen()
    before = len(lab.fake.calls)
    event = endpoint.set_instance_count(3)
    assert event.lag_s == 0.0
    assert "UpdateEndpointWeightsAndCapacities" not in lab.fake.calls[before:]
    assert CHANGE_COUNT not in lab.records[-1].changed


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating", "RollingBack", "Creating"])
def test_waits_for_a_busy_endpoint_before_ordering(lab: Lab, status: str) -> None:
    endpoint = lab.frozen()
    lab.fake.status = status
    lab.fake.at(600.0, lambda: lab.fake._set(status="InService"))
    started = lab.clock.now
    event = endpoint.set_instance_count(4)
    assert event.ordered_at_unix_s >= started + 600.0
    assert lab.fake.calls.count("UpdateEndpointWeightsAndCapacities") == 1


def test_a_rejection_while_updating_is_waited_out(lab: Lab) -> None:
    endpoint = lab.frozen()

    def maintenance_begins(index: int, operation: str) -> Fault | None:
        if operation.startswith("UpdateEndpoint") and lab.fake.calls.count(operation) == 0:
            lab.fake.status = "SystemUpdating"
            lab.fake.at(300.0, lambda: lab.fake._set(status="InService"))
        return None

    lab.fake.fault = maintenance_begins
    event = endpoint.set_instance_count(4)
    assert lab.fake.calls.count("UpdateEndpointWeightsAndCapacities") == 2
    assert event.lag_s == pytest.approx(30.0, abs=5.0)
    assert lab.fake.snapshot()["count"] == (4, 4)


def test_a_refusal_that_is_not_about_updating_is_given_up(lab: Lab) -> None:
    endpoint = lab.frozen()
    lab.fake.fault = lambda i, op: Fault("denied") if op.startswith("UpdateEndpoint") else None
    with pytest.raises(AwsError) as caught:
        endpoint.set_instance_count(4)
    assert caught.value.code == "AccessDeniedException"
    assert caught.value.hint is not None
    assert lab.fake.calls.count("UpdateEndpointWeightsAndCapacities") == 1


def test_a_quota_is_named(lab: Lab) -> None:
    with pytest.raises(AwsError) as caught:
        lab.frozen().set_instance_count(51)
    assert caught.value.code == "ResourceLimitExceeded"
    assert "quota" in str(caught.value)


def test_a_lost_answer_is_not_ordered_twice(lab: Lab) -> None:
    endpoint = lab.frozen()
    lost = iter([Fault("reset", applied=True)])
    lab.fake.fault = lambda i, op: next(lost, None) if op.startswith("UpdateEndpoint") else None
    event = endpoint.set_instance_count(5)
    assert event.to_count == 5
    assert lab.fake.calls.count("UpdateEndpointWeightsAndCapacities") == 1


def test_a_rollback_taints(lab: Lab) -> None:
    endpoint = lab.frozen()
    lab.fake.next_update = "rollback"
    lab.fake.failure_reason = "Insufficient capacity for ml.m5.xlarge"
    with pytest.raises(TaintedError, match="Insufficient capacity") as caught:
        endpoint.set_instance_count(6)
    assert caught.value.value == "RollingBack"


def test_a_rollback_nobody_saw_taints(lab: Lab) -> None:
    endpoint = lab.frozen()
    lab.fake.next_update = "revert"
    with pytest.raises(TaintedError, match="now wants 3"):
        endpoint.set_instance_count(6)


@pytest.mark.parametrize("status", ["Failed", "OutOfService", "UpdateRollbackFailed", "Deleting"])
def test_a_dead_end_is_named_with_the_next_step(lab: Lab, status: str) -> None:
    endpoint = lab.frozen()
    lab.fake.next_update = status
    with pytest.raises(EndpointError) as caught:
        endpoint.set_instance_count(6)
    assert caught.value.value == status
    assert caught.value.hint is not None


def test_somebody_else_scaling_taints(lab: Lab) -> None:
    endpoint = lab.frozen()
    lab.fake.lag_s = 120.0
    lab.fake.at(60.0, lambda: lab.fake._set(desired=9))
    with pytest.raises(TaintedError, match="now wants 9"):
        endpoint.set_instance_count(6)


def test_an_old_answer_after_the_order_is_not_a_rollback(lab: Lab) -> None:
    endpoint = lab.frozen()
    lab.fake.stale_reads = 3
    assert endpoint.set_instance_count(6).to_count == 6


def test_unanswered_polls_are_forgiven(lab: Lab) -> None:
    endpoint = lab.frozen()
    reads = iter(range(1000))
    lab.fake.fault = lambda i, op: (
        Fault("throttle") if op == "DescribeEndpoint" and next(reads) % 3 else None
    )
    assert endpoint.set_instance_count(5).to_count == 5


def test_patience_ends(lab: Lab) -> None:
    endpoint = lab.frozen(timeout_s=900.0)
    lab.fake.lag_s = 1e9
    started = lab.clock.now
    with pytest.raises(EndpointError, match="gave up"):
        endpoint.set_instance_count(6)
    assert lab.clock.now - started < 1000.0


def test_freezing_waits_for_a_scaling_in_flight_and_records_its_goal(lab: Lab) -> None:
    lab.fake.order(7)
    lab.frozen()
    assert lab.records[0].instance_count == 7


def test_a_policy_that_scales_while_freezing_is_the_state_to_restore(lab: Lab) -> None:
    def scale_first(index: int, operation: str) -> Fault | None:
        if operation == "RegisterScalableTarget" and lab.fake.desired == 3:
            lab.fake.order(5)
        return None

    lab.fake.fault = scale_first
    lab.frozen()
    assert [r.instance_count for r in lab.records] == [3, 5]


def test_freezing_waits_until_the_suspension_shows(lab: Lab) -> None:
    lab.fake.suspended_shows_after_reads = 3
    lab.frozen()
    assert all(lab.fake.suspended.values())


def test_a_suspension_that_never_shows_is_an_error_with_a_record(lab: Lab) -> None:
    lab.fake.suspended_shows_after_reads = 10**6
    with pytest.raises(EndpointError, match="does not show"):
        lab.frozen()
    lab.fake._hide = lab.fake.suspended_shows_after_reads = 0
    assert lab.driver().restore(lab.records[-1]).complete
    assert not any(lab.fake.suspended.values())


def test_a_count_outside_the_bounds_is_put_back_outside(lab: Lab) -> None:
    lab.fake.bounds = (4, 8)
    before = lab.fake.snapshot()
    endpoint = lab.frozen()
    assert lab.fake.snapshot()["count"] == (4, 4)
    assert CHANGE_COUNT in lab.records[0].changed
    endpoint.set_instance_count(1)
    report = endpoint.restore(lab.records[-1])
    assert report.complete
    assert lab.fake.snapshot() == before


def test_restore_waits_out_a_rollback(lab: Lab) -> None:
    before = lab.fake.snapshot()
    endpoint = lab.frozen()
    lab.fake.next_update = "rollback"
    with pytest.raises(TaintedError):
        endpoint.set_instance_count(6)
    assert endpoint.restore(lab.records[-1]).complete
    assert lab.fake.snapshot() == before


def test_restore_tries_again_when_aws_rolls_the_restore_back(lab: Lab) -> None:
    before = lab.fake.snapshot()
    endpoint = lab.frozen()
    endpoint.set_instance_count(1)
    lab.fake.next_update = "rollback"
    assert endpoint.restore(lab.records[-1]).complete
    assert lab.fake.snapshot() == before


def test_scaling_is_resumed_even_when_the_count_cannot_be_restored(lab: Lab) -> None:
    endpoint = lab.frozen()
    endpoint.set_instance_count(1)
    lab.fake.fault = lambda i, op: Fault("denied") if op.startswith("UpdateEndpoint") else None
    with pytest.raises(EndpointError, match="not put back completely") as caught:
        endpoint.restore(lab.records[-1])
    assert "the instance count" in caught.value.message
    assert caught.value.hint is not None
    assert not any(lab.fake.suspended.values())
    lab.fake.fault = lambda i, op: None
    report = lab.driver().restore(lab.records[-1])
    # Resuming with one instance made AWS pull the count up to the minimum of two.
    assert report.actions == ("set the instance count from 2 back to 3",)


def test_scaling_is_resumed_even_when_the_journal_cannot_be_written(lab: Lab) -> None:
    before = lab.fake.snapshot()
    endpoint = lab.frozen()
    endpoint.set_instance_count(1)

    def full_disk(record: RestoreRecord) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        endpoint.restore(lab.records[-1], write_record=full_disk)
    assert lab.fake.snapshot() == before


def test_scaling_is_resumed_even_where_the_endpoint_may_not_be_described(lab: Lab) -> None:
    endpoint = lab.frozen()
    lab.fake.fault = lambda i, op: Fault("denied") if op == "DescribeEndpoint" else None
    with pytest.raises(EndpointError, match="the endpoint's state"):
        endpoint.restore(lab.records[-1])
    assert not any(lab.fake.suspended.values())


def test_a_network_that_is_down_is_waited_for_once(lab: Lab) -> None:
    endpoint = lab.frozen()
    endpoint.set_instance_count(5)
    lab.fake.fault = lambda i, op: Fault("reset")
    started = lab.clock.now
    with pytest.raises(EndpointError, match="not put back completely") as caught:
        endpoint.restore(lab.records[-1])
    assert lab.clock.now - started < 600.0
    assert "the suspended state" in caught.value.message
