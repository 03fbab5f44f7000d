"""A server that freezes by the clock, and knows exactly when it sent each answer.

It sits on epoll alone: libraries gather answers and send them at the end of a turn, so that no
clock of theirs says when one left. Run as a program it prints its port; ``GET /replies`` gives
the moments of all answers on the monotonic clock that all processes share.
"""

from __future__ import annotations

import argparse
import resource
import select
import socket
import time
from array import array

BODY = b"12345678"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY


class FreezingServer:
    """Answers each request at once, but for ``freeze_s`` in every ``every_s``."""

    def __init__(self, every_s: float, freeze_s: float) -> None:
        self._every_s, self._freeze_s = every_s, freeze_s
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._open: dict[int, socket.socket] = {}
        self._replies = array("d")

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Until killed."""
        freezes_s = time.monotonic() + self._every_s / 2
        while True:
            left_s = freezes_s - time.monotonic()
            if left_s <= 0:
                freezes_s += self._every_s
                time.sleep(self._freeze_s)
                continue
            for fd, _ in self._poll.poll(left_s, 4096):
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._answer(fd)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self._open[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)

    def _answer(self, fd: int) -> None:
        connection = self._open[fd]
        # A request here is a few hundred bytes and always comes in one piece.
        try:
            request = connection.recv(65536)
        except ConnectionError:
            request = b""
        if not request:
            del self._open[fd]
            connection.close()
        elif request.startswith(b"GET /replies"):
            data = self._replies.tobytes()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(data)
            connection.setblocking(True)
            connection.sendall(head + data)
            connection.setblocking(False)
        else:
            connection.send(ANSWER)
            self._replies.append(time.monotonic())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every-s", type=float, required=True)
    parser.add_argument("--freeze-s", type=float, required=True)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = FreezingServer(options.every_s, options.freeze_s)
    print(server.port, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
