"""An answer's time is when the kernel had it, not when the generator came round to reading."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from scripted import answer, read_request, scripted
from stages import target

from tuner.load import arrival
from tuner.load.arrival import STAMP_BYTES, WallClock, arrival_s, ask_for_stamps
from tuner.stats.requests import Outcome

NEAR_S = 0.1
"""A busy machine; what has to be told apart is half a second."""


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    """Two ends of a connection; the first asks for stamps, and the kernel gives them by now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        ask_for_stamps(ours)
        for _ in range(500):
            theirs.send(b"x")
            if ours.recvmsg(9, STAMP_BYTES)[1]:
                break
            time.sleep(0.01)
        yield ours, theirs


def test_bytes_read_late_came_when_they_came(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    clock, before = WallClock(), time.monotonic()
    theirs.send(b"hello")
    after = time.monotonic()
    time.sleep(0.5)
    _, notes, _, _ = ours.recvmsg(9, STAMP_BYTES)
    at = arrival_s(ours, notes, clock, before)
    assert before - 0.001 <= at <= after + NEAR_S


def test_of_several_segments_the_last_counts(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    clock, begun = WallClock(), time.monotonic()
    theirs.send(b"one")
    time.sleep(0.3)
    theirs.send(b"two")
    time.sleep(0.2)
    data, notes, _, _ = ours.recvmsg(9, STAMP_BYTES)
    assert data == b"onetwo"
    assert arrival_s(ours, notes, clock, begun) >= begun + 0.3


@pytest.mark.parametrize("why", ["no stamp", "clock set back", "clock set ahead", "reordered"])
def test_a_stamp_that_cannot_be_trusted_is_not(
    pair: tuple[Any, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    clock, since = WallClock(), time.monotonic()
    theirs.send(b"hello")
    time.sleep(0.05)
    _, notes, _, _ = ours.recvmsg(9, STAMP_BYTES)
    if why == "no stamp":
        notes = []
    elif why == "reordered":
        monkeypatch.setattr(arrival, "_reordered", lambda _: True)
    else:
        clock.ahead_s += 3600.0 if why == "clock set back" else -3600.0
    read = time.monotonic()
    assert arrival_s(ours, notes, clock, since) >= read


def test_a_connection_in_order_is_known_to_be(pair: tuple[Any, Any]) -> None:
    assert arrival._reordered(pair[0]) is False


def test_a_generator_held_up_does_not_make_the_endpoint_slower(heard: Any) -> None:
    def script(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(answer())

    with scripted(script) as port:
        ear = heard(target(port))
        # The first answers of a machine that gives no stamps yet come without.
        ear.send([0.02 * i for i in range(10)])
        engine = ear.driver.engine
        launch = ear.driver.schedule._launch

        def launch_and_sleep(scheduled_s: float) -> None:
            launch(scheduled_s)
            time.sleep(0.5)

        ear.driver.schedule._launch = launch_and_sleep
        ear.send([0.3])
    assert ear.outcomes[-1] is Outcome.OK
    assert ear.took_s[-1] < 0.4
    assert engine.tick_lags[-1] >= 0.0
    assert max(engine.tick_lags) > 0.4, "the hold-up itself is seen, as event-loop lag"
