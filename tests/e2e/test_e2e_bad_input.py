"""Bad input: one clear message, exit code 2, nothing half-written, never a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e_tools import SHORT_PLAN

from tuner.cli import main
from tuner.emulator.process import EmulatorProcess

HTTP_PLAN = SHORT_PLAN.replace(
    'kind = "emulator"\npreset = "demo"', 'kind = "http"\nurl = "http://127.0.0.1:{port}/x"'
).replace("instance_counts = [1, 2]", "instance_counts = [1]")


@contextmanager
def server(answer: bytes | None) -> Iterator[int]:
    """A server that says ``answer`` to everyone, or resets every connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.1)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                peer, _ = listening.accept()
            except TimeoutError:
                continue
            with peer:
                peer.settimeout(1)
                if answer is None:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    continue
                peer.recv(65536)
                peer.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        stop.set()
        thread.join()
        listening.close()


Said = pytest.CaptureFixture[str]

EXAMPLE = Path(__file__).parents[2] / "reports" / "example"


def said(capsys: Said, args: list[str]) -> str:
    """What ``tuner ARGS`` writes to standard error; it must exit with 2."""
    try:
        code = main(args)
    except SystemExit as end:  # the argument parser's own way
        code = int(str(end.code))
    text = capsys.readouterr().err
    assert code == 2, text
    assert "internal error" not in text
    assert text.strip()
    return text


def refused(capsys: Said, tmp_path: Path, plan: str, *words: str) -> None:
    path = tmp_path / "tuner.toml"
    path.write_text(plan)
    out = tmp_path / "run"
    text = said(capsys, ["run", str(path), "--out", str(out)])
    for word in words:
        assert word in text
    assert not out.exists(), "a run that could not begin leaves nothing behind"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("p99_ms = 1000", "p99_ms = 1000\np98_ms = 5", ["slo.p98_ms", "unknown key"]),
        ("p99_ms = 1000", 'p99_ms = "fast"', ["slo.p99_ms", "'fast'"]),
        ("rates = [40, 60, 80]", "rates = [40, -60]", ["load.rates.1", "-60"]),
        ('body = "{}"', 'payloads = [{ file = "none.json" }]', ["load.payloads.0", "none.json"]),
        ('preset = "demo"', 'preset = "dmeo"', ["dmeo", "demo"]),
        ("peak_per_min = 20000\n", 'csv = "none.csv"\n', ["traffic.csv", "none.csv"]),
    ],
)
def test_a_bad_plan(capsys: Said, tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    plan = SHORT_PLAN.replace(old, new)
    assert plan != SHORT_PLAN
    refused(capsys, tmp_path, plan, *words)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("0,10\n1,nan\n2,30\n", ["line 3"]),
        ("0,10\n2,20\n1,30\n", ["line 4"]),
        ("0,10\n1,-4\n", ["line 3", "-4"]),
        ("0,10\n1,ten\n", ["line 3", "ten"]),
        ("", ["traffic.csv"]),
    ],
)
def test_a_bad_traffic_file(capsys: Said, tmp_path: Path, rows: str, words: list[str]) -> None:
    (tmp_path / "traffic.csv").write_text("minute,requests\n" + rows)
    plan = SHORT_PLAN.replace(
        'peak_per_min = 20000\nshape = "sample_day"\n', 'csv = "traffic.csv"\n'
    )
    refused(capsys, tmp_path, plan, *words)


def test_an_endpoint_that_is_not_there(capsys: Said, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused(capsys, tmp_path, HTTP_PLAN.replace("{port}", str(port)), f"127.0.0.1:{port}")


def test_an_endpoint_that_resets(capsys: Said, tmp_path: Path) -> None:
    with server(None) as port:
        refused(capsys, tmp_path, HTTP_PLAN.replace("{port}", str(port)), f"127.0.0.1:{port}")


def test_an_endpoint_that_answers_5xx(capsys: Said, tmp_path: Path) -> None:
    answer = b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with server(answer) as port:
        refused(capsys, tmp_path, HTTP_PLAN.replace("{port}", str(port)), "503")


def test_a_sagemaker_endpoint_that_does_not_exist(capsys: Said, tmp_path: Path) -> None:
    with EmulatorProcess("null") as emulator:
        plan = SHORT_PLAN.replace(
            'kind = "emulator"\npreset = "demo"',
            f'kind = "sagemaker"\nname = "absent"\nregion = "us-east-1"\n'
            f'endpoint_url = "{emulator.url}"',
        )
        refused(capsys, tmp_path, plan, "absent")


@pytest.mark.parametrize(
    "args",
    [
        ["recommend"],
        ["recommend", "nowhere"],
        ["run", "nowhere.toml"],
        ["run", "nowhere.toml", "--workers", "0"],
        ["export", "nowhere"],
        ["report", "nowhere"],
        ["restore", "nowhere"],
        ["emulate", "--preset", "none"],
        ["emulate", "--port", "-1"],
        ["emulate", "--spec", "nowhere.toml"],
        ["simulate", "nowhere", "--policy", "target=x"],
        ["worker", "--master", "nowhere"],
        ["frobnicate"],
    ],
)
def test_bad_flags_and_missing_files(capsys: Said, args: list[str]) -> None:
    said(capsys, args)


def test_init_does_not_overwrite(capsys: Said, tmp_path: Path) -> None:
    plan = tmp_path / "tuner.toml"
    assert main(["init", str(plan)]) == 0
    plan.write_text("mine")
    assert str(plan) in said(capsys, ["init", str(plan)])
    assert plan.read_text() == "mine"


def test_a_place_that_cannot_be_written_to(capsys: Said, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine")
    for place in (in_the_way, in_the_way / "below"):
        text = said(capsys, ["recommend", str(EXAMPLE), "--no-report", "--out", str(place)])
        assert str(in_the_way) in text
    assert in_the_way.read_text() == "mine"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from tuner.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'numpy', 'scipy', 'matplotlib', 'locust', 'gevent', 'boto3', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for word in ("exit codes", "demo", "recommend"):
        assert word in done.stdout
