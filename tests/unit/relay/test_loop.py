"""The loop: deadlines, wake-ups, and handlers that fail."""

import os
import socket
import threading
import time

import pytest

from claude_bottle.relay.loop import Loop

from .harness import kept


class Handler:
    """Records what the loop tells it."""

    def __init__(self, loop: Loop, fails: bool = False) -> None:
        self.loop = loop
        self.fails = fails
        self.told: list[str] = []

    def tell(self, what: str) -> None:
        self.told.append(what)
        if self.fails:
            raise ValueError(what)

    def on_event(self, mask: int) -> None:
        self.tell("event")

    def on_timeout(self) -> None:
        self.tell("timeout")

    def on_crash(self) -> None:
        self.told.append("crash")


class Stopper(Handler):
    """Ends the loop when its time has come."""

    def on_timeout(self) -> None:
        self.loop.stop()


def run(loop: Loop, seconds: float = 0.1) -> None:
    loop.arm(Stopper(loop), seconds)
    loop.run()


def readable() -> socket.socket:
    left, right = socket.socketpair()
    kept(left).setblocking(False)
    kept(right).sendall(b"x")
    return left


def test_deadlines_come_once_and_in_time() -> None:
    loop = Loop()
    early, late, never = Handler(loop), Handler(loop), Handler(loop)
    loop.arm(late, 10)
    loop.arm(early, 0.05)
    loop.arm(never, 0.01)
    loop.disarm(never)
    loop.disarm(never)
    begun = time.monotonic()
    run(loop)
    assert 0.1 <= time.monotonic() - begun < 1
    assert (early.told, late.told, never.told) == (["timeout"], [], [])


def test_arming_again_puts_off() -> None:
    loop = Loop()
    handler = Handler(loop)
    loop.arm(handler, 0.01)
    loop.arm(handler, 10)
    run(loop)
    assert handler.told == []


def test_many_deadlines() -> None:
    loop = Loop()
    handlers = [Handler(loop) for _ in range(2000)]
    for number, handler in enumerate(handlers):
        loop.arm(handler, number % 50 / 1000)
    run(loop, 0.2)
    assert all(handler.told == ["timeout"] for handler in handlers)


def test_deadline_forgotten_by_an_earlier_one_of_the_same_moment() -> None:
    loop = Loop()
    second = Handler(loop)

    class First(Handler):
        def on_timeout(self) -> None:
            loop.disarm(second)

    loop.arm(First(loop), 0.001)
    loop.arm(second, 0.001)
    run(loop)
    assert second.told == []


def test_failing_handlers_do_not_end_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    loop = Loop()

    class Failing(Handler):
        def on_crash(self) -> None:
            super().on_crash()
            loop.unwatch(sock.fileno())
            raise ValueError("again")

    sock = readable()
    failing, timed = Failing(loop, fails=True), Handler(loop, fails=True)
    loop.watch(sock.fileno(), failing, 1)
    loop.arm(timed, 0.01)
    run(loop)
    assert failing.told == ["event", "crash"]
    assert timed.told == ["timeout", "crash"]
    printed = capsys.readouterr().err.splitlines()
    assert [line for line in printed if line.startswith("ValueError")].count("ValueError: again") == 1
    assert {"ValueError: event", "ValueError: timeout"} <= set(printed)


def test_closed_in_a_batch_means_closed_after_it() -> None:
    """A number that is free again within the batch would lead its stale event to a stranger."""
    loop = Loop()
    socks = [readable(), readable()]
    numbers = [sock.fileno() for sock in socks]
    fresh: list[int] = []

    class Closer(Handler):
        def on_event(self, mask: int) -> None:
            super().on_event(mask)
            for sock in socks:
                loop.drop(sock)
            fresh.append(os.dup(0))

    closers = [Closer(loop), Closer(loop)]
    for sock, closer in zip(socks, closers, strict=True):
        loop.watch(sock.fileno(), closer, 1)
    run(loop)
    assert sum(len(closer.told) for closer in closers) == 1
    assert not set(fresh) & set(numbers)
    assert [sock.fileno() for sock in socks] == [-1, -1]
    for fd in fresh:
        os.close(fd)


def test_other_threads_wake_it() -> None:
    loop = Loop()
    called: list[int] = []

    def call() -> None:
        for number in range(100):
            loop.call_soon(lambda number=number: called.append(number))  # type: ignore[misc]
        loop.call_soon(loop.stop)

    thread = threading.Thread(target=call)
    thread.start()
    loop.run()
    thread.join()
    assert called == list(range(100))
