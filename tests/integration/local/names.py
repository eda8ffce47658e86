"""A host name of this machine that is not reserved, for tests that need a real name."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from claude_bottle.manifest.texts import check_destination


def local_name() -> tuple[str, str]:
    """A name and the first address it resolves to, which is this machine's own.

    Skips the test if there is none.
    """
    for name in dict.fromkeys(_candidates()):
        with suppress(OSError):
            address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
            if check_destination(name) is None and _is_ours(address):
                return name, address
    pytest.skip('no name of this machine resolves to it; as root: echo "127.0.0.1 $(hostname)" >>/etc/hosts')


def _candidates() -> Iterator[str]:
    yield socket.gethostname()
    with suppress(OSError):
        for line in Path("/etc/hosts").read_text().splitlines():
            yield from line.partition("#")[0].split()[1:]


def _is_ours(address: str) -> bool:
    if "%" in address:
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
    return True
