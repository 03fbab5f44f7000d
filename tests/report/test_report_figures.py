"""Figures: which there are, that they repeat, and that odd data do not break them."""

from __future__ import annotations

import math
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import report_samples as samples

from tuner.interval import Interval
from tuner.queueing.capacity import ViolationTable
from tuner.recommend.density_types import Density, DensityRow
from tuner.recommend.types import Statement
from tuner.report.data import ReportData, View
from tuner.report.figures import figures
from tuner.report.figures.behaviour import latency_at
from tuner.report.figures.canvas import PALETTE
from tuner.report.figures.density import draw as draw_density
from tuner.simulator.timeline import Timeline
from tuner.slo import LatencyObjective, Slo, Verdict

NAMES = [
    "latency-p50",
    "latency-p95",
    "latency-p99",
    "hardest-day",
    "over-time",
    "front",
    "sensitivity-misses",
    "sensitivity-cost",
]


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[bytes, bytes]]:
    return figures(samples.report())


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text")]


def test_every_figure_is_there(drawn: dict[str, tuple[bytes, bytes]]) -> None:
    assert sorted(drawn) == sorted(NAMES)


def test_svg_is_well_formed_and_png_is_png(drawn: dict[str, tuple[bytes, bytes]]) -> None:
    for svg, png in drawn.values():
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert width >= 600
        assert height >= 250


def test_the_same_data_give_the_same_bytes(drawn: dict[str, tuple[bytes, bytes]]) -> None:
    assert figures(samples.report()) == drawn


def test_no_date_or_version_is_inside(drawn: dict[str, tuple[bytes, bytes]]) -> None:
    for svg, png in drawn.values():
        assert b"dc:date" not in svg
        assert b"Software" not in png


