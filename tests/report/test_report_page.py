"""The page: it answers, it is self-contained, and nothing from outside can act in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import report_samples as samples

from tuner.campaign.types import StageKind
from tuner.recommend.types import Statement
from tuner.report.answer import target_text
from tuner.report.data import ReportData, Table, View
from tuner.report.page import render_html
from tuner.slo import LatencyObjective, Measure, Slo, Verdict
from tuner.terraform.tfvars import safe_target

HOSTILE = (
    '<script>alert(\'x\')</script>"]]><b onload="y">&amp; {{ 7*7 }} ${x} \x1b[31mred\x07\u202e'
)
VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect"}


class Tree(HTMLParser):
    """Tags, attributes and texts, with a check that what opens closes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(page: str) -> Tree:
    tree = Tree()
    tree.feed(page)
    tree.close()
    assert tree.open == []
    return tree


@pytest.fixture(scope="module")
def met() -> ReportData:
    return samples.report()


@pytest.fixture(scope="module")
def page(met: ReportData) -> str:
    return render_html(met)


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(parse(page).text))


def test_the_answer_comes_first(page: str) -> None:
    text = words_of(page)
    head = text[: text.index("Take care")]
    for part in (
        "MET",
        "8430 requests per minute per instance, between 3 and 14 instances of ml.m5.xlarge",
        "target_value 8430",
        "scale_in_cooldown 300 s",
        "p95 <= 120 ms, p99 <= 165 ms",
        "168 (166 to 170) requests/s per instance",
        "p99 reaches 165 ms first",
        "$1,012 ($982 to $1,052) per month",
    ):
        assert part in head


def test_everything_asked_for_is_on_the_page(page: str) -> None:
    text = words_of(page)
    for part in (
        "AWS rule: half of maximum",
        "+47 %",
        "too many bad minutes",
        "rejected",
        "Stage 17 is void",
        "timeout after 4 s",
        "1 → 2",
        "zone safety",
        "min_capacity = 3",
        "tuner run tuner.toml",
        "locust",
        "Why the minimum is 3",
    ):
        assert part in text


