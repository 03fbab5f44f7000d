"""The thing under test and the load on it, opened as the plan says and closed in every ending."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tuner.campaign.types import ProgressCallback, Routing, ScaleEvent, StageResult, StageSpec
from tuner.commands.interrupts import patient
from tuner.commands.models_file import mix_of, warm_count
from tuner.commands.ui import Tick, Ui, duration_text
from tuner.emulator.options import Options, spec_of
from tuner.emulator.process import EmulatorProcess
from tuner.endpoints.http import HttpEndpoint
from tuner.endpoints.protocol import Endpoint, EndpointState
from tuner.endpoints.records import RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError
from tuner.load.payload_files import PayloadSource, read_payloads
from tuner.load.session import LocustSession
from tuner.load.target import InvokeTarget, marked, sagemaker_target
from tuner.plan.parse import Plan
from tuner.store.run import Run
from tuner.workload.models import spread
from tuner.workload.payloads import PayloadSet

LOCAL_REGION = "us-east-1"
DEMO_PRESET = "demo"


@dataclass(frozen=True, slots=True)
class Opened:
    """An endpoint that is there, how to drive it, and how to send to it.

    ``ours`` says that it was started for this campaign and goes away with it, so that there
    is nothing to put back.
    """

    driver: Endpoint
    state: EndpointState
    target: InvokeTarget
    ours: bool = False

    @property
    def routing(self) -> Routing:
        """The endpoint's routing; RANDOM, the harder one, where it is not known."""
        return self.state.routing or Routing.RANDOM


@contextmanager
def open_endpoint(plan: Plan, ui: Ui, emulator_arguments: Sequence[str] = ()) -> Iterator[Opened]:
    """The endpoint of a plan; an emulator is started for it and stopped after.

    ``emulator_arguments`` are further ones of an emulator that is started.

    Raises
    ------
    EndpointError
        If it is not there or does not answer.
    """
    table = plan.endpoint
    with contextlib.ExitStack() as stack:
        name, variant, url = table.name, table.variant, table.endpoint_url
        region = table.region
        if table.kind == "http":
            assert table.url is not None
            http = HttpEndpoint(table.url, table.instance_count)
            yield Opened(http, http.describe(), _http_target(plan, table.url))
            return
        if table.kind == "emulator" and url is None:
            spec = plan.path(table.spec) if table.spec else None
            preset = table.preset or (None if spec else DEMO_PRESET)
            spec_of(Options(preset, spec))  # what is wrong with it is said here, not by the child
            process = stack.enter_context(
                EmulatorProcess(preset, spec_path=spec, arguments=emulator_arguments)
            )
            url, region = process.url, region or LOCAL_REGION
            name, variant = name or process.endpoint_name, variant or process.variant_name
            ui.say(f"emulated endpoint {name} at {url}")
        assert name is not None
        driver = SageMakerEndpoint(name, variant, region, table.profile, url)
        state = driver.describe()
        target = sagemaker_target(
            name,
            driver.aws.region,
            endpoint_url=url,
            # a named target variant bypasses the weights; with one variant it changes nothing
            variant=state.variant if state.variant_count > 1 else None,
            profile=table.profile,
            streaming=table.streaming,
            signed=not driver.aws.local,
            headers=_headers(plan),
            timeout_s=plan.timeout_s,
            connections=min(plan.load.connections, plan.load.max_in_flight),
            max_in_flight=plan.load.max_in_flight,
            client=plan.load.client,
        )
        if state.data_capture is not None and state.data_capture.enabled:
            target = marked(target)
        yield Opened(
            driver, state, target, ours=table.kind == "emulator" and not table.endpoint_url
        )


def _http_target(plan: Plan, url: str) -> InvokeTarget:
    return InvokeTarget(
        url=url,
        headers=_headers(plan),
        streaming=plan.endpoint.streaming,
        timeout_s=plan.timeout_s,
        connections=min(plan.load.connections, plan.load.max_in_flight),
        max_in_flight=plan.load.max_in_flight,
    )


def _headers(plan: Plan) -> tuple[tuple[str, str], ...]:
    load = plan.load
    named = (
        ("Accept", load.accept),
        ("X-Amzn-SageMaker-Target-Model", load.target_model),
        ("X-Amzn-SageMaker-Custom-Attributes", load.custom_attributes),
    )
    return tuple((k, v) for k, v in named if v is not None)


