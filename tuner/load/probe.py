"""The network's own share of a latency: the shortest TCP handshake."""

from __future__ import annotations

import socket
import time

from tuner.errors import EndpointError

CONNECT_TIMEOUT_S = 5.0


def measure_floor(host: str, port: int, attempts: int = 5) -> float:
    """Seconds of the fastest of several TCP connects.

    Raises
    ------
    EndpointError
        If the host cannot be resolved or refuses.
    """
    best = float("inf")
    for _ in range(attempts):
        begun = time.perf_counter()
        try:
            with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
                best = min(best, time.perf_counter() - begun)
        except socket.gaierror as error:
            raise EndpointError(
                f"the endpoint's host name cannot be resolved: {error.strerror}",
                value=host,
                hint="check the URL, the region and this machine's DNS",
            ) from None
        except OSError as error:
            raise EndpointError(
                f"the endpoint cannot be reached: {error.strerror or error}",
                value=f"{host}:{port}",
                hint="check that it is up and that this machine may connect to it",
            ) from None
    return best
