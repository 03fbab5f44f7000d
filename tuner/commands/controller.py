"""The controller: ask the search what to measure, measure it, keep it, ask again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tuner.campaign.remaining import estimate_remaining
from tuner.campaign.search import CampaignConfig, Finished, conversation
from tuner.campaign.types import (
    LoadBackend,
    ScaleEvent,
    StageProgress,
    StageResult,
    StageSpec,
)
from tuner.commands.interrupts import uninterrupted
from tuner.commands.ui import Tick, Ui
from tuner.errors import EndpointError
from tuner.stats.histogram import Window
from tuner.store.run import Run
from tuner.units import s_to_ms


@dataclass(slots=True)
class Controller:
    """One campaign over one backend, journaled stage by stage.

    Everything it decides follows from what the journal holds, so a resumed campaign takes
    the same turns as an uninterrupted one.
    """

    config: CampaignConfig
    run: Run
    backend: LoadBackend
    ui: Ui
    max_error_share: float = 1.0
    monotonic: Callable[[], float] = time.monotonic

    def drive(self) -> Finished:
        """Run stages until the search is finished.

        Raises
        ------
        KeyboardInterrupt
            Passed on; every completed stage is in the journal.
        """
        results = list(self.run.stages())
        events = list(self.run.scale_events())
        talk = conversation(self.config)
        action = talk.start()
        for result in results:
            if not isinstance(action, Finished):
                action = talk.tell(result)
        count: int | None = None
        started = self.monotonic()
        with self.ui.live():
            while not isinstance(action, Finished):
                over = talk.over_limit(results, events, action)
                if over is not None:
                    return over
                if action.instance_count != count:
                    event = self._scale(action, results, started)
                    if event.to_count != event.from_count:
                        self.run.add_scale_event(event)
                        events.append(event)
                    count = action.instance_count
                result = self._measure(action, results, started)
                with uninterrupted():
                    results.append(self.run.add_stage(result))
                self.ui.say(stage_line(results[-1]))
                stop = self._too_many_errors(results[-1])
                if stop is not None:
                    return stop
                action = talk.tell(results[-1])
                if result.void:
                    self._say_void(result, again=talk.repeating)
                    _stop_without_credentials(result)
        return action

    def _say_void(self, result: StageResult, *, again: bool) -> None:
        for reason in result.health.void_reasons:
            self.ui.warn(f"stage {result.spec.index} is void: {reason}")
        then = "it is repeated once" if again else "this load stays unmeasured"
        self.ui.warn(f"{then}; to do: {result.health.remedy}")

    def _too_many_errors(self, result: StageResult) -> Finished | None:
        share = result.failures / result.requests if result.requests else 0.0
        if result.void or share <= self.max_error_share:
            return None
        sample = f"; most often: {result.error_samples[0][0]}" if result.error_samples else ""
        return Finished(
            "errors",
            f"{share:.0%} of the requests of stage {result.spec.index} failed, more than the "
            f"{self.max_error_share:.0%} that the plan allows{sample}",
        )

    def _scale(self, action: StageSpec, results: list[StageResult], started: float) -> ScaleEvent:
        remaining, _ = estimate_remaining(self.config, results)
        headline = f"setting {action.instance_count} instance{_s(action.instance_count)}"
        self.ui.tick(Tick(headline, self.monotonic() - started, remaining, 0.0))
        return self.backend.set_instance_count(action.instance_count)

    def _measure(
        self, action: StageSpec, results: list[StageResult], started: float
    ) -> StageResult:
        remaining, stages = estimate_remaining(self.config, results)
        begun = self.monotonic()
        whole = action.settle_s + action.duration_s
        headline = (
            f"stage {action.index + 1} of about {len(results) + stages}: {action.purpose}, "
            f"{action.rate_per_s:.4g}/s on {action.instance_count}"
        )

        def show(progress: StageProgress) -> None:
            here = self.monotonic() - begun
            facts = (
                ("sent", f"{progress.sent:,}"),
                ("failed", f"{progress.failed:,}"),
                ("in flight", f"{progress.in_flight:,}"),
                ("p50", ms_text(progress.p50_s)),
                ("p99", ms_text(progress.p99_s)),
            )
            left = max(0.0, remaining - here)
            self.ui.tick(
                Tick(headline, self.monotonic() - started, left, here / max(whole, 1e-9), facts)
            )

        self.ui.tick(Tick(headline, begun - started, remaining, 0.0))
        return self.backend.measure(action, show)


def _stop_without_credentials(result: StageResult) -> None:
    """Void stage after void stage would follow: only the user can renew the credentials.

    Raises
    ------
    EndpointError
        If AWS refused most of the requests for their credentials.
    """
    if 2 * result.health.credentials_refused > result.requests:
        raise EndpointError(
            "the endpoint refuses the AWS credentials of the load",
            value=result.error_samples[0][0] if result.error_samples else None,
            allowed="credentials that live as long as the campaign, or a profile or role that "
            "renews them",
            hint="renew the credentials, then go on with --resume",
        )


def stage_line(result: StageResult) -> str:
    """One finished stage in one line."""
    spec = result.spec
    whole = Window.merge(result.windows) if result.windows else None
    quantiles = (
        "  ".join(f"p{q:g} {ms_text(whole.quantile_s(q / 100)):>8}" for q in (50, 95, 99))
        if whole is not None
        else "no requests"
    )
    mark = " VOID" if result.void else ""
    mark += "" if result.health.open_loop else " CLOSED-LOOP"
    failed = f"  {result.failures} failed" if result.failures else ""
    return (
        f"{spec.index:3d}  {spec.kind.value:<8} {spec.instance_count:3d} x "
        f"{spec.rate_per_s / spec.instance_count:8.1f}/s  {result.requests:8,d} requests  "
        f"{quantiles}{failed}{mark}"
    )


def ms_text(seconds: float) -> str:
    """``12.3 ms``; ``failed`` for an infinite latency, ``-`` for none."""
    if math.isnan(seconds):
        return "-"
    return "failed" if math.isinf(seconds) else f"{s_to_ms(seconds):.4g} ms"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
