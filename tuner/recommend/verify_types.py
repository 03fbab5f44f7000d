"""What a replay of traffic showed of a live policy, as values."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.slo import Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing that was predicted and observed.

    ``name`` is ``"requests:p99"`` (one for each objective), ``"errors"``, ``"instances"``,
    ``"recovery"`` or ``"generator"``. Shares are of requests, counts of instances, recovery in
    minutes; None where there is nothing to put.
    """

    name: str
    verdict: Verdict
    predicted: float | None
    observed: float | None
    limit: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class MinuteSeen:
    """One minute of the replay.

    ``p99_s`` is the binding objective's quantile, None when it lies among failures or there
    were no requests; counts are instances in service at the minute's end (observed None when
    no poll was answered).
    """

    requests: int
    late: int
    p99_s: float | None
    predicted_share: float
    instances: int | None
    predicted_instances: float


@dataclass(frozen=True, slots=True)
class Verification:
    """A replay of a piece of the traffic against the endpoint with the policy live.

    Parameters
    ----------
    verdict
        MET: passed. VIOLATED: failed. INCONCLUSIVE: nobody can say.
    at_unix_s
        When the replay began.
    minute_s
        Seconds of a control minute: 60, or less on an accelerated emulator.
    policy, piece
        What was live and what was replayed, one sentence each.
    activities
        Scaling activities seen, oldest first, one sentence each.
    overridden
        Whether somebody accepted a failure.
    """

    verdict: Verdict
    at_unix_s: float
    minute_s: float
    policy: str
    piece: str
    start_count: int
    comparisons: tuple[Comparison, ...]
    minutes: tuple[MinuteSeen, ...]
    activities: tuple[str, ...] = ()
    overridden: bool = False

    @property
    def blocks(self) -> bool:
        """Whether nothing may be handed to Terraform."""
        return self.verdict is Verdict.VIOLATED and not self.overridden

    @property
    def sentence(self) -> str:
        """The result in one sentence, with the reasons of a failure."""
        bad = [c.sentence for c in self.comparisons if c.verdict is not Verdict.MET]
        if self.verdict is Verdict.MET:
            return f"The policy was verified: {self.piece}"
        if self.verdict is Verdict.INCONCLUSIVE:
            return f"The verification of the policy is inconclusive: {' '.join(bad)}"
        accepted = " The failure was accepted with --override-verification." * self.overridden
        return f"The verification of the policy FAILED: {' '.join(bad)}{accepted}"
