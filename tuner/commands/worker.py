"""``tuner worker``: lend this machine's cores to a campaign on another one."""

from __future__ import annotations

import argparse

from tuner.commands.ui import Ui
from tuner.errors import InputError
from tuner.load.remote import run_worker


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Serve the master until stopped."""
    host, port = address_of(args.master)
    ui.say(f"waiting for {args.master}; stop with Ctrl-C")
    run_worker(host, port)
    return 0


def address_of(text: str) -> tuple[str, int]:
    """``HOST:PORT``, an IPv6 host in brackets.

    Raises
    ------
    InputError
        For anything else.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError("not an address", value=text, allowed="HOST:PORT")
    return host.strip("[]"), int(port)
