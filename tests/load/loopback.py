"""Small HTTP servers for tests and benchmarks; run as a program, prints its port.

They are written on uvloop and httptools, apart from the code under test, and each has a
behaviour that is known exactly: answer at once, or after a fixed time.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httptools
import uvloop

BODY = b"12345678"


class Server(asyncio.Protocol):
    """One connection; answers in order."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.parser = httptools.HttpRequestParser(self)
        self.answer = (
            f"HTTP/1.1 {options.status} X\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's classes.
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self.options.delay_s > 0:
            asyncio.get_running_loop().call_later(self.options.delay_s, self.reply)
        else:
            self.reply()

    def reply(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.answer)


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    server = await loop.create_server(
        lambda: Server(options), "127.0.0.1", options.port, ssl=context, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(serve(parser.parse_args()))


@contextmanager
def running(*arguments: str, program: str = __file__) -> Iterator[int]:
    """A server in a process of its own, this one or another; yields its port."""
    process = subprocess.Popen(
        [sys.executable, program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


if __name__ == "__main__":
    main()
