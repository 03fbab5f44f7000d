"""``tuner emulate``: an emulated SageMaker endpoint, served until stopped."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tuner.commands.ui import Ui
from tuner.emulator.presets import preset, preset_names, preset_text
from tuner.emulator.server import Ready, serve
from tuner.emulator.spec import EmulatorSpec, Fault
from tuner.emulator.specfile import parse_fault_script, parse_spec
from tuner.errors import InputError

DEFAULT_PRESET = "demo"


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Serve, or say what could be served."""
    if args.list:
        for name in preset_names():
            ui.result(f"{name:<20} {preset(name).description}")
        return 0
    if args.example:
        ui.result(preset_text(args.preset or DEFAULT_PRESET))
        return 0
    spec = spec_from(args.preset, args.spec)
    if args.minute_seconds is not None:
        spec = spec.with_minute_seconds(args.minute_seconds)
    if args.faults is not None:
        spec = replace(spec, faults=(*spec.faults, *_faults(Path(args.faults))))
    if args.local is not None:
        spec = spec.with_local_command(args.local)

    def ready(ready: Ready) -> None:
        ui.result(
            f"endpoint {ready.endpoint_name}, variant {ready.variant_name}, at {ready.url}\n"
            f"  export AWS_ENDPOINT_URL={ready.url} AWS_DEFAULT_REGION=us-east-1 "
            "AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local\n"
            "stop with Ctrl-C"
        )

    serve(spec, args.host, args.port, on_ready=ready)
    return 0


def spec_from(name: str | None, file: str | None) -> EmulatorSpec:
    """A preset, or a spec file; the demo's when neither is named.

    Raises
    ------
    InputError
        If both are given, or the file cannot be read or used.
    """
    if name is not None and file is not None:
        raise InputError("--preset and --spec cannot be given together")
    if file is None:
        return preset(name or DEFAULT_PRESET)
    return parse_spec(_text(Path(file)), file)


def _faults(path: Path) -> tuple[Fault, ...]:
    return parse_fault_script(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file cannot be read: {error}", value=str(path)) from None
