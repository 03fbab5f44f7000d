"""What a fixed number of users sees: the closed loop that tuner does not use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Throughput and mean response of N users."""

    users: int
    throughput_per_s: float
    response_s: float


def closed_loop(users: int, service_s: float, think_s: float) -> ClosedLoop:
    """N users on one exponential server with thinking in between.

    Parameters
    ----------
    users
        N >= 1.
    service_s
        Mean service.
    think_s
        Mean time between an answer and the next request of a user.

    References
    ----------
    Reiser, M. and Lavenberg, S. S., J. ACM 27, 1980 (mean value analysis).
    """
    if users < 1:
        raise ValueError(f"need at least one user: {users}")
    queue = response = throughput = 0.0
    for n in range(1, users + 1):
        response = service_s * (1.0 + queue)
        throughput = n / (think_s + response)
        queue = throughput * response
    return ClosedLoop(users, throughput, response)
