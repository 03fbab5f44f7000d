"""What the terminal shows."""

from __future__ import annotations

import io

import pytest

from tuner.commands.live import LiveUi
from tuner.commands.simulate import parse_policy
from tuner.commands.ui import PlainUi, Tick, duration_text
from tuner.commands.worker import address_of
from tuner.errors import InputError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (45.4, "45 s"), (120, "2 min"), (5940, "99 min"), (7500, "2 h 05 min")],
)
def test_durations_read_naturally(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_results_go_to_standard_output_and_the_rest_to_standard_error() -> None:
    for make in (PlainUi, LiveUi):
        out, err = io.StringIO(), io.StringIO()
        ui = make(out, err)
        ui.result("42")
        with ui.live():
            ui.say("working [1/2]")
            ui.tick(Tick("stage 1", 3.0, 60.0, 0.5, (("sent", "10"),)))
            ui.warn("careful")
        assert out.getvalue() == "42\n"
        assert "working [1/2]" in err.getvalue()
        assert "warning: careful" in err.getvalue()


def test_a_plain_display_does_not_flood_a_log() -> None:
    err = io.StringIO()
    ui = PlainUi(io.StringIO(), err)
    for i in range(50):
        ui.tick(Tick(f"stage {i}", float(i), None, 0.0))
    assert err.getvalue().count("\n") == 1


def test_policies_are_parsed_or_explained() -> None:
    policy, bounds = parse_policy("target=1200,min=2,max=10,out=0,metric=concurrency")
    assert policy is not None
    assert (policy.target_value, policy.scale_out_cooldown_s, policy.scale_in_cooldown_s) == (
        1200.0,
        0,
        300,
    )
    assert (bounds.min_capacity, bounds.max_capacity) == (2, 10)
    assert parse_policy("fixed=4")[0] is None
    for bad in ("", "target=5", "target=x,min=1,max=2", "target=5,min=3,max=2", "fixed=0",
                "target=5,min=1,max=2,bogus=1", "target=-1,min=1,max=2"):  # fmt: skip
        with pytest.raises(InputError) as caught:
            parse_policy(bad)
        assert caught.value.allowed


def test_addresses() -> None:
    assert address_of("10.0.0.1:5557") == ("10.0.0.1", 5557)
    assert address_of("[::1]:80") == ("::1", 80)
    for bad in ("host", "host:", ":80", "host:0", "host:99999", "host:http"):
        with pytest.raises(InputError):
            address_of(bad)
