"""Which instance gets the next request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from tuner.fleet.spec import RoutingStrategy


class Routable(Protocol):
    """Anything that can stand behind a router; the router keeps both numbers."""

    outstanding: int
    slot: int


R = TypeVar("R", bound=Routable)


class Router(Protocol[R]):
    """Picks among its members and counts what each has outstanding."""

    def add(self, member: R) -> None:
        """Let ``member`` be picked from now on."""
        ...

    def remove(self, member: R) -> None:
        """Never pick ``member`` again; what it still has outstanding may yet be released."""
        ...

    def pick(self) -> R | None:
        """The member for the next request, counted as outstanding; None when there is none."""
        ...

    def take(self, member: R) -> None:
        """Count a request on a member that somebody else picked."""
        ...

    def release(self, member: R) -> None:
        """One request of ``member`` is over."""
        ...


class RandomRouter(Generic[R]):
    """Every member with equal chance."""

    def __init__(self, uniform: Iterator[float]) -> None:
        self._members: list[R] = []
        self._uniform = uniform

    def add(self, member: R) -> None:
        """Let ``member`` be picked from now on."""
        member.slot = len(self._members)
        self._members.append(member)

    def remove(self, member: R) -> None:
        """Never pick ``member`` again."""
        last = self._members.pop()
        if last is not member:
            self._members[member.slot] = last
            last.slot = member.slot
        member.slot = -1

    def pick(self) -> R | None:
        """One of the members."""
        members = self._members
        n = len(members)
        if n == 0:
            return None
        member = members[int(next(self._uniform) * n)] if n > 1 else members[0]
        member.outstanding += 1
        return member

    def take(self, member: R) -> None:
        """Count a request on ``member``."""
        member.outstanding += 1

    def release(self, member: R) -> None:
        """One request of ``member`` is over."""
        member.outstanding -= 1


class LeastOutstandingRouter(Generic[R]):
    """A member with the fewest outstanding requests; ties are broken at random.

    Members stand in buckets by their count, so that a thousand instances cost no more than
    two.
    """

    def __init__(self, uniform: Iterator[float]) -> None:
        self._buckets: list[list[R]] = [[]]
        self._least = 0
        self._size = 0
        self._uniform = uniform

    def _enter(self, member: R) -> None:
        count = member.outstanding
        while len(self._buckets) <= count:
            self._buckets.append([])
        bucket = self._buckets[count]
        member.slot = len(bucket)
        bucket.append(member)
        if count < self._least:
            self._least = count

    def _leave(self, member: R) -> None:
        bucket = self._buckets[member.outstanding]
        last = bucket.pop()
        if last is not member:
            bucket[member.slot] = last
            last.slot = member.slot

    def add(self, member: R) -> None:
        """Let ``member`` be picked from now on."""
        if self._size == 0:
            self._least = member.outstanding
        self._size += 1
        self._enter(member)

    def remove(self, member: R) -> None:
        """Never pick ``member`` again."""
        self._leave(member)
        member.slot = -1
        self._size -= 1

    def pick(self) -> R | None:
        """One of those with the fewest outstanding requests."""
        if self._size == 0:
            return None
        while not self._buckets[self._least]:
            self._least += 1
        bucket = self._buckets[self._least]
        n = len(bucket)
        member = bucket[int(next(self._uniform) * n)] if n > 1 else bucket[0]
        self.take(member)
        return member

    def take(self, member: R) -> None:
        """Count a request on ``member``."""
        self._leave(member)
        member.outstanding += 1
        self._enter(member)

    def release(self, member: R) -> None:
        """One request of ``member`` is over."""
        if member.slot < 0:
            member.outstanding -= 1
            return
        self._leave(member)
        member.outstanding -= 1
        self._enter(member)


def build_router(strategy: RoutingStrategy, uniform: Iterator[float]) -> Router[R]:
    """The router of a strategy."""
    if strategy is RoutingStrategy.RANDOM:
        return RandomRouter(uniform)
    return LeastOutstandingRouter(uniform)
