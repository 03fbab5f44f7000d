"""Faults of real sockets: each becomes one row with the right outcome and a clear text."""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scripted import answer, read_request, reset, scripted

from tuner.errors import EndpointError
from tuner.load.target import InvokeTarget
from tuner.stats.requests import Outcome
from tuner.workload.payloads import PayloadSet


def target(port: int, **settings: Any) -> InvokeTarget:
    return InvokeTarget(f"http://127.0.0.1:{port}/invocations", **settings)


def keep_answering(connection: socket.socket, number: int) -> None:
    while read_request(connection):
        connection.sendall(answer())


def test_one_connection_carries_many_requests(heard: Any) -> None:
    connections = []

    def script(connection: socket.socket, number: int) -> None:
        connections.append(number)
        keep_answering(connection, number)

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.02 * i for i in range(20)])
    assert ear.outcomes == [Outcome.OK] * 20
    assert connections == [0]
    assert ear.answers[0][2] == b"ok"


def test_latency_counts_from_the_intended_start_when_the_only_connection_is_busy(
    heard: Any,
) -> None:
    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            time.sleep(0.1)
            connection.sendall(answer())

    with scripted(script) as port:
        ear = heard(target(port, connections=1, max_in_flight=100))
        ear.send([0.0, 0.001, 0.002])
    assert ear.outcomes == [Outcome.OK] * 3
    assert list(ear.took_s) == pytest.approx([0.1, 0.2, 0.3], abs=0.1)
    lag = sorted(ear.rows["sent_s"] - ear.rows["scheduled_s"])
    assert lag[2] > 0.15, "waiting in line shows as send lag"


def test_arrivals_beyond_the_cap_are_dropped_and_recorded(heard: Any) -> None:
    release = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        release.wait(5)
        connection.sendall(answer())

    with scripted(script) as port:
        ear = heard(target(port, connections=1, max_in_flight=2))
        threading.Timer(0.2, release.set).start()
        ear.send([0.0, 0.01, 0.02, 0.03])
        release.set()
    assert ear.outcomes.count(Outcome.DROPPED) == 2
    assert ear.driver.engine.in_flight == 0


def test_a_refused_connection_is_a_failure_with_its_reason(heard: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ear = heard(target(port))
    ear.send([0.0, 0.01])
    assert ear.outcomes == [Outcome.CONNECTION] * 2
    assert "refused" in ear.texts


def test_a_reset_in_the_middle_of_a_body(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(0.05)
        reset(connection)

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.CONNECTION]
    assert "reset" in ear.texts


def test_a_peer_that_half_closes_in_the_middle_of_a_body(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.3)

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.CONNECTION]
    assert "middle of an answer" in ear.texts
    assert ear.took_s[0] < 0.25, "the end is seen at once, not by a timeout"


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


def test_a_timeout_is_a_failure_with_the_time_it_took(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(1)

    with scripted(script) as port:
        ear = heard(target(port, timeout_s=0.2))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.TIMEOUT]
    assert ear.took_s[0] == pytest.approx(0.2, abs=0.1)
    assert "0.2 s" in ear.texts


def test_a_slow_drip_is_cut_at_the_timeout(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(40):
            connection.sendall(b".")
            time.sleep(0.02)

    with scripted(script) as port:
        ear = heard(target(port, timeout_s=0.25))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.TIMEOUT]
    assert ear.took_s[0] == pytest.approx(0.25, abs=0.1)


def test_an_idle_connection_closed_by_the_server_is_replaced_without_a_failure(
    heard: Any,
) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(answer())

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0, 0.1, 0.2])
    assert ear.outcomes == [Outcome.OK] * 3


def test_a_request_that_crosses_the_servers_close_is_sent_again_with_its_clock_running(
    heard: Any,
) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(answer())
        if number == 0:
            read_request(connection)
            time.sleep(0.1)
            return  # closed without a byte for the second request
        keep_answering(connection, number)

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0, 0.1])
    assert ear.outcomes == [Outcome.OK, Outcome.OK]
    assert ear.took_s[1] >= 0.1
    assert "sent again" in ear.texts


