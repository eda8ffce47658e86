"""The demo's folder: a user with a home, a key and a work folder, two servers with their files, and a manifest.

home/            of the demo's user: .ssh with a key for both servers; the caller's own home is not used
work/            the work folder: the agent's script, its acts and what they print
forge/, prod/    the servers, each with the files its sessions see
bin/ssh          what `ssh` is without the bottle, see `outside_environment`
claude-bottle.toml
"""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import claude_bottle
from claude_bottle.demo.servers import SSHServer, make_key
from claude_bottle.errors import BackendError

AGENT = "fixer"
"""name of the agent in the manifest, so the bottle's name"""

MOTD = "Welcome to forge."
SUBJECT = "Greet everyone"
"""subject of the commit that the agent makes"""
REPORTS = 20

AGENT_SCRIPT = """\
# The agent: one act after the other; what each prints stays beside it, its exit status is told.
[ $# -gt 0 ] || set -- acts/*.sh
for act in "$@"; do
    timeout 20 bash -e -o pipefail "$act" >"$act.out" 2>&1 </dev/null
    echo "$act $?"
done
"""

COMMITS = """\
blob
mark :1
data 6
hello

commit refs/heads/main
committer Ada <ada@example.com> 1700000000 +0000
data 14
Say something
M 100644 :1 greeting.txt
"""
"""the repository's history, as git fast-import reads it"""


class Stage:
    """Everything the demo puts on disk; nothing runs yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.work = root / "work"
        for folder in (self.home, self.work / "acts", root / "run"):
            folder.mkdir(parents=True, mode=0o700)
        key = make_key(self.home / ".ssh/id_ed25519")
        self.forge = SSHServer(root / "forge", address="127.0.0.1", authorized_key=key)
        self.prod = SSHServer(root / "prod", address="127.0.0.2", authorized_key=key)
        self.user = _user_name()
        (self.work / "agent.sh").write_text(AGENT_SCRIPT)
        self._fill_forge()

    @property
    def repository(self) -> Path:
        """The bare repository on the server."""
        return self.forge.files / "app.git"

    def _fill_forge(self) -> None:
        files = self.forge.files
        (files / "motd").write_text(f"{MOTD}\n")
        (files / "inbox").mkdir()
        (files / "reports").mkdir()
        for number in range(REPORTS):
            (files / f"reports/{number:02}.csv").write_text(f"day,count\n{number},{number * number}\n" * 200)
        git(self.root, "init", "--quiet", "--bare", "--initial-branch=main", str(self.repository))
        git(self.repository, "fast-import", "--quiet", text=COMMITS)

    def write_configuration(self) -> str:
        """Write what names the servers' ports, once they run; return the manifest."""
        ssh = self.home / ".ssh"
        known_hosts = blocks = ""
        for name, server in (("forge", self.forge), ("prod", self.prod)):
            known_hosts += f"[{server.address}]:{server.port} {server.host_key}\n"
            blocks += f"Host {name} {server.address}\n    HostName {server.address}\n    Port {server.port}\n"
        blocks += f'Host *\n    User {self.user}\n    IdentityFile "{ssh}/id_ed25519"\n'
        blocks += f'    IdentityAgent none\n    UserKnownHostsFile "{ssh}/known_hosts"\n    BatchMode yes\n'
        (ssh / "known_hosts").write_text(known_hosts)
        (ssh / "config").write_text(blocks)
        (self.root / "outside.bash").write_text('ssh() { command ssh -F "$HOME/.ssh/config" "$@"; }\n')
        manifest = self._manifest()
        (self.root / "claude-bottle.toml").write_text(manifest)
        return manifest

    def _manifest(self) -> str:
        return f"""\
[[bottles.dev.ssh]]
Host = "forge"
Hostname = "{self.forge.address}"
Port = {self.forge.port}
User = {json.dumps(self.user)}
IdentityFile = "~/.ssh/id_ed25519"

[agents.{AGENT}]
bottle = "dev"
command = ["bash", "agent.sh"]
"""

    def environment(self) -> dict[str, str]:
        """The environment of the command line: the demo's own home, state and sockets."""
        return {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            # `-m` looks in the current folder first, which is the one the agent writes to
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": str(Path(claude_bottle.__file__).parents[1]),
        }

    def outside_environment(self) -> dict[str, str]:
        """The same without the bottle; ssh finds its configuration by passwd(5), not by HOME, so it has to be told."""
        return self.environment() | {"BASH_ENV": str(self.root / "outside.bash")}


def cli(*words: str) -> tuple[str, ...]:
    """Return the argv of a `claude-bottle` command."""
    return (sys.executable, "-m", "claude_bottle.cli.main", *words)


def git(folder: Path, *words: str, text: str = "") -> str:
    """Run git with nobody's configuration; return what it prints."""
    environ = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    environ |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    argv = ["git", "-C", str(folder), *words]
    return subprocess.run(argv, check=True, input=text, text=True, capture_output=True, env=environ).stdout.strip()


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError as error:
        hint = "run the demo as a user that the system knows"
        raise BackendError(
            f"user id {os.getuid()} has no name, so sshd admits nobody", where="demo", hint=hint
        ) from error
