"""Make the gate's listening sockets inside a bottle's network namespace and hand them out.

A socket keeps the namespace it was made in, so the gate can accept in the bottle and dial from the host. Descriptors go
outward only: the bottle never holds a socket that was connected outside, because connect(AF_UNSPEC) would un-connect it
and connect it anywhere (ADR 0001).
"""

import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.local.namespace import enter_network
from claude_bottle.backend.local.process import PR_SET_PDEATHSIG, prctl, reset_signals
from claude_bottle.errors import BackendError
from claude_bottle.relay.limits import raise_fd_limit
from claude_bottle.ssh_client import Listener

BACKLOG = 1024
"""connections waiting for the gate; the kernel lowers it to net.core.somaxconn"""

FDS_PER_MESSAGE = 250
"""below SCM_MAX_FD (253)"""

MARK = b"L"
"""the data byte that carries listeners"""

LOOPBACK_TIMEOUT_S = 10.0
LOOPBACK_POLL_S = 0.0005

TOO_MANY = os.strerror(errno.EMFILE)

RTM_NEWADDR = 20
NLM_F_REQUEST_ACK_CREATE = 0x0001 | 0x0004 | 0x0400
IFA_ADDRESS, IFA_LOCAL = 1, 2
LOOPBACK_INDEX = 1


def hand_over(pid: int, listeners: Sequence[Listener], control: socket.socket) -> None:
    """Make `listeners` in the network namespace of process `pid` and send them over `control`, in order.

    A short-lived child does it: entering a namespace cannot be taken back.

    Raises:
        BackendError: the namespace cannot be entered, or an address cannot be bound there.
    """
    fail_read, fail_write = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _run_helper(pid, listeners, control, parent, fail_write)
    os.close(fail_write)
    with os.fdopen(fail_read, "rb") as failure:
        reason = failure.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if reason or status != 0:
        raise BackendError(
            f"listeners cannot be made in the bottle: {reason or f'helper ended with status {status}'}",
            where="local backend",
            hint=f"it takes {len(listeners)}; raise the limit on open files: ulimit -Hn" if TOO_MANY in reason else "",
        )


def _run_helper(pid: int, listeners: Sequence[Listener], control: socket.socket, parent: int, fail_write: int) -> None:
    """Do the work of `hand_over` in the forked child; never returns."""
    status = 1
    try:
        reset_signals()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            raise_fd_limit()
            enter_network(pid)
            pace_nothing()
            wait_for_loopback()
            add_addresses(listeners)
            send_listeners(control, [listen(item.address, item.port) for item in listeners])
            status = 0
    except OSError as error:
        os.write(fail_write, (error.strerror or str(error)).encode())
    finally:
        os._exit(status)


def wait_for_loopback() -> None:
    """Return once bubblewrap, which works beside us, has brought the loopback interface up: nothing binds before.

    Its routes come a moment after the message that it is up, so this tries until one is there. Connecting needs it;
    binding does not where no table of local addresses has been made yet.

    Raises:
        OSError: it did not come up in time.
    """
    deadline = time.monotonic() + LOOPBACK_TIMEOUT_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        while True:
            try:
                return probe.connect(("127.255.255.254", 9))
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOPBACK_POLL_S)


def pace_nothing() -> None:
    """Take the host's congestion control out of the bottle's loopback: bbr, where it is the default, paces uploads.

    /proc/sys/net shows the network namespace of whoever opens it. Where it cannot be written, the default stays.
    """
    with suppress(OSError):
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")


def listen(address: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        OSError: names the address; it is taken or not local.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"{address} port {port}: {error.strerror}") from error
    return listener


def send_listeners(control: socket.socket, listeners: Sequence[socket.socket]) -> None:
    """Send sockets by SCM_RIGHTS, as many messages as needed."""
    fds = [listener.fileno() for listener in listeners]
    for start in range(0, len(fds), FDS_PER_MESSAGE):
        socket.send_fds(control, [MARK], fds[start : start + FDS_PER_MESSAGE])


def add_addresses(listeners: Sequence[Listener]) -> None:
    """Give the loopback interface every listened address that is not one of its own.

    A manifest may name a host by its address; inside, that address leads to the gate like a name does.

    Raises:
        OSError: the kernel refuses an address.

    Source: rtnetlink(7).
    """
    wanted = dict.fromkeys(item.address for item in listeners if not is_loopback(item.address))
    if not wanted:
        return
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink:
        for address in wanted:
            netlink.send(address_request(address))
            code = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
            if code != 0:
                raise OSError(-code, f"{address}: {os.strerror(-code)}")


def is_loopback(address: str) -> bool:
    """Tell whether the loopback interface has an address anyway."""
    return address == "::1" or address.startswith("127.")


def address_request(address: str) -> bytes:
    """Return the netlink message that adds one host address to the loopback interface."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = struct.pack("=BBBBI", family, len(packed) * 8, 0, 0, LOOPBACK_INDEX)
    for attribute in (IFA_LOCAL, IFA_ADDRESS):
        body += struct.pack("=HH", 4 + len(packed), attribute) + packed
    return struct.pack("=IHHII", 16 + len(body), RTM_NEWADDR, NLM_F_REQUEST_ACK_CREATE, 1, 0) + body
