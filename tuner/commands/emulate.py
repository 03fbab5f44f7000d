"""``tuner emulate``: an emulated SageMaker endpoint, served until stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.commands.ui import Ui
from tuner.emulator.options import DEFAULT_PRESET, Options, spec_of
from tuner.emulator.presets import preset, preset_names, preset_text
from tuner.emulator.server import Ready, serve


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Serve, or say what could be served."""
    if args.list:
        for name in preset_names():
            ui.result(f"{name:<20} {preset(name).description}")
        return 0
    if args.example:
        ui.result(preset_text(args.preset or DEFAULT_PRESET))
        return 0
    spec = spec_of(
        Options(
            args.preset,
            _path(args.spec),
            _path(args.faults),
            args.minute_seconds,
            args.local,
        )
    )

    def ready(ready: Ready) -> None:
        ui.result(
            f"endpoint {ready.endpoint_name}, variant {ready.variant_name}, at {ready.url}\n"
            f"  export AWS_ENDPOINT_URL={ready.url} AWS_DEFAULT_REGION=us-east-1 "
            "AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local\n"
            "stop with Ctrl-C"
        )

    serve(spec, args.host, args.port, on_ready=ready)
    return 0


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
