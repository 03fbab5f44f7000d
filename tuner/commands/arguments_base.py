"""What the subcommands' flags have in common. Only the standard library, as for all of them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeAlias

EXIT_CODES = """\
exit codes:
  0    done, and the SLO can be held (compare, canary: not slower)
  1    tuner itself failed
  2    bad input: a flag, the plan, a file, a run directory, or the endpoint
  3    the SLO cannot be met by any allowed capacity (compare, canary: slower)
  4    the data do not support an answer; what to measure next is printed
  130  interrupted; what was measured is kept
"""

SLO_KEYS = (
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "p99_9_ms",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p95_ms",
    "ttft_p99_ms",
    "chunk_gap_p50_ms",
    "chunk_gap_p90_ms",
    "chunk_gap_p95_ms",
    "chunk_gap_p99_ms",
)

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(
    commands: Commands,
    name: str,
    text: str,
    module: str | None = None,
) -> argparse.ArgumentParser:
    """A subcommand with what all of them share; ``module`` is where it is carried out."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(module=module or name)
    parser.add_argument(
        "--plain", action="store_true", help="plain lines instead of a live display"
    )
    return parser


def number(least: float, *, integer: bool = False) -> Callable[[str], float]:
    """A type of flag: a finite number from ``least`` on."""

    def parse(text: str) -> float:
        try:
            value = int(text) if integer else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(f"{text} is not allowed: at least {least:g}")
        return value

    return parse


def level(text: str) -> float:
    """A confidence level."""
    value = number(0.5)(text)
    if value > 0.999:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: at most 0.999")
    return value


def slo_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that replace single objectives of the plan."""
    for key in SLO_KEYS:
        name = "--slo-" + key.replace("_", "-")
        hidden = key not in ("p95_ms", "p99_ms", "ttft_p95_ms", "chunk_gap_p95_ms")
        parser.add_argument(
            name,
            type=number(1e-3),
            metavar="N",
            dest=f"slo_{key}",
            help=argparse.SUPPRESS if hidden else "another objective than the plan's",
        )
    parser.add_argument(
        "--slo-max-error-rate",
        type=number(0),
        metavar="X",
        dest="slo_max_error_rate",
        help="share of requests that may fail",
    )
