"""Payloads from text: what is kept, and what is refused with the line it is on."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tuner.errors import PayloadError
from tuner.load.payload_files import PayloadSource, read_payloads
from tuner.workload.payloads import Payload, PayloadSet, parse_data_capture, parse_json_lines


def capture(data: str, encoding: str, kind: str = "text/csv") -> str:
    return json.dumps(
        {
            "captureData": {
                "endpointInput": {
                    "observedContentType": kind, "mode": "INPUT", "data": data,
                    "encoding": encoding,
                },
                "endpointOutput": {"data": "0.5", "encoding": "CSV", "mode": "OUTPUT"},
            },
            "eventMetadata": {"eventId": "a", "inferenceTime": "2026-11-22T12:00:00Z"},
            "eventVersion": "0",
        }
    )  # fmt: skip


def test_the_mix_follows_the_weights_and_the_seed() -> None:
    payloads = PayloadSet(
        (Payload(b"a", weight=6, payload_class="x"), Payload(b"b", weight=3, payload_class="y"),
         Payload(b"c", weight=1, payload_class="x"))
    )  # fmt: skip
    draws = payloads.draw(np.random.default_rng(1), 20_000)
    counts = np.bincount(draws, minlength=3)
    assert stats.chisquare(counts, [12_000, 6_000, 2_000]).pvalue > 0.001
    assert np.array_equal(draws, payloads.draw(np.random.default_rng(1), 20_000))
    assert payloads.class_names == ("x", "y")
    assert payloads.class_index.tolist() == [0, 1, 0]
    assert payloads.shares.sum() == pytest.approx(1)
    assert payloads.largest_bytes == 1


def test_weights_of_sources_are_shared_by_their_bodies() -> None:
    one = PayloadSet.inline("a").scaled(3)
    two = PayloadSet((Payload(b"b"), Payload(b"c"))).scaled(1)
    assert PayloadSet.union([one, two]).shares.tolist() == pytest.approx([0.75, 0.125, 0.125])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_cannot_be_is_refused(weight: float) -> None:
    with pytest.raises(PayloadError, match="weight"):
        PayloadSet((Payload(b"a", weight=weight),))


@pytest.mark.parametrize("kind", ["", "text/plain\r\nX: y", "tëxt/plain"])
def test_a_content_type_that_cannot_be_a_header_is_refused(kind: str) -> None:
    with pytest.raises(PayloadError, match="content type"):
        PayloadSet.inline("a", content_type=kind)


def test_no_payload_is_refused() -> None:
    with pytest.raises(PayloadError, match="no payload"):
        PayloadSet(())


def test_json_lines_are_sent_as_they_stand() -> None:
    payloads = parse_json_lines('{"a": 1}\n\n  [1,2]  \n"text"\n')
    assert [p.body for p in payloads.payloads] == [b'{"a": 1}', b"[1,2]", b'"text"']


def test_a_line_that_is_not_json_is_named() -> None:
    with pytest.raises(PayloadError, match=r"mine\.jsonl, line 3 is not JSON"):
        parse_json_lines('{"a": 1}\n{}\n{oops\n', source="mine.jsonl")
    with pytest.raises(PayloadError, match="no payload"):
        parse_json_lines("\n\n")


def test_a_capture_file_gives_back_the_requests() -> None:
    image = bytes(range(256))
    text = "\n".join(
        [
            capture("1,2,3", "CSV"),
            capture('{"x": 1}', "JSON", "application/json"),
            capture(base64.b64encode(image).decode(), "BASE64", "image/png"),
            json.dumps({"captureData": {"endpointOutput": {"data": "1", "encoding": "CSV"}}}),
        ]
    )
    payloads = parse_data_capture(text)
    assert [(p.body, p.content_type) for p in payloads.payloads] == [
        (b"1,2,3", "text/csv"),
        (b'{"x": 1}', "application/json"),
        (image, "image/png"),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "line 1 is not a data-capture record"),
        ("[1]", "not a data-capture record"),
        ('{"captureData": 5}', "not a data-capture record"),
        ('{"captureData": {"endpointInput": {"encoding": "CSV"}}}', "no text under"),
        (capture("!!!", "BASE64"), "broken base64"),
        (capture("x", "ROT13"), "unknown encoding"),
        ('{"captureData": {"endpointOutput": {}}}', "no captured request"),
        ("", "no captured request"),
    ],
)
def test_a_broken_capture_file_is_told(line: str, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        parse_data_capture(line)


def test_files_and_globs_are_read_in_order_with_their_types(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("1,2")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "more.jsonl").write_text("[1]\n[2]\n")
    (tmp_path / "cap.jsonl").write_text(capture("9", "CSV"))
    found = read_payloads(
        [
            PayloadSource("?.*", weight=2, payload_class="file"),
            PayloadSource("more.jsonl"),
            PayloadSource("cap.jsonl"),
        ],
        tmp_path,
    )
    assert [(p.body, p.content_type) for p in found.payloads] == [
        (b"{}", "application/json"), (b"1,2", "text/csv"), (b"[1]", "application/json"),
        (b"[2]", "application/json"), (b"9", "text/csv"),
    ]  # fmt: skip
    assert found.shares.tolist() == pytest.approx([0.25, 0.25, 0.125, 0.125, 0.25])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (PayloadSource("nothing*.json"), "no payload file matches"),
        (PayloadSource("bin.dat", kind="jsonl"), "not UTF-8"),
        (PayloadSource("bin.dat", kind="xml"), "unknown kind"),
    ],
)
def test_files_that_cannot_be_used_are_told(
    tmp_path: Path, source: PayloadSource, words: str
) -> None:
    (tmp_path / "bin.dat").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PayloadError, match=words):
        read_payloads([source], tmp_path)
