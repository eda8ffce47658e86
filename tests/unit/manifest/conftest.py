"""A home folder with a usable key and known hosts, and short ways from manifest text to its mistakes."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.errors import ManifestError
from claude_bottle.manifest import Manifest, load_manifest

Load = Callable[..., Manifest]
Mistakes = Callable[..., list[tuple[str, str, str]]]

PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"


def blob(*fields: bytes) -> str:
    """Base64 of length-prefixed fields, as in a public key."""
    return base64.b64encode(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).decode()


def ed25519(seed: int = 0) -> str:
    """A well formed ed25519 public key without its comment."""
    return "ssh-ed25519 " + blob(b"ssh-ed25519", seed.to_bytes(32, "big"))


KEY = ed25519()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home: ~/.ssh with a private key and known_hosts that hold *.example.com."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    key = folder / ".ssh/id_ed25519"
    key.write_text(PRIVATE_KEY)
    key.chmod(0o600)
    (folder / ".ssh/id_ed25519.pub").write_text(f"{KEY} me\n")
    (folder / ".ssh/known_hosts").write_text(f"*.example.com,[*.example.com]:2222 {KEY}\n")
    (folder / ".gitconfig").write_text("[user]\n")
    return folder


@pytest.fixture
def load(tmp_path: Path, home: Path) -> Load:
    """Write a manifest (TOML text, or data as JSON) into an own folder and load it."""

    def load(content: str | bytes | dict[str, Any], name: str = "claude-bottle.toml") -> Manifest:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        if isinstance(content, dict):
            content, name = json.dumps(content), "claude-bottle.json"
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_manifest(path, home=home)

    return load


@pytest.fixture
def mistakes(load: Load, tmp_path: Path) -> Mistakes:
    """The mistakes of a manifest as (key path, what, hint), in order."""

    def mistakes(content: str | bytes | dict[str, Any], name: str = "claude-bottle.toml") -> list[tuple[str, str, str]]:
        with pytest.raises(ManifestError) as caught:
            load(content, name)
        prefix = f"{tmp_path}/project/claude-bottle."
        for problem in caught.value.problems:
            assert problem.where.startswith(prefix)
            assert problem.what
            assert problem.hint
            assert problem.exit_code == 2
            assert str(problem).isprintable()
            assert problem.hint.isprintable()
        return [
            (each.where.removeprefix(prefix)[4:].lstrip(": "), each.what, each.hint) for each in caught.value.problems
        ]

    return mistakes


@pytest.fixture
def entry_mistakes(mistakes: Mistakes) -> Mistakes:
    """The mistakes of a manifest with one bottle whose ssh list is given, paths below `bottles.dev.ssh`."""

    def entry_mistakes(*entries: dict[str, Any]) -> list[tuple[str, str, str]]:
        found = mistakes({"bottles": {"dev": {"ssh": list(entries)}}})
        return [(path.removeprefix("bottles.dev.ssh"), what, hint) for path, what, hint in found]

    return entry_mistakes
