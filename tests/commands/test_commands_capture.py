"""``tuner capture`` over sockets, against an emulator whose captured requests are slower."""

from __future__ import annotations

import argparse
import io
import json
import urllib.request
from pathlib import Path

import pytest

from tuner.campaign.types import StageKind, StageSpec
from tuner.commands.capture import main, same_load
from tuner.commands.capture_file import CaptureMeasured, read_measured
from tuner.commands.ui import PlainUi
from tuner.emulator.process import EmulatorProcess
from tuner.errors import InputError, RunDirectoryError, TunerError
from tuner.load.session import LocustSession
from tuner.load.target import LOAD_MARK, InvokeTarget, marked, sagemaker_target
from tuner.workload.payloads import PayloadSet

SPEC = """\
name = "capturing"

[endpoint]
name = "capturing"
launch_lag_s = 0.1

[instance]
workers = 256
service = { shape = "lognormal", mean_ms = 400.0, cv = 0.3 }

[response]
size_bytes = 300

[data_capture]
service_share = 0.5
"""
PLAN = """\
[endpoint]
kind = "emulator"
spec = "spec.toml"

[slo]
p99_ms = 5000

[load]
body = "0123456789"
max_send_lag_ms = 150

[traffic]
peak_per_min = 1000

[data_capture]
sampling_percent = [0, 100]
rate_per_s = 100
minutes = 0.2
"""
RATIO = 1.5
"""Of the service alone; a busy machine adds milliseconds to either side of 400 and 600."""


def arguments(plan: Path, out: Path, **given: object) -> argparse.Namespace:
    flags = {"run": None, "rate": None, "minutes": None, "resume": False}
    flags["yes_this_is_production"] = False
    return argparse.Namespace(plan=str(plan), out=str(out), **(flags | given))


def write(where: Path, plan: str) -> Path:
    (where / "spec.toml").write_text(SPEC)
    path = where / "tuner.toml"
    path.write_text(plan)
    return path


def test_the_comparison_finds_what_capture_takes(tmp_path: Path) -> None:
    plan = write(tmp_path, PLAN)
    out, err = io.StringIO(), io.StringIO()
    assert main(arguments(plan, tmp_path / "out"), PlainUi(out, err)) == 0
    found = read_measured(tmp_path / "out" / "data_capture.json")
    assert found is not None
    table, measured = found
    assert table.rate_per_s == 100
    (effect,) = measured.effects
    assert effect.sampling_percent == 100
    assert effect.mean_ratio.mid == pytest.approx(RATIO, rel=0.08)
    assert effect.p_value < 1e-6
    assert measured.request_bytes == 10.0
    assert measured.response_bytes == 300.0
    assert "capture 100 %" in out.getvalue()
    _nothing_is_measured_twice(plan, tmp_path / "out")


def _nothing_is_measured_twice(plan: Path, where: Path) -> None:
    before = (where / "data_capture.json").read_bytes()
    out, err = io.StringIO(), io.StringIO()
    assert main(arguments(plan, where, resume=True), PlainUi(out, err)) == 0
    assert "was measured before" in err.getvalue()
    assert (where / "data_capture.json").read_bytes() == before


def test_a_comparison_is_not_gone_on_with_at_another_load() -> None:
    begun = CaptureMeasured((), 10.0, None, 100.0)
    same_load(begun, 100.5)
    with pytest.raises(InputError, match="another load"):
        same_load(begun, 150.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rate_per_s = 100\n", "", "rate"),
        ("rate_per_s = 100\n", "rate_per_s = 60\n", "too short to compare p99"),
        (
            'kind = "emulator"\nspec = "spec.toml"',
            'kind = "http"\nurl = "http://127.0.0.1:9/x"',
            "SageMaker",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    plan = write(tmp_path, PLAN.replace(old, new))
    with pytest.raises(TunerError, match=said):
        main(arguments(plan, tmp_path / "out"), PlainUi(io.StringIO(), io.StringIO()))


def test_an_endpoint_of_the_users_own_needs_a_second_one(tmp_path: Path) -> None:
    with EmulatorProcess(spec_path=_spec(tmp_path), arguments=["--capture-percent", "20"]) as there:
        own = (
            f'[endpoint]\nkind = "sagemaker"\nname = "capturing"\nregion = "us-east-1"\n'
            f'endpoint_url = "{there.url}"'
        )
        text = PLAN.replace('[endpoint]\nkind = "emulator"\nspec = "spec.toml"', own)
        with pytest.raises(InputError, match="no endpoint with data capture on"):
            main(
                arguments(write(tmp_path, text), tmp_path / "out"),
                PlainUi(io.StringIO(), io.StringIO()),
            )
        wrong = text.replace('name = "capturing"', 'name = "capturing-capture-20"')
        with pytest.raises(InputError, match="should have it off"):
            main(
                arguments(write(tmp_path, wrong), tmp_path / "out"),
                PlainUi(io.StringIO(), io.StringIO()),
            )


def test_a_damaged_measurement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data_capture.json"
    assert read_measured(path) is None
    for text in ("{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "plan": {"x": 1}}'):
        path.write_text(text)
        with pytest.raises(RunDirectoryError):
            read_measured(path)


def _spec(where: Path) -> Path:
    path = where / "own.toml"
    path.write_text(SPEC)
    return path


@pytest.mark.parametrize("client", ["fast", "boto3"])
def test_captured_load_carries_its_mark(
    tmp_path: Path, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "local")
    with EmulatorProcess(
        spec_path=_spec(tmp_path), arguments=["--capture-percent", "100"]
    ) as there:
        target = sagemaker_target(
            "capturing-capture-100",
            "us-east-1",
            endpoint_url=there.url,
            signed=client == "boto3",
            timeout_s=5.0,
            client=client,
        )
        _load(marked(target))
        with urllib.request.urlopen(f"{there.url}/_tuner/captured") as answer:
            found = json.load(answer)
    assert found["captured"] >= 10
    for entry in found["newest"]:
        record = json.loads(entry["line"])
        assert record["eventMetadata"]["inferenceId"] == LOAD_MARK
        assert set(record["captureData"]) == {"endpointInput", "endpointOutput"}


def _load(target: InvokeTarget) -> None:
    stage = StageSpec(0, StageKind.MEASURE, 1, 20.0, 2.0, 0.2, "constant", 1, "mark")
    with LocustSession(target, PayloadSet.inline("0123456789")) as session:
        assert session.measure(stage).failures == 0
        assert session.answer_bytes == 300.0
