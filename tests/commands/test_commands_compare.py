"""``tuner compare`` on run directories whose stages come from virtual time."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tuner.campaign.types import StageKind, StageSpec
from tuner.campaign.virtual import VirtualBackend
from tuner.cli import main
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.store.run import Run

PLAN = """\
[endpoint]
kind = "emulator"
preset = "demo"
[slo]
p99_ms = 120
[load]
body = "{}"
[traffic]
peak_per_min = 5000
"""
ENDPOINT = {
    "kind": "emulator",
    "name": "tuner-demo",
    "variant": "AllTraffic",
    "instance_type": "ml.m5.xlarge",
    "routing": "RANDOM",
    "config": "c",
    "profile": None,
}
Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A run directory of a fleet whose service is so much slower than the demo's."""
    monkeypatch.chdir(tmp_path)

    def make(
        name: str, slower: float, seed: int, *, duration_s: float = 60.0, **health: object
    ) -> Path:
        service = ServiceTime.lognormal(0.02 * slower, 0.6)
        backend = VirtualBackend(FleetSpec(InstanceSpec(service, workers=4)), seed=seed)
        meta = {
            "plan": PLAN,
            "plan_source": "tuner.toml",
            "traffic_csv": None,
            "seed": 1,
            "python": "3",
            "platform": "test",
            "endpoint": ENDPOINT,
            "payload_classes": ["default"],
        }
        with Run.create(tmp_path / name, meta) as run:
            for i, rate in enumerate((40.0, 100.0, 150.0)):
                spec = StageSpec(
                    i, StageKind.MEASURE, 1, rate, duration_s, 5.0, "poisson", seed * 9 + i, ""
                )
                result = backend.measure(spec)
                run.add_stage(replace(result, health=replace(result.health, **health)))
        return tmp_path / name

    return make


def compared(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main(["compare", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_regression_fails_ci(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = made("before", 1.0, 1), made("after", 1.1, 2)
    junit = tmp_path / "junit.xml"
    code, out, _ = compared(capsys, before, after, "--no-capacity", "--junit", junit)
    assert code == 3
    assert out.startswith("Regression: latency")
    assert "REGRESSION" in out.splitlines()[2]
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite is not None
    ends = [[e.tag for e in c] for c in suite.findall("testcase")]
    assert ends[0] == ["failure"]
    assert int(suite.get("failures") or 0) == ends.count(["failure"])
    assert int(suite.get("errors") or 0) == 0


def test_no_regression_passes_ci_and_is_a_document(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = made("before", 1.0, 1), made("after", 0.97, 4)
    junit = tmp_path / "junit.xml"
    code, out, _ = compared(capsys, before, after, "--json", "--junit", junit, "--no-capacity")
    assert code == 0
    document = json.loads(out)
    assert document["verdict"] == "MET"
    assert [s["rate_per_s"] for s in document["stages"]] == [40.0, 100.0, 150.0]
    deciding = [c for c in document["overall"] if c["deciding"]]
    assert [c["name"] for c in deciding] == ["latency (geometric mean)"]
    root = ET.parse(junit).getroot()
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    # A p99 that is not known is neither passed nor failed.
    unknown = sum(c["verdict"] == "INCONCLUSIVE" for c in document["overall"])
    assert len(root.findall(".//skipped")) == unknown


def test_short_runs_say_that_they_do_not_know(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = (made(n, 1.0, i, duration_s=5.0) for i, n in enumerate(("b", "a"), 1))
    code, out, _ = compared(capsys, before, after, "--no-capacity", "--slower-by", "0.01")
    assert code == 4
    assert out.startswith("Not known")


def test_stages_that_cannot_be_compared_are_counted_with_the_reason(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made("before", 1.0, 1, duration_s=5.0)
    closed = made("closed", 1.0, 2, duration_s=5.0, open_loop=False)
    code, _, err = compared(capsys, before, closed)
    assert code == 4
    assert "3 of the 3 stages of closed are closed-loop and not compared" in err
    assert "no load in common" in err
    void = made("void", 1.0, 3, duration_s=5.0, void_reasons=("slow",))
    code, _, err = compared(capsys, before, void)
    assert code == 4
    assert "3 of the 3 stages of void were limited by the generator" in err


def test_capacities_are_compared_where_both_are_known(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = made("before", 1.0, 1, duration_s=120.0), made("after", 1.3, 2)
    code, out, err = compared(capsys, before, after)
    assert code == 3, out + err
    line = next(x for x in out.splitlines()[1:] if "capacity lost" in x)
    # A service 1.3 times as long carries about 1/1.3 of the load, a little less at the SLO.
    lost = float(line.split("/s")[1].split("%")[0])
    assert 25.0 < lost < 50.0, line


def test_runs_that_cannot_be_compared_are_named(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made("before", 1.0, 1)
    code, _, err = compared(capsys, before, tmp_path / "nothing")
    assert code == 2
    assert "not a run directory" in err
    with Run.create(tmp_path / "canary", {"kind": "canary"}):
        pass
    code, _, err = compared(capsys, before, tmp_path / "canary")
    assert code == 2
    assert "run of a canary" in err


def test_what_else_differs_between_the_runs_is_said(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = (made(n, 1.0, i, duration_s=5.0) for i, n in enumerate(("b", "a"), 1))
    for path, size in ((before, 100.0), (after, 5000.0)):
        with Run.open(path) as run:
            run.set_meta("payload_bytes", [size, None])
    _, _, err = compared(capsys, before, after, "--no-capacity")
    assert "the runs differ in mean request size: 100 bytes and 5,000 bytes" in err
    assert "arrivals" not in err
