"""Flags of the commands that measure, or prepare to."""

from __future__ import annotations

from tuner.commands.arguments_base import Commands, command, level, number, slo_flags


def _demo(commands: Commands) -> None:
    parser = command(commands, "demo", "the whole job against an emulated endpoint, in two minutes")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: reports/demo-…)")
    parser.add_argument("--seed", type=number(0, integer=True), default=3, metavar="N")


def _init(commands: Commands) -> None:
    parser = command(commands, "init", "write a commented tuner.toml")
    parser.add_argument("path", nargs="?", default="tuner.toml", metavar="FILE")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--full", action="store_true", help="with the tables of every knob")


def _emulate(commands: Commands) -> None:
    parser = command(commands, "emulate", "serve an emulated SageMaker endpoint until stopped")
    parser.add_argument("--preset", metavar="NAME", help="a built-in server model (see --list)")
    parser.add_argument("--spec", metavar="FILE", help="a server model of your own (see --example)")
    parser.add_argument(
        "--port",
        type=number(0, integer=True),
        default=8000,
        metavar="N",
        help="0 takes a free one (default: 8000)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: loopback)")
    parser.add_argument(
        "--minute-seconds",
        type=number(0.05),
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


def _check(commands: Commands) -> None:
    parser = command(commands, "check", "look at a plan and its endpoint, and change nothing")
    parser.add_argument("plan", nargs="?", default="tuner.toml", metavar="PLAN")
    parser.add_argument(
        "--iam-policy", action="store_true", help="print the IAM policy tuner needs, and stop"
    )
    parser.add_argument("--yes-this-is-production", action="store_true")


def _rehearse(commands: Commands) -> None:
    parser = command(commands, "rehearse", "run a plan's campaign in virtual time: what it takes")
    parser.add_argument("plan", metavar="PLAN", help="a tuner.toml")
    parser.add_argument("--preset", metavar="NAME", help="server model: an emulator preset")
    parser.add_argument("--spec", metavar="FILE", help="server model: an emulator spec")
    parser.add_argument(
        "--campaigns", type=number(1, integer=True), default=20, metavar="N", help="default: 20"
    )


def _run(commands: Commands) -> None:
    parser = command(commands, "run", "measure an endpoint as a plan says, and recommend")
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
        type=number(0, integer=True),
        metavar="N",
        help="generator processes on this machine; 0 with --listen takes other machines' only",
    )
    parser.add_argument("--locustfile", metavar="FILE", help="drive your own Locust User classes")
    parser.add_argument(
        "--yes-this-is-production",
        action="store_true",
        help="allow load on an endpoint named or tagged as production",
    )


def _worker(commands: Commands) -> None:
    parser = command(commands, "worker", "lend this machine's cores to a campaign elsewhere")
    parser.add_argument("--master", required=True, metavar="HOST:PORT", help="where tuner run is")


def _import(commands: Commands) -> None:
    parser = command(
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
        type=number(1, integer=True),
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
        type=number(0),
        metavar="S",
        help="start of each load that is not measured (default: a tenth, at most 15)",
    )
    parser.add_argument(
        "--inflation",
        type=number(1),
        default=15.0,
        metavar="X",
        help="one load a row: requests that are worth one independent one (default: 15)",
    )
    slo_flags(parser)


def _capture(commands: Commands) -> None:
    parser = command(
        commands, "capture", "what data capture costs: the same load with it off and on"
    )
    parser.add_argument("plan", metavar="PLAN", help="a tuner.toml; see its [data_capture]")
    parser.add_argument(
        "--run", metavar="RUN", help="a run directory: load as its target says, and answer again"
    )
    parser.add_argument(
        "--rate", type=number(1e-6), metavar="N", help="requests per second on either endpoint"
    )
    parser.add_argument(
        "--minutes", type=number(0.1), metavar="N", help="for each percentage (default: 5)"
    )
    parser.add_argument("--out", metavar="DIR", help="without --run (default: reports/…)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the percentages measured before in --run or --out, and add those missing",
    )
    parser.add_argument("--yes-this-is-production", action="store_true")


def _canary(commands: Commands) -> None:
    parser = command(
        commands, "canary", "is a new variant slower? paired load, stopped as soon as it is clear"
    )
    parser.add_argument("plan", metavar="PLAN", help="a tuner.toml; see its [canary] table")
    parser.add_argument("--variant", metavar="NAME", help="the candidate; else the plan's")
    parser.add_argument("--endpoint", metavar="NAME", help="the candidate's endpoint, if another")
    parser.add_argument(
        "--rate", type=number(1e-3), metavar="N", help="requests per second on either variant"
    )
    parser.add_argument(
        "--slower-by", type=number(1e-4), metavar="X", help="slow-down that counts (0.05 is 5 %%)"
    )
    parser.add_argument("--max-minutes", type=number(10, integer=True), metavar="N")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: reports/…)")
    parser.add_argument("--resume", action="store_true", help="go on with the canary in --out")
    parser.add_argument("--junit", metavar="FILE", help="write the answer for CI")
    parser.add_argument("--json", action="store_true", help="print canary.json")
    parser.add_argument("--yes-this-is-production", action="store_true")


def _compare(commands: Commands) -> None:
    parser = command(commands, "compare", "did the second run get slower than the first?")
    parser.add_argument("baseline", metavar="RUN", help="the run directory to hold it against")
    parser.add_argument("candidate", metavar="RUN", help="the run directory that is asked about")
    parser.add_argument(
        "--slower-by",
        type=number(1e-4),
        default=0.05,
        metavar="X",
        help="slow-down that counts as a regression (default: 0.05)",
    )
    parser.add_argument("--level", type=level, default=0.95, metavar="X", help="default: 0.95")
    parser.add_argument(
        "--no-capacity", action="store_true", help="compare latency alone; capacity takes longer"
    )
    parser.add_argument("--junit", metavar="FILE", help="write the answer for CI")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")


MEASURING = (
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
    _capture,
)