def payloads_of(plan: Plan) -> PayloadSet:
    """The plan's payloads; on a multi-model endpoint spread over the models kept warm.

    Raises
    ------
    PayloadError
        If a file is missing, empty or malformed.
    """
    bodies = bodies_of(plan)
    if plan.models is None:
        return bodies
    mix = mix_of(plan, plan.models)
    return spread(bodies, mix.first(warm_count(plan.models, len(mix))))


def bodies_of(plan: Plan) -> PayloadSet:
    """The plan's bodies, whatever model they go to.

    Raises
    ------
    PayloadError
        If a file is missing, empty or malformed.
    """
    load = plan.load
    if load.body is not None:
        return PayloadSet.inline(load.body, content_type=load.content_type)
    # Without a word about it in the plan, the file's name says what it holds.
    usual = load.content_type if "content_type" in load.model_fields_set else None
    entries = [
        PayloadSource(
            p.file,
            kind=p.kind,
            weight=p.weight,
            content_type=p.content_type or usual,
            payload_class=p.payload_class,
        )
        for p in load.payloads
    ]
    return read_payloads(entries, plan.base_dir)


@dataclass(slots=True)
class LiveBackend:
    """Locust over sockets against a driven endpoint: the load backend of real campaigns."""

    driver: Endpoint
    session: LocustSession
    ui: Ui

    def set_instance_count(self, count: int) -> ScaleEvent:
        """Set the count, showing how long the endpoint takes."""
        begun = time.monotonic()

        def show(state: EndpointState, waited_s: float) -> None:
            headline = (
                f"waiting for {count} instance{'' if count == 1 else 's'}: {state.status}, "
                f"{state.current_instance_count} of {state.desired_instance_count}"
            )
            self.ui.tick(Tick(headline, time.monotonic() - begun, None, 0.0))

        event = self.driver.set_instance_count(count, show)
        if event.from_count != event.to_count:
            self.ui.say(
                f"     {event.from_count} -> {event.to_count} instances "
                f"in {duration_text(event.lag_s)}"
            )
        return event

    def measure(self, stage: StageSpec, progress: ProgressCallback | None = None) -> StageResult:
        """Offer the stage's load."""
        return self.session.measure(stage, progress)


@contextmanager
def frozen(opened: Opened, run: Run, ui: Ui) -> Iterator[None]:
    """Record the endpoint's state, stop its scaling, and put everything back in every ending."""
    if opened.ours:
        opened.driver.freeze(lambda _record: None)
        yield
        return
    driver = opened.driver
    record_id: int | None = None
    latest: RestoreRecord | None = None
    for found_id, text in run.unrestored():
        found = RestoreRecord.from_json(text)
        # A canary freezes two variants in one run.
        if (found.endpoint, found.variant) == (opened.state.name, opened.state.variant):
            record_id, latest = found_id, found
            break

    def keep(record: RestoreRecord) -> None:
        nonlocal record_id, latest
        if record_id is None:
            record_id = run.record_before_change(record.to_json())
        else:
            run.update_record(record_id, record.to_json())
        latest = record

    try:
        driver.freeze(keep, earlier=latest)
        yield
    except EndpointError as error:
        # Putting back may fail for the same reason, and its error would hide this one.
        ui.warn(error.message)
        raise
    finally:
        if record_id is not None and latest is not None:
            with patient(ui, "putting the endpoint back as it was"):
                restore(driver, run, record_id, latest, ui)


def restore(driver: Endpoint, run: Run, record_id: int, record: RestoreRecord, ui: Ui) -> None:
    """Put an endpoint back and say what could not be."""

    def keep(left: RestoreRecord) -> None:
        run.update_record(record_id, left.to_json())

    def show(state: EndpointState, waited_s: float) -> None:
        headline = (
            f"putting {state.name} back: {state.status}, {state.current_instance_count} of "
            f"{state.desired_instance_count} instances"
        )
        ui.tick(Tick(headline, waited_s, None, 0.0))

    try:
        report = driver.restore(record, show, write_record=keep)
    except EndpointError:
        ui.warn(f"the endpoint is NOT restored yet; put it back with: tuner restore {run.path}")
        raise
    for difference in report.differences:
        ui.warn(f"after restoring: {difference}")
    if not report.complete:
        ui.warn(f"the endpoint is NOT restored yet; put it back with: tuner restore {run.path}")
        return
    run.mark_restored(record_id)
    if report.differences:
        ui.say("what tuner had changed is put back")
    elif record.changed:
        ui.say("the endpoint is as it was")
