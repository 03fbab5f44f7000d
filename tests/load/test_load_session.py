"""Whole stages through Locust in its own processes, on real sockets."""

from __future__ import annotations

import math
import socket
import time

import loopback
import numpy as np
import pytest
from scripted import answer, read_request, scripted
from stages import BODY, gone, stage, target

from tuner.campaign.types import StageProgress
from tuner.errors import EndpointError, InputError
from tuner.load.session import LocustSession
from tuner.load.target import sagemaker_target
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome
from tuner.workload.arrivals import arrival_rng, arrival_times
from tuner.workload.payloads import Payload, PayloadSet


def test_a_stage_sends_exactly_the_seeded_schedule(null_port: int) -> None:
    payloads = PayloadSet(
        (Payload(b"{}", payload_class="light", weight=3), Payload(b"[]", payload_class="heavy"))
    )
    looks: list[StageProgress] = []
    with LocustSession(target(null_port), payloads) as session:
        first = session.measure(stage(), looks.append)
        again = session.measure(stage(1, settle_s=0.0, duration_s=0.2))
        rest = [w.pid for w in session.workers]
    assert gone(rest)
    log = first.log
    assert log is not None
    schedule = arrival_times("poisson", 200.0, 1.2, arrival_rng(7)) - 0.2
    assert np.allclose(log.scheduled_s, schedule[schedule >= 0], atol=1e-6)
    assert log.ok.all()
    assert first.windows == windows_of(log)
    assert first.requests == len(log)
    assert 0.1 < np.mean(log.payload_class == 1) < 0.4
    assert again.log is not None
    assert np.allclose(again.log.scheduled_s, arrival_times("poisson", 200.0, 0.2, arrival_rng(7)))
    assert looks
    assert looks[-1].completed <= len(log)
    assert abs(first.started_at_unix_s - time.time()) < 60
    health = first.health
    assert health.open_loop
    assert health.achieved_rate_per_s == len(log)
    assert health.workers == 1


def test_workers_share_a_comb_to_the_last_tooth_and_steps_to_each_rate(null_port: int) -> None:
    rates = (200.0, 600.0, 400.0)
    comb = stage(arrivals="constant", rate_per_s=100.0, duration_s=0.5, settle_s=0.1)
    steps = stage(1, rate_per_s=400.0, rates_per_s=rates, duration_s=1.5, settle_s=0.1)
    with LocustSession(target(null_port), BODY, workers=2) as session:
        even, stepped = session.measure(comb), session.measure(steps)
        pids = [w.pid for w in session.workers]
        assert all(w.clock_shared for w in session.workers)
    assert even.log is not None
    assert np.allclose(even.log.scheduled_s, np.arange(50) / 100, atol=1e-6)
    assert sorted(np.unique(even.log.worker)) == [0, 1]
    assert even.health.workers == 2
    assert len(set(pids)) == 2
    assert gone(pids)
    assert stepped.log is not None
    counts = np.histogram(stepped.log.scheduled_s, [0, 0.5, 1, 1.5])[0]
    for rate, count in zip(rates, counts, strict=True):
        assert abs(count - rate / 2) <= 4 * np.sqrt(rate / 2)


def test_nothing_there_is_an_endpoint_error_before_a_stage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    session = LocustSession(target(port), BODY)
    with pytest.raises(EndpointError, match="cannot be reached"):
        session.measure(stage())
    session.close()


def test_a_server_that_only_hangs_up_is_an_endpoint_error() -> None:
    with (
        scripted(lambda c, n: read_request(c) and None) as port,
        LocustSession(target(port), BODY) as session,
        pytest.raises(EndpointError, match="every request failed"),
    ):
        session.measure(stage(rate_per_s=40.0, duration_s=0.3))


def test_expired_credentials_in_a_stage_void_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    answered, good_for = 0, math.inf
    expired = answer(
        b'{"message":"token is expired"}', "403 F", "x-amzn-ErrorType: ExpiredTokenException\r\n"
    )

    def script(connection: socket.socket, number: int) -> None:
        nonlocal answered
        while read_request(connection):
            answered += 1
            connection.sendall(expired if answered > good_for else answer())

    with scripted(script) as port:
        url = f"http://127.0.0.1:{port}"
        with LocustSession(
            sagemaker_target("e", "us-east-1", endpoint_url=url, connections=32), BODY
        ) as session:
            fine = session.measure(stage(rate_per_s=50.0, duration_s=0.3))
            good_for = answered + 25  # ten of them before the stage opens
            hurt = session.measure(stage(1, rate_per_s=50.0))
    assert fine.failures == 0
    assert any("credentials" in r for r in hurt.health.void_reasons)
    assert any("ExpiredToken" in text for text, _ in hurt.error_samples)
    assert hurt.log is not None
    assert 0 < hurt.log.count(Outcome.OTHER) < len(hurt.log)


def test_hanging_requests_end_as_timeouts_and_are_counted_in_flight() -> None:
    with (
        loopback.running("--delay-s", "30") as port,
        LocustSession(target(port, timeout_s=0.6), BODY) as session,
    ):
        result = session.measure(stage(rate_per_s=100.0, settle_s=0.5, duration_s=0.7))
    assert result.log is not None
    assert result.log.count(Outcome.TIMEOUT) == len(result.log) > 40
    assert result.in_flight_at_start == pytest.approx(50, abs=25)
    assert result.in_flight_at_end == pytest.approx(60, abs=25)
    assert result.windows[0].quantile_s(0.5) == np.inf


def test_a_pool_that_is_all_waiting_is_told_from_a_slow_generator() -> None:
    with (
        loopback.running("--delay-s", "0.1") as port,
        LocustSession(target(port, connections=4), BODY) as session,
    ):
        result = session.measure(stage(rate_per_s=80.0, duration_s=0.8))
    reason = next(r for r in result.health.void_reasons if "late" in r)
    assert "every connection was still waiting" in reason
    assert "load.connections" in (result.health.remedy or "")


def test_too_many_requests_to_keep_leave_windows_only(null_port: int) -> None:
    with LocustSession(target(null_port), BODY, keep_raw_requests=50) as session:
        result = session.measure(stage(duration_s=0.5))
    assert result.log is None
    schedule = arrival_times("poisson", 200.0, 0.7, arrival_rng(7))
    assert result.requests == len(schedule[schedule >= 0.2])


def test_a_timeout_that_hides_the_slo_is_refused() -> None:
    with pytest.raises(InputError, match="too short"):
        LocustSession(target(1, timeout_s=1.0), BODY, slo_s=0.3)
    with pytest.raises(InputError, match="no generator process"):
        LocustSession(target(1), BODY, workers=0)
    LocustSession(target(1, timeout_s=1.2), BODY, slo_s=0.3)
