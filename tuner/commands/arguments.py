"""Every subcommand and its flags. Only the standard library: ``--help`` must answer at once."""

from __future__ import annotations

import argparse

from tuner import __version__
from tuner.commands.arguments_answer import ANSWERING
from tuner.commands.arguments_base import EXIT_CODES
from tuner.commands.arguments_measure import MEASURING


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="tuner",
        description="Measure a SageMaker real-time endpoint under open-loop load and set its "
        "autoscaling from what was measured.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tuner {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (*MEASURING, *ANSWERING):
        add(commands)
    return parser
