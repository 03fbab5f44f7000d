"""What the tests of the transport send to."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from scripted import answer, read_request

from tuner.load.target import InvokeTarget


def target(port: int, **settings: Any) -> InvokeTarget:
    return InvokeTarget(f"http://127.0.0.1:{port}/invocations", **settings)


def keep_answering(connection: socket.socket, number: int) -> None:
    while read_request(connection):
        connection.sendall(answer())


def tls_server(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context
