"""A machine with secrets and a neighbour, planted in namespaces of our own: everything that a probe may find.

So every probe can succeed outside, whatever the machine has: the cloud's metadata address, IPv6, a name server,
docker.sock, /etc/shadow. Only in namespaces that `tests.support.lab` has made; elsewhere this would cover real files.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.bottle import ROOT, World

SECRET = "the-secret-that-must-stay-outside"
LAN, FAR, OTHER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
LAN6, FAR6 = "fd77::1", "fd77::2"
METADATA = ("169.254.169.254", "fd00:ec2::254")
PORT, DECLARED_PORT = 8080, 2222
SERVE = (sys.executable, "-m", "tests.support.canaries", "serve")

COVERED = "/boot /srv /mnt /opt /root /run /usr/src /var/lib /etc/ssh /etc/ssl/private /etc/sudoers.d".split()
"""folders that get a fresh file system with a canary in it"""


class PlantedWorld:
    """A caller's world and what stands around it; `facts` are what the probes' arguments name."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.world = World(folder)
        self._closing = closing
        self._scratch = [Path(self._temporary(place)) for place in ("/tmp", "/var/tmp", "/dev/shm")]
        self.facts: dict[str, str] = self._facts()
        self.fds: list[int] = []

    def build(self) -> None:
        """Plant everything."""
        ip("link", "set", "lo", "up")
        self._start_far()
        for folder in COVERED:
            self._plant(Path(folder))
        self._plant_files()
        self._start_near()
        self._start_victim()
        self._start_agent()
        self._make_ipc()
        self._leave_open()

    def _facts(self) -> dict[str, str]:
        world, (tmp, var_tmp, shm) = self.world, self._scratch
        return {
            "far": FAR, "other": OTHER, "lan": LAN, "far6": FAR6, "broadcast": "10.77.0.255",
            "port": str(PORT), "declared_port": str(DECLARED_PORT), "domain": "canary.test", "secret": SECRET,
            "abstract": f"canary-{os.getpid()}", "cmdline": f"canary-word-{os.getpid()}", "signal": "10",
            "tmp": str(tmp), "tmp_file": f"{tmp}/canary", "tmp_socket": f"{tmp}/s", "var_tmp": str(var_tmp),
            "shm": str(shm), "shm_file": f"{shm}/canary", "queue": f"/canary-{os.getpid()}",
            "home": str(world.home), "home_socket": f"{world.home}/s", "profile": f"{world.home}/.bashrc",
            "runtime": str(world.runtime), "runtime_socket": f"{world.runtime}/s", "bus_socket": f"{world.runtime}/bus",
            "work": str(world.work), "work_socket": f"{world.work}/s", "state": str(world.state),
            "state_socket": f"{world.state}/s", "root": str(world.root), "beside": f"{world.root}/beside",
            "mount": f"{world.root}/mount", "mount_socket": f"{world.root}/mount/s", "agent": f"{tmp}/agent",
            "hostname": os.uname().nodename, "near_log": f"{world.root}/near", "far_log": f"{world.root}/far",
            "signals": f"{world.root}/signals",
        }  # fmt: skip

    def _temporary(self, place: str) -> str:
        path = tempfile.mkdtemp(prefix="canary-", dir=place)
        self._closing.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def _start(self, *argv: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a process that says one line when it is ready and ends with its standard input."""
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self._closing.callback(process.wait, 10)
        self._closing.callback(process.kill)
        return process

    def _start_far(self) -> None:
        """The neighbour, in a network of its own, joined by a cable."""
        wanted = {
            "log": self.facts["far_log"],
            "tcp": [(host, port) for host in ("0.0.0.0", "::") for port in (PORT, DECLARED_PORT, 80)]
            + [("0.0.0.0", 53)],
            "udp": [("0.0.0.0", PORT), ("::", PORT)],
            "dns": [("0.0.0.0", 53)],
        }
        far = self._start("unshare", "--net", *SERVE, json.dumps(wanted))
        assert far.stdout is not None
        far.stdout.readline()
        ip("link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", str(far.pid))
        inside = ("nsenter", "-t", str(far.pid), "--net", "ip")
        addresses = [f"{FAR}/24", f"{OTHER}/24", f"{METADATA[0]}/32", f"{FAR6}/64", f"{METADATA[1]}/128"]
        for address in addresses:
            subprocess.run([*inside, "addr", "add", address, "dev", "far0", *_extras(address)], check=True)
        subprocess.run([*inside, "link", "set", "far0", "up"], check=True)
        for address in (f"{LAN}/24", f"{LAN6}/64"):
            ip("addr", "add", address, "dev", "near0", *_extras(address))
        ip("link", "set", "near0", "up")
        for address in METADATA:
            ip("route", "add", address, "dev", "near0")
        Path("/proc/sys/net/ipv4/ping_group_range").write_text(f"{os.getgid()} {os.getgid()}")

    def _plant(self, folder: Path) -> None:
        """Cover a folder by a fresh one, unless we run from it."""
        needed = (ROOT, self.world.root, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve())
        if folder.is_dir() and not any(path.is_relative_to(folder) for path in needed):
            subprocess.run(["mount", "-t", "tmpfs", "canary", str(folder)], check=True)
            for name in ("canary", "canary.key", "ssh_host_ed25519_key"):
                (folder / name).write_text(SECRET)

    def _plant_files(self) -> None:
        facts, home = self.facts, self.world.home
        for path in (".ssh/id_other", ".ssh/config", ".aws/credentials", ".bash_history", ".bashrc"):
            (home / path).parent.mkdir(exist_ok=True)
            (home / path).write_text(SECRET)
        for name in ("tmp_file", "shm_file", "beside"):
            Path(facts[name]).write_text(SECRET)
        (self.world.state / "other").mkdir(parents=True)
        (self.world.state / "other/audit.jsonl").write_text(SECRET)
        (self.world.runtime / "canary").write_text(SECRET)
        Path(facts["mount"]).mkdir()
        (self.world.work / "point").mkdir()
        (self.world.work / "link-to-secret").symlink_to(facts["beside"])
        (self.world.work / "link-to-folder").symlink_to(facts["root"])
        for covered, text in (("/etc/shadow", SECRET), ("/etc/resolv.conf", f"nameserver {FAR}\n")):
            planted = self._scratch[0] / Path(covered).name
            planted.write_text(text)
            subprocess.run(["mount", "--bind", str(planted), os.path.realpath(covered)], check=True)

    def _start_near(self) -> None:
        names = "tmp_socket runtime_socket home_socket work_socket mount_socket bus_socket state_socket".split()
        paths = [self.facts[name] for name in names]
        Path("/run/dbus").mkdir()
        paths += [f"@{self.facts['abstract']}", "/run/docker.sock", "/run/dbus/system_bus_socket", "/opt/s"]
        near = {"log": self.facts["near_log"], "unix": paths, "udp": [("127.0.0.1", PORT)]}
        near["tcp"] = [(host, PORT) for host in ("127.0.0.1", "::1", LAN)]
        process = self._start(*SERVE, json.dumps(near))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def _start_victim(self) -> None:
        secret = self._scratch[0] / "secret"
        secret.write_text(SECRET)
        words = ("-m", "tests.support.canaries", "keep", str(secret), self.facts["signals"], self.facts["cmdline"])
        victim = self._start(sys.executable, *words, env={**os.environ, "CANARY_SECRET": SECRET})
        assert victim.stdout is not None
        self.facts |= {name: str(value) for name, value in json.loads(victim.stdout.readline()).items()}

    def _start_agent(self) -> None:
        """The user's own ssh-agent with a key."""
        agent = self._start("ssh-agent", "-D", "-a", self.facts["agent"])
        assert agent.stdout is not None
        agent.stdout.readline()
        env = {"SSH_AUTH_SOCK": self.facts["agent"], "PATH": os.environ["PATH"]}
        subprocess.run(["ssh-add", "-q", str(self.world.key.private)], env=env, check=True)

    def _make_ipc(self) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self.facts["shm_key"] = str(os.getpid() << 8)
        segment = libc.shmget(os.getpid() << 8, 4096, 0o1600)
        assert segment >= 0, os.strerror(ctypes.get_errno())
        self._closing.callback(libc.shmctl, segment, 0, None)
        queues = libc if hasattr(libc, "mq_open") else ctypes.CDLL("librt.so.1", use_errno=True)
        queue = queues.mq_open(self.facts["queue"].encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
        assert queue >= 0, os.strerror(ctypes.get_errno())
        self._closing.callback(queues.mq_unlink, self.facts["queue"].encode())

    def _leave_open(self) -> None:
        """What a careless caller leaves open for everything it starts."""
        stream = socket.create_connection(("127.0.0.1", PORT))
        self.fds = [stream.detach(), os.open("/", os.O_RDONLY)]
        for fd in self.fds:
            os.set_inheritable(fd, True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _extras(address: str) -> tuple[str, ...]:
    """Words behind an address: IPv6 must not wait for the check of duplicates, IPv4 has a broadcast address."""
    return ("nodad",) if ":" in address else ("brd", "+")
