"""Whether a stage says something about the endpoint, or only about the generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.campaign.types import GeneratorHealth, StageSpec
from tuner.stats.requests import FloatArray, Outcome, RequestLog
from tuner.units import s_to_ms
from tuner.workload.poisson_check import check_poisson

SEND_LAG_FLOOR_S = 0.002
SEND_LAG_SLO_SHARE = 0.01
LOOP_LAG_LIMIT_S = 0.005
CPU_LIMIT = 0.70
IDLE_CPU = 0.35
NOTICED_SHARE = 0.01
ARRIVALS_P = 1e-4
"""Tests run on every stage: at 1 % a campaign of thirty sound stages would often lose one.
A generator that is the limit is rejected at any level."""

QUANTISATION_S = 1e-4
"""Gaps below this are not resolved; stated with the arrival test."""
LAG_RESOLVED = 0.1
"""A limit on lateness is one of the slowest percent: most sends keep this share of it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a stage's workers said of themselves, and the send times of the kept requests."""

    summaries: Sequence[dict[str, Any]]
    lost: Sequence[str]
    sent: int
    scheduled: int
    dropped: int
    send_lag_p99_s: float
    in_flight_cap: int
    log: RequestLog | None
    slo_s: float | None
    lag_limit_s: float | None = None
    """Replaces both limits on lateness, for machines that cannot keep the usual ones."""


def judge(spec: StageSpec, seen: Observed) -> GeneratorHealth:
    """Apply the limits; each breach becomes a sentence with its value."""
    open_loop = all(s.get("open_loop", True) for s in seen.summaries)
    cpu = max((s["cpu_share"] for s in seen.summaries), default=0.0)
    loop_lag = max((s["loop_lag_p99_s"] for s in seen.summaries), default=0.0)
    in_flight = sum(s["in_flight_max"] for s in seen.summaries)
    ks, dispersion, arrival_fault = _arrivals(spec, seen) if open_loop else (None, None, "")
    faults: list[tuple[str, str]] = [(text, "start the stage again") for text in seen.lost]
    faults += _limits(spec, seen) if open_loop else _stuck(seen)
    loop_limit = seen.lag_limit_s or LOOP_LAG_LIMIT_S
    if loop_lag > loop_limit:
        faults.append(
            (
                f"the generator's event loop ran {s_to_ms(loop_lag):.1f} ms late (p99); "
                f"limit {s_to_ms(loop_limit):g} ms",
                "add workers, or free this machine's processors",
            )
        )
    if cpu > CPU_LIMIT:
        faults.append(
            (
                f"a generator worker used {100 * cpu:.0f} % of a processor; "
                f"limit {100 * CPU_LIMIT:.0f} %",
                _more_workers(spec, seen),
            )
        )
    if arrival_fault:
        faults.append((arrival_fault, "add workers, or free this machine's processors"))
    return GeneratorHealth(
        asked_rate_per_s=spec.rate_per_s,
        achieved_rate_per_s=seen.sent / spec.duration_s,
        send_lag_p99_s=seen.send_lag_p99_s,
        loop_lag_p99_s=loop_lag,
        cpu_share_max=cpu,
        in_flight_max=in_flight,
        in_flight_cap=seen.in_flight_cap,
        workers=len(seen.summaries),
        arrivals_ks_p_value=ks,
        arrivals_dispersion=dispersion,
        void_reasons=tuple(text for text, _ in faults),
        remedy=faults[0][1] if faults else None,
        open_loop=open_loop,
        clock_shared=all(s.get("clock_shared", True) for s in seen.summaries),
        credentials_refused=_refused(seen),
    )


def _refused(seen: Observed) -> int:
    return int(sum(s["credentials_refused"] for s in seen.summaries))


def _more_workers(spec: StageSpec, seen: Observed) -> str:
    achieved = seen.sent / spec.duration_s
    return f"generator saturated at {achieved:.0f}/s; add workers"


def _all_busy(seen: Observed) -> str:
    """Words when more arrivals than the p99 hides found every connection waiting for an answer."""
    waited = sum(s.get("without_connection", 0) for s in seen.summaries)
    if waited <= NOTICED_SHARE * seen.scheduled:
        return ""
    return f": for {waited} arrivals every connection was still waiting for an answer"


def _less_late(spec: StageSpec, seen: Observed) -> str:
    """A late generator that was mostly idle waited for something else than itself."""
    cpu = max((s["cpu_share"] for s in seen.summaries), default=0.0)
    if _all_busy(seen) and cpu <= CPU_LIMIT:
        return "lower the rate: the endpoint is far behind; or raise load.connections"
    if cpu > IDLE_CPU:
        return _more_workers(spec, seen)
    return (
        f"the generator used {100 * cpu:.0f} % of a processor: free this machine's processors, "
        "run it elsewhere, or allow more with load.max_send_lag_ms"
    )


