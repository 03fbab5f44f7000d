"""Every subcommand and its flags. Only the standard library: ``--help`` must answer at once."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from tuner import __version__

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
    for add in (
        _demo,
        _init,
        _emulate,
        _check,
        _rehearse,
        _run,
        _canary,
        _compare,
        _worker,
        _import,
        _recommend,
        _simulate,
        _capture,
        _report,
        _export,
        _apply,
        _verify,
        _restore,
        _traffic,
        _prices,
    ):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    module: str | None = None,
) -> argparse.ArgumentParser:
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


def _number(least: float, *, integer: bool = False) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = int(text) if integer else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(f"{text} is not allowed: at least {least:g}")
        return value

    return parse


def _demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "demo", "the whole job against an emulated endpoint, in two minutes"
    )
    parser.add_argument("--out", metavar="DIR", help="run directory (default: reports/demo-…)")
    parser.add_argument("--seed", type=_number(0, integer=True), default=3, metavar="N")


def _init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "init", "write a commented tuner.toml")
    parser.add_argument("path", nargs="?", default="tuner.toml", metavar="FILE")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--full", action="store_true", help="with the tables of every knob")


def _emulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "emulate", "serve an emulated SageMaker endpoint until stopped")
    parser.add_argument("--preset", metavar="NAME", help="a built-in server model (see --list)")
    parser.add_argument("--spec", metavar="FILE", help="a server model of your own (see --example)")
    parser.add_argument(
        "--port",
        type=_number(0, integer=True),
        default=8000,
        metavar="N",
        help="0 takes a free one (default: 8000)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: loopback)")
    parser.add_argument(
        "--minute-seconds",
        type=_number(0.05),
        metavar="S",
        help="length of a control-plane minute (default: the spec's, 60); latency is never scaled",
    )
    parser.add_argument(
        "--local",
        metavar="COMMAND",
        help="serve a real model: a command with {port}, one process an instance",
    )
    parser.add_argument("--faults", metavar="FILE", help="a script of faults over time")
    parser.add_argument("--list", action="store_true", help="list the presets and stop")
    parser.add_argument("--example", action="store_true", help="print an example spec and stop")


def _run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "run", "measure an endpoint as a plan says, and recommend")
    parser.add_argument("plan", metavar="PLAN", help="a tuner.toml")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: reports/…)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out (default: the newest unfinished one)",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="let workers of other machines join (tuner worker --master HOST:PORT)",
    )
    parser.add_argument(
        "--workers",
        type=_number(0, integer=True),
        metavar="N",
        help="generator processes on this machine; 0 with --listen takes other machines' only",
    )
    parser.add_argument("--locustfile", metavar="FILE", help="drive your own Locust User classes")
    parser.add_argument(
        "--yes-this-is-production",
        action="store_true",
        help="allow load on an endpoint named or tagged as production",
    )


def _import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "import", "take over what another load tool has measured", "import_file"
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="CSV (or CSV.gz): one request a row (its start and latency), or one load a row",
    )
    parser.add_argument("--out", metavar="DIR", help="run directory to make of the requests")
    parser.add_argument("--plan", metavar="PLAN", help="SLO, traffic and prices; or --slo-… flags")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="only these rows; may be repeated",
    )
    parser.add_argument(
        "--instances",
        type=_number(1, integer=True),
        default=1,
        metavar="N",
        help="behind the endpoint, where no column says it (default: 1)",
    )
    parser.add_argument(
        "--routing",
        choices=("RANDOM", "LEAST_OUTSTANDING_REQUESTS"),
        default="RANDOM",
        help="default: RANDOM, as SageMaker does",
    )
    parser.add_argument(
        "--settle-s",
        type=_number(0),
        metavar="S",
        help="start of each load that is not measured (default: a tenth, at most 15)",
    )
    parser.add_argument(
        "--inflation",
        type=_number(1),
        default=15.0,
        metavar="X",
        help="one load a row: requests that are worth one independent one (default: 15)",
    )
    _slo_flags(parser)


def _slo_flags(parser: argparse.ArgumentParser) -> None:
    for key in SLO_KEYS:
        name = "--slo-" + key.replace("_", "-")
        hidden = key not in ("p95_ms", "p99_ms", "ttft_p95_ms", "chunk_gap_p95_ms")
        parser.add_argument(
            name,
            type=_number(1e-3),
            metavar="N",
            dest=f"slo_{key}",
            help=argparse.SUPPRESS if hidden else "another objective than the plan's",
        )
    parser.add_argument(
        "--slo-max-error-rate",
        type=_number(0),
        metavar="X",
        dest="slo_max_error_rate",
        help="share of requests that may fail",
    )


def _question(parser: argparse.ArgumentParser) -> None:
    """Flags that ask another question of a finished run."""
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--traffic", metavar="CSV", help="requests per minute; else the plan's")
    parser.add_argument("--growth", type=_number(1e-6), metavar="X", help="multiply the traffic")
    _slo_flags(parser)
    parser.add_argument("--lose", metavar="WHAT", help="none, '1 instance', '1 zone of 3'")
    parser.add_argument("--min-capacity", type=_number(1, integer=True), metavar="N")
    parser.add_argument("--max-capacity", type=_number(1, integer=True), metavar="N")
    parser.add_argument("--instance-type", metavar="TYPE")
    parser.add_argument("--price-per-hour-usd", type=_number(1e-9), metavar="USD")
    parser.add_argument(
        "--launch-lag-s",
        type=_number(0),
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


def _recommend(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "recommend", "the policy for a traffic, from a run directory")
    _question(parser)
    parser.add_argument("--json", action="store_true", help="print recommendation.json")
    parser.add_argument(
        "--out", metavar="DIR", help="write there instead of into the run directory"
    )
    parser.add_argument("--no-report", action="store_true", help="write no page and no figures")
    parser.add_argument("--png", action="store_true", help="figures as PNG too, as tuner report")
    _override(parser)


def _capture(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "capture", "what data capture costs: the same load with it off and on"
    )
    parser.add_argument("plan", metavar="PLAN", help="a tuner.toml; see its [data_capture]")
    parser.add_argument(
        "--run", metavar="RUN", help="a run directory: load as its target says, and answer again"
    )
    parser.add_argument(
        "--rate", type=_number(1e-6), metavar="N", help="requests per second on either endpoint"
    )
    parser.add_argument(
        "--minutes", type=_number(0.1), metavar="N", help="for each percentage (default: 5)"
    )
    parser.add_argument("--out", metavar="DIR", help="without --run (default: reports/…)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the percentages measured before in --run or --out, and add those missing",
    )
    parser.add_argument("--yes-this-is-production", action="store_true")


def _report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "report", "make the report again from a run directory")
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--out", metavar="DIR", help="write there instead of into the run directory"
    )
    _override(parser)


def _export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "export", "write every measured request as CSV or Parquet")
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--format",
        choices=("csv", "parquet", "hdr"),
        default="csv",
        help="hdr: an HdrHistogram log, windows tagged by stage",
    )
    parser.add_argument("--out", metavar="DIR", help="default: RUN/export")


def _check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "check", "look at a plan and its endpoint, and change nothing")
    parser.add_argument("plan", nargs="?", default="tuner.toml", metavar="PLAN")
    parser.add_argument(
        "--iam-policy", action="store_true", help="print the IAM policy tuner needs, and stop"
    )
    parser.add_argument("--yes-this-is-production", action="store_true")


def _rehearse(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "rehearse", "run a plan's campaign in virtual time: what it takes")
    parser.add_argument("plan", metavar="PLAN", help="a tuner.toml")
    parser.add_argument("--preset", metavar="NAME", help="server model: an emulator preset")
    parser.add_argument("--spec", metavar="FILE", help="server model: an emulator spec")
    parser.add_argument(
        "--campaigns", type=_number(1, integer=True), default=20, metavar="N", help="default: 20"
    )


def _canary(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "canary", "is a new variant slower? paired load, stopped as soon as it is clear"
    )
    parser.add_argument("plan", metavar="PLAN", help="a tuner.toml; see its [canary] table")
    parser.add_argument("--variant", metavar="NAME", help="the candidate; else the plan's")
    parser.add_argument("--endpoint", metavar="NAME", help="the candidate's endpoint, if another")
    parser.add_argument(
        "--rate", type=_number(1e-3), metavar="N", help="requests per second on either variant"
    )
    parser.add_argument(
        "--slower-by", type=_number(1e-4), metavar="X", help="slow-down that counts (0.05 is 5 %%)"
    )
    parser.add_argument("--max-minutes", type=_number(10, integer=True), metavar="N")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: reports/…)")
    parser.add_argument("--resume", action="store_true", help="go on with the canary in --out")
    parser.add_argument("--junit", metavar="FILE", help="write the answer for CI")
    parser.add_argument("--json", action="store_true", help="print canary.json")
    parser.add_argument("--yes-this-is-production", action="store_true")


def _compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "compare", "did the second run get slower than the first?")
    parser.add_argument("baseline", metavar="RUN", help="the run directory to hold it against")
    parser.add_argument("candidate", metavar="RUN", help="the run directory that is asked about")
    parser.add_argument(
        "--slower-by",
        type=_number(1e-4),
        default=0.05,
        metavar="X",
        help="slow-down that counts as a regression (default: 0.05)",
    )
    parser.add_argument("--level", type=_level, default=0.95, metavar="X", help="default: 0.95")
    parser.add_argument(
        "--no-capacity", action="store_true", help="compare latency alone; capacity takes longer"
    )
    parser.add_argument("--junit", metavar="FILE", help="write the answer for CI")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")


def _level(text: str) -> float:
    value = _number(0.5)(text)
    if value > 0.999:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: at most 0.999")
    return value


def _worker(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "worker", "lend this machine's cores to a campaign elsewhere")
    parser.add_argument("--master", required=True, metavar="HOST:PORT", help="where tuner run is")


def _simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "simulate", "what a given policy would do with the traffic")
    _question(parser)
    parser.add_argument(
        "--policy",
        required=True,
        metavar="P",
        help="target=1200,min=2,max=10[,out=0][,in=300][,metric=…], or fixed=4",
    )
    parser.add_argument("--json", action="store_true", help="print the candidate as JSON")


def _apply(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "apply", "register the recommended policy (dry run by default)")
    parser.add_argument("run", metavar="RUN", help="a run directory with a recommendation")
    parser.add_argument("--yes", action="store_true", help="do it; the state before is recorded")
    parser.add_argument(
        "--replace-others", action="store_true", help="take other target-tracking policies away"
    )
    parser.add_argument("--yes-this-is-production", action="store_true")


def _verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "verify",
        "replay a piece of the traffic against the endpoint with its live policy",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory whose policy was applied")
    parser.add_argument(
        "--minutes",
        type=_number(3, integer=True),
        metavar="N",
        help="length of the replay (default: as a scale-out and what follows it need)",
    )
    parser.add_argument(
        "--minute-seconds",
        type=_number(0.2),
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


def _restore(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "restore", "put an endpoint back as it was before a campaign")
    parser.add_argument("run", metavar="RUN", help="the run directory of the campaign")
    parser.add_argument("--applied", action="store_true", help="take back what tuner apply did")


def _traffic(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "traffic", "import the traffic an endpoint has had")
    parser.add_argument("action", choices=("import",))
    parser.add_argument("endpoint", metavar="ENDPOINT", help="name of the endpoint")
    parser.add_argument("--variant", metavar="NAME")
    parser.add_argument("--region", metavar="REGION")
    parser.add_argument("--profile", metavar="NAME")
    parser.add_argument("--endpoint-url", metavar="URL")
    parser.add_argument(
        "--days", type=_number(1e-3), default=14.0, metavar="N", help="default: 14; at most 15"
    )
    parser.add_argument("--out", default="traffic.csv", metavar="FILE")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def _prices(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "prices", "read instance prices from AWS, or show those known")
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
