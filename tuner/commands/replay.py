"""A piece of traffic sent minute by minute, while the endpoint's instances are watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tuner.campaign.types import StageKind, StageProgress, StageSpec
from tuner.commands.session import Opened
from tuner.commands.ui import Tick, Ui
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.endpoints.scaling import ScalingActivity
from tuner.errors import EndpointError, InputError, TunerError
from tuner.load.session import LocustSession
from tuner.plan.parse import Plan
from tuner.recommend.replay import Piece
from tuner.recommend.verify import Seen, in_service_by_minute
from tuner.units import ms_to_s, per_min_to_per_s
from tuner.workload.payloads import PayloadSet

POLLS_A_MINUTE = 12
LEAST_POLL_S = 0.15
SETTLE_SHARE = 0.5
"""Load at the first minute's rate before it, as a share of a minute: connections are made."""
LEAST_COMPLETED = 100
"""Requests without which nothing is said about the share that fails."""
CONNECTIONS = 4096
"""An endpoint that falls behind holds many requests; they must not wait for each other here."""


class TooManyErrorsError(EndpointError):
    """A replay was stopped because more of its requests failed than the plan allows."""

    def __init__(self, failed: int, completed: int, most_share: float) -> None:
        super().__init__(
            f"The replay was stopped: {failed:,} of {completed:,} requests failed, more than "
            f"load.max_error_share = {most_share:g} allows."
        )
        self.share = failed / completed


@dataclass(slots=True)
class Watched:
    """What polling saw: (unix time, in service, desired), in order."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)
    unanswered: int = 0

    @property
    def now(self) -> str:
        """The newest counts in words."""
        if not self.samples:
            return "unknown"
        _, current, desired = self.samples[-1]
        return str(current) if current == desired else f"{current} of {desired}"


@contextmanager
def watching(driver: SageMakerEndpoint, interval_s: float) -> Iterator[Watched]:
    """Poll the endpoint's counts in a thread until the block ends."""
    seen, stop = Watched(), threading.Event()

    def poll() -> None:
        while not stop.is_set():
            try:
                state = driver.describe()
            except TunerError:
                seen.unanswered += 1
            else:
                counts = (state.current_instance_count, state.desired_instance_count)
                seen.samples.append((time.time(), *counts))
            stop.wait(interval_s)

    thread = threading.Thread(target=poll, name="tuner-watch")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def replay(
    plan: Plan, opened: Opened, payloads: PayloadSet, piece: Piece, ui: Ui, minute_s: float
) -> tuple[Seen, tuple[str, ...]]:
    """Send the piece, open-loop, each of its minutes at its own rate.

    Returns
    -------
    What was seen, and the scaling activities begun meanwhile, oldest first.

    Raises
    ------
    InputError
        If there were too many requests to keep.
    TooManyErrorsError
        If more of them failed than the plan allows.
    """
    driver = opened.driver
    assert isinstance(driver, SageMakerEndpoint)
    spec = _stage(plan, piece, minute_s)
    connections = min(plan.load.max_in_flight, max(plan.load.connections, CONNECTIONS))
    lag = plan.load.max_send_lag_ms
    with (
        LocustSession(
            replace(opened.target, connections=connections),
            payloads,
            workers=plan.load.workers,
            slo_s=plan.slo.slowest_threshold_s,
            lag_limit_s=None if lag is None else ms_to_s(lag),
            keep_raw_requests=plan.load.max_requests,
        ) as session,
        ui.live(),
        watching(driver, max(LEAST_POLL_S, minute_s / POLLS_A_MINUTE)) as watched,
    ):

        def show(now: StageProgress) -> None:
            _show(ui, now, watched, spec, minute_s)
            refuse_errors(now, plan.load.max_error_share)

        result = session.measure(spec, show)
    if result.log is None:
        raise InputError(
            "the replay had too many requests to keep",
            value=result.requests,
            allowed=f"load.max_requests = {plan.load.max_requests}",
            hint="replay fewer minutes: --minutes N",
        )
    opens = result.started_at_unix_s
    minutes = len(piece.requests_per_min)
    samples = [(at - opens, current) for at, current, _ in watched.samples]
    seen = Seen(
        result.log,
        minute_s,
        in_service_by_minute(samples, minutes, minute_s),
        result.health.void_reasons,
    )
    try:
        begun = [a for a in driver.scaling_activities() if a.started_at_unix_s >= opens]
    except EndpointError as error:
        ui.warn(f"the scaling activities are not shown: {error.message}")
        begun = []
    texts = (_activity_text(a, opens, minute_s) for a in reversed(begun))
    return seen, tuple(t for t in texts if t is not None)


def refuse_errors(now: StageProgress, most_share: float) -> None:
    """Stop a replay to an endpoint that mostly fails.

    Raises
    ------
    TooManyErrorsError
    """
    if now.completed >= LEAST_COMPLETED and now.failed > most_share * now.completed:
        raise TooManyErrorsError(now.failed, now.completed, most_share)


def _stage(plan: Plan, piece: Piece, minute_s: float) -> StageSpec:
    rates = tuple(per_min_to_per_s(float(r)) for r in piece.requests_per_min)
    return StageSpec(
        index=0,
        kind=StageKind.VERIFY,
        instance_count=piece.start_count,
        rate_per_s=sum(rates) / len(rates),
        duration_s=len(rates) * minute_s,
        settle_s=SETTLE_SHARE * minute_s,
        arrivals="poisson",
        seed=plan.load.seed,
        purpose="replay of traffic with the policy live",
        rates_per_s=rates,
    )


def _show(ui: Ui, now: StageProgress, watched: Watched, spec: StageSpec, minute_s: float) -> None:
    whole = spec.settle_s + spec.duration_s
    minute = min(max(0.0, now.elapsed_s - spec.settle_s) / minute_s, len(spec.rates_per_s) - 1)
    ui.tick(
        Tick(
            f"minute {int(minute) + 1} of {len(spec.rates_per_s)} at "
            f"{spec.rates_per_s[int(minute)]:.0f}/s",
            now.elapsed_s,
            max(0.0, whole - now.elapsed_s),
            now.elapsed_s / whole,
            (
                ("instances", watched.now),
                ("p99", f"{now.p99_s * 1e3:.0f} ms"),
                ("failed", str(now.failed)),
            ),
        )
    )


def _activity_text(activity: ScalingActivity, opens_s: float, minute_s: float) -> str | None:
    if activity.not_scaled_reasons:
        return None
    begun = (activity.started_at_unix_s - opens_s) / minute_s
    text = f"after {begun:.1f} min: {activity.description} {activity.status}"
    if activity.ended_at_unix_s is not None:
        took = (activity.ended_at_unix_s - activity.started_at_unix_s) / minute_s
        text += f" in {took:.1f} min"
    return text