@pytest.mark.parametrize("verdict", [Verdict.VIOLATED, Verdict.INCONCLUSIVE])
def test_without_an_answer_the_page_leads_with_that_and_the_remedy(verdict: Verdict) -> None:
    text = words_of(render_html(samples.report(verdict)))
    head = text[: text.index("Take care")]
    assert verdict.value in head
    assert "What to do next" in head
    assert "target_value" not in text
    if verdict is Verdict.INCONCLUSIVE:
        assert "at least 180 s each" in head


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    tree = parse(page)
    assert "script" not in tree.tags
    assert not {"img", "link", "iframe", "object", "embed", "base"} & set(tree.tags)
    for _, name, value in tree.attributes:
        assert not name.startswith("on")
        if name in ("href", "xlink:href", "src", "action"):
            assert value.startswith("#")
        if name == "style":
            assert "url(http" not in value
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    tree = parse(page)
    ids = [v for _, name, v in tree.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = {v[1:] for _, n, v in tree.attributes if n in ("href", "xlink:href")}
    references |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert references <= set(ids)


def test_every_colour_of_a_figure_follows_the_theme(page: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []


def hostile() -> ReportData:
    data = samples.report()
    recommendation = data.recommendation
    assert recommendation is not None
    assert recommendation.chosen is not None
    stages = tuple(
        replace(
            s,
            spec=replace(s.spec, purpose=HOSTILE),
            health=replace(s.health, void_reasons=(HOSTILE,) if s.spec.index == 3 else ()),
            error_samples=((HOSTILE, 3),),
        )
        for s in data.stages
    )
    evil = replace(recommendation.alternatives[0], name=HOSTILE, reason=HOSTILE)
    capacity = recommendation.capacity
    gates = tuple(
        replace(g, name=HOSTILE, sentence=HOSTILE, remedy=HOSTILE) for g in capacity.gates
    )
    by_count = tuple(replace(c, source=HOSTILE) for c in capacity.by_count)
    pair = ((HOSTILE, HOSTILE),)
    return replace(
        data,
        title=HOSTILE,
        run_name=HOSTILE,
        date_text=HOSTILE,
        stages=stages,
        capacity=replace(capacity, gates=gates, by_count=by_count, warnings=(HOSTILE,)),
        recommendation=replace(
            recommendation,
            alternatives=(evil,),
            rejected=(evil,),
            statements=(Statement(HOSTILE, HOSTILE, 1.0),),
            sensitivities=(Statement(HOSTILE, HOSTILE, 0.1),),
            traffic_name=HOSTILE,
            warnings=(HOSTILE,),
            instance_type=HOSTILE,
        ),
        plan_rows=pair,
        provenance=pair,
        generator_check=pair,
        snippets=pair,
        refusals=(HOSTILE,),
        warnings=(HOSTILE,),
        next_steps=(HOSTILE,),
        commands=(HOSTILE,),
        tfvars=HOSTILE,
        tables=(Table(HOSTILE, (HOSTILE,), ((HOSTILE,),)),),
        problem=HOSTILE,
    )


def test_hostile_text_is_shown_and_never_acts() -> None:
    page = render_html(hostile())
    tree = parse(page)
    assert "script" not in tree.tags
    assert not [n for _, n, _ in tree.attributes if n.startswith("on")]
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "49" not in "".join(t for t in tree.text if "7*7" in t)
    shown = "".join(tree.text)
    assert shown.count("<script>alert('x')</script>") >= 20


def test_the_same_data_give_the_same_bytes(page: str) -> None:
    assert render_html(samples.report()) == page


def test_void_and_unused_stages_are_marked(page: str) -> None:
    rows = re.findall(r'<tr class="(\w+)"><td title="[^"]*">(\d+) ([\w-]+)</td>', page)
    standing = {int(i): s for s, i, _ in rows}
    kinds = {int(i): k for _, i, k in rows}
    assert standing[17] == "void"
    assert standing[0] == "unused"
    assert kinds[0] == StageKind.FLOOR.value
    assert standing[5] == "used"
    assert len(standing) == 23


def test_a_stage_without_its_requests_is_told_from_its_windows() -> None:
    with_log, without = (samples.stage(5, 1, 165.0, keep_log=k) for k in (True, False))
    rows = [
        View.of(ReportData("t", "r", "d", samples.SLO, stages=(s,))).rows[0]
        for s in (with_log, without)
    ]
    assert rows[0].requests == rows[1].requests
    for q in (0.5, 0.95, 0.99):
        exact, binned = rows[0].at(q), rows[1].at(q)
        assert exact is not None
        assert binned is not None
        assert binned.mid == pytest.approx(exact.mid, rel=0.005)


def test_the_table_shows_the_closed_form() -> None:
    """p99 of M/M/4 at 165/s from the closed form lies inside the interval shown."""
    row = View.of(
        ReportData("t", "r", "d", samples.SLO, stages=(samples.stage(3, 4, 165.0),))
    ).rows[0]
    shown = row.at(0.99)
    assert shown is not None
    assert shown.low <= mmc_quantile_s(165.0, 0.99) <= shown.high


def mmc_quantile_s(rate: float, quantile: float) -> float:
    """Response-time quantile of M/M/c by bisection on the exact tail."""
    from math import exp

    mu, servers = 1.0 / samples.SERVICE_S, samples.WORKERS
    wait = samples.erlang_c(servers, rate * samples.SERVICE_S)
    drain = servers * mu - rate

    def tail(t: float) -> float:
        own = exp(-mu * t)
        return own + wait * mu / (mu - drain) * (exp(-drain * t) - own)

    low, high = 0.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > 1.0 - quantile else (low, middle)
    return low


def test_an_empty_run_still_makes_a_page() -> None:
    data = ReportData("t", "r", "d", samples.SLO, problem="The endpoint was not there.")
    text = words_of(render_html(data))
    assert "INCONCLUSIVE" in text
    assert "The endpoint was not there." in text
    assert "No stage was finished." in text


def test_a_stage_of_failures_only_has_no_finite_quantile() -> None:
    broken = samples.stage(4, 1, 40.0, failures=2400)
    data = ReportData("t", "r", "d", samples.SLO, stages=(broken,))
    text = words_of(render_html(data))
    assert "∞" in text
    assert "100 %" in text


def test_a_stage_without_requests_shows_no_number() -> None:
    empty = replace(samples.stage(4, 1, 40.0, keep_log=False), windows=())
    data = ReportData("t", "r", "d", samples.SLO, stages=(empty,))
    assert View.of(data).rows[0].at(0.99) is None
    assert "–" in words_of(render_html(data))


@pytest.mark.parametrize("target", [1358.77, 8430.0, 99.999, 12.3456, 0.98765, 0.3, 7.0, 1e-5])
def test_the_page_shows_the_target_that_terraform_gets(target: float) -> None:
    assert float(target_text(target)) == safe_target(target)
    assert "e" not in target_text(target)


def test_the_times_of_chunks_have_their_own_columns_and_figures() -> None:
    whole = samples.stage(4, 1, 100.0)
    assert whole.log is not None
    chunk = whole.log.scheduled_s + 0.005
    gap = np.full(len(chunk), 0.002)
    streamed = replace(whole, log=replace(whole.log, first_chunk_s=chunk, longest_gap_s=gap))
    plain = samples.stage(5, 1, 80.0)
    slo = Slo(
        (
            LatencyObjective(0.99, 0.01, Measure.TTFT),
            LatencyObjective(0.99, 0.165),
            LatencyObjective(0.99, 0.003, Measure.CHUNK_GAP),
        )
    )
    data = ReportData("t", "r", "d", slo, stages=(streamed, plain))
    rows = View.of(data).rows
    first = rows[0].at(0.99, Measure.TTFT)
    assert first is not None
    assert first.mid == pytest.approx(0.005)
    longest = rows[0].at(0.99, Measure.CHUNK_GAP)
    assert longest is not None
    assert longest.mid == pytest.approx(0.002)
    assert rows[1].at(0.99, Measure.TTFT) is None
    text = words_of(render_html(data))
    assert "first chunk p99" in text
    assert "p99 time to first chunk, ms" in text
    assert "chunk gap p99" in text
    assert "p99 longest gap between chunks, ms" in text