def test_a_fresh_connection_closed_without_an_answer_is_a_failure(heard: Any) -> None:
    with scripted(lambda c, n: read_request(c) and None) as port:
        ear = heard(target(port))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.CONNECTION]
    assert "before an answer" in ear.texts


def test_connection_close_is_honoured(heard: Any) -> None:
    connections = []

    def script(connection: socket.socket, number: int) -> None:
        connections.append(number)
        while read_request(connection):
            connection.sendall(answer(headers="Connection: close\r\n"))

    with scripted(script) as port:
        ear = heard(target(port))
        ear.send([0.0, 0.1])
    assert ear.outcomes == [Outcome.OK] * 2
    assert connections == [0, 1]
    assert ear.texts == ""


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


def test_a_name_with_an_address_nobody_listens_on(
    heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(keep_answering) as port:
        both = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr("tuner.load.drive.socket.getaddrinfo", lambda *a, **k: both)
        ear = heard(target(port, connections=8, max_in_flight=8))
        ear.send([0.0, 0.0, 0.0, 0.0])
    assert ear.outcomes == [Outcome.OK] * 4


def test_descriptors_running_out_is_the_generators_fault(
    heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with scripted(keep_answering) as port:
        ear = heard(target(port))
        monkeypatch.setattr("tuner.load.connection._socket.socket", full)
        ear.send([0.0, 0.01])
    assert ear.outcomes == [Outcome.CONNECTION] * 2
    assert "Too many open files" in ear.texts
    assert ear.driver.engine.local_faults == 2


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


def test_a_name_that_does_not_exist_is_told_before_any_load(heard: Any) -> None:
    with pytest.raises(EndpointError, match="cannot be resolved") as caught:
        heard(InvokeTarget("http://no-such-host.invalid/x"))
    assert "no-such-host.invalid" in str(caught.value)


def tls_server(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_tls_keeps_the_connection_and_carries_large_bodies(
    heard: Any, certificate: tuple[Path, Path]
) -> None:
    connections = []
    body = b"z" * 300_000

    def script(connection: socket.socket, number: int) -> None:
        connections.append(number)
        while read_request(connection):
            connection.sendall(answer(body))

    with scripted(script, tls_server(certificate)) as port:
        ear = heard(
            InvokeTarget(f"https://localhost:{port}/x", ca_file=str(certificate[0])),
            PayloadSet.inline(body),
        )
        ear.send([0.0, 0.4, 0.8])
    assert ear.outcomes == [Outcome.OK] * 3
    assert [a[2] for a in ear.answers] == [body] * 3
    assert connections == [0]


def test_an_untrusted_certificate_fails_the_request(
    heard: Any, certificate: tuple[Path, Path]
) -> None:
    with scripted(keep_answering, tls_server(certificate)) as port:
        ear = heard(InvokeTarget(f"https://localhost:{port}/x"))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.CONNECTION]
    assert "TLS handshake" in ear.texts
    assert "CERTIFICATE_VERIFY_FAILED" in ear.texts


def test_a_server_that_never_answers_the_handshake_times_out(heard: Any) -> None:
    with scripted(lambda c, n: time.sleep(0.6)) as port:
        ear = heard(InvokeTarget(f"https://localhost:{port}/x", timeout_s=0.2))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.TIMEOUT]
    assert ear.took_s[0] == pytest.approx(0.2, abs=0.1)


def test_plain_http_answered_to_a_tls_hello(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        connection.recv(4096)
        connection.sendall(answer())
        time.sleep(0.2)

    with scripted(script) as port:
        ear = heard(InvokeTarget(f"https://localhost:{port}/x"))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.CONNECTION]
    assert "TLS handshake" in ear.texts
