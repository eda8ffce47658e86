"""Ways to reach another machine, or this one's own services, over a network."""

import os
import socket
import stat
import struct
import subprocess

PATIENCE_S = 1.0


def tcp(host: str, port: str, token: str) -> str:
    """Connect, say the token, and hear something."""
    with socket.create_connection((host, int(port)), PATIENCE_S) as stream:
        return converse(stream, token)


def converse(stream: socket.socket, token: str) -> str:
    stream.sendall(f"SSH-2.0-{token}\r\n".encode())
    heard = stream.recv(1000)
    if not heard:
        raise ConnectionResetError("closed without a word")
    return repr(heard)


def udp(host: str, port: str, token: str) -> str:
    """Send the token and hear its echo."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendto(token.encode(), (host, int(port)))
        return repr(sock.recv(1000))


def broadcast(address: str, port: str, token: str) -> str:
    """Send the token to everyone on the wire."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(token.encode(), (address, int(port)))
        return repr(sock.recv(1000))


def name(domain: str, token: str) -> str:
    """Have the system resolve a name; the name itself carries the token out."""
    found = socket.getaddrinfo(f"{token}.{domain}", 443, type=socket.SOCK_STREAM)
    return str(found[0][4])


def dns_query(domain: str, token: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in f"{token}.{domain}".split("."))
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def dns_udp(server: str, domain: str, token: str) -> str:
    """Ask a name server over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendto(dns_query(domain, token), (server, 53))
        return repr(sock.recv(1000))


def dns_tcp(server: str, domain: str, token: str) -> str:
    """Ask a name server over TCP."""
    query = dns_query(domain, token)
    with socket.create_connection((server, 53), PATIENCE_S) as stream:
        stream.sendall(struct.pack(">H", len(query)) + query)
        heard = stream.recv(1000)
    if not heard:
        raise ConnectionResetError("closed without a word")
    return repr(heard)


def echo_request() -> bytes:
    body = struct.pack(">BBHHH", 8, 0, 0, 0, 1) + b"canary--"
    total = sum(struct.unpack(">8H", body))
    total = (total >> 16) + (total & 0xFFFF)
    return body[:2] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + body[4:]


def icmp(kind: str, host: str) -> str:
    """Send an ICMP echo request through a socket of this kind, SOCK_DGRAM or SOCK_RAW, and hear the reply."""
    with socket.socket(socket.AF_INET, getattr(socket, kind), socket.IPPROTO_ICMP) as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendto(echo_request(), (host, 0))
        return repr(sock.recv(1000))


def program(*argv: str) -> str:
    """Run a program of the system that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise OSError(f"status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def descriptors() -> list[int]:
    """Descriptors of this process but for the directory that lists them."""
    return sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def reconnect(host: str, port: str, token: str) -> str:
    """Un-connect a socket that was inherited, and connect it elsewhere in the network it was made in."""
    sockets = [fd for fd in descriptors() if stat.S_ISSOCK(os.fstat(fd).st_mode)]
    for fd in sockets:
        with socket.socket(fileno=os.dup(fd)) as stream:
            if stream.family == socket.AF_INET:
                stream.settimeout(PATIENCE_S)
                unconnect(stream)
                stream.connect((host, int(port)))
                return converse(stream, token)
    raise LookupError(f"no network socket among {sockets}")


def unconnect(stream: socket.socket) -> None:
    """connect(AF_UNSPEC), which Python's own connect cannot say."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(stream.fileno(), bytes(16), 16) != 0:
        raise OSError(ctypes.get_errno(), "connect(AF_UNSPEC)")


def listeners(expected: str) -> str:
    """Find a listening TCP or UDP port that is not among `expected`, a list with commas."""
    found = {row for table in ("tcp", "tcp6", "udp", "udp6") for row in rows(table)}
    others = sorted(found - set(expected.split(",")))
    if not others:
        raise LookupError(f"only {sorted(found)}")
    return ", ".join(others)


def rows(table: str) -> list[str]:
    """`address:port` of what listens, from /proc/net."""
    listening = []
    with open(f"/proc/net/{table}", encoding="ascii") as lines:
        next(lines)
        for line in lines:
            local, state = line.split()[1], line.split()[3]
            if state in ("0A", "07"):
                packed, _, port = local.partition(":")
                listening.append(f"{address(packed)}:{int(port, 16)}")
    return listening


def address(packed: str) -> str:
    words = struct.pack(f"<{len(packed) // 8}I", *(int(packed[at : at + 8], 16) for at in range(0, len(packed), 8)))
    return socket.inet_ntop(socket.AF_INET6 if len(words) == 16 else socket.AF_INET, words)
