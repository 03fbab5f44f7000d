"""Two sides under load at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from tuner.campaign.types import StageResult, StageSpec
from tuner.load.session import LocustSession

TICK_S = 0.5


def measure_together(
    sessions: Sequence[LocustSession],
    specs: Sequence[StageSpec],
    tick: Callable[[], None],
    *,
    last_first: bool = False,
) -> list[StageResult]:
    """One stage on each session at once, in the order of the sessions; Ctrl-C ends them all.

    ``last_first`` begins with the last one: that turn about, neither side always starts first.
    """
    order = range(len(sessions))
    with ThreadPoolExecutor(len(sessions)) as pool:
        futures = {
            side: pool.submit(sessions[side].measure, specs[side])
            for side in (reversed(order) if last_first else order)
        }
        try:
            while wait(futures.values(), timeout=TICK_S).not_done:
                tick()
        except KeyboardInterrupt:
            for session in sessions:
                session.abort()
            raise
    return [futures[side].result() for side in order]