def _limits(spec: StageSpec, seen: Observed) -> list[tuple[str, str]]:
    faults = []
    expected = spec.rate_per_s * spec.duration_s
    # One request of slack: a comb of N teeth may begin a tooth later.
    slack = 3 * math.sqrt(expected) + 1
    if abs(seen.sent - expected) > slack:
        faults.append(
            (
                f"{seen.sent / spec.duration_s:.1f} requests/s were sent where "
                f"{spec.rate_per_s:g}/s were asked; limit ±{slack / spec.duration_s:.1f}/s",
                _more_workers(spec, seen),
            )
        )
    limit = seen.lag_limit_s or max(SEND_LAG_FLOOR_S, SEND_LAG_SLO_SHARE * (seen.slo_s or 0.0))
    if seen.send_lag_p99_s > limit:
        faults.append(
            (
                f"requests were sent {s_to_ms(seen.send_lag_p99_s):.2f} ms late (p99); "
                f"limit {s_to_ms(limit):g} ms{_all_busy(seen)}",
                _less_late(spec, seen),
            )
        )
    if seen.dropped:
        faults.append(
            (
                f"{seen.dropped} arrivals found {seen.in_flight_cap} requests in flight, the "
                "generator's cap, and could not be sent",
                "lower the rate: the endpoint is far behind; or raise max_in_flight",
            )
        )
    starved = sum(s["local_faults"] for s in seen.summaries)
    if starved:
        faults.append(
            (
                f"{starved} connections could not be opened for want of ports, descriptors or "
                "memory on the generator's machine",
                "raise its limits (ulimit -n) or add workers on another machine",
            )
        )
    refused = _refused(seen)
    if refused:
        faults.append(
            (
                f"{refused} requests were refused for their AWS credentials",
                "renew the credentials, then start the run again with --resume",
            )
        )
    return faults


def _stuck(seen: Observed) -> list[tuple[str, str]]:
    """Closed-loop users without an answer: what they waited for cannot be recorded."""
    stuck = sum(s.get("stuck_users", 0) for s in seen.summaries)
    if not stuck:
        return []
    text = f"{stuck} closed-loop users still had no answer when the stage was given up"
    return [(text, "set a timeout in the locustfile's requests, below the plan's")]


def _arrivals(spec: StageSpec, seen: Observed) -> tuple[float | None, float | None, str]:
    log = seen.log
    if log is None or spec.arrivals != "poisson":
        return None, None, ""
    sent = log.sent_s[np.isfinite(log.sent_s)]
    if spec.rates_per_s:
        # In the time in which their rate is constant, arrivals of a changing rate are Poisson too.
        sent = _even(sent, spec)
    # Where later sends are accepted, gaps shorter than that say nothing of the process.
    resolved_s = max(QUANTISATION_S, LAG_RESOLVED * (seen.lag_limit_s or 0.0))
    check = check_poisson(sent, spec.rate_per_s, spec.duration_s, quantisation_s=resolved_s)
    if check is None:
        return None, None, ""
    fault = ""
    if check.ks_p_value < ARRIVALS_P:
        fault = f"send times are not Poisson: Kolmogorov-Smirnov p = {check.ks_p_value:.1e}"
    elif check.dispersion_p_value < ARRIVALS_P:
        fault = (
            f"send times are not Poisson: index of dispersion {check.dispersion:.2f} "
            f"(p = {check.dispersion_p_value:.1e})"
        )
    dispersion = None if math.isnan(check.dispersion) else check.dispersion
    return check.ks_p_value, dispersion, fault


def _even(sent_s: FloatArray, spec: StageSpec) -> FloatArray:
    """Send times on a clock that runs with the stage's rate, over the same span."""
    rates = np.array(spec.rates_per_s)
    edges = np.linspace(0.0, spec.duration_s, len(rates) + 1)
    mass = np.concatenate([[0.0], np.cumsum(rates)]) / rates.sum() * spec.duration_s
    even: FloatArray = np.interp(sent_s, edges, mass)
    return even


def nothing_answered(log: RequestLog | None) -> bool:
    """Whether every single request failed to reach a server."""
    return (
        log is not None
        and len(log) > 0
        and log.count(Outcome.CONNECTION) == len(log) - log.count(Outcome.DROPPED) > 0
    )
