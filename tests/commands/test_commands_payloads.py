"""The payload list of a plan, read as the plan says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.commands.session import payloads_of
from tuner.errors import PayloadError, PlanError
from tuner.plan.parse import parse_plan

PLAN = """
[endpoint]
kind = "emulator"
[slo]
p95_ms = 100
[load]
{load}
[traffic]
peak_per_min = 600
"""
CAPTURED = {
    "captureData": {
        "endpointInput": {
            "observedContentType": "text/csv", "mode": "INPUT", "data": "MSwy", "encoding": "BASE64"
        }
    },
    "eventMetadata": {"eventId": "1"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").write_text("[2]")
    (tmp_path / "c.csv").write_text("3")
    (tmp_path / "lines.jsonl").write_text('{"x":1}\n\n{"x":2}\n')
    (tmp_path / "captured.jsonl").write_text(json.dumps(CAPTURED) + "\n")
    (tmp_path / "raw.txt").write_text('{"y":1}\n{"y":2}\n')
    return tmp_path


def read(folder: Path, load: str) -> list[tuple[bytes, str, str, float]]:
    plan = parse_plan(PLAN.format(load=load), source="p.toml", base_dir=folder)
    found = payloads_of(plan)
    shares = [round(float(s), 6) for s in found.shares]
    return [
        (p.body, p.content_type, p.payload_class, s)
        for p, s in zip(found.payloads, shares, strict=True)
    ]


def test_files_globs_lines_and_captures_keep_class_weight_and_type(folder: Path) -> None:
    load = """payloads = [
      { file = "?.json", class = "light", weight = 6 },
      { file = "lines.jsonl", class = "lines", weight = 2 },
      { file = "c.csv" },
      { file = "captured.jsonl", class = "seen" },
    ]"""
    assert read(folder, load) == [
        (b"[1]", "application/json", "light", 0.3),
        (b"[2]", "application/json", "light", 0.3),
        (b'{"x":1}', "application/json", "lines", 0.1),
        (b'{"x":2}', "application/json", "lines", 0.1),
        (b"3", "text/csv", "default", 0.1),
        (b"1,2", "text/csv", "seen", 0.1),
    ]


def test_kind_and_content_type_of_the_plan_win_over_the_name(folder: Path) -> None:
    load = """content_type = "application/x-thing"
    payloads = [{ file = "raw.txt", kind = "jsonl" },
                { file = "lines.jsonl", kind = "file", content_type = "text/plain" }]"""
    assert [(b, t) for b, t, _, _ in read(folder, load)] == [
        (b'{"y":1}', "application/x-thing"),
        (b'{"y":2}', "application/x-thing"),
        (b'{"x":1}\n\n{"x":2}\n', "text/plain"),
    ]


def test_an_unknown_kind_and_a_broken_capture_are_told(folder: Path) -> None:
    with pytest.raises(PlanError, match=r"load\.payloads\.0\.kind"):
        read(folder, 'payloads = [{ file = "a.json", kind = "zip" }]')
    with pytest.raises(PayloadError, match="captureData"):
        read(folder, 'payloads = [{ file = "lines.jsonl", kind = "data-capture" }]')
