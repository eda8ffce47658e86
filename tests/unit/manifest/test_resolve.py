"""Key files, mount sources and host keys on a real file system."""

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.manifest.sources import check_source

from .conftest import KEY, PRIVATE_KEY, Load, Mistakes, ed25519


def entry(**keys: Any) -> dict[str, Any]:
    return {"Host": "git.example.com", **keys}


def identity_mistake(entry_mistakes: Mistakes, name: str = "~/.ssh/key") -> tuple[str, str]:
    [(path, what, hint)] = entry_mistakes(entry(IdentityFile=name))
    assert path == "[0].IdentityFile"
    return what, hint


def test_a_missing_key_names_the_keys_that_exist(entry_mistakes: Mistakes, home: Path) -> None:
    assert identity_mistake(entry_mistakes) == (f"'{home}/.ssh/key' does not exist", "keys in that folder: id_ed25519")


def test_a_missing_key_names_the_command_that_makes_one(entry_mistakes: Mistakes, home: Path) -> None:
    _, hint = identity_mistake(entry_mistakes, "~/o ther/key")
    assert hint == f"to make one: ssh-keygen -t ed25519 -f '{home}/o ther/key'"


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        (KEY, "is a public key", "name the private key"),
        ("", "is not a private key", "ssh-keygen"),
        ("hello", "is not a private key", "ssh-keygen"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "is a PuTTY key", "puttygen"),
        ("-----BEGIN DSA PRIVATE KEY-----\n", "is a DSA key", "ssh-keygen -t ed25519"),
        ("-----BEGIN PUBLIC KEY-----\n", "is a public key", "name the private key"),
    ],
)
def test_files_that_hold_no_private_key(
    entry_mistakes: Mistakes, home: Path, content: str, what: str, hint: str
) -> None:
    path = home / ".ssh/key"
    path.write_text(content)
    path.chmod(0o600)
    found, shown = identity_mistake(entry_mistakes)
    assert found.startswith(f"'{path}' {what}")
    assert hint in shown


def test_a_public_key_file_names_its_private_one(entry_mistakes: Mistakes, home: Path) -> None:
    what, hint = identity_mistake(entry_mistakes, "~/.ssh/id_ed25519.pub")
    assert what.endswith("id_ed25519.pub' is a public key")
    assert hint == f'name the private key: "{home}/.ssh/id_ed25519"'


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o777, 0o610])
def test_a_key_that_others_can_reach(entry_mistakes: Mistakes, home: Path, mode: int) -> None:
    (home / ".ssh/id_ed25519").chmod(mode)
    what, hint = identity_mistake(entry_mistakes, "~/.ssh/id_ed25519")
    assert f"has mode {mode:04o}" in what
    assert hint == f"chmod 600 {home}/.ssh/id_ed25519"


