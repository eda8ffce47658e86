"""What a manifest says, as frozen data; fields are the manifest's own keys, ssh entries spelled as in ssh_config(5).

Declared once: name, type, default and doc here are what the walker checks and what the JSON Schema says.
Nothing here reads a file: a test may build a `Bottle` in memory. `load` fills what the machine knows (files, known
host keys).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from claude_bottle.manifest import texts
from claude_bottle.manifest.hostkey import EXAMPLE_KEY, KEY_LINE_PATTERN, canonical_key_line, check_key_line
from claude_bottle.manifest.hostname import canonical_host
from claude_bottle.manifest.kinds import MAX_BYTES, bottle_file, flag, host_file, seconds, size, text, whole
from claude_bottle.manifest.tables import declared, list_of, map_of, table

MAX_SSH_ENTRIES = 2768
"""entries of one bottle: the gate's ports are 30000 to 32767, below the kernel's ephemeral range"""
MIN_MEMORY_BYTES = 16 << 20
"""less cannot hold a shell and git"""
MIN_PIDS = 16
"""less cannot hold a shell and git"""
MAX_PIDS = 4194304
"""the kernel's PID_MAX_LIMIT"""

_HOST = f"^{texts.HOST_PATTERN}$"
_ALIAS = text(texts.check_alias, canonical=canonical_host, pattern=_HOST, example="forge")
_HOSTNAME = text(texts.check_destination, canonical=canonical_host, pattern=_HOST, example="git.example.com")
_PORT = whole(1, 65535, "a TCP port")
_USER = text(texts.check_user, pattern=f"^{texts.USER_PATTERN}$", example="git")
_HOST_KEY = text(check_key_line, canonical=canonical_key_line, pattern=KEY_LINE_PATTERN, example="ssh-ed25519 AAAA...")
_HOST_KEYS = list_of(_HOST_KEY, least=1, form='write a list: ["ssh-ed25519 AAAA..."]')
_CONNECTIONS = whole(1, 1_000_000, "a number of connections")
_LIMIT = whole(1, MAX_BYTES, "a number of bytes")
_MEMORY = size(MIN_MEMORY_BYTES)
_PIDS = whole(MIN_PIDS, MAX_PIDS, "a number of processes")


@dataclass(frozen=True, slots=True)
class SSHEntry:
    """One declared SSH destination: the alias the agent types and where it leads."""

    Host: str = field(metadata=declared(_ALIAS, examples=("forge",)))
    """alias the agent types"""
    Hostname: str = field(default="", metadata=declared(_HOSTNAME, examples=("git.example.com", "192.0.2.1")))
    """host name or IP literal the gate dials; default: Host"""
    Port: int = field(default=22, metadata=declared(_PORT, examples=(22, 2222)))
    """TCP port the gate dials, 1 to 65535"""
    User: str | None = field(default=None, metadata=declared(_USER, examples=("git",)))
    """login name; default: ssh's own"""
    IdentityFile: Path | None = field(default=None, metadata=declared(host_file(), examples=("~/.ssh/id_ed25519",)))
    """private key, stays outside the bottle"""
    KnownHostKey: tuple[str, ...] = field(default=(), metadata=declared(_HOST_KEYS, examples=([EXAMPLE_KEY],)))
    """host keys to accept, `[@cert-authority] TYPE BASE64`; default: the user's known_hosts"""
    max_connections: int | None = field(default=None, metadata=declared(_CONNECTIONS, examples=(32,)))
    """connections open at once"""
    idle_timeout_s: float | None = field(default=None, metadata=declared(seconds(), examples=(900,)))
    """seconds without a byte in either direction before a connection is cut"""
    connect_timeout_s: float | None = field(default=None, metadata=declared(seconds(), examples=(10,)))
    """seconds to reach the upstream, names and all addresses included"""
    upload_limit_bytes: int | None = field(default=None, metadata=declared(_LIMIT, examples=(1 << 30,)))
    """bytes from the bottle, over all connections of one run"""
    download_limit_bytes: int | None = field(default=None, metadata=declared(_LIMIT, examples=(1 << 30,)))
    """bytes into the bottle, over all connections of one run"""
    known_host_key_source: str = "manifest"
    """where KnownHostKey comes from: `manifest`, or the known_hosts files that held it"""
    revoked_host_keys: tuple[str, ...] = ()
    """`TYPE BASE64` that known_hosts revokes for this destination; not even a certificate makes them acceptable"""

    def __post_init__(self) -> None:
        if not self.Hostname:
            object.__setattr__(self, "Hostname", self.Host)


