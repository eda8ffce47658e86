"""Name lookups beside the loop: the system's own resolver in short-lived threads.

A name is looked up at each connect, so that a change of address is seen at once; connections that ask for the same
name meanwhile share one lookup.
"""

from __future__ import annotations

from _socket import (
    AF_INET,
    AI_NUMERICHOST,
    EAI_AGAIN,
    EAI_FAIL,
    EAI_NODATA,
    EAI_NONAME,
    SOCK_STREAM,
    gaierror,
    getaddrinfo,
    inet_pton,
)
from _thread import start_new_thread

from claude_bottle.relay.loop import guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from claude_bottle.relay.loop import Loop

    Address = tuple[int, Any]
    """family and socket address"""

    class Waiter(Protocol):
        """Who asked."""

        def on_resolved(self, addresses: list[Address], problem: str) -> None:
            """`addresses` in the order to try; empty with the `problem` in words."""

        def on_crash(self) -> None:
            """`on_resolved` raised."""


_MOST_THREADS = 8
"""A lookup may hang for half a minute; other names must not wait for it."""

_PROBLEMS = {
    EAI_NONAME: "name does not resolve",
    EAI_NODATA: "name has no address",
    EAI_AGAIN: "name lookup failed: no answer from the name server",
    EAI_FAIL: "name lookup failed",
}


def resolve(host: str, port: int, flags: int = 0) -> list[Address]:
    """All addresses of `host`, each once, in the system's order of preference (RFC 6724).

    Raises:
        OSError: gaierror mostly.
    """
    # As bytes: text would pass through the idna codec, whose tables take longer to load than the gate to start.
    name = host.encode("ascii") if host.isascii() else host
    found = getaddrinfo(name, port, 0, SOCK_STREAM, 0, flags)
    return list(dict.fromkeys([(row[0], row[4]) for row in found]))


def parse_literal(host: str, port: int) -> list[Address]:
    """The socket address of an IP literal; empty when `host` is a name."""
    try:
        if ":" not in host:
            # Not by getaddrinfo alone: it reads 127.1 or 010.0.0.1 as numbers, but those are names and meet the guard.
            inet_pton(AF_INET, host)
        return resolve(host, port, AI_NUMERICHOST)
    except OSError:
        return []


def problem_of(error: OSError | UnicodeError) -> str:
    """A failed lookup in words."""
    if isinstance(error, gaierror):
        return _PROBLEMS.get(error.errno or 0, f"name lookup failed: {str(error.strerror).lower()}")
    return f"name lookup failed: {str(error).lower()}"


class Resolver:
    """Lookups under way."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiters: dict[tuple[str, int], list[Waiter]] = {}
        self._queue: list[tuple[str, int]] = []
        self._running = 0

    def lookup(self, host: str, port: int, waiter: Waiter) -> None:
        """Tell `waiter` the addresses of `host`, from the loop and never before this returns."""
        key = (host, port)
        waiters = self._waiters.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return
        self._waiters[key] = [waiter]
        self._queue.append(key)
        self._start()

    def _start(self) -> None:
        while self._queue and self._running < _MOST_THREADS:
            key = self._queue.pop(0)
            self._running += 1
            try:
                start_new_thread(self._work, (key,))
            except RuntimeError:
                self._later(key, [], "name lookup failed: no thread for it")

    def _work(self, key: tuple[str, int]) -> None:
        """In a thread of its own."""
        addresses: list[Address] = []
        problem = ""
        try:
            addresses = resolve(*key)
        except (OSError, UnicodeError) as error:
            problem = problem_of(error)
        self._later(key, addresses, problem)

    def _later(self, key: tuple[str, int], addresses: list[Address], problem: str) -> None:
        self._loop.call_soon(lambda: self._finish(key, addresses, problem))

    def _finish(self, key: tuple[str, int], addresses: list[Address], problem: str) -> None:
        self._running -= 1
        for waiter in self._waiters.pop(key):
            guarded(waiter.on_crash, waiter.on_resolved, addresses, problem)
        self._start()
