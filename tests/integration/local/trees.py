"""Compare folders byte by byte, modes and links included."""

import hashlib
import random
from pathlib import Path


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def snapshot(folder: Path) -> dict[str, tuple[str, str]]:
    """Mode and content (or link target) of everything below a folder, by relative path."""
    return {str(path.relative_to(folder)): _facts(path) for path in sorted(folder.rglob("*"))}


def _facts(path: Path) -> tuple[str, str]:
    mode = f"{path.lstat().st_mode:o}"
    if path.is_symlink():
        return mode, str(path.readlink())
    return mode, digest(path) if path.is_file() else ""


def make_tree(folder: Path) -> Path:
    """Make a small tree with what copying programs get wrong: odd names, modes, links, empty and binary files."""
    folder.mkdir(parents=True)
    (folder / "sub/deeper").mkdir(parents=True)
    (folder / "empty").write_bytes(b"")
    (folder / "sub/binary").write_bytes(noise(300_000))
    (folder / "sub/deeper/a name with 'quotes' & ümlauts").write_text("text\n")
    script = folder / "script.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o750)
    (folder / "link").symlink_to("sub/binary")
    return folder


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress, the same ones for the same seed."""
    return random.Random(seed).randbytes(size)
