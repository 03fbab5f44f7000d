"""``python -m tuner.emulator``: serve an emulated endpoint until stopped."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tuner.emulator.options import Options, spec_of
from tuner.emulator.presets import preset_names
from tuner.emulator.server import Ready, serve
from tuner.errors import TunerError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tuner.emulator", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--preset", choices=preset_names())
    what.add_argument("--spec", type=Path, help="a TOML file")
    parser.add_argument("--local", metavar="COMMAND", help="real model servers; uses {port}")
    parser.add_argument("--faults", type=Path, help="a TOML file of [[faults]]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--minute-seconds", type=float, help="length of a control minute")
    parser.add_argument(
        "--capture-percent",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="a further endpoint that captures this percentage of its requests",
    )
    parser.add_argument("--announce", action="store_true", help="say where, as a line of JSON")
    parser.add_argument("--stop-fd", type=int, help=argparse.SUPPRESS)
    return parser


def _announce(ready: Ready) -> None:
    sys.stdout.write(json.dumps(asdict(ready)) + "\n")
    sys.stdout.flush()


def _say(ready: Ready) -> None:
    sys.stdout.write(f"serving endpoint {ready.endpoint_name} at {ready.url}\n")
    sys.stdout.flush()


def main() -> int:
    """Run; returns the exit code."""
    options = _parser().parse_args()
    try:
        spec = spec_of(
            Options(
                options.preset,
                options.spec,
                options.faults,
                options.minute_seconds,
                options.local,
                tuple(options.capture_percent),
            )
        )
        on_ready = _announce if options.announce else _say
        serve(spec, options.host, options.port, on_ready=on_ready, stop_fd=options.stop_fd)
    except TunerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
