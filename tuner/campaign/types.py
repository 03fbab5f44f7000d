"""The values a campaign is made of, and the one Protocol it drives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tuner.stats.histogram import LatencyHistogram, Window
from tuner.stats.requests import RequestLog


class StageKind(StrEnum):
    """Why a stage is run.

    Only MEASURE, ANCHOR and VERIFY say where the limit is. The single requests of FLOOR and
    RAMP on one instance still show how the server works, which needs no steady state.
    """

    WARM_UP = "warm_up"
    FLOOR = "floor"
    RAMP = "ramp"
    MEASURE = "measure"
    ANCHOR = "anchor"
    VERIFY = "verify"


class Routing(StrEnum):
    """SageMaker's routing strategies (``ProductionVariant.RoutingConfig``)."""

    RANDOM = "RANDOM"
    LEAST_OUTSTANDING_REQUESTS = "LEAST_OUTSTANDING_REQUESTS"


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stretch of constant offered load on a fixed instance count.

    Parameters
    ----------
    index
        Position in the campaign, from 0; also the name of its files.
    rate_per_s
        Total offered rate over the whole endpoint (not per instance).
    duration_s
        Length of the measured window.
    settle_s
        Load at the same rate before the window opens, not measured.
    arrivals
        ``"poisson"`` or ``"constant"``.
    seed
        Seed of arrivals and payload order; the same seed gives the same stage.
    purpose
        One phrase for people: why this stage, now.
    rates_per_s
        Offered rate in each of several equal parts of the window, one after another (Poisson
        arrivals only; ``rate_per_s`` is then their mean). Empty: constant.
    """

    index: int
    kind: StageKind
    instance_count: int
    rate_per_s: float
    duration_s: float
    settle_s: float
    arrivals: str
    seed: int
    purpose: str
    rates_per_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class GeneratorHealth:
    """What the generator knows of itself in one stage. Times in seconds.

    ``void_reasons`` is empty for a sound stage; otherwise each entry is a sentence with the
    value and its limit, and nothing of the stage may be used for the endpoint. Without
    ``open_loop`` users waited for answers: latency hides stalls. Without ``clock_shared``
    workers of several machines opened the window each by its own clock.
    ``credentials_refused`` counts the requests that AWS refused for their credentials.
    """

    asked_rate_per_s: float
    achieved_rate_per_s: float
    send_lag_p99_s: float
    loop_lag_p99_s: float
    cpu_share_max: float
    in_flight_max: int
    in_flight_cap: int
    workers: int
    arrivals_ks_p_value: float | None
    arrivals_dispersion: float | None
    void_reasons: tuple[str, ...] = ()
    remedy: str | None = None
    open_loop: bool = True
    clock_shared: bool = True
    credentials_refused: int = 0


@dataclass(frozen=True, slots=True)
class StageResult:
    """One finished stage.

    ``log`` is None when the stage was too long to keep raw; ``windows`` always covers it.
    ``started_at_unix_s`` is when the measured window opened. ``error_samples`` holds a few
    distinct error texts with their counts (untrusted text). ``chunk_gaps`` are the times
    between the parts of streamed answers; None where nothing came in parts.
    """

    spec: StageSpec
    started_at_unix_s: float
    log: RequestLog | None
    windows: tuple[Window, ...]
    health: GeneratorHealth
    error_samples: tuple[tuple[str, int], ...] = ()
    cpu_utilization_percent: float | None = None
    in_flight_at_start: int = 0
    in_flight_at_end: int = 0
    chunk_gaps: LatencyHistogram | None = None

    @property
    def void(self) -> bool:
        """Whether the generator was the limit."""
        return bool(self.health.void_reasons)

    @property
    def requests(self) -> int:
        """Requests measured, whatever their end."""
        return sum(w.total for w in self.windows)

    @property
    def failures(self) -> int:
        """Requests that did not succeed."""
        return sum(w.failures for w in self.windows)

    @property
    def rate_per_instance_per_s(self) -> float:
        """Offered rate per instance."""
        return self.spec.rate_per_s / self.spec.instance_count


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change of the instance count made by the campaign, and how long it took."""

    from_count: int
    to_count: int
    ordered_at_unix_s: float
    settled_at_unix_s: float
    milestones: tuple[tuple[str, float], ...] = field(default=())

    @property
    def lag_s(self) -> float:
        """Seconds from the order until InService with current == desired."""
        return self.settled_at_unix_s - self.ordered_at_unix_s


@dataclass(frozen=True, slots=True)
class StageProgress:
    """A live look at a running stage."""

    spec: StageSpec
    elapsed_s: float
    sent: int
    completed: int
    failed: int
    in_flight: int
    p50_s: float
    p99_s: float


ProgressCallback = Callable[[StageProgress], None]


class LoadBackend(Protocol):
    """What the controller drives: Locust over sockets, or the virtual fleet."""

    def set_instance_count(self, count: int) -> ScaleEvent:
        """Set the count, wait until the endpoint is settled, and say how long it took."""
        ...

    def measure(self, stage: StageSpec, progress: ProgressCallback | None = None) -> StageResult:
        """Offer the stage's load and return what happened.

        Raises
        ------
        GeneratorError
            If the generator failed; a generator that merely could not keep up returns a
            result whose health names the reasons.
        EndpointError
            If nothing at all answers.
        """
        ...
