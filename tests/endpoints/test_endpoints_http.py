"""A plain HTTP endpoint: every way not to answer has its own clear message."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tuner.endpoints.http import HttpEndpoint
from tuner.endpoints.protocol import CampaignEstimate, Endpoint
from tuner.errors import EndpointError


@contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A socket that does one thing to every connection; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5.0)
                    behave(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/invocations"
    finally:
        stop.set()
        thread.join()
        listener.close()


def answering(status: str, body: str = "") -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall((head + body).encode())

    return behave


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "405 Method Not Allowed"])
def test_an_answer_below_500_says_it_is_there(status: str) -> None:
    with server(answering(status)) as url:
        endpoint: Endpoint = HttpEndpoint(url, 2)
        state = endpoint.describe()
    assert (state.status, state.current_instance_count, state.settled) == ("InService", 2, True)
    assert not state.production


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy"])
def test_an_error_answer_is_told_with_its_status(status: str) -> None:
    with server(answering(status, "model not loaded")) as url:
        with pytest.raises(EndpointError, match="with an error") as caught:
            HttpEndpoint(url).describe()
        findings = HttpEndpoint(url).preflight(CampaignEstimate(max_instance_count=1))
    assert caught.value.value == int(status[:3])
    assert "model not loaded" in str(caught.value)
    assert caught.value.exit_code == 2
    assert [f.level for f in findings] == ["stop"]


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(EndpointError, match="refused") as caught:
        HttpEndpoint(f"http://127.0.0.1:{port}/").describe()
    assert str(port) in str(caught.value)


def test_reset() -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        # A linger of zero makes close() send a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with server(behave) as url, pytest.raises(EndpointError, match="closed the connection"):
        HttpEndpoint(url).describe()


def test_closed_without_an_answer() -> None:
    with (
        server(lambda connection: connection.recv(65536) and None) as url,
        pytest.raises(EndpointError, match="closed the connection"),
    ):
        HttpEndpoint(url).describe()


def test_not_http() -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

    with server(behave) as url, pytest.raises(EndpointError, match="not HTTP"):
        HttpEndpoint(url).describe()


def test_silence() -> None:
    release = threading.Event()
    with server(lambda connection: release.wait(5.0) and None) as url:
        try:
            with pytest.raises(EndpointError, match="no answer within"):
                HttpEndpoint(url, timeout_s=0.05).describe()
        finally:
            release.set()


def test_plain_http_behind_https() -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with server(behave) as url, pytest.raises(EndpointError, match="TLS"):
        HttpEndpoint(url.replace("http:", "https:")).describe()


def test_unknown_host() -> None:
    with pytest.raises(EndpointError, match="not known"):
        HttpEndpoint("http://no-such-host.invalid/").describe()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "model:8080",
        "ftp://x/",
        "http://",
        "http://x:port/",
        "http://x:99999/",
        "//x",
        "http://[::1",
    ],
)
def test_not_a_url(url: str) -> None:
    with pytest.raises(EndpointError, match="not an HTTP URL"):
        HttpEndpoint(url)


def test_a_password_stays_out_of_messages() -> None:
    with pytest.raises(EndpointError) as caught:
        HttpEndpoint("http://user:secret@127.0.0.1/")
    assert "secret" not in str(caught.value)


def test_the_count_is_fixed() -> None:
    endpoint = HttpEndpoint("http://127.0.0.1:1/", 3, clock=lambda: 5.0)
    assert endpoint.set_instance_count(3).lag_s == 0.0
    with pytest.raises(EndpointError, match="fixed") as caught:
        endpoint.set_instance_count(4)
    assert caught.value.allowed == "3"
    with pytest.raises(EndpointError, match="at least one"):
        HttpEndpoint("http://127.0.0.1:1/", 0)


def test_preflight_stops_for_a_count_it_cannot_set() -> None:
    with server(answering("200 OK")) as url:
        findings = HttpEndpoint(url, 1).preflight(CampaignEstimate(max_instance_count=4))
        fine = HttpEndpoint(url, 4).preflight(CampaignEstimate(max_instance_count=4))
    assert [(f.code, f.level) for f in findings] == [("status", "ok"), ("planned_count", "stop")]
    assert [f.level for f in fine] == ["ok"]


def test_nothing_is_recorded_since_nothing_is_changed() -> None:
    written: list[object] = []
    assert HttpEndpoint("http://127.0.0.1:1/").freeze(written.append) is None
    assert written == []
