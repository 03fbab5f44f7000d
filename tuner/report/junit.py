"""JUnit XML for CI: one test case per check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from tuner.recommend.types import Recommendation
from tuner.report.answer import HEADLINES, attainment_words
from tuner.report.words import visible
from tuner.slo import Verdict


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    VIOLATED becomes a failure and INCONCLUSIVE an error: CI must not take "not known" for
    "passed". With ``informative`` INCONCLUSIVE is skipped instead: it may raise an alarm but
    the answer does not wait for it.
    """

    name: str
    verdict: Verdict
    message: str
    time_s: float = 0.0
    informative: bool = False

    @property
    def skipped(self) -> bool:
        """Whether it is not known and nothing waits for it."""
        return self.informative and self.verdict is Verdict.INCONCLUSIVE


def checks_of(recommendation: Recommendation) -> tuple[Check, ...]:
    """The SLO, and every gate the data had to pass."""
    chosen = recommendation.chosen
    message = HEADLINES[recommendation.verdict]
    if chosen is not None:
        message += f": {attainment_words(chosen)} of requests inside the SLO"
    gates = (
        Check(
            f"data: {g.name}",
            Verdict.MET if g.passed else Verdict.INCONCLUSIVE,
            g.sentence + (f" Next: {g.remedy}" if g.remedy and not g.passed else ""),
        )
        for g in recommendation.capacity.gates
    )
    slo = Check(f"SLO {recommendation.slo.describe()}", recommendation.verdict, message)
    return (slo, *gates)


def junit_xml(suite: str, checks: Sequence[Check]) -> str:
    """The checks as a JUnit document."""
    failures = sum(c.verdict is Verdict.VIOLATED for c in checks)
    skipped = sum(c.skipped for c in checks)
    errors = sum(c.verdict is Verdict.INCONCLUSIVE for c in checks) - skipped
    total = sum(c.time_s for c in checks)
    counts = f'tests="{len(checks)}" failures="{failures}" errors="{errors}"'
    counts += f' time="{total:.3f}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuites {counts}>",
        f'  <testsuite name={_attribute(suite)} {counts} skipped="{skipped}">',
        *(_case(suite, c) for c in checks),
        "  </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


def _case(suite: str, check: Check) -> str:
    head = (
        f"    <testcase classname={_attribute(suite)} name={_attribute(check.name)} "
        f'time="{check.time_s:.3f}">'
    )
    message = _attribute(check.message)
    inside = {
        Verdict.MET: f"<system-out>{escape(visible(check.message))}</system-out>",
        Verdict.VIOLATED: f'<failure type="VIOLATED" message={message}/>',
        Verdict.INCONCLUSIVE: f'<error type="INCONCLUSIVE" message={message}/>',
    }[check.verdict]
    if check.skipped:
        inside = f"<skipped message={message}/>"
    return f"{head}\n      {inside}\n    </testcase>"


def _attribute(text: str) -> str:
    return quoteattr(visible(text), {"\n": "&#10;", "\t": "&#9;"})
