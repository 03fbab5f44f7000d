"""The command line: parse, call one function, print, exit code.

Heavy imports happen inside a subcommand, so that ``tuner --help`` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.commands.arguments import build_parser
from tuner.errors import InputError, TunerError

if TYPE_CHECKING:
    from tuner.commands.ui import Ui

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = build_parser().parse_args(argv)
    try:
        command = importlib.import_module(f"tuner.commands.{args.module}")
        return int(command.main(args, _ui(args)))
    except TunerError as error:
        print(f"tuner: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tuner: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (``tuner … | head``): nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        refusal = _refused_by_the_system(error)
        if refusal is None:
            return _internal(error)
        print(f"tuner: {refusal}", file=sys.stderr)
        return refusal.exit_code
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _internal(error)


def _internal(error: Exception) -> int:
    print(f"tuner: internal error: {type(error).__name__}: {error}", file=sys.stderr)
    print(f"  next:    please report it with {_keep_traceback()}", file=sys.stderr)
    return 1


def _refused_by_the_system(error: OSError) -> TunerError | None:
    """What the user can do something about: a path that cannot be used, or a full disk."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if error.filename is None and not full:
        return None
    return InputError(
        f"the file or directory cannot be used: {error.strerror}",
        value=None if error.filename is None else str(error.filename),
        hint="make room on the disk" if full else "give another place, for example with --out DIR",
    )


def _ui(args: argparse.Namespace) -> Ui:
    from tuner.commands.ui import PlainUi

    if getattr(args, "plain", False) or not sys.stderr.isatty():
        return PlainUi(sys.stdout, sys.stderr)
    from tuner.commands.live import LiveUi

    return LiveUi(sys.stdout, sys.stderr)


def _keep_traceback() -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="tuner-", suffix=".traceback", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exc(file=file)
    return str(Path(file.name))


if __name__ == "__main__":
    sys.exit(main())
