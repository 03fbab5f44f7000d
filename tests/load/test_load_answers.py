"""Answers of every shape and status, cut at any boundary, and what is asked for on the wire."""

from __future__ import annotations

import gzip
import socket
import time
from typing import Any

import pytest
from scripted import answer, read_request, scripted
from transport_target import target

from tuner.load.target import InvokeTarget
from tuner.stats.requests import Outcome
from tuner.workload.payloads import PayloadSet


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x00" * 40,
        b"HTTP/1.1 200 OK\r\nA\r\n\r\n",
    ],
)
def test_malformed_http(heard: Any, garbage: bytes) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(garbage)
        time.sleep(0.3)

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.CONNECTION]
    assert "malformed HTTP" in ear.texts


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_bytes_beyond_the_announced_body_cost_the_connection_not_the_answer(
    heard: Any, pause_s: float
) -> None:
    connections = []

    def script(connection: socket.socket, number: int) -> None:
        connections.append(number)
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        time.sleep(pause_s)
        connection.sendall(b"and more")
        time.sleep(0.3)

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0])
        time.sleep(0.1)
        ear.send([0.05])
    assert ear.outcomes == [Outcome.OK, Outcome.OK]
    assert [a[2] for a in ear.answers] == [b"ok", b"ok"]
    assert connections == [0, 1]
    assert "longer than it announced" in ear.texts or "nobody asked for" in ear.texts


def test_two_answers_to_one_request(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(answer() + answer(b"no"))

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0, 0.1])
    assert ear.outcomes == [Outcome.OK, Outcome.OK]
    assert [a[2] for a in ear.answers] == [b"ok", b"ok"]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_chunked_bodies_at_any_boundary(heard: Any, step: int) -> None:
    wire = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n"
    )

    def script(connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while read_request(connection):
            for i in range(0, len(wire), step):
                connection.sendall(wire[i : i + step])

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0, 0.2])
    assert ear.outcomes == [Outcome.OK] * 2
    assert [a[2] for a in ear.answers] == [b"hello world"] * 2
    assert list(ear.rows["body_bytes"]) == [11, 11]


def test_a_body_without_a_length_ends_with_the_connection(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall there is")

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.OK]
    assert ear.answers[0][2] == b"all there is"


def test_an_interim_answer_is_passed_over(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"real"))

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0, 0.05])
    assert ear.outcomes == [Outcome.OK] * 2
    assert [a[2] for a in ear.answers] == [b"real"] * 2


def test_a_large_body_is_sent_whole_through_a_full_socket_buffer(heard: Any) -> None:
    got = []
    body = bytes(range(256)) * 20000

    def script(connection: socket.socket, number: int) -> None:
        time.sleep(0.1)
        got.append(read_request(connection))
        connection.sendall(answer(body))

    with scripted(script) as port:
        ear = heard(target(port), PayloadSet.inline(body, content_type="application/x-npy"))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.OK]
    assert got[0].endswith(b"\r\n\r\n" + body)
    assert ear.answers[0][2] == body


def test_what_is_on_the_wire(heard: Any) -> None:
    got = []

    def script(connection: socket.socket, number: int) -> None:
        got.append(read_request(connection))
        connection.sendall(answer(gzip.compress(b"x"), headers="Content-Encoding: gzip\r\n"))

    with scripted(script) as port:
        ear = heard(
            InvokeTarget(f"http://127.0.0.1:{port}/a/b?c=d", headers=(("X-One", "1"),)),
            PayloadSet.inline(b"1,2,3", content_type="text/csv"),
        )
        ear.send([0.0])
    head, _, body = got[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /a/b?c=d HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}".encode() in lines
    assert b"Content-Type: text/csv" in lines
    assert b"X-One: 1" in lines
    assert b"Content-Length: 5" in lines
    assert body == b"1,2,3"


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome", "word"),
    [
        ("429 Too Many", "", b"slow down", Outcome.THROTTLED, "429"),
        ("503 Unavailable", "", b"", Outcome.THROTTLED, "503"),
        ("400 Bad", "x-amzn-ErrorType: ThrottlingException:http://x\r\n", b'{"message":null}',
         Outcome.THROTTLED, "ThrottlingException"),
        ("400 Bad", "", b'{"__type":"com.amazon#ThrottlingException","message":"Rate exceeded"}',
         Outcome.THROTTLED, "Rate exceeded"),
        ("400 Bad", "", b'{"__type":"ValidationError","message":"no such"}', Outcome.OTHER,
         "ValidationError: no such"),
        ("424 Failed", "", b'{"OriginalStatusCode":500,"Message":"boom"}', Outcome.MODEL_ERROR,
         "model answered 500: boom"),
        ("500 Oops", "", b"<html>\xff</html>", Outcome.OTHER, "HTTP 500"),
        ("530 Dep", "x-amzn-ErrorType: InternalDependencyException\r\n", b"{}", Outcome.OTHER,
         "InternalDependencyException"),
        ("404 No", "", b"[1]", Outcome.OTHER, "404"),
    ],
)  # fmt: skip
def test_what_a_status_means(
    heard: Any, status: str, headers: str, body: bytes, outcome: Outcome, word: str
) -> None:
    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(answer(body, status, headers))

    with scripted(script) as port:
        ear = heard(target(port))
        ear.driver.engine.keep_bodies = False
        ear.send([0.0, 0.02])
    assert ear.outcomes == [outcome] * 2
    assert word in ear.texts
