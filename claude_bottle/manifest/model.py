"""What a manifest says, as frozen data; fields are the manifest's own keys, ssh entries spelled as in ssh_config(5).

Nothing here reads a file: a test may build a `Bottle` in memory. `parse` turns text into these, `resolve` fills what
the machine knows (identity files, known host keys).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SSHEntry:
    """One declared SSH destination: the alias the agent types and where it leads."""

    Host: str
    """alias the agent types"""
    Hostname: str = ""
    """host name or IP literal the gate dials; default: Host"""
    Port: int = 22
    """TCP port the gate dials, 1 to 65535"""
    User: str | None = None
    """login name; default: ssh's own"""
    IdentityFile: Path | None = None
    """private key, stays outside the bottle"""
    KnownHostKey: tuple[str, ...] = ()
    """host keys to accept, `[@cert-authority] TYPE BASE64`; default: the user's known_hosts"""
    max_connections: int | None = None
    """connections open at once"""
    idle_timeout_s: float | None = None
    """seconds without a byte in either direction before a connection is cut"""
    connect_timeout_s: float | None = None
    """seconds to reach the upstream, names and all addresses included"""
    upload_limit_bytes: int | None = None
    """bytes from the bottle, over all connections of one run"""
    download_limit_bytes: int | None = None
    """bytes into the bottle, over all connections of one run"""

    def __post_init__(self) -> None:
        if not self.Hostname:
            object.__setattr__(self, "Hostname", self.Host)


@dataclass(frozen=True, slots=True)
class Mount:
    """One file or folder of the host that the bottle sees."""

    source: Path
    """absolute path on the host"""
    target: Path
    """absolute path inside the bottle"""
    writable: bool = False
    """read-only unless true"""


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits on what the bottle may use; None is no limit."""

    memory_bytes: int | None = None
    """memory of all processes together where the host allows it, else of each"""
    pids: int | None = None
    """processes and threads"""


@dataclass(frozen=True, slots=True)
class Bottle:
    """One declared sandbox."""

    ssh: Sequence[SSHEntry] = ()
    """SSH destinations; their order numbers the gate's ports"""
    env: Mapping[str, str] = field(default_factory=dict)
    """variables set inside"""
    pass_env: tuple[str, ...] = ()
    """names of the caller's variables that go in"""
    allow_addresses: tuple[str, ...] = ()
    """networks (CIDR) that names may resolve to although the address guard would refuse them"""
    mounts: tuple[Mount, ...] = ()
    """files and folders of the host that the bottle sees besides the work folder"""
    resources: Resources = Resources()
    """limits on memory and processes"""


@dataclass(frozen=True, slots=True)
class Agent:
    """A program and the bottle it runs in."""

    bottle: str
    """name of a bottle in the same manifest"""
    command: tuple[str, ...]
    """argument vector, run without a shell"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest."""

    path: Path
    """file it was read from"""
    bottles: Mapping[str, Bottle]
    """by name, in file order"""
    agents: Mapping[str, Agent]
    """by name, in file order"""
