"""The cost page: knobs with their sign, scheduled actions, data capture; and the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_samples import recommendation, report

from tuner.interval import Interval
from tuner.recommend.actions import ScheduledAction
from tuner.recommend.data_capture import CaptureEffect, CaptureLoad, CaptureRules, decide_capture
from tuner.recommend.types import MinimumPart, OffHours, Recommendation
from tuner.report.console import console_text
from tuner.report.costs import cost_tables, signed
from tuner.report.page import render_html


def with_knobs() -> Recommendation:
    saved = Interval(90.0, 100.0, 110.0)
    off = OffHours(
        actions=(ScheduledAction("hours-<b>", "cron(0 20 ? * MON-FRI *)", "UTC", 1, 1),),
        hours_per_week=102.5,
        saved_hours_per_day=Interval(13.0, 14.5, 16.0),
        saved_usd_per_month=saved,
        deleted_usd_per_month=170.0,
        violating_share=0.0,
        sentence="One instance from 20:00 to 07:00.",
    )
    seen = Interval(0.99, 1.01, 1.03)
    decision = decide_capture(
        CaptureRules((20,), None, 0.05, 30.0, "s3://b/c"),
        CaptureLoad(3000.0, 300.0, 30e6, 4.0),
        (CaptureEffect(20, seen, seen, 0.2, 12_345, 40.0),),
    )
    minimum = (
        MinimumPart("base", 2, 300.0, "2 for the quiet hours."),
        MinimumPart("burst", 1, 150.0, "1 for growth."),
        MinimumPart("resilience", 1, 150.0, "1 to lose."),
    )
    return replace(recommendation(), off_hours=off, data_capture=decision, minimum=minimum)


def test_savings_have_a_minus_and_costs_a_plus() -> None:
    assert signed(Interval(-110.0, -100.0, -90.0)) == "−$100 (−$110 to −$90.00)"
    assert signed(Interval(4.0, 4.0, 4.0)) == "+$4.00"


def test_every_knob_has_its_row_and_the_total_adds_them() -> None:
    found = with_knobs()
    bill, knobs, capture, actions = cost_tables(found)
    rows = {r[0]: r[1] for r in bill.rows}
    assert rows["Off-hours"] == "−$100.00 (−$110 to −$90.00)"
    assert rows["Kept warm: base traffic"] == "$300.00"
    assert rows["Kept warm: burst until help arrives"] == "$150.00"
    mids = [
        float(v.partition(" ")[0].replace("$", "").replace("−", "-").replace(",", ""))
        for v in rows.values()
    ]
    assert sum(mids[:-1]) == pytest.approx(mids[-1], abs=0.03)
    assert rows["Data capture"].startswith("$1.")
    assert bill.rows[-1][0] == "Total"
    assert not {r[0] for r in knobs.rows} & set(rows)
    assert capture.rows[0][:2] == ("20 %", "fits")
    assert "12,345" in capture.rows[0]
    assert actions.rows[0][1:] == ("cron(0 20 ? * MON-FRI *)", "UTC", "1", "1")


def test_nothing_asked_and_no_price_leaves_the_tables_out() -> None:
    bare = recommendation()
    assert bare.chosen is not None
    free = replace(bare.chosen.expected, cost_per_month_usd=None, cost_per_million_usd=None)
    assert cost_tables(replace(bare, chosen=replace(bare.chosen, expected=free))) == ()
    assert cost_tables(None) == ()


def test_the_page_shows_the_knobs_and_escapes_them() -> None:
    page = render_html(replace(report(), recommendation=with_knobs()))
    assert "The recommended bill, part by part" in page
    assert "What each knob is worth, against doing otherwise" in page
    assert "hours-&lt;b&gt;" in page
    assert "hours-<b>" not in page


def test_the_terminal_says_what_is_kept_warm_and_captured() -> None:
    text = console_text(with_knobs())
    assert "4 = 2 base + 1 burst + 1 resilience, $600 per month" in text
    assert "Capture 20 % of the requests" in " ".join(text.split())