def test_ssh_refuses_that_mode_too(home: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True)
    (tmp_path / "k").chmod(0o640)
    refused = subprocess.run(["ssh-keygen", "-yf", str(tmp_path / "k")], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "UNPROTECTED" in refused.stderr


def test_folders_and_pipes_are_not_keys(entry_mistakes: Mistakes, home: Path) -> None:
    assert identity_mistake(entry_mistakes, "~/.ssh")[0].endswith("is not a file")
    os.mkfifo(home / ".ssh/key", 0o600)
    assert identity_mistake(entry_mistakes)[0].endswith("is not a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything: run as another user")
def test_a_key_that_cannot_be_read(entry_mistakes: Mistakes, home: Path) -> None:
    (home / ".ssh/id_ed25519").chmod(0)
    assert "cannot be read: Permission denied" in identity_mistake(entry_mistakes, "~/.ssh/id_ed25519")[0]


@pytest.mark.parametrize("header", ["OPENSSH ", "RSA ", "EC ", "ENCRYPTED ", ""])
def test_private_keys_of_every_form(load: Load, home: Path, header: str) -> None:
    (home / ".ssh/id_ed25519").write_text(f"-----BEGIN {header}PRIVATE KEY-----\n")
    manifest = load({"bottles": {"dev": {"ssh": [entry(IdentityFile="../home/.ssh/id_ed25519")]}}})
    path = manifest.bottles["dev"].ssh[0].IdentityFile
    assert path is not None
    assert path.is_absolute()
    assert path.samefile(home / ".ssh/id_ed25519")


def test_an_unknown_host_shows_how_to_compare(entry_mistakes: Mistakes) -> None:
    [(path, what, hint)] = entry_mistakes({"Host": "forge", "Hostname": "elsewhere.invalid", "Port": 2200})
    assert (path, what) == ("[0].KnownHostKey", "no host key is known for elsewhere.invalid port 2200")
    assert "ssh-keyscan -p 2200 elsewhere.invalid | ssh-keygen -lf -" in hint
    assert hint.endswith("ssh -p 2200 elsewhere.invalid")


def test_host_keys_come_from_all_files(load: Load, home: Path) -> None:
    (home / ".ssh/known_hosts2").write_text(f"build.example.com {ed25519(2)}\n")
    [known] = load({"bottles": {"dev": {"ssh": [entry(Host="build.example.com")]}}}).bottles["dev"].ssh
    assert known.KnownHostKey == (KEY, ed25519(2))
    assert known.known_host_key_source == f"{home}/.ssh/known_hosts, {home}/.ssh/known_hosts2"


def test_a_folder_in_place_of_known_hosts_knows_nothing(entry_mistakes: Mistakes, home: Path) -> None:
    (home / ".ssh/known_hosts").unlink()
    (home / ".ssh/known_hosts").mkdir()
    assert entry_mistakes(entry())[0][1] == "no host key is known for git.example.com"


def test_revoked_keys_are_never_accepted(entry_mistakes: Mistakes, load: Load, home: Path) -> None:
    with (home / ".ssh/known_hosts").open("a") as stream:
        stream.write(f"@revoked * {KEY}\n")
    assert entry_mistakes(entry())[0][1] == "only revoked keys are known for git.example.com"
    assert entry_mistakes(entry(KnownHostKey=[KEY]))[0][1] == "the key is @revoked in known_hosts"
    assert entry_mistakes(entry(KnownHostKey=[f"@cert-authority {KEY}", ed25519(1)]))[0][1].startswith("the key is")
    [known] = load({"bottles": {"dev": {"ssh": [entry(KnownHostKey=[ed25519(1)])]}}}).bottles["dev"].ssh
    assert known.revoked_host_keys == (KEY,)


@pytest.mark.parametrize(
    ("source", "what", "hint"),
    [
        ("~/missing", "No such file", "exists"),
        ("/", "cannot be mounted", "whole machine"),
        ("~", "cannot be mounted", "whole home folder"),
        ("..", "contains", "smaller folder"),
        ("~/.ssh", "cannot be mounted", "IdentityFile"),
        ("~/.ssh/id_ed25519.pub", "lies in", "IdentityFile"),
        ("~/link", "cannot be mounted", "IdentityFile"),
        ("~/.local", "contains", "records"),
        ("~/.local/state/claude-bottle/dev", "lies in", "records"),
        ("/proc/self", "lies in /proc", "programs outside"),
        ("/proc", "cannot be mounted", "programs outside"),
        ("/sys", "cannot be mounted", "controls"),
        ("/dev/null", "neither a file nor a folder", "leave it out"),
        ("/dev/shm", "lies in /dev", "devices"),
        ("/run", "cannot be mounted", "sockets"),
        ("/tmp", "cannot be mounted", "sockets"),
        ("/var", "contains", "smaller folder"),
    ],
)
def test_sources_that_lead_out(mistakes: Mistakes, home: Path, source: str, what: str, hint: str) -> None:
    (home / "link").symlink_to(".ssh")
    (home / ".local/state/claude-bottle/dev").mkdir(parents=True)
    [(path, found, shown)] = mistakes({"bottles": {"dev": {"mounts": [{"source": source, "target": "/opt/x"}]}}})
    assert path == "bottles.dev.mounts[0].source"
    assert what in found
    assert hint in shown


def test_a_socket_is_not_mounted(mistakes: Mistakes, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # A short relative name: pytest's folders can be longer than a socket address.
        with contextlib.chdir(tmp_path):
            server.bind("docker.sock")
        source = tmp_path / "docker.sock"
        [(_, what, _)] = mistakes({"bottles": {"dev": {"mounts": [{"source": str(source), "target": "/opt/x"}]}}})
    assert "is a Unix socket" in what


def test_no_mount_shows_a_declared_key(mistakes: Mistakes, home: Path) -> None:
    (home / "keys").mkdir()
    key = home / "keys/id"
    key.write_text(PRIVATE_KEY)
    key.chmod(0o600)
    (home / "alias").symlink_to("keys")
    for source in ("~/keys", "~/keys/id", "~/alias"):
        bottles = {
            "one": {"ssh": [entry(IdentityFile="~/alias/id")]},
            "two": {"mounts": [{"source": source, "target": "/opt/x"}]},
        }
        [(path, what, _)] = mistakes({"bottles": bottles})
        assert path == "bottles.two.mounts[0].source"
        assert what.endswith(f"would show the private key '{home}/alias/id' inside")


@pytest.mark.parametrize("source", ["~/.bashrc", "~/.config", "~/link", "~/bin/tool", "/etc/hostname", "/usr/share"])
def test_what_the_host_runs_is_not_writable(mistakes: Mistakes, load: Load, home: Path, source: str) -> None:
    (home / ".bashrc").touch()
    (home / ".config/git").mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin/tool").touch()
    (home / "link").symlink_to(".bashrc")
    mount = {"source": source, "target": "/opt/x"}
    [(path, what, hint)] = mistakes({"bottles": {"dev": {"mounts": [mount | {"writable": True}]}}})
    assert path == "bottles.dev.mounts[0].source"
    assert "cannot be writable: programs outside run what is in" in what
    assert hint == "leave writable out"
    assert load({"bottles": {"dev": {"mounts": [mount]}}}).bottles["dev"].mounts


def test_the_state_folder_may_be_elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state/claude-bottle"
    state.mkdir(parents=True)
    assert check_source(state, home) is None
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert check_source(state, home) is not None
    assert check_source(tmp_path / "state", home) is not None
