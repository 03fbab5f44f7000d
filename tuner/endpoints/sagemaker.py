"""A SageMaker real-time variant on AWS, or on anything that speaks its wire."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from tuner.autoscaling.policy import ScalingMetric
from tuner.campaign.types import ScaleEvent
from tuner.endpoints.aws import ATTEMPTS, Aws
from tuner.endpoints.describe import VariantReader, refuse_undrivable
from tuner.endpoints.metrics import (
    PERIOD_S,
    MetricSeries,
    Utilization,
    read_signal_series,
    read_utilization,
)
from tuner.endpoints.preflight import look
from tuner.endpoints.protocol import (
    CampaignEstimate,
    EndpointState,
    Finding,
    RecordWriter,
    TaintedError,
    WaitCallback,
)
from tuner.endpoints.records import (
    ALL_SUSPENDED,
    CHANGE_COUNT,
    CHANGE_SUSPENDED,
    RestoreRecord,
    RestoreReport,
    ScalingState,
)
from tuner.endpoints.restore import Restorer, set_suspended
from tuner.endpoints.scaling import ScalingActivity, VariantScaling
from tuner.endpoints.waiting import Pace, Watch
from tuner.errors import EndpointError

AWS_POLL_INTERVAL_S = 5.0
LOCAL_POLL_INTERVAL_S = 0.1
TIMEOUT_S = 3600.0
"""Patience for one change of the count: an hour, as boto3's own waiter has."""


