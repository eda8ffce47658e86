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


def outward_address() -> str:
    """An IPv4 address of this machine that is not loopback; traffic to it stays on the machine.

    Skips the test if there is none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing, only picks a source address
        address = str(probe.getsockname()[0])
        if not address.startswith(("127.", "0.")):
            return address
    pytest.skip("this machine has loopback addresses only; as root: ip address add 192.0.2.2/32 dev lo")


def need_ipv6() -> None:
    """Skip the test where there is no IPv6 loopback."""
    try:
        assert _is_ours("::1")
    except OSError:
        pytest.skip("no IPv6 loopback; as root: sysctl -w net.ipv6.conf.lo.disable_ipv6=0")
