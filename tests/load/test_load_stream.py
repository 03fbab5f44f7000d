"""Streamed answers: when the first part came, whatever the chunk boundaries."""

from __future__ import annotations

import binascii
import itertools
import json
import socket
import struct
import time
from typing import Any

import numpy as np
import pytest
from botocore.eventstream import EventStreamBuffer
from scripted import read_request, scripted
from stages import BODY, stage

from tuner.campaign.evidence import evidence
from tuner.emulator.process import EmulatorProcess
from tuner.load.eventstream import EventStreamWatch
from tuner.load.session import LocustSession
from tuner.load.target import sagemaker_target
from tuner.slo import LatencyObjective, Measure
from tuner.stats.requests import Outcome

EVENT_STREAM = "application/vnd.amazon.eventstream"


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One event-stream message, by the format's own description (prelude, two CRCs)."""
    block = b"".join(
        bytes([len(k)]) + k.encode() + b"\x07" + struct.pack(">H", len(v)) + v.encode()
        for k, v in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + block + payload
    return message + struct.pack(">I", binascii.crc32(message))


def part(payload: bytes) -> bytes:
    return frame({":message-type": "event", ":event-type": "PayloadPart"}, payload)


def fault(kind: str, body: dict[str, str]) -> bytes:
    headers = {":message-type": "exception", ":exception-type": kind}
    return frame(headers, json.dumps(body).encode())


def test_the_frames_of_this_file_are_what_botocore_reads() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(part(b"abc"))
    (message,) = list(iter(buffer))
    assert message.payload == b"abc"


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_counted_at_any_split(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wire = b"".join(part(bytes(rng.integers(0, 256, size=k, dtype=np.uint8))) for k in range(12))
    watch = EventStreamWatch()
    cuts = [0, *np.sort(rng.integers(0, len(wire), 30)), len(wire)]
    seen = [watch.feed(wire[a:b]) for a, b in itertools.pairwise(cuts)]
    assert sum(seen) == watch.parts == 12
    assert watch.error is None


def test_a_broken_checksum_is_an_error() -> None:
    watch = EventStreamWatch()
    wire = bytearray(part(b"abc"))
    wire[-1] ^= 1
    watch.feed(bytes(wire))
    assert watch.error is not None
    assert "event-stream" in watch.error[1]


def stream_server(pieces: list[tuple[float, bytes]]) -> Any:
    """Sends pieces, each after a pause, as HTTP chunks of an event stream."""

    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(
                f"HTTP/1.1 200 OK\r\nContent-Type: {EVENT_STREAM}\r\n"
                "Transfer-Encoding: chunked\r\n\r\n".encode()
            )
            for pause_s, data in pieces:
                time.sleep(pause_s)
                connection.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            connection.sendall(b"0\r\n\r\n")

    return script


def drive(heard: Any, port: int, client: str = "fast") -> Any:
    ear = heard(
        sagemaker_target(
            "e", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}",
            streaming=True, signed=False, client=client,
        )
    )  # fmt: skip
    ear.send([0.0])
    return ear


@pytest.mark.parametrize("client", ["fast", "boto3"])
def test_time_to_first_part_and_to_the_end(heard: Any, client: str) -> None:
    whole = part(b"hello")
    pieces = [(0.0, whole[:9]), (0.15, whole[9:]), (0.6, part(b"world")), (0.05, part(b"!"))]
    with scripted(stream_server(pieces)) as port:
        ear = drive(heard, port, client)
    row = ear.rows[0]
    assert ear.outcomes == [Outcome.OK]
    # The server only waits longer than it was told to; half a second is more than it may lose.
    assert 0.15 <= row["first_chunk_s"] - row["scheduled_s"] < 0.65
    assert row["done_s"] - row["scheduled_s"] >= 0.8
    assert row["longest_gap_s"] > 0.3
    assert row["longest_gap_s"] <= row["done_s"] - row["first_chunk_s"]
    gaps = ear.driver.engine.gaps
    assert gaps.total == 2
    assert gaps.quantile_s(1.0) == pytest.approx(row["longest_gap_s"], rel=0.01)


@pytest.mark.parametrize("client", ["fast", "boto3"])
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("ModelStreamError", Outcome.MODEL_ERROR), ("InternalStreamFailure", Outcome.OTHER)],
)
def test_an_exception_in_the_stream_is_a_failure(
    heard: Any, client: str, kind: str, outcome: Outcome
) -> None:
    body = {"Message": "the model broke off", "ErrorCode": "StreamBroken"}
    with scripted(stream_server([(0.0, part(b"a")), (0.0, fault(kind, body))])) as port:
        ear = drive(heard, port, client)
    assert ear.outcomes == [outcome]
    assert kind in ear.texts
    assert "the model broke off" in ear.texts


def test_a_plain_body_has_no_first_part(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with scripted(script) as port:
        ear = drive(heard, port)
    row = ear.rows[0]
    assert ear.outcomes == [Outcome.OK]
    assert row["first_chunk_s"] <= row["done_s"], "streamed as one chunk"
    assert row["longest_gap_s"] == 0.0


def test_each_time_of_an_emulated_stream_is_judged_by_its_own_objective() -> None:
    spec = stage(rate_per_s=40.0, duration_s=1.5)
    with EmulatorProcess("demo") as emulator:
        assert emulator.endpoint_name is not None
        there = sagemaker_target(
            emulator.endpoint_name, "us-east-1", endpoint_url=emulator.url, streaming=True,
            signed=False,
        )  # fmt: skip
        with LocustSession(there, BODY) as session:
            result = session.measure(spec)
    log = result.log
    assert log is not None
    assert log.ok.all()
    whole, first, gap = (log.times_s(m) for m in Measure)
    assert (gap >= 0.0).all()
    assert (first + gap <= whole + 0.001).all()
    assert np.mean(first) < np.mean(whole)
    assert result.chunk_gaps is not None
    assert result.chunk_gaps.total > 5 * len(log)
    for measure in (Measure.TTFT, Measure.CHUNK_GAP):
        never, always = (evidence(result, LatencyObjective(0.95, s, measure)) for s in (60.0, 1e-9))
        assert never.share.count == 0
        # On a busy machine all chunks of an answer may be read at once: no gap was seen then.
        assert always.share.count > 0.8 * len(log)
