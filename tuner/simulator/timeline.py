"""What a policy did with a stretch of traffic, minute by minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One simulated stretch under one policy; every array has shape (minutes,).

    Parameters
    ----------
    requests_per_min
        Traffic offered.
    in_service, starting
        Instances taking traffic and instances paid for but not yet taking it, at the end
        of each minute.
    metric
        The policy's metric as published for the minute.
    violation_share
        Share of the minute's requests that miss the SLO.
    delay_s
        Wait caused by the backlog, worst in the minute.
    """

    requests_per_min: NDArray[np.float64]
    in_service: NDArray[np.float64]
    starting: NDArray[np.float64]
    metric: NDArray[np.float64]
    violation_share: NDArray[np.float64]
    delay_s: NDArray[np.float64]
