"""Any call may fail, in any way: the endpoint ends restored, or with a record that restores it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from fake_aws import NAME, Clock, FakeAws, Fault, serve

from tuner.endpoints.records import RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError

KINDS = ("throttle", "internal", "unavailable", "concurrent", "denied", "reset")


class Campaign:
    """Freeze, two counts, restore; what an ending leaves is judged by the fake's own state."""

    def __init__(self, fake: FakeAws, clock: Clock, url: str) -> None:
        self.fake, self.clock, self.url = fake, clock, url
        self.journal: list[str] = []

    def driver(self) -> SageMakerEndpoint:
        return SageMakerEndpoint(
            NAME,
            endpoint_url=self.url,
            poll_interval_s=5.0,
            attempts=1,
            clock=self.clock.time,
            sleep=self.clock.sleep,
        )

    def run(self) -> bool:
        """True when it came to its end without an error."""
        endpoint = self.driver()
        try:
            endpoint.freeze(lambda r: self.journal.append(r.to_json()))
            for count in (5, 1):
                endpoint.set_instance_count(count)
        except EndpointError:
            completed = False
        else:
            completed = True
        return self.restore(endpoint) and completed

    def restore(self, endpoint: SageMakerEndpoint) -> bool:
        if not self.journal:
            return True
        try:
            return endpoint.restore(RestoreRecord.from_json(self.journal[-1])).complete
        except EndpointError:
            return False


def campaign_with(fault: Callable[[int, str], Fault | None]) -> tuple[Campaign, FakeAws, bool]:
    clock = Clock()
    fake = FakeAws(clock.time, lag_s=20.0)
    with serve(fake) as url:
        campaign = Campaign(fake, clock, url)
        before = fake.snapshot()
        fake.fault = fault
        completed = campaign.run()
        clock.sleep(1000.0)
        if completed:
            assert fake.snapshot() == before
        fake.fault = lambda index, operation: None
        # What `tuner restore` does later, in a fresh process.
        assert campaign.restore(campaign.driver())
        assert fake.snapshot() == before
        return campaign, fake, completed


def clean_calls() -> int:
    campaign, fake, completed = campaign_with(lambda index, operation: None)
    assert completed
    assert len(campaign.journal) == 4
    return len(fake.calls)


@pytest.mark.parametrize("seed", [1, 2])
def test_one_bad_call_anywhere(seed: int) -> None:
    rng = random.Random(seed)
    for at in range(3 * seed - 3, clean_calls(), 6):
        fault = Fault(rng.choice(KINDS), applied=rng.random() < 0.5)

        def once(index: int, operation: str, at: int = at, fault: Fault = fault) -> Fault | None:
            return fault if index == at else None

        _, _, completed = campaign_with(once)
        # What passes by itself must not end a campaign; a missing right may.
        assert completed or fault.kind == "denied", (at, fault)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_that_begins_anywhere_and_stays(kind: str) -> None:
    for start in range(KINDS.index(kind), clean_calls(), 25):

        def down(index: int, operation: str, start: int = start) -> Fault | None:
            return Fault(kind) if index >= start else None

        campaign_with(down)


def test_an_outage_in_the_middle_that_ends_is_survived() -> None:
    for start in range(2, clean_calls(), 9):

        def blip(index: int, operation: str, start: int = start) -> Fault | None:
            return Fault("unavailable") if start <= index < start + 4 else None

        _, _, completed = campaign_with(blip)
        assert completed, start


def test_an_endpoint_that_died_meanwhile_is_not_called_as_before() -> None:
    clock = Clock()
    fake = FakeAws(clock.time, lag_s=20.0)
    with serve(fake) as url:
        campaign = Campaign(fake, clock, url)
        endpoint = campaign.driver()
        record = endpoint.freeze(lambda r: campaign.journal.append(r.to_json()))
        fake.status = "Failed"
        report = endpoint.restore(record)
    assert report.complete
    (status,) = report.differences
    assert (status.field, status.found, status.by_tuner) == ("status", "Failed", False)
