"""Requests through TLS: kept connections, certificates, and handshakes that fail."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

from scripted import answer, read_request, scripted
from transport_target import keep_answering, tls_server

from tuner.load.target import InvokeTarget
from tuner.stats.requests import Outcome
from tuner.workload.payloads import PayloadSet


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
    release = threading.Event()
    with scripted(lambda c, n: release.wait(20) and None) as port:
        ear = heard(InvokeTarget(f"https://localhost:{port}/x", timeout_s=0.2))
        ear.send([0.0])
        release.set()
    assert ear.outcomes == [Outcome.TIMEOUT]
    assert 0.2 <= ear.took_s[0] < 5.0


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
