"""What an emulator is asked to serve: a preset or a file, and what is changed about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tuner.emulator.presets import preset
from tuner.emulator.spec import EmulatorSpec
from tuner.emulator.specfile import parse_fault_script, parse_spec
from tuner.errors import InputError

DEFAULT_PRESET = "demo"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of ``tuner emulate`` and ``python -m tuner.emulator``."""

    preset: str | None = None
    spec: Path | None = None
    faults: Path | None = None
    minute_seconds: float | None = None
    local: str | None = None
    capture_percents: tuple[int, ...] = ()


def spec_of(options: Options) -> EmulatorSpec:
    """The specification that the options ask for.

    Raises
    ------
    InputError
        If a file cannot be read or used, or options exclude each other.
    """
    if options.spec is None:
        spec = preset(options.preset or DEFAULT_PRESET)
    elif options.preset is not None:
        raise InputError("--preset and --spec cannot be given together")
    else:
        spec = parse_spec(_text(options.spec), str(options.spec))
    if options.minute_seconds is not None:
        spec = spec.with_minute_seconds(options.minute_seconds)
    if options.capture_percents:
        spec = spec.with_capture(options.capture_percents)
    if options.faults is not None:
        faults = parse_fault_script(_text(options.faults), str(options.faults))
        spec = replace(spec, faults=(*spec.faults, *faults))
    if options.local is not None:
        spec = spec.with_local_command(options.local)
    return spec


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file cannot be read: {error}", value=str(path)) from None
