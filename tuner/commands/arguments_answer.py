"""Flags of the commands that answer from a run, and of those that act on the answer."""

from __future__ import annotations

import argparse

from tuner.commands.arguments_base import Commands, command, number, slo_flags


def _question(parser: argparse.ArgumentParser) -> None:
    """Flags that ask another question of a finished run."""
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--traffic", metavar="CSV", help="requests per minute; else the plan's")
    parser.add_argument("--growth", type=number(1e-6), metavar="X", help="multiply the traffic")
    slo_flags(parser)
    parser.add_argument("--lose", metavar="WHAT", help="none, '1 instance', '1 zone of 3'")
    parser.add_argument("--min-capacity", type=number(1, integer=True), metavar="N")
    parser.add_argument("--max-capacity", type=number(1, integer=True), metavar="N")
    parser.add_argument("--instance-type", metavar="TYPE")
    parser.add_argument("--price-per-hour-usd", type=number(1e-9), metavar="USD")
    parser.add_argument(
        "--launch-lag-s",
        type=number(0),
        metavar="S",
        help="seconds from order to service; default: as measured",
    )
    parser.add_argument(
        "--mix",
        action="append",
        default=[],
        metavar="CLASS=SHARE",
        help="production share of a payload class: heavy=12%%",
    )


def _recommend(commands: Commands) -> None:
    parser = command(commands, "recommend", "the policy for a traffic, from a run directory")
    _question(parser)
    parser.add_argument("--json", action="store_true", help="print recommendation.json")
    _out(parser)
    parser.add_argument("--no-report", action="store_true", help="write no page and no figures")
    parser.add_argument("--png", action="store_true", help="figures as PNG too, as tuner report")
    _override(parser)


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", help="write there instead of into the run directory"
    )


def _simulate(commands: Commands) -> None:
    parser = command(commands, "simulate", "what a given policy would do with the traffic")
    _question(parser)
    parser.add_argument(
        "--policy",
        required=True,
        metavar="P",
        help="target=1200,min=2,max=10[,out=0][,in=300][,metric=…], or fixed=4",
    )
    parser.add_argument("--json", action="store_true", help="print the candidate as JSON")


def _report(commands: Commands) -> None:
    parser = command(commands, "report", "make the report again from a run directory")
    parser.add_argument("run", metavar="RUN", help="a run directory")
    _out(parser)
    _override(parser)


def _export(commands: Commands) -> None:
    parser = command(commands, "export", "write every measured request as CSV or Parquet")
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--format",
        choices=("csv", "parquet", "hdr"),
        default="csv",
        help="hdr: an HdrHistogram log, windows tagged by stage",
    )
    parser.add_argument("--out", metavar="DIR", help="default: RUN/export")


def _apply(commands: Commands) -> None:
    parser = command(commands, "apply", "register the recommended policy (dry run by default)")
    parser.add_argument("run", metavar="RUN", help="a run directory with a recommendation")
    parser.add_argument("--yes", action="store_true", help="do it; the state before is recorded")
    parser.add_argument(
        "--replace-others", action="store_true", help="take other target-tracking policies away"
    )
    parser.add_argument("--yes-this-is-production", action="store_true")


def _verify(commands: Commands) -> None:
    parser = command(
        commands,
        "verify",
        "replay a piece of the traffic against the endpoint with its live policy",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory whose policy was applied")
    parser.add_argument(
        "--minutes",
        type=number(3, integer=True),
        metavar="N",
        help="length of the replay (default: as a scale-out and what follows it need)",
    )
    parser.add_argument(
        "--minute-seconds",
        type=number(0.2),
        metavar="S",
        help="length of a control-plane minute, as an accelerated emulator was told "
        "(default: endpoint.minute_seconds of the plan, else 60)",
    )
    parser.add_argument("--traffic", metavar="CSV", help="requests per minute; else the plan's")
    parser.add_argument(
        "--plan", metavar="PLAN", help="the plan, where payload files are beside it"
    )
    parser.add_argument(
        "--override",
        action="store_true",
        help="replay nothing: accept the failure of the last verification",
    )
    parser.add_argument("--json", action="store_true", help="print verification.json")
    parser.add_argument("--yes-this-is-production", action="store_true")


def _override(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--override-verification",
        action="store_true",
        help="write terraform.tfvars although the last verification failed",
    )


def _restore(commands: Commands) -> None:
    parser = command(commands, "restore", "put an endpoint back as it was before a campaign")
    parser.add_argument("run", metavar="RUN", help="the run directory of the campaign")
    parser.add_argument("--applied", action="store_true", help="take back what tuner apply did")


def _traffic(commands: Commands) -> None:
    parser = command(commands, "traffic", "import the traffic an endpoint has had")
    parser.add_argument("action", choices=("import",))
    parser.add_argument("endpoint", metavar="ENDPOINT", help="name of the endpoint")
    parser.add_argument("--variant", metavar="NAME")
    parser.add_argument("--region", metavar="REGION")
    parser.add_argument("--profile", metavar="NAME")
    parser.add_argument("--endpoint-url", metavar="URL")
    parser.add_argument(
        "--days", type=number(1e-3), default=14.0, metavar="N", help="default: 14; at most 15"
    )
    parser.add_argument("--out", default="traffic.csv", metavar="FILE")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def _prices(commands: Commands) -> None:
    parser = command(commands, "prices", "read instance prices from AWS, or show those known")
    parser.add_argument("action", choices=("update", "show"))
    parser.add_argument(
        "types", nargs="*", metavar="TYPE", help="such as ml.m5.xlarge; default: all known ones"
    )
    parser.add_argument("--region", metavar="REGION", help="default: of the AWS configuration")
    parser.add_argument("--profile", metavar="NAME")
    parser.add_argument("--endpoint-url", metavar="URL")
    parser.add_argument(
        "--file",
        default="tuner-prices.json",
        metavar="FILE",
        help="default: tuner-prices.json, where every answer looks for it",
    )


ANSWERING = (_recommend, _simulate, _report, _export, _apply, _verify, _restore, _traffic, _prices)