def test_the_p99_figure_names_what_it_shows(drawn: dict[str, tuple[bytes, bytes]]) -> None:
    shown = texts(drawn["latency-p99"][0])
    for part in (
        "1 instance",
        "2 instances",
        "4 instances",
        "SLO 165 ms",
        "target 8430/min",
        "capacity, interval",
        "void stage",
        "not used",
    ):
        assert part in shown
    assert not any(t.startswith("SLO") for t in texts(drawn["latency-p50"][0]))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_stand_out_from_the_paper(theme: int) -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for graphics."""
    paper = luminance(PALETTE["paper"][theme])
    for name, pair in PALETTE.items():
        if name in ("paper", "grid", "area", "wait"):
            continue
        own = luminance(pair[theme])
        ratio = (max(own, paper) + 0.05) / (min(own, paper) + 0.05)
        assert ratio >= (4.5 if name in ("ink", "muted", "bad", "good", "s0") else 3.0), name


def test_hostile_names_are_drawn_as_text() -> None:
    data = samples.report()
    recommendation = data.recommendation
    assert recommendation is not None
    evil = "<b>$x_{1$ ]]> \x1b[31m\x00 \ud800 漢字 🚀 " + "long " * 20
    changed = replace(
        recommendation,
        alternatives=tuple(replace(c, name=evil) for c in recommendation.alternatives),
        sensitivities=(
            Statement(evil, evil, 0.1, "share of requests"),
            Statement("other", "other", math.inf, "share of cost"),
        ),
    )
    for svg, _ in figures(replace(data, stages=(), recommendation=changed)).values():
        ET.fromstring(svg)


def test_one_stage_and_no_recommendation_is_enough() -> None:
    stage = samples.stage(1, 1, 100.0)
    data = ReportData("t", "r", "d", samples.SLO, stages=(stage,))
    assert sorted(figures(data)) == ["latency-p50", "latency-p95", "latency-p99", "over-time"]


def test_failures_without_end_and_many_counts() -> None:
    stages = [samples.stage(i, i + 1, 90.0 + 10.0 * i, duration_s=5.0) for i in range(8)]
    stages.append(samples.stage(8, 1, 60.0, duration_s=5.0, failures=300))
    capacity = samples.capacity()
    open_end = replace(capacity.by_count[0], rate_per_s=Interval(100.0, 150.0, math.inf))
    data = ReportData(
        "t",
        "r",
        "d",
        Slo((LatencyObjective(0.999, 0.2), LatencyObjective(0.99, 0.165))),
        stages=tuple(stages),
        capacity=replace(capacity, by_count=(open_end,)),
    )
    assert "latency-p99_9" in figures(data)


def test_a_day_without_misses_and_a_fixed_fleet() -> None:
    data = samples.report()
    recommendation = data.recommendation
    assert recommendation is not None
    assert recommendation.hardest_day is not None
    assert recommendation.chosen is not None
    quiet = replace(
        recommendation.hardest_day,
        violation_share=np.zeros(1440),
        requests_per_min=np.full(1440, np.nan),
    )
    fixed = replace(recommendation.chosen, policy=None)
    changed = replace(
        recommendation, hardest_day=quiet, chosen=fixed, front=(), alternatives=(), today=None
    )
    names = figures(replace(data, stages=(), recommendation=changed))
    assert "hardest-day" in names
    assert "front" not in names


def test_without_an_answer_there_is_no_policy_figure() -> None:
    names = set(figures(replace(samples.report(Verdict.VIOLATED), stages=())))
    assert not names & {"hardest-day", "front", "sensitivity-cost"}


def density(prices: bool = True) -> Density:
    """A sweep of four numbers of models; the last stage failed so often that p99 is unknown."""
    known = ((8, 0.04, "MET"), (20, 0.05, "MET"), (24, 0.9, "VIOLATED"), (32, math.inf, "VIOLATED"))
    rows = tuple(
        DensityRow(
            models=n,
            rate_per_s=60.0,
            requests=4000,
            p99_s=Interval(0.9 * min(p99, 1.0), p99, math.inf if p99 > 1.0 else 1.1 * p99, 0.95),
            warm_p99_s=0.04,
            late=Interval(0.0, 0.0, 0.001, 0.95),
            allowed=0.01,
            cold=Interval(0.0, 0.0, 0.001, 0.95),
            verdict=Verdict[verdict],
            instances=math.ceil(80 / n),
            cost_per_month_usd=166.0 * math.ceil(80 / n) if prices else None,
        )
        for n, p99, verdict in known
    )
    limit = Interval(20.0, 21.0, 22.0, 0.95)
    return Density(
        Verdict.MET, 80, limit, 20, 4, "memory", 60.0, limit, rows, "latency", 0.2, ("as seen",)
    )


def test_density_is_drawn_with_its_price_and_its_limit() -> None:
    data = samples.report()
    assert data.recommendation is not None
    data = replace(data, recommendation=replace(data.recommendation, models=density()))
    (drawing,) = draw_density(View.of(data), png=False)
    shown = texts(drawing.svg)
    for part in (
        "p99 of all requests, ms",
        "USD per month for 80 models and the peak",
        "holds the SLO",
        "misses it",
        "warm requests alone",
        "SLO 165 ms",
        "limit, 95% interval",
        "planned with: 20",
    ):
        assert part in shown
    assert data.recommendation is not None
    unpriced = replace(data.recommendation, models=density(prices=False))
    (again,) = draw_density(View.of(replace(data, recommendation=unpriced)), png=False)
    assert "instances for 80 models and the peak" in texts(again.svg)


def test_the_latency_of_a_minute_is_the_quantile_its_utilisation_gives() -> None:
    """P(L > x) = exp(-x / 20 ms) up to half load, never inside 200 ms beyond: p99 is 92.1 ms."""
    delay_s = np.linspace(0.0, 0.2, 2001)
    tail = np.exp(-(0.2 - delay_s) / 0.02)
    rows = np.stack([tail, tail, np.ones_like(tail)])[None]
    table = ViolationTable(np.array([1]), np.array([0.0, 0.5, 1.0]), delay_s, rows, 10.0)
    model = replace(samples.capacity(), table=table, binding=LatencyObjective(0.99, 0.2))
    none = np.zeros(4)
    day = Timeline(
        requests_per_min=np.array([300.0, 1200.0, 0.0, 590.0]),
        in_service=np.array([1.0, 2.0, 1.0, 2.0]),
        starting=none,
        metric=none,
        violation_share=none,
        delay_s=np.array([0.0, 1.5, 0.0, 0.0]),
    )
    got = latency_at(model, day)
    assert got[0] == pytest.approx(0.02 * np.log(100.0), abs=2e-4)
    assert got[1] == pytest.approx(0.2 + 1.5)
    assert np.isnan(got[2])
    assert got[3] == pytest.approx(got[0])
