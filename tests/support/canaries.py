"""Services that note whatever reaches them, and a process that keeps a secret: what a bottle must not find.

    python -m tests.support.canaries serve '{"log": ..., "tcp": [...], ...}'
    python -m tests.support.canaries keep SECRET-FILE SIGNALS-FILE WORD

Both say one line when they are ready and end at the end of their standard input.
"""

import ctypes
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

PR_SET_PTRACER = 0x59616D61
GREETING = b"SSH-2.0-canary\r\n"


class Server:
    """Many listeners and one log."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ, sys.exit)

    def tcp(self, host: str, port: int) -> None:
        listener = _bound(socket.SOCK_STREAM, host, port)
        listener.listen(64)
        self._watch(listener, self._accept)

    def udp(self, host: str, port: int) -> None:
        sock = _bound(socket.SOCK_DGRAM, host, port)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._watch(sock, self._echo)

    def dns(self, host: str, port: int) -> None:
        self._watch(_bound(socket.SOCK_DGRAM, host, port), self._answer)

    def unix(self, path: str) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(_unix_address(path))
        listener.listen(64)
        self._watch(listener, self._accept)
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.bind(_unix_address(f"{path}.d"))
        self._watch(datagrams, self._note)

    def run(self) -> None:
        print("ready", flush=True)
        while True:
            for key, _ in self._selector.select():
                key.data(key.fileobj)

    def _watch(self, sock: socket.socket, act: Callable[[Any], None]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, act)

    def _write(self, data: bytes) -> None:
        self._log.write(f"{data!r}\n")
        self._log.flush()

    def _accept(self, listener: socket.socket) -> None:
        stream, _ = listener.accept()
        stream.sendall(GREETING)
        self._watch(stream, self._read)

    def _read(self, stream: socket.socket) -> None:
        try:
            data = stream.recv(4096)
        except ConnectionError:
            data = b""
        if data:
            self._write(data)
        else:
            self._selector.unregister(stream)
            stream.close()

    def _note(self, sock: socket.socket) -> None:
        self._write(sock.recv(4096))

    def _echo(self, sock: socket.socket) -> None:
        data, sender = sock.recvfrom(4096)
        self._write(data)
        sock.sendto(data, sender)

    def _answer(self, sock: socket.socket) -> None:
        """Every name has one address, and no other."""
        query, sender = sock.recvfrom(4096)
        self._write(query)
        end = query.index(b"\0", 12) + 5
        is_address = query[end - 4 : end - 2] == b"\0\1"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4" + socket.inet_aton("10.77.0.9") if is_address else b""
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_address else b"\0\0") + b"\0\0\0\0"
        sock.sendto(head + query[12:end] + record, sender)


def _bound(kind: int, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    return sock


def _unix_address(path: str) -> str:
    """The name of an abstract socket, or a path; a long one by its folder's descriptor: an address holds 107 bytes."""
    if path.startswith("@"):
        return f"\0{path[1:]}"
    if len(path) < 108:
        return path
    folder, _, name = path.rpartition("/")
    return f"/proc/self/fd/{os.open(folder, os.O_PATH)}/{name}"


def serve(wanted: dict[str, Any]) -> None:
    """Listen on everything in `wanted` and write what comes to its log."""
    with open(wanted["log"], "a", encoding="ascii") as log:
        server = Server(log)
        for kind in ("tcp", "udp", "dns"):
            for host, port in wanted.get(kind, ()):
                getattr(server, kind)(host, port)
        for path in wanted.get("unix", ()):
            server.unix(path)
        server.run()


def keep(secret_file: str, signals_file: str) -> None:
    """Hold the secret in memory and in a deleted file, let anyone of the same user look, and note every SIGUSR1."""
    secret = Path(secret_file).read_text()
    buffer = ctypes.create_string_buffer(secret.encode())
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    signal.signal(signal.SIGUSR1, lambda *_: Path(signals_file).write_text("came"))
    with tempfile.TemporaryFile("w+") as file:
        file.write(secret)
        file.flush()
        facts = {"pid": os.getpid(), "address": ctypes.addressof(buffer), "descriptor": file.fileno()}
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(json.loads(sys.argv[2]))
    else:
        keep(*sys.argv[2:4])
