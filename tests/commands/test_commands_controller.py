"""The controller keeps what it measured and takes the same turns after an interruption."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tuner.campaign.config import CampaignConfig, Limits, Pace
from tuner.campaign.types import ProgressCallback, ScaleEvent, StageResult, StageSpec
from tuner.campaign.virtual import VirtualBackend
from tuner.commands.controller import Controller, ms_text
from tuner.commands.ui import PlainUi
from tuner.emulator.presets import preset
from tuner.errors import EndpointError
from tuner.slo import LatencyObjective, Slo
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome
from tuner.store.run import Run

CONFIG = CampaignConfig(
    slo=Slo((LatencyObjective(0.99, 0.120),)),
    instance_counts=(1, 2),
    warm_up_s=5.0,
    settle_s=1.0,
    seed=5,
    start_rate_per_s=60.0,
    precision=0.1,
    limits=Limits(time_s=400.0),
    pace=Pace(floor_s=3, ramp_s=4, measure_s=12, verify_s=14, local_s=8, extra_windows=0),
)


class Breaking:
    """A virtual endpoint whose generator is interrupted after some stages."""

    def __init__(self, stages: int) -> None:
        self._inner = VirtualBackend(preset("demo").variants[0].fleet, seed=3)
        self._left = stages

    def set_instance_count(self, count: int) -> ScaleEvent:
        return self._inner.set_instance_count(count)

    def measure(self, stage: StageSpec, progress: ProgressCallback | None = None) -> StageResult:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._inner.measure(stage, progress)


def test_a_resumed_campaign_continues_the_conversation(tmp_path: Path) -> None:
    ui = PlainUi(tick_every_s=1e9)
    with Run.create(tmp_path / "whole", {}) as run:
        finished = Controller(CONFIG, run, Breaking(-1), ui).drive()
        whole = run.stages()
    assert len(whole) > 6
    with Run.create(tmp_path / "broken", {}) as run:
        with pytest.raises(KeyboardInterrupt):
            Controller(CONFIG, run, Breaking(4), ui).drive()
        assert len(run.stages()) == 4
        again = Controller(CONFIG, run, Breaking(-1), ui).drive()
        resumed = run.stages()
        events = run.scale_events()
    assert again.reason == finished.reason
    assert [s.spec for s in resumed[:5]] == [s.spec for s in whole[:5]]
    assert [s.spec.kind for s in resumed][0:4] == [s.spec.kind for s in whole][0:4]
    assert [(e.from_count, e.to_count) for e in events] == [(1, 2)]


def test_a_failing_endpoint_ends_the_campaign(tmp_path: Path) -> None:
    class Failing(Breaking):
        def measure(
            self, stage: StageSpec, progress: ProgressCallback | None = None
        ) -> StageResult:
            result = super().measure(stage, progress)
            assert result.log is not None
            outcome = np.full(len(result.log), int(Outcome.MODEL_ERROR), np.uint8)
            log = dataclasses.replace(result.log, outcome=outcome)
            return dataclasses.replace(
                result, log=log, windows=windows_of(log), error_samples=(("boom", len(log)),)
            )

    with Run.create(tmp_path / "r", {}) as run:
        ui = PlainUi(tick_every_s=1e9)
        finished = Controller(CONFIG, run, Failing(-1), ui, max_error_share=0.5).drive()
        assert len(run.stages()) == 1
    assert finished.reason == "errors"
    assert "boom" in finished.sentence


def test_a_campaign_whose_credentials_are_refused_stops_and_keeps_its_stages(
    tmp_path: Path,
) -> None:
    class Expiring(Breaking):
        def measure(
            self, stage: StageSpec, progress: ProgressCallback | None = None
        ) -> StageResult:
            result = super().measure(stage, progress)
            if stage.index < 2:
                return result
            health = dataclasses.replace(
                result.health,
                void_reasons=("refused",),
                remedy="renew the credentials",
                credentials_refused=result.requests,
            )
            samples = (("ExpiredTokenException", result.requests),)
            return dataclasses.replace(result, health=health, error_samples=samples)

    with Run.create(tmp_path / "run", {}) as run:
        with pytest.raises(EndpointError, match="ExpiredTokenException"):
            Controller(CONFIG, run, Expiring(-1), PlainUi(tick_every_s=1e9)).drive()
        assert [s.health.credentials_refused > 0 for s in run.stages()] == [False, False, True]
        Controller(CONFIG, run, Breaking(-1), PlainUi(tick_every_s=1e9)).drive()
        again = run.stages()
    assert again[3].spec.rate_per_s == again[2].spec.rate_per_s, "the void stage is repeated"


def test_a_void_stage_is_repeated_once_with_its_remedy_and_then_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow(Breaking):
        def measure(
            self, stage: StageSpec, progress: ProgressCallback | None = None
        ) -> StageResult:
            result = super().measure(stage, progress)
            if stage.rate_per_s < 100.0:
                return result
            health = dataclasses.replace(
                result.health, void_reasons=("too late",), remedy="add workers"
            )
            return dataclasses.replace(result, health=health)

    config = dataclasses.replace(
        CONFIG, instance_counts=(1,), rates_per_instance_per_s=(50.0, 150.0, 60.0), step_s=5.0
    )
    with Run.create(tmp_path / "run", {}) as run:
        Controller(config, run, Slow(-1), PlainUi(tick_every_s=1e9)).drive()
        stages = [s for s in run.stages() if s.spec.kind.value == "measure"]
    assert [s.spec.rate_per_s for s in stages] == [50.0, 150.0, 150.0, 60.0]
    assert [s.void for s in stages] == [False, True, True, False]
    said = capsys.readouterr().err
    first, second = said.index("it is repeated once; to do: add workers"), said.index("unmeasured")
    assert first < second


def test_latencies_read_naturally() -> None:
    assert ms_text(0.0123) == "12.3 ms"
    assert ms_text(float("inf")) == "failed"
    assert ms_text(float("nan")) == "-"
