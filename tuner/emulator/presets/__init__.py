"""Ready-made emulators, each a TOML file in this package and an example of the format."""

from __future__ import annotations

from importlib.resources import files

from tuner.emulator.spec import EmulatorSpec
from tuner.emulator.specfile import parse_spec
from tuner.errors import InputError


def preset_names() -> tuple[str, ...]:
    """The presets there are, in alphabetical order."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml")))


def preset_text(name: str) -> str:
    """The TOML of a preset.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in preset_names():
        allowed = ", ".join(preset_names())
        raise InputError("there is no such emulator preset", value=name, allowed=allowed)
    return files(__name__).joinpath(f"{name}.toml").read_text("utf-8")


def preset(name: str) -> EmulatorSpec:
    """The emulator of a preset.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    return parse_spec(preset_text(name), f"preset {name}")
