"""Ways to reach other machines and this one's programs."""

from tests.support.probes.probe import TOKEN, Probe


def _network() -> tuple[Probe, ...]:
    tcp, udp = "network.tcp", "network.udp"
    port, dns = "{port}", ("{domain}", "{token}")
    return (
        Probe("another host", "reach a host that is not declared", tcp, ("{other}", port, *TOKEN), "far_log"),
        Probe("another port", "reach another port of the declared host", tcp, ("{far}", port, *TOKEN), "far_log"),
        Probe("host loopback", "reach a service on the host's loopback", tcp, ("127.0.0.1", port, *TOKEN), "near_log"),
        Probe("host loopback by IPv6", "the same over IPv6", tcp, ("::1", port, *TOKEN), "near_log"),
        Probe("host by its address", "reach the host by its LAN address", tcp, ("{lan}", port, *TOKEN), "near_log"),
        Probe("metadata", "read the cloud's metadata", tcp, ("169.254.169.254", "80", *TOKEN), "far_log"),
        Probe("metadata by IPv6", "the same over IPv6", tcp, ("fd00:ec2::254", "80", *TOKEN), "far_log"),
        Probe("IPv6", "reach another host over IPv6", tcp, ("{far6}", port, *TOKEN), "far_log"),
        Probe("UDP", "send UDP to another host", udp, ("{far}", port, *TOKEN), "far_log"),
        Probe("UDP by IPv6", "the same over IPv6", udp, ("{far6}", port, *TOKEN), "far_log"),
        Probe("UDP to loopback", "send UDP to the host's loopback", udp, ("127.0.0.1", port, *TOKEN), "near_log"),
        Probe("broadcast", "send to everyone", "network.broadcast", ("{broadcast}", port, *TOKEN), "far_log"),
        Probe("ICMP", "ping by an ICMP socket", "network.icmp", ("SOCK_DGRAM", "{far}")),
        Probe("ICMP raw", "ping by a raw socket", "network.icmp", ("SOCK_RAW", "{far}")),
        Probe("ping", "ping by the system's program", "network.program", ("ping", "-c1", "-W1", "{far}")),
        Probe("name", "look a name up", "network.name", dns, "far_log"),
        Probe("getent", "look a name up by the system", "network.program", ("getent", "hosts", "{token}.{domain}")),
        Probe("DNS by UDP", "ask the host's name server", "network.dns_udp", ("{far}", *dns), "far_log"),
        Probe("DNS by TCP", "ask the host's name server", "network.dns_tcp", ("{far}", *dns), "far_log"),
        Probe(
            "inherited socket",
            "un-connect a socket that the caller left open",
            "network.reconnect",
            ("{other}", port, *TOKEN),
            "far_log",
        ),
        Probe(
            "interface", "change a network interface", "network.program", ("ip", "link", "set", "lo", "mtu", "60000")
        ),
        Probe("route", "make a route", "network.program", ("ip", "route", "add", "192.0.2.0/24", "dev", "lo")),
        Probe("listeners", "find other listeners than the gate's", "network.listeners", ("{listeners}",)),
    )


def _local() -> tuple[Probe, ...]:
    stream, datagram = "local.stream", "local.datagram"
    sockets = (
        ("abstract", "an abstract socket", "@{abstract}"),
        ("/tmp", "a socket in /tmp", "{tmp_socket}"),
        ("runtime folder", "a socket in XDG_RUNTIME_DIR", "{runtime_socket}"),
        ("home", "a socket in the home folder", "{home_socket}"),
        ("work folder", "a socket in the work folder", "{work_socket}"),
        ("mounted folder", "a socket in a mounted folder", "{mount_socket}"),
        ("/opt", "a socket in a folder of the system", "/opt/s"),
        ("docker", "the Docker daemon", "/run/docker.sock"),
        ("docker, old path", "the Docker daemon", "/var/run/docker.sock"),
        ("D-Bus, system", "the system bus", "/run/dbus/system_bus_socket"),
        ("D-Bus, session", "the session bus", "{bus_socket}"),
        ("state folder", "a socket in the product's own folder", "{state_socket}"),
    )
    return (
        *(
            Probe(f"socket: {name}", f"reach {what}", stream, (path, *TOKEN), "near_log")
            for name, what, path in sockets
        ),
        Probe("datagram: abstract", "send to an abstract socket", datagram, ("@{abstract}.d", *TOKEN), "near_log"),
        Probe("datagram: work folder", "send to a socket", datagram, ("{work_socket}.d", *TOKEN), "near_log"),
        Probe("ssh-agent", "use the user's ssh-agent by its path", "local.agent", ("{agent}",)),
        Probe("SSH_AUTH_SOCK", "use the user's ssh-agent by the environment", "local.agent_of_environment"),
        Probe("bus address", "find the session bus", "processes.environment", ("DBUS_SESSION_BUS_ADDRESS",)),
        Probe("docker address", "find the Docker daemon", "processes.environment", ("DOCKER_HOST",)),
        Probe("shared memory", "find the host's System V segments", "local.shared_memory", ("{shm_key}",)),
        Probe("message queue", "find the host's message queues", "local.message_queue", ("{queue}",)),
    )


NETWORK = _network()
LOCAL = _local()
