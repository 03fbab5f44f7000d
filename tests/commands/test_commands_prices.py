"""`tuner prices` against an emulated Price List."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.commands.arguments import build_parser
from tuner.commands.prices import main
from tuner.commands.ui import PlainUi
from tuner.emulator.process import EmulatorProcess
from tuner.errors import TunerError


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmulatorProcess("demo") as process:
        yield process.url


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    assert main(build_parser().parse_args(["prices", *arguments]), PlainUi(out, err)) == 0
    return out.getvalue(), err.getvalue()


def test_a_price_is_read_kept_and_shown(url: str, tmp_path: Path) -> None:
    file = str(tmp_path / "prices.json")
    out, _ = run("update", "ml.m5.xlarge", "--endpoint-url", url, "--file", file)
    assert "1 prices of us-east-1" in out
    (entry,) = json.loads(Path(file).read_text())["prices"]
    assert (entry["usd_per_hour"], entry["effective_date"]) == (0.23, "2026-01-01")
    shown, _ = run("show", "ml.m5.xlarge", "--file", file)
    assert entry["date"] in shown
    assert "grade A" in shown


def test_without_types_those_known_are_read_and_the_missing_named(url: str, tmp_path: Path) -> None:
    file = str(tmp_path / "prices.json")
    _, err = run("update", "--endpoint-url", url, "--file", file)
    assert "ml.c5.xlarge" in err
    assert [e["instance_type"] for e in json.loads(Path(file).read_text())["prices"]] == [
        "ml.m5.xlarge"
    ]


def test_a_type_that_was_asked_for_and_has_no_price_is_an_error(url: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    with pytest.raises(TunerError) as caught:
        run("update", "ml.q9.huge", "--endpoint-url", url, "--file", str(file))
    assert caught.value.exit_code == 2
    assert not file.exists()
    with pytest.raises(TunerError, match="no price"):
        run("show", "ml.q9.huge", "--file", str(file))
