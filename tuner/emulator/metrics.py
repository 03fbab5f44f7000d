"""CloudWatch metrics of one variant, kept per control minute (and per ten control seconds)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.autoscaling.policy import CUSTOMIZED_METRICS, INSTANCE_NAMESPACE, ScalingMetric
from tuner.fleet.models import ModelLoad
from tuner.fleet.spec import Meters
from tuner.units import s_to_us

BIN_GROWTH = 1.005
"""Width of a latency bin: percentiles are right within 0.25 %."""
_LOG_GROWTH = math.log(BIN_GROWTH)
KEEP_PERIODS = 20_000

ZERO_WHEN_IDLE = ("Invocations", "InvocationsPerInstance")
"""SageMaker publishes zeros for an idle variant (Developer Guide, since 2023)."""
COUNTED = (
    *ZERO_WHEN_IDLE,
    "Invocation4XXErrors",
    "Invocation5XXErrors",
    "InvocationModelErrors",
)
"""Metrics whose ``Sum`` is requests per minute."""
LATENCY_NAMES = ("ModelLatency", "OverheadLatency")


MODEL_NAMES = (
    "ModelLoadingWaitTime",
    "ModelDownloadingTime",
    "ModelLoadingTime",
    "ModelUnloadingTime",
    "ModelCacheHit",
    "LoadedModelCount",
)
"""Published for multi-model endpoints only."""
GPU_NAMES = (ScalingMetric.GPU.value, ScalingMetric.GPU_MEMORY.value)
"""Published for instances with GPUs only."""
USED_NAMES = tuple(m.value for m in CUSTOMIZED_METRICS)


class Statistics:
    """Values of one metric in one period.

    ``weight`` is how many requests of a real minute one counted in a control minute stands for.
    """

    __slots__ = ("bins", "count", "maximum", "minimum", "total", "weight")

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.count = 0
        self.total = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf
        self.bins: dict[int, int] = {}

    @property
    def sum(self) -> float:
        """What ``Sum`` shows: requests are counted as if the minute had been a real one."""
        return self.total * self.weight

    def add(self, value: float) -> None:
        """One value."""
        self.count += 1
        self.total += value
        if value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value

    def add_binned(self, value: float) -> None:
        """One value of a metric that percentiles are asked of."""
        self.add(value)
        index = math.ceil(math.log(value) / _LOG_GROWTH) if value > 1e-9 else -(10**6)
        self.bins[index] = self.bins.get(index, 0) + 1

    def merge(self, other: Statistics) -> None:
        """Add another period's values, of the same metric."""
        self.weight = other.weight
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        for index, count in other.bins.items():
            self.bins[index] = self.bins.get(index, 0) + count

    def percentile(self, share: float) -> float:
        """The value below which ``share`` of the values lie; exact at both ends."""
        rank = share * self.count
        below = 0
        for index in sorted(self.bins):
            below += self.bins[index]
            if below >= rank:
                middle = math.exp((index - 0.5) * _LOG_GROWTH) if index > -(10**6) else 0.0
                return min(max(middle, self.minimum), self.maximum)
        return self.maximum


@dataclass(frozen=True, slots=True)
class MetricKind:
    """A metric's CloudWatch identity."""

    namespace: str
    unit: str
    period_s: int = 60


VARIANT_NAMESPACE = "AWS/SageMaker"
METRICS: dict[str, MetricKind] = {
    **{
        name: MetricKind(VARIANT_NAMESPACE, "None")
        for name in (
            "Invocations",
            "InvocationsPerInstance",
            "Invocation4XXErrors",
            "Invocation5XXErrors",
            "InvocationModelErrors",
        )
    },
    **{name: MetricKind(VARIANT_NAMESPACE, "Microseconds") for name in LATENCY_NAMES},
    "ConcurrentRequestsPerModel": MetricKind(VARIANT_NAMESPACE, "None", 10),
    **{name: MetricKind(INSTANCE_NAMESPACE, "Percent") for name in USED_NAMES},
    **{name: MetricKind(VARIANT_NAMESPACE, "Microseconds") for name in MODEL_NAMES[:4]},
    "ModelCacheHit": MetricKind(VARIANT_NAMESPACE, "None"),
    "LoadedModelCount": MetricKind(INSTANCE_NAMESPACE, "None"),
}


