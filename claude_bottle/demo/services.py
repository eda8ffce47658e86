"""Services of this machine that no agent should reach: a greeting over TCP, and a name server."""

import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

GREETING = "hello from a service of this machine"


class _Greeter(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(f"{GREETING}\n".encode())


class _Names(socketserver.BaseRequestHandler):
    """A name server that answers every question with 192.0.2.7 (RFC 1035 section 4.1)."""

    def handle(self) -> None:
        query, reply_to = self.request
        header = query[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
        answer = bytes.fromhex("c00c 0001 0001 0000003c 0004") + socket.inet_aton("192.0.2.7")
        reply_to.sendto(header + query[12:] + answer, self.client_address)


@contextmanager
def services(addresses: Sequence[str]) -> Iterator[dict[str, int]]:
    """Serve a greeting over TCP on each address and names over UDP on the first; yield the ports, `dns` among them."""
    with ExitStack() as closing:
        names = socketserver.UDPServer((addresses[0], 0), _Names)
        servers: list[socketserver.BaseServer] = [names]
        ports = {"dns": names.server_address[1]}
        for address in addresses:
            greeter = socketserver.TCPServer((address, 0), _Greeter)
            servers.append(greeter)
            ports[address] = greeter.server_address[1]
        for server in servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            closing.callback(thread.join)
            closing.callback(server.server_close)
            closing.callback(server.shutdown)
        yield ports


def network_address() -> str | None:
    """Return this machine's address on its network, if it has one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        address = str(probe.getsockname()[0])
        return None if address.startswith("127.") else address
    return None
