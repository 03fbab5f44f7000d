"""A rehearsal knows every campaign of the plan, its objectives and its payload classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.campaign.rehearse import Rehearsed
from tuner.cli import main
from tuner.emulator.presets import preset_text

PLAN = """\
[endpoint]
{endpoint}
[slo]
{slo}
[load]
{load}
instance_counts = [1]
[traffic]
peak_per_min = 30000
[capacity]
instance_type = "ml.m5.xlarge"
"""
BODY = 'body = "{}"\nquick = true'
STAIRS = 'body = "{}"\nrates = [60, 100, 140, 170, 200]\nstep_s = 30\nwarm_up_s = 0'


def rehearsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plan: str, *flags: str
) -> tuple[int, str, str]:
    path = tmp_path / "tuner.toml"
    path.write_text(plan)
    code = main(["rehearse", str(path), "--campaigns", "1", *flags])
    out, err = capsys.readouterr()
    return code, out, err


def capacity(text: str) -> float:
    return float(re.findall(r"capacity +([\d.]+)", text)[-1])


@pytest.mark.parametrize("finished", [0, 2])
def test_ctrl_c_keeps_the_campaigns_that_were_finished(
    finished: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken_off(*_: object, **__: object) -> Iterator[Rehearsed]:
        for minutes in (9.0, 11.0)[:finished]:
            yield Rehearsed(minutes, 5e4, 0.2, 0.04, 200.0, "MET")
        raise KeyboardInterrupt

    monkeypatch.setattr("tuner.commands.rehearse.each_rehearsed", broken_off)
    plan = PLAN.format(endpoint='kind = "emulator"\npreset = "demo"', slo="p99_ms = 150", load=BODY)
    code, out, err = rehearsed(tmp_path, capsys, plan, "--campaigns", "7", "--plain")
    assert code == 130
    assert "campaign 1 of 7" in err
    if finished:
        assert "from 2 of 7 campaigns" in err
        assert "2 campaigns of this plan" in out
        assert "load       10.0 min" in out
    else:
        assert out == ""


def test_every_type_is_rehearsed_against_its_own_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = PLAN.format(endpoint='kind = "emulator"\npreset = "demo"', slo="p99_ms = 150", load=BODY)
    plan += '[[types]]\ninstance_type = "ml.c5.xlarge"\npreset = "contention"\n'
    code, out, _ = rehearsed(tmp_path, capsys, plan)
    assert code in (0, 4)
    assert "ml.m5.xlarge (model demo)" in out
    assert "ml.c5.xlarge (model contention)" in out
    minutes = [float(m) for m in re.findall(r"load +([\d.]+) min", out)]
    total = re.search(r"all 2 campaigns: ([\d.]+) min of load, [\d,]+ requests, ([\d.]+) USD", out)
    assert total is not None
    assert float(total[1]) == pytest.approx(sum(minutes), abs=0.11)
    assert float(total[2]) > 0.0


def test_objectives_on_streamed_answers_are_rehearsed_and_bind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = 'kind = "emulator"\npreset = "demo"\nstreaming = true'
    wide = PLAN.format(endpoint=where, slo="p99_ms = 150\nttft_p95_ms = 120", load=STAIRS)
    tight = PLAN.format(endpoint=where, slo="p99_ms = 150\nttft_p95_ms = 20", load=STAIRS)
    code, loose, _ = rehearsed(tmp_path, capsys, wide)
    assert code == 0
    code, bound, _ = rehearsed(tmp_path, capsys, tight)
    assert code == 0
    assert capacity(bound) < capacity(loose)


def test_larger_bodies_take_longer_and_the_mix_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "light.json").write_text("{}")
    (tmp_path / "heavy.json").write_text("x" * 20480)
    spec = tmp_path / "fleet.toml"
    spec.write_text(preset_text("demo").replace("[instance]\n", "[instance]\nper_kib_ms = 1.0\n"))
    load = (
        'payloads = [{ file = "light.json", class = "light", weight = 9 },\n'
        '            { file = "heavy.json", class = "heavy", weight = 1 }]\n'
        "quick = true"
    )
    plan = PLAN.format(
        endpoint='kind = "emulator"\nspec = "fleet.toml"', slo="p99_ms = 150", load=load
    )
    _, as_sent, _ = rehearsed(tmp_path, capsys, plan)
    more = plan.replace("peak_per_min = 30000", "peak_per_min = 30000\nmix = { heavy = 0.3 }")
    _, heavier, _ = rehearsed(tmp_path, capsys, more)
    # Mean service 20 + 0.1 x 20 = 22 ms as sent, 20 + 0.3 x 20 = 26 ms in production.
    assert capacity(heavier) == pytest.approx(capacity(as_sent) * 22.0 / 26.0, rel=0.12)


def test_a_real_endpoint_needs_a_stated_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = PLAN.format(endpoint='kind = "sagemaker"\nname = "e"', slo="p99_ms = 150", load=BODY)
    code, _, err = rehearsed(tmp_path, capsys, plan)
    assert code == 2
    assert "nothing says how" in err
    code, out, _ = rehearsed(tmp_path, capsys, plan, "--preset", "demo")
    assert code == 0
    assert "answered   100%" in out