class VariantMetrics:
    """Recorder and store of one variant's metrics, by period of control time.

    Parameters
    ----------
    speed
        How much faster than real minutes control minutes are. Sums of counted requests are
        multiplied by it, so that a rate means the same requests per minute on every clock.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._series: dict[str, dict[int, Statistics]] = {name: {} for name in METRICS}
        self._minute = -1
        self._now: dict[str, Statistics] = {}
        self._busy: dict[int, float] = {}
        self._capacity: dict[int, Statistics] = {}

    def roll(self, control_s: float) -> None:
        """Make the minute of ``control_s`` current; a minute without requests counts zero."""
        minute = int(control_s // 60)
        if minute != self._minute:
            for name in ZERO_WHEN_IDLE:
                if self._minute >= 0 and not self._now[name].count:
                    self._now[name].add(0.0)
            self._minute = minute
            for name, series in self._series.items():
                if len(series) > KEEP_PERIODS:
                    del series[min(series)]
                if METRICS[name].period_s == 60 and name not in USED_NAMES:
                    weight = self._speed if name in COUNTED else 1.0
                    self._now[name] = series.setdefault(minute, Statistics(weight))

    def arrival(self, control_s: float, active: int) -> None:
        """A request was sent to the endpoint while ``active`` instances were in service."""
        if control_s // 60 != self._minute:
            self.roll(control_s)
        self._now["Invocations"].add(1.0)
        if active:
            self._now["InvocationsPerInstance"].add(1.0 / active)

    def answer(self, control_s: float, status: int, model_s: float, overhead_s: float) -> None:
        """A request ended with the model's HTTP status and these latencies."""
        if control_s // 60 != self._minute:
            self.roll(control_s)
        now = self._now
        now["ModelLatency"].add_binned(s_to_us(model_s))
        now["OverheadLatency"].add(s_to_us(overhead_s))
        now["Invocation4XXErrors"].add(1.0 if 400 <= status < 500 else 0.0)
        now["Invocation5XXErrors"].add(1.0 if status >= 500 else 0.0)
        now["InvocationModelErrors"].add(1.0 if status >= 400 else 0.0)

    def model_request(self, control_s: float, hit: bool, wait_s: float) -> None:
        """A request that named a model was answered."""
        minute = int(control_s // 60)
        self.put("ModelCacheHit", minute, 1.0 if hit else 0.0)
        if not hit:
            self.put("ModelLoadingWaitTime", minute, s_to_us(wait_s))

    def model_load(self, control_s: float, load: ModelLoad) -> None:
        """A model was brought into memory, ending now."""
        minute = int(control_s // 60)
        if load.download_s > 0.0:
            self.put("ModelDownloadingTime", minute, s_to_us(load.download_s))
        if load.loaded:
            self.put("ModelLoadingTime", minute, s_to_us(load.load_s))
        for _ in range(load.evicted):
            self.put("ModelUnloadingTime", minute, s_to_us(load.unload_s / load.evicted))

    def busy(self, start_control_s: float, end_control_s: float, share: float) -> None:
        """A worker was busy between two moments of control time."""
        first, last = int(start_control_s // 60), int(end_control_s // 60)
        for minute in range(first, last + 1):
            overlap = min(end_control_s, (minute + 1) * 60.0) - max(start_control_s, minute * 60.0)
            self._busy[minute] = self._busy.get(minute, 0.0) + overlap * share

    def sample(
        self,
        control_s: float,
        outstanding: list[int],
        loaded_models: list[int] | None = None,
        meters: Meters | None = None,
    ) -> None:
        """Look at the instances in service: how many there are, how busy and how full each is.

        ``meters`` is None where the memory in use is not simulated.
        """
        self.roll(control_s)
        self._capacity.setdefault(self._minute, Statistics()).add(float(len(outstanding)))
        for count in outstanding:
            self.put("ConcurrentRequestsPerModel", int(control_s // 10), float(count))
            if meters is not None:
                self._memory(meters, count)
        for count in loaded_models or ():
            self.put("LoadedModelCount", self._minute, float(count))

    def _memory(self, meters: Meters, in_flight: int) -> None:
        used = meters.memory_share + meters.memory_per_request * in_flight
        self.put(ScalingMetric.MEMORY.value, self._minute, 100.0 * min(used, 1.0))
        if meters.gpus:
            used = meters.gpu_memory_share + meters.gpu_memory_per_request * in_flight
            percent = 100.0 * meters.gpus * min(used, 1.0)
            self.put(ScalingMetric.GPU_MEMORY.value, self._minute, percent)

    def capacity(self, minute: int) -> float:
        """Mean number of instances in service over a minute; 0 when nobody looked."""
        seen = self._capacity.get(minute)
        return seen.total / seen.count if seen is not None else 0.0

    def served_by(self, minute: int) -> float:
        """Instances that the requests of a minute were spread over; 0 without requests.

        What turns ``InvocationsPerInstance`` back into ``Invocations``: in a minute in which
        instances arrive, the mean count would not.
        """
        sent = self.get("Invocations", minute)
        each = self.get("InvocationsPerInstance", minute)
        if sent is None or each is None or not each.total:
            return 0.0
        return sent.total / each.total

    def close_minute(
        self, minute: int, workers: int, meters: Meters, measured_s: float | None = None
    ) -> None:
        """Turn a past minute's busy time into ``CPUUtilization`` and ``GPUUtilization``.

        ``measured_s`` is processor time that was measured (control time), instead of the
        simulated workers' busy time.
        """
        busy = self._busy.pop(minute, 0.0)
        cpu_share, gpus = meters.cpu_share, meters.gpus
        if measured_s is not None:
            busy, workers, cpu_share, gpus = measured_s, meters.vcpus, 1.0, 0
        available = 60.0 * workers * self.capacity(minute)
        if available > 0.0:
            part = 100.0 * min(busy / available, 1.0)
            self.put(ScalingMetric.CPU.value, minute, part * cpu_share * meters.vcpus)
            if gpus:
                self.put(ScalingMetric.GPU.value, minute, part * meters.gpu_share * gpus)
        self._capacity.pop(minute - KEEP_PERIODS, None)

    def put(self, name: str, index: int, value: float) -> None:
        """One value of a metric in period ``index``."""
        self._series[name].setdefault(index, Statistics()).add(value)

    def get(self, name: str, index: int) -> Statistics | None:
        """What is known of one period; None if nothing was published."""
        found = self._series[name].get(index)
        return found if found is not None and found.count else None

    def between(self, name: str, first: int, last: int) -> list[tuple[int, Statistics]]:
        """Periods first..last (inclusive) that hold values, ascending."""
        series = self._series[name]
        if last - first > len(series):
            found = sorted(i for i in series if first <= i <= last)
        else:
            found = [i for i in range(first, last + 1) if i in series]
        return [(i, series[i]) for i in found if series[i].count]
