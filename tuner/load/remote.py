"""A generator worker on another machine: ``tuner worker --master HOST:PORT``."""

from __future__ import annotations

import subprocess
import sys
import time

from tuner.errors import EndpointError
from tuner.load.probe import measure_floor

RETRY_S = 1.0
MASTER_SILENCE_S = 8.0
"""A master silent for this long is gone; Locust itself waits a minute."""


def run_worker(
    master_host: str,
    master_port: int,
    *,
    once: bool = False,
    silence_s: float = MASTER_SILENCE_S,
) -> None:
    """Serve a master until interrupted; after the master ends, wait for the next one.

    Returns only with ``once``, when the master has ended the session. A master silent for
    ``silence_s`` is taken to have ended.

    Raises
    ------
    EndpointError
        With ``once``, if no master listens.
    KeyboardInterrupt
        When the user stops the worker; nothing is left running.
    """
    while True:
        try:
            measure_floor(master_host, master_port, 1)
        except EndpointError:
            if once:
                raise
            time.sleep(RETRY_S)
            continue
        _serve_once(master_host, master_port, silence_s)
        if once:
            return
        # A master at its end still listens for a moment.
        time.sleep(RETRY_S)


def _serve_once(host: str, port: int, silence_s: float) -> None:
    command = [sys.executable, "-m", "tuner.load.agent", "worker", host, str(port)]
    process = subprocess.Popen(
        [*command, "--silence-s", str(silence_s)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        process.wait()
    finally:
        # The worker ends when its standard input does.
        process.stdin.close()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
