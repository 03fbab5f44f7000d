"""Fit the latency curve to measured windows, with an ensemble that carries the doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.queueing.erlang import FloatArray
from tuner.queueing.latency_curve import LatencyCurve, demand_quantiles
from tuner.slo import LatencyObjective
from tuner.stats.quantiles import quantile_interval

FIT_QUANTILES = (0.5, 0.9, 0.95, 0.99)
FIT_WEIGHTS = (1.0, 1.0, 1.0, 0.7)
"""p99 is noisier and biased low in a short window, so it weighs less."""

RESIDUAL_SCALE = 0.05
"""Size of a residual in ln units that counts as one."""

RESIDUAL_LIMIT = 0.06
POOLING_LIMIT = 0.6
_FIT_DEMANDS = 500
_FIT_REACH = math.log(8.0)
_RESOLUTION = 2e-4
_CHORD_STEPS = 2
_STEP = 0.01
"""Step of the Jacobian: well above what the bisections leave, well below what matters."""

_STEP_REACH = 0.2
_START_WORKERS = (0.7, 1.5, 3.0, 6.0, 12.0, 24.0)
_LOG_WORKERS, _LOG_SCALE, _LOG_DECAY, _POOLING = range(4)


@dataclass(frozen=True, slots=True, eq=False)
class CurveWindow:
    """Quantiles of one measured stage.

    Parameters
    ----------
    instance_count
        Instances in service.
    rate_per_s
        Offered rate per instance.
    quantile_s
        Latency at `FIT_QUANTILES`, finite and positive, shape (4,).
    log_se
        Standard error of their logarithms, shape (4,).
    share_se
        Standard error of the share beyond each, relative to that share, shape (4,).
    requests
        Requests behind them.
    """

    instance_count: int
    rate_per_s: float
    quantile_s: FloatArray
    log_se: FloatArray
    share_se: FloatArray
    requests: int

    @classmethod
    def of(cls, latency_s: ArrayLike, instance_count: int, rate_per_s: float) -> CurveWindow:
        """The window of a stage's latencies in order of intended start, shape (n,).

        Failures (infinite) are left out: the curve is that of requests that are answered.

        Raises
        ------
        InsufficientDataError
            With fewer than 200 finite latencies, which cannot show a p99.
        """
        x = np.asarray(latency_s, dtype=np.float64).ravel()
        x = x[np.isfinite(x)]
        if len(x) < 200:
            raise InsufficientDataError(
                "a window of the latency curve needs 200 requests that were answered",
                value=len(x),
                hint="hold the stage for longer",
            )
        estimates = [quantile_interval(x, q) for q in FIT_QUANTILES]
        errors = []
        for e in estimates:
            low = max(e.interval.low, 0.1 * e.interval.mid)
            high = e.interval.high if e.interval.bounded else e.interval.mid**2 / low
            # 4.52 = 2 t(9, .975): the interval is that many standard errors wide.
            errors.append(max(math.log(high / low) / 4.52, 1e-4))
        mids = np.array([e.interval.mid for e in estimates])
        share_se = np.array([e.effective_exceedances / e.quantile for e in estimates]) ** -0.5
        return cls(instance_count, rate_per_s, mids, np.array(errors), share_se, len(x))


@dataclass(frozen=True, slots=True, eq=False)
class CurveFit:
    """The fitted curve, what it missed, and as many plausible others.

    Parameters
    ----------
    curve
        Best fit.
    residual
        ln(model / measured) at `FIT_QUANTILES`, shape (windows, 4); only what lies
        outside the model's quantiles for a tenth (and two standard errors of the window)
        more or fewer exceedances, so that neither noise nor a gap between two modes of the
        demand is a misfit.
    ensemble
        Curves refitted to resampled windows and demands.
    pooling
        Exponent g with its percentile interval over the ensemble; None if it was given.
    max_measured_count
        Largest instance count among the windows.
    windows
        What was fitted.
    """

    curve: LatencyCurve
    residual: FloatArray
    ensemble: tuple[LatencyCurve, ...]
    pooling: Interval | None
    max_measured_count: int
    windows: tuple[CurveWindow, ...]

    @property
    def residual_rms(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.mean(self.residual**2)))

    @property
    def residual_ok(self) -> bool:
        """Whether the formula describes the windows (rms at most 6 %)."""
        return self.residual_rms <= RESIDUAL_LIMIT

    @property
    def pooling_ok(self) -> bool:
        """Whether the exponent, where it was fitted, is one that pooling queues have."""
        return self.pooling is None or self.pooling.mid >= POOLING_LIMIT

    def capacities(
        self, objective: LatencyObjective, counts: ArrayLike, *, failures: float = 0.0
    ) -> FloatArray:
        """Capacity per instance of every member, shape (members, counts)."""
        return np.array(
            [m.capacity_per_s(objective, counts, failures=failures) for m in self.ensemble]
        )


def fit_curve(
    windows: Sequence[CurveWindow],
    demand_s: ArrayLike,
    rng: np.random.Generator,
    *,
    pooling: float | None = None,
    floor_s: float = 0.0,
    members: int = 20,
) -> CurveFit:
    """Fit workers, demand scale, decay factor and (unless given) the pooling exponent.

    Parameters
    ----------
    windows
        Stages below saturation, at two or more loads.
    demand_s
        Sample of service demands: the latencies of the lowest-load window less the floor,
        or recovered demands, shape (n,).
    rng
        Seeded generator of the resamples.
    pooling
        g where it is known: 0 for RANDOM routing. Needs not be given when two instance
        counts were measured.
    floor_s
        Network floor, subtracted from every latency.
    members
        Size of the ensemble.

    Raises
    ------
    InsufficientDataError
        With too few windows for the parameters.

    References
    ----------
    Loss: Huber-like soft L1, Triggs, B. et al., Bundle Adjustment, 2000. Ensemble: a
    parametric bootstrap, Efron and Tibshirani (1993), section 6.5, with each window's own
    standard errors, widened where the formula misses by more than they explain.
    """
    problem = _problem(windows, demand_s, pooling, floor_s)
    starts = sorted((problem.start(c) for c in _START_WORKERS), key=problem.cost)
    best = min((problem.solve(x) for x in starts[:2]), key=problem.cost)
    residual = problem.log_ratio(best)
    spread = np.array([w.log_se for w in windows])
    wide = max(1.0, math.sqrt(float(np.mean((residual / np.hypot(spread, 0.01)) ** 2))))
    jacobian = problem.jacobian(best)
    # The weights that soft L1 gave at the solution.
    trust = (1.0 + problem.residuals(best) ** 2) ** -0.25
    points = demand_quantiles(demand_s)
    size = np.size(demand_s)
    found = []
    for _ in range(members):
        # One draw a window: the quantiles of a window rise and fall together.
        shift = spread * wide * rng.standard_normal((len(windows), 1))
        drawn = _redrawn(points, size, rng)
        other = problem.resampled(shift, drawn)
        found.append((other.chord(best, jacobian, trust), drawn))
    curve = problem.curve(best, points)
    ensemble = tuple(problem.curve(p, d) for p, d in found)
    fitted = None
    if pooling is None:
        low, high = np.quantile([m.pooling for m in ensemble], [0.025, 0.975])
        fitted = Interval(
            min(float(low), curve.pooling), curve.pooling, max(float(high), curve.pooling)
        )
    missed = _missed(curve, windows)
    largest = max(w.instance_count for w in windows)
    return CurveFit(curve, missed, ensemble, fitted, largest, tuple(windows))


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    count: FloatArray
    rate_per_s: FloatArray
    log_quantile: FloatArray
    weight: FloatArray
    points_s: FloatArray
    pooling: float | None
    floor_s: float
    least_workers: float

    def start(self, workers: float) -> FloatArray:
        x = [math.log(max(workers, 1.2 * self.least_workers)), 0.0, 0.0]
        return np.array(x if self.pooling is not None else [*x, 0.8])

    def curve(self, x: FloatArray, points_s: FloatArray) -> LatencyCurve:
        pooling = (
            self.pooling if self.pooling is not None else float(np.clip(x[_POOLING], 0.0, 1.0))
        )
        scale = math.exp(x[_LOG_SCALE])
        return LatencyCurve(
            points_s * scale,
            math.exp(x[_LOG_WORKERS]),
            pooling,
            math.exp(x[_LOG_DECAY]),
            self.floor_s,
        )

    def log_ratio(
        self, x: FloatArray, around: FloatArray | None = None, reach: float = _FIT_REACH
    ) -> FloatArray:
        """ln(model / measured), looked for within ``reach`` of ``around`` (0)."""
        curve = self.curve(x, self.points_s)
        waits, theta = curve.wait(self.rate_per_s[:, None], self.count[:, None])
        allowed = 1.0 - np.array(FIT_QUANTILES)
        middle = np.zeros(self.log_quantile.shape) if around is None else around
        low, high = middle - reach, middle + reach
        for _ in range(math.ceil(math.log2(reach / _RESOLUTION))):
            mid = 0.5 * (low + high)
            room = np.exp(self.log_quantile + mid) - self.floor_s
            above = curve.late(room, waits, theta) > allowed
            low, high = np.where(above, mid, low), np.where(above, high, mid)
        return np.asarray(0.5 * (low + high))

    def residuals(self, x: FloatArray) -> FloatArray:
        return np.asarray((self.log_ratio(x) * self.weight).ravel())

    def jacobian(self, x: FloatArray) -> FloatArray:
        base = self.log_ratio(x)
        ahead = [self.log_ratio(x + h, base, _STEP_REACH) - base for h in _STEP * np.eye(len(x))]
        return np.array([(a * self.weight).ravel() for a in ahead]).T / _STEP

    def cost(self, x: FloatArray) -> float:
        return float(np.sum(np.sqrt(1.0 + self.residuals(x) ** 2) - 1.0))

    def bounds(self, parameters: int) -> tuple[FloatArray, FloatArray]:
        low = [math.log(0.25), math.log(0.5), math.log(0.2), 0.0][:parameters]
        high = [math.log(1000.0), math.log(2.0), math.log(5.0), 1.0][:parameters]
        return np.array(low), np.array(high)

    def solve(self, x0: FloatArray) -> FloatArray:
        from scipy.optimize import least_squares

        low, high = self.bounds(len(x0))
        found = least_squares(
            self.residuals,
            np.clip(x0, low + 1e-6, high - 1e-6),
            self.jacobian,
            bounds=(low, high),
            loss="soft_l1",
            max_nfev=40,
            ftol=1e-4,
            xtol=1e-4,
        )
        return np.asarray(found.x)

    def chord(self, x: FloatArray, jacobian: FloatArray, trust: FloatArray) -> FloatArray:
        """A few Gauss-Newton steps with the Jacobian of the unperturbed problem."""
        from scipy.optimize import lsq_linear

        low, high = self.bounds(len(x))
        for _ in range(_CHORD_STEPS):
            x = np.clip(x, low + 1e-9, high - 1e-9)
            step = lsq_linear(
                jacobian * trust[:, None], -self.residuals(x) * trust, bounds=(low - x, high - x)
            )
            x = x + step.x
        return x

    def resampled(self, shift: FloatArray, points_s: FloatArray) -> _Problem:
        return _Problem(
            self.count,
            self.rate_per_s,
            self.log_quantile + shift,
            self.weight,
            demand_quantiles(points_s, _FIT_DEMANDS),
            self.pooling,
            self.floor_s,
            self.least_workers,
        )


def _problem(
    windows: Sequence[CurveWindow], demand_s: ArrayLike, pooling: float | None, floor_s: float
) -> _Problem:
    loads = {(w.instance_count, w.rate_per_s) for w in windows}
    counts: NDArray[np.int64] = np.unique([w.instance_count for w in windows])
    if len(loads) < 2 or (pooling is None and len(counts) < 2):
        raise InsufficientDataError(
            "the latency curve needs two loads, and two instance counts for the pooling",
            value=f"{len(loads)} loads, {len(counts)} counts",
            hint="measure another load, or another instance count",
        )
    demands = np.maximum(np.asarray(demand_s, dtype=np.float64).ravel(), 0.0)
    busiest = max(w.rate_per_s for w in windows) * float(demands.mean())
    return _Problem(
        np.array([float(w.instance_count) for w in windows]),
        np.array([w.rate_per_s for w in windows]),
        np.log(np.array([w.quantile_s for w in windows])),
        np.array(FIT_WEIGHTS) / np.hypot(RESIDUAL_SCALE, np.array([w.log_se for w in windows])),
        demand_quantiles(demands, _FIT_DEMANDS),
        pooling,
        floor_s,
        busiest,
    )


def _redrawn(points_s: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """Quantiles of a resample of ``size`` demands whose quantiles are ``points_s``."""
    k = len(points_s)
    drawn = np.cumsum(rng.multinomial(size, np.full(k, 1.0 / k))) / size
    return np.interp((np.arange(k) + 0.5) / k, drawn - 0.5 * np.diff(drawn, prepend=0.0), points_s)


def _missed(curve: LatencyCurve, windows: Sequence[CurveWindow]) -> FloatArray:
    count = np.array([float(w.instance_count) for w in windows])[:, None]
    rate = np.array([w.rate_per_s for w in windows])[:, None]
    # Past the curve's saturation its quantiles are infinite: count them as just inside.
    rate = np.minimum(rate, 0.999 * curve.saturation_rate_per_s)
    allowed = 1.0 - np.array(FIT_QUANTILES)
    slack = 0.1 + 2.0 * np.array([w.share_se for w in windows])
    more = np.minimum((1.0 + slack) * allowed, 1.0 - 1e-3)
    fewer = np.maximum(1.0 - slack, 0.05) * allowed
    low = np.log(curve.quantile_s(1.0 - more, rate, count))
    high = np.log(curve.quantile_s(1.0 - fewer, rate, count))
    measured = np.log(np.array([w.quantile_s for w in windows]))
    return np.asarray(np.maximum(low - measured, 0.0) - np.maximum(measured - high, 0.0))
