"""Terminal text, JUnit and the words numbers are put in."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import report_samples as samples

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.interval import Interval
from tuner.report import words
from tuner.report.answer import settings
from tuner.report.console import WIDTH, console_text
from tuner.report.junit import Check, checks_of, junit_xml
from tuner.slo import Verdict

ANSI = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x9b2J\x08\r\n\u202eback"


@pytest.mark.parametrize("verdict", list(Verdict))
def test_lines_fit_the_terminal(verdict: Verdict) -> None:
    text = console_text(samples.recommendation(verdict))
    assert text.startswith(verdict.value)
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_the_terminal_says_what_to_set_and_what_it_saves() -> None:
    text = console_text(samples.recommendation())
    assert "target_value       = 8430" in text
    assert "AWS rule: half of maximum: cost +47 %" in text
    assert "fails: too many slow requests, too many bad minutes" in " ".join(text.split())


def test_what_would_settle_it_is_said() -> None:
    text = console_text(samples.recommendation(Verdict.INCONCLUSIVE))
    assert "next       Run stages at 165" in text


def test_no_terminal_sequence_gets_through() -> None:
    base = samples.recommendation()
    evil = replace(base.alternatives[0], name=ANSI, reason=ANSI)
    changed = replace(
        base, alternatives=(evil,), warnings=(ANSI,), traffic_name=ANSI, instance_type=ANSI
    )
    text = console_text(changed)
    assert not [c for c in text if c != "\n" and not c.isprintable()]
    assert "title" not in text
    assert "[31m" not in text


def test_long_lists_are_cut_and_it_is_said() -> None:
    base = samples.recommendation()
    text = console_text(replace(base, warnings=tuple(f"warning {i}" for i in range(20))))
    assert "and 14 more in the report" in text


def test_a_fixed_fleet_and_a_cpu_target_have_their_own_words() -> None:
    base = samples.recommendation()
    assert base.chosen is not None
    fixed = replace(base, chosen=replace(base.chosen, policy=None, bounds=CapacityBounds(7, 7)))
    assert settings(fixed) == (("instance_type", "ml.m5.xlarge"), ("instance_count", "7"))
    assert "Run 7 instances of ml.m5.xlarge without autoscaling." in console_text(fixed)
    cpu = TargetTrackingPolicy(ScalingMetric.CPU, 217.9)
    on_cpu = replace(base, chosen=replace(base.chosen, policy=cpu))
    assert "Keep 217 % CPU (100 per vCPU)" in console_text(on_cpu)


def test_junit_counts_failures_and_errors_apart() -> None:
    checks = (
        Check("p99", Verdict.MET, "fine", 1.5),
        Check("p95", Verdict.VIOLATED, "slower"),
        Check("errors", Verdict.INCONCLUSIVE, "too few requests"),
    )
    root = ET.fromstring(junit_xml("suite", checks))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    cases = suite.findall("testcase")
    assert [c.get("name") for c in cases] == ["p99", "p95", "errors"]
    assert [c[0].tag for c in cases] == ["system-out", "failure", "error"]
    assert cases[1][0].get("message") == "slower"


def test_junit_skips_what_is_not_known_where_nothing_waits_for_it() -> None:
    checks = [Check(v.value, v, "said", informative=True) for v in Verdict]
    suite = ET.fromstring(junit_xml("suite", checks)).find("testsuite")
    assert suite is not None
    ends = [c[0].tag for c in suite.findall("testcase")]
    assert ends == ["system-out", "failure", "skipped"]
    assert [suite.get(k) for k in ("failures", "errors", "skipped")] == ["1", "0", "1"]


def test_junit_survives_hostile_text() -> None:
    evil = "<script>\"]]>&\x00\x1b[31m\ud800\n'" + ANSI
    xml = junit_xml(evil, [Check(evil, v, evil) for v in Verdict])
    root = ET.fromstring(xml)
    name = root.iter("testcase").__next__().get("name")
    assert name is not None
    assert name.startswith('<script>"]]>&')
    assert xml.encode("utf-8")


def test_junit_of_a_recommendation_has_the_slo_and_the_gates() -> None:
    checks = checks_of(samples.recommendation(Verdict.INCONCLUSIVE))
    assert [c.verdict for c in checks] == [
        Verdict.INCONCLUSIVE,
        Verdict.MET,
        Verdict.INCONCLUSIVE,
    ]
    assert "180 s" in checks[2].message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1234567.0, "1,230,000"),
        (38.2468, "38.2"),
        (0.00123456, "0.00123"),
        (99.96, "100.0"),
        (5.0, "5"),
        (13.02, "13.0"),
        (-2.5, "-2.50"),
        (math.inf, "∞"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_keep_three_digits(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.99979, "99.979 %"),
        (0.9999999, "> 99.9999 %"),
        (0.5, "50 %"),
        (0.0123, "1.2 %"),
        (1e-8, "< 0.0001 %"),
        (None, "–"),
    ],
)
def test_shares_are_never_rounded_to_all_or_nothing(share: float | None, text: str) -> None:
    assert words.percent(share) == text


def test_an_unknown_end_is_said() -> None:
    assert words.interval(Interval(1.0, 2.0, math.inf)) == "2 (1 or more)"
    assert words.money_interval(Interval(5.0, 5.0, 5.0)) == "$5.00"
    assert words.money(0.0012) == "< $0.01"
    assert words.span(59.0) == "59 s"
    assert words.span(3900.0) == "1 h 05 min"