class SageMakerEndpoint:
    """One variant of a SageMaker endpoint, driven through boto3.

    Nothing is changed before :meth:`freeze` has had a record of the state made durable.
    """

    def __init__(
        self,
        name: str,
        variant: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        *,
        poll_interval_s: float | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._wanted_variant = variant
        self.aws = Aws(region=region, profile=profile, endpoint_url=endpoint_url, attempts=attempts)
        if poll_interval_s is None:
            poll_interval_s = LOCAL_POLL_INTERVAL_S if self.aws.local else AWS_POLL_INTERVAL_S
        self.pace = Pace(clock, sleep, poll_interval_s, timeout_s)
        self._reader = VariantReader(self.aws, name, variant)
        self._watch = Watch(self.aws, self._reader, self.pace)
        self._record: RestoreRecord | None = None
        self._write_record: RecordWriter | None = None

    @classmethod
    def from_record(
        cls,
        record: RestoreRecord,
        *,
        profile: str | None = None,
        poll_interval_s: float | None = None,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> SageMakerEndpoint:
        """The driver for the variant a record is about, in a fresh process."""
        return cls(
            record.endpoint,
            record.variant,
            record.region,
            profile,
            record.endpoint_url,
            poll_interval_s=poll_interval_s,
            timeout_s=timeout_s,
            clock=clock,
            sleep=sleep,
        )

    @property
    def variant(self) -> str:
        """The variant's name; asks AWS once when it was not given."""
        return self._reader.variant or self.describe().variant

    @property
    def variant_scaling(self) -> VariantScaling:
        """The variant's scalable target."""
        return VariantScaling(self.aws, self.name, self.variant)

    def describe(self) -> EndpointState:
        """The state now."""
        return self._reader.read()

    def scaling(self) -> ScalingState:
        """Scalable target, policies and scheduled actions as they are."""
        return self.variant_scaling.read()

    def scaling_activities(self, limit: int = 50) -> tuple[ScalingActivity, ...]:
        """The newest scaling activities, those that did not scale included."""
        return self.variant_scaling.activities(limit)

    def utilization(
        self, start_unix_s: float, end_unix_s: float, period_s: int = PERIOD_S
    ) -> Utilization:
        """CloudWatch's view of the whole minutes between two times."""
        return read_utilization(
            self.aws, self.name, self.variant, start_unix_s, end_unix_s, period_s
        )

    def signal_series(
        self, start_unix_s: float, end_unix_s: float
    ) -> dict[ScalingMetric, MetricSeries]:
        """Utilisation and concurrency between two times, as alarms of scaling policies read it."""
        return read_signal_series(
            self.aws,
            self.name,
            self.variant,
            start_unix_s,
            end_unix_s,
            now_unix_s=self.pace.clock(),
        )

    def preflight(
        self, estimate: CampaignEstimate, *, production_agreed: bool = False
    ) -> tuple[Finding, ...]:
        """Everything a campaign depends on, one finding each; nothing is changed."""
        return look(
            self.aws,
            self.describe,
            self.scaling,
            estimate,
            production_agreed=production_agreed,
        )

    def take_record(self, on_wait: WaitCallback | None = None) -> RestoreRecord:
        """The state as a record, taken while nothing is changing."""
        state = self._watch.idle(on_wait)
        refuse_undrivable(state)
        return RestoreRecord(
            endpoint=self.name,
            variant=state.variant,
            region=self.aws.region,
            endpoint_url=self.aws.endpoint_url,
            taken_at_unix_s=self.pace.clock(),
            instance_count=state.desired_instance_count,
            scaling=self.pace.persist(self.scaling),
        )

    def freeze(
        self,
        write_record: RecordWriter,
        on_wait: WaitCallback | None = None,
        *,
        earlier: RestoreRecord | None = None,
    ) -> RestoreRecord:
        """Make the record durable, then suspend all scaling of the variant.

        ``earlier`` is the record of an interrupted run that is resumed: what the endpoint
        looked like *then* is what has to be put back.

        Raises
        ------
        EndpointError
            If the endpoint cannot be driven; nothing was changed unless the record says so.
        """
        if earlier is not None:
            self.refuse_foreign(earlier)
        record = earlier or self.take_record(on_wait)
        live = self.pace.persist(self.scaling) if earlier else record.scaling
        suspend = live.registered and not live.suspended.all_suspended
        if suspend:
            record = record.with_change(CHANGE_SUSPENDED)
            if not live.inside(record.instance_count):
                # Touching the target makes AWS pull the count inside the bounds.
                record = record.with_change(CHANGE_COUNT)
        write_record(record)
        self._record, self._write_record = record, write_record
        if suspend:
            # Seen set before going on: registering is eventually consistent.
            set_suspended(self.variant_scaling, ALL_SUSPENDED, self.pace)
            state = self._watch.idle(on_wait)
            moved = state.desired_instance_count != record.instance_count
            if earlier is None and moved and CHANGE_COUNT not in record.changed:
                # A policy scaled between the record and the suspension: that is the truth now.
                self._update(replace(record, instance_count=state.desired_instance_count))
        return self._record

    def set_instance_count(self, count: int, on_wait: WaitCallback | None = None) -> ScaleEvent:
        """Set the count and wait until it is InService with current equal to desired.

        Raises
        ------
        TaintedError
            If AWS rolled back, or something else scales the endpoint.
        EndpointError
            If the state was not recorded first, or AWS refuses.
        """
        if count < 1:
            raise EndpointError(
                "a real-time variant has at least one instance", value=count, allowed="1 or more"
            )
        if self._record is None:
            raise EndpointError(
                "the endpoint's state was not recorded, so it could not be put back",
                hint="freeze the endpoint before changing its count",
            )
        state = self._watch.idle(on_wait)
        if state.desired_instance_count == count:
            now = self.pace.clock()
            return ScaleEvent(count, count, now, now, (("settled", now),))
        live = self.pace.persist(self.scaling)
        if live.registered and not live.suspended.all_suspended:
            raise TaintedError(
                "scaling of the endpoint is not suspended, so a count would not stay",
                value=str(live.suspended),
                hint="somebody resumed it after the campaign began; run `tuner restore`, "
                "then start again",
            )
        self._update(self._record.with_change(CHANGE_COUNT))
        return self._watch.reach(state, count, on_wait)

    def restore(
        self,
        record: RestoreRecord,
        on_wait: WaitCallback | None = None,
        *,
        write_record: RecordWriter | None = None,
    ) -> RestoreReport:
        """Put back what the record says tuner changed, verify it, and say what else differs.

        ``write_record`` (by default the one :meth:`freeze` was given) is told of each thing put
        back, so that doing it again after an interruption does not undo what policies did since.

        Raises
        ------
        EndpointError
            If something could not be put back; calling again goes on from there.
        """
        self.refuse_foreign(record)
        report = Restorer(
            self.variant_scaling,
            self._reader,
            self._watch,
            self.pace,
            write_record or self._write_record,
        ).run(record, on_wait)
        self._record = self._write_record = None
        return report

    def refuse_foreign(self, record: RestoreRecord) -> None:
        """Raise when a record is about something else.

        Raises
        ------
        EndpointError
        """
        mine = (self.name, self._wanted_variant or record.variant, self.aws.region)
        theirs = (record.endpoint, record.variant, record.region)
        if mine != theirs:
            raise EndpointError(
                "the restore record is about another endpoint",
                value=" / ".join(theirs),
                allowed=" / ".join(mine),
                hint="use the run directory of this endpoint",
            )

    def _update(self, record: RestoreRecord) -> None:
        if record != self._record and self._write_record is not None:
            self._write_record(record)
        self._record = record