@dataclass(frozen=True, slots=True)
class Mount:
    """One file or folder of the host that the bottle sees."""

    source: Path = field(metadata=declared(host_file(), examples=("~/.gitconfig",)))
    """path on the host; relative ones start at the manifest's folder"""
    target: Path = field(metadata=declared(bottle_file(), examples=("~/.gitconfig",)))
    """path inside the bottle, absolute or from `~`, which is the same path inside as outside"""
    writable: bool = field(default=False, metadata=declared(flag()))
    """read-only unless true"""


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits on what the bottle may use; what is left out is not limited."""

    memory_bytes: int | None = field(default=None, metadata=declared(_MEMORY, key="memory", examples=("2GiB",)))
    """memory of all processes together where the host allows it, else of each"""
    pids: int | None = field(default=None, metadata=declared(_PIDS, examples=(512,)))
    """processes and threads"""


_ENTRIES = list_of(
    table(SSHEntry),
    form="head each entry with [[bottles.NAME.ssh]]",
    most=MAX_SSH_ENTRIES,
    why_most="the gate's ports are 30000 to 32767; divide the entries between bottles",
)
_ENVIRONMENT = map_of(
    texts.check_variable,
    text(texts.check_argument, example="vim"),
    pattern=texts.VARIABLE_PATTERN,
    form='write a table: env = { EDITOR = "vim" }',
)
_VARIABLE = text(texts.check_variable, pattern=f"^{texts.VARIABLE_PATTERN}$", example="ANTHROPIC_API_KEY")
_NETWORK = text(
    texts.check_network, canonical=texts.canonical_network, pattern=f"^{texts.NETWORK_PATTERN}$", example="10.0.0.0/8"
)


@dataclass(frozen=True, slots=True)
class Bottle:
    """One declared sandbox."""

    ssh: Sequence[SSHEntry] = field(default=(), metadata=declared(_ENTRIES))
    """SSH destinations; their order numbers the gate's ports"""
    env: Mapping[str, str] = field(default_factory=dict, metadata=declared(_ENVIRONMENT, examples=({"EDITOR": "vim"},)))
    """variables set inside"""
    pass_env: tuple[str, ...] = field(
        default=(),
        metadata=declared(
            list_of(_VARIABLE, unique=True, form='write a list: ["ANTHROPIC_API_KEY"]'),
            examples=(["ANTHROPIC_API_KEY"],),
        ),
    )
    """names of the caller's variables that go in"""
    allow_addresses: tuple[str, ...] = field(
        default=(),
        metadata=declared(
            list_of(_NETWORK, unique=True, form='write a list: ["10.0.0.0/8"]'), examples=(["10.0.0.0/8"],)
        ),
    )
    """networks (CIDR) that names may resolve to although the address guard would refuse them"""
    mounts: tuple[Mount, ...] = field(
        default=(), metadata=declared(list_of(table(Mount), form="head each mount with [[bottles.NAME.mounts]]"))
    )
    """files and folders of the host that the bottle sees besides the work folder"""
    resources: Resources = field(default=Resources(), metadata=declared(table(Resources)))
    """limits on memory and processes"""


_ARGUMENTS = list_of(
    text(texts.check_argument, example="claude"), least=1, form='write a list, one item per argument: ["claude", "-p"]'
)


@dataclass(frozen=True, slots=True)
class Agent:
    """A program and the bottle it runs in."""

    bottle: str = field(
        metadata=declared(text(texts.check_name, pattern=f"^{texts.NAME_PATTERN}$", example="dev"), examples=("dev",))
    )
    """name of a bottle in the same manifest"""
    command: tuple[str, ...] = field(metadata=declared(_ARGUMENTS, examples=(["claude"],)))
    """argument vector, run without a shell"""


_BOTTLES = map_of(
    texts.check_name, table(Bottle), pattern=texts.NAME_PATTERN, least=1, form="declare one: [bottles.NAME]"
)
_AGENTS = map_of(texts.check_name, table(Agent), pattern=texts.NAME_PATTERN, form="declare one: [agents.NAME]")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest."""

    path: Path
    """file it was read from"""
    bottles: Mapping[str, Bottle] = field(metadata=declared(_BOTTLES))
    """bottles by name"""
    agents: Mapping[str, Agent] = field(default_factory=dict, metadata=declared(_AGENTS))
    """agents by name"""
