"""Reading a mount table: what a path means, whatever is mounted over what."""

from pathlib import Path

import pytest

from claude_bottle.backend.local.mounts import Mount, check_mounts, origin_of, read_mounts, unescape
from claude_bottle.errors import BackendError
from claude_bottle.workfolder.protect import Protection

TABLE = [
    Mount("8:1", "/", "/"),
    Mount("0:5", "/", "/proc"),
    Mount("8:2", "/@home", "/home"),
    Mount("8:3", "/data", "/home/user/project"),
]


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/", ("8:1", "/")),
        ("/etc", ("8:1", "/etc")),
        ("/processes", ("8:1", "/processes")),
        ("/home", ("8:2", "/@home")),
        ("/home/user/other", ("8:2", "/@home/user/other")),
        ("/home/user/project", ("8:3", "/data")),
        ("/home/user/project/.git/hooks", ("8:3", "/data/.git/hooks")),
    ],
)
def test_origin(path: str, origin: tuple[str, str]) -> None:
    assert origin_of(TABLE, path) == origin


def test_a_later_mount_covers_an_earlier_one() -> None:
    assert origin_of([*TABLE, Mount("0:9", "/", "/home")], "/home/x") == ("0:9", "/x")


def test_escapes() -> None:
    assert unescape(r"/a\040b\134c\012d") == "/a b\\c\nd"


def test_an_unmounted_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="was replaced"):
        check_mounts(1, tmp_path, [Protection(tmp_path / "x", "pin")])


def test_our_own_table_can_be_read() -> None:
    assert any(mount.point == "/" for mount in read_mounts("self"))
