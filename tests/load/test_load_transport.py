"""Faults of real sockets: each becomes one row with the right outcome and a clear text."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Any

import pytest
from scripted import answer, read_request, reset, scripted
from transport_target import keep_answering, target

from tuner.errors import EndpointError
from tuner.load.target import InvokeTarget
from tuner.stats.requests import Outcome


def test_one_connection_carries_many_requests(heard: Any) -> None:
    connections = []

    def script(connection: socket.socket, number: int) -> None:
        connections.append(number)
        keep_answering(connection, number)

    with scripted(script) as port:
        ear = heard(target(port))
        for _ in range(20):
            ear.send([0.0])
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
    assert (ear.took_s > [0.099, 0.19, 0.29]).all()
    lag = sorted(ear.rows["sent_s"] - ear.rows["scheduled_s"])
    assert lag[2] > 0.19, "waiting in line shows as send lag"


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
    release = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_WR)
        release.wait(20)

    with scripted(script) as port:
        ear = heard(target(port, timeout_s=20.0))
        ear.send([0.0], wait_s=15.0)
        release.set()
    assert ear.outcomes == [Outcome.CONNECTION]
    assert "middle of an answer" in ear.texts
    assert ear.took_s[0] < 5.0, "the end is seen at once, not by a timeout"


def test_a_timeout_is_a_failure_with_the_time_it_took(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        release.wait(20)

    release = threading.Event()
    with scripted(script) as port:
        ear = heard(target(port, timeout_s=0.2))
        ear.send([0.0])
        release.set()
    assert ear.outcomes == [Outcome.TIMEOUT]
    assert 0.2 <= ear.took_s[0] < 5.0
    assert "0.2 s" in ear.texts


def test_a_slow_drip_is_cut_at_the_timeout(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(99):
            connection.sendall(b".")
            time.sleep(0.02)

    with scripted(script) as port:
        ear = heard(target(port, timeout_s=0.25))
        ear.send([0.0])
    assert ear.outcomes == [Outcome.TIMEOUT]
    assert 0.25 <= ear.took_s[0] < 1.9, "before the drip is over"


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


def test_a_name_that_does_not_exist_is_told_before_any_load(heard: Any) -> None:
    with pytest.raises(EndpointError, match="cannot be resolved") as caught:
        heard(InvokeTarget("http://no-such-host.invalid/x"))
    assert "no-such-host.invalid" in str(caught.value)
