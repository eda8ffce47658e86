"""Finding, reading and parsing the file; a whole manifest from text to model."""

import os
from pathlib import Path

import pytest

from claude_bottle.errors import ManifestError
from claude_bottle.manifest import Agent, Bottle, Mount, Resources, SSHEntry, find_manifest, load_manifest

from .conftest import KEY, Load, Mistakes, ed25519

EXAMPLE = f"""
[bottles.dev]
env = {{ EDITOR = "vim" }}
pass_env = ["ANTHROPIC_API_KEY"]
allow_addresses = ["10.0.0.0/8", "192.0.2.7"]
mounts = [{{ source = "~/.gitconfig", target = "~/.gitconfig" }}]
resources = {{ memory = "2GiB", pids = 512 }}

[[bottles.dev.ssh]]
Host = "forge"
Hostname = "git.example.com"
Port = 2222
User = "git"
IdentityFile = "~/.ssh/id_ed25519"
KnownHostKey = ["{ed25519(7)} root@forge"]
max_connections = 8
idle_timeout_s = 900
connect_timeout_s = 2.5
upload_limit_bytes = 1
download_limit_bytes = 9223372036854775807

[[bottles.dev.ssh]]
Host = "build.example.com"

[bottles.sealed]

[agents.fixer]
bottle = "dev"
command = ["claude", ""]
"""


def test_the_example_becomes_the_model(load: Load, home: Path, tmp_path: Path) -> None:
    manifest = load(EXAMPLE)
    assert manifest.path == tmp_path / "project/claude-bottle.toml"
    assert list(manifest.bottles) == ["dev", "sealed"]
    assert manifest.bottles["sealed"] == Bottle()
    assert manifest.agents == {"fixer": Agent(bottle="dev", command=("claude", ""))}
    bottle = manifest.bottles["dev"]
    assert bottle.env == {"EDITOR": "vim"}
    assert bottle.pass_env == ("ANTHROPIC_API_KEY",)
    assert bottle.allow_addresses == ("10.0.0.0/8", "192.0.2.7/32")
    assert bottle.mounts == (Mount(source=home / ".gitconfig", target=home / ".gitconfig"),)
    assert bottle.resources == Resources(memory_bytes=2 << 30, pids=512)
    assert bottle.ssh == (
        SSHEntry(
            Host="forge",
            Hostname="git.example.com",
            Port=2222,
            User="git",
            IdentityFile=home / ".ssh/id_ed25519",
            KnownHostKey=(ed25519(7),),
            max_connections=8,
            idle_timeout_s=900.0,
            connect_timeout_s=2.5,
            upload_limit_bytes=1,
            download_limit_bytes=2**63 - 1,
        ),
        SSHEntry(
            Host="build.example.com",
            Hostname="build.example.com",
            KnownHostKey=(KEY,),
            known_host_key_source=str(home / ".ssh/known_hosts"),
        ),
    )


def test_a_bottle_is_built_in_memory_without_files() -> None:
    bottle = Bottle(ssh=[SSHEntry(Host="forge", Hostname="git.example.com", Port=22), SSHEntry(Host="other")])
    assert [entry.Hostname for entry in bottle.ssh] == ["git.example.com", "other"]


def test_json_is_the_same_structure(load: Load) -> None:
    data = {"$schema": "x", "bottles": {"dev": {"ssh": [{"Host": "git.example.com", "KnownHostKey": [KEY]}]}}}
    assert load(data).bottles["dev"].ssh[0].Hostname == "git.example.com"


def test_a_byte_order_mark_is_no_mistake(load: Load) -> None:
    assert load(b"\xef\xbb\xbf[bottles.dev]\r\n # " + b"." * 99).bottles == {"dev": Bottle()}


def test_relative_paths_start_at_the_manifest(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project/data").mkdir(parents=True)
    monkeypatch.chdir("/")
    manifest = load('[bottles.dev]\nmounts = [{ source = "data", target = "/opt/data", writable = true }]')
    assert manifest.bottles["dev"].mounts == (Mount(tmp_path / "project/data", Path("/opt/data"), writable=True),)


@pytest.mark.parametrize(
    ("content", "name", "place", "what"),
    [
        ("[bottles\n", "claude-bottle.toml", "1:9", "expected ']'"),
        ("[bottles.dev]\nenv = {\n", "claude-bottle.toml", "2:", ""),
        ('[bottles.dev]\nx = "', "claude-bottle.toml", "2:6", "unterminated string"),
        ("[bottles.dev]\n[bottles.dev]", "claude-bottle.toml", "2:13", "cannot declare"),
        ("[bottles.dev]\nenv = 1\nenv = 2", "claude-bottle.toml", "3:8", "cannot overwrite"),
        ('{"bottles": }', "claude-bottle.json", "1:13", "expecting value"),
        ('{\n "bottles": {},\n}', "claude-bottle.json", "3:1", "expecting property name"),
        ("[]", "claude-bottle.json", "", "the top level is not an object"),
        ("x = " + "[" * 5000, "claude-bottle.toml", "", "is nested too deeply"),
        ("[" * 200000, "claude-bottle.json", "", "is nested too deeply"),
        ("#\n[" + "a." * 200000 + "a]", "claude-bottle.toml", "2", "more than 64 dots"),
        ("x = " + "9" * 5000, "claude-bottle.toml", "", "exceeds the limit"),
        ('{"bottles": ' + "9" * 5000 + "}", "claude-bottle.json", "", "exceeds the limit"),
        (b"[bottles.dev]\n# \xff\n", "claude-bottle.toml", "2", "is not UTF-8"),
        ("\ufeff[bottles.dev]".encode("utf-16"), "claude-bottle.toml", "1", "is not UTF-8"),
        ("#" * (1 << 20) + "\n", "claude-bottle.toml", "", "is larger than 1048576 bytes"),
    ],
)
def test_syntax_mistakes_have_line_and_column(
    mistakes: Mistakes, content: str | bytes, name: str, place: str, what: str
) -> None:
    [(where, found, _)] = mistakes(content, name)
    assert where.startswith(place)
    assert what in found.lower() if what == what.lower() else what in found


def test_missing_file_names_init(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file") as caught:
        load_manifest(tmp_path / "claude-bottle.toml")
    assert "claude-bottle init" in caught.value.problems[0].hint


def test_a_folder_or_pipe_is_not_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is not a file"):
        load_manifest(tmp_path)
    os.mkfifo(tmp_path / "claude-bottle.toml")
    with pytest.raises(ManifestError, match="is not a file"):
        load_manifest(tmp_path / "claude-bottle.toml")


def test_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path / "a\0b")


def test_messages_name_the_file_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "claude-bottle.toml").write_text("bottle = 1")
    with pytest.raises(ManifestError) as caught:
        load_manifest(tmp_path / "claude-bottle.toml")
    assert caught.value.problems[0].where == "claude-bottle.toml: bottle"


def test_control_characters_in_the_file_name_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    with pytest.raises(ManifestError) as caught:
        load_manifest(folder / "claude-bottle.toml")
    assert caught.value.problems[0].where.isprintable()


def test_the_nearest_manifest_upward_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    assert find_manifest(deep) is None
    (tmp_path / "claude-bottle.json").write_text("{}")
    assert find_manifest(deep) == tmp_path / "claude-bottle.json"
    (tmp_path / "a/b/claude-bottle.toml").write_text("")
    assert find_manifest(deep) == tmp_path / "a/b/claude-bottle.toml"
    assert find_manifest(tmp_path / "a/b") == tmp_path / "a/b/claude-bottle.toml"


def test_two_manifests_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "claude-bottle.json").write_text("{}")
    (tmp_path / "claude-bottle.toml").write_text("")
    with pytest.raises(ManifestError, match=r"claude-bottle.toml and claude-bottle.json are both here") as caught:
        find_manifest(tmp_path)
    assert "--manifest" in caught.value.problems[0].hint


def test_a_dangling_link_counts_as_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "claude-bottle.toml").symlink_to("nowhere")
    assert find_manifest(tmp_path) == tmp_path / "claude-bottle.toml"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second owner: sudo pytest tests/unit/manifest")
def test_another_users_manifest_is_not_picked_up(tmp_path: Path) -> None:
    path = tmp_path / "claude-bottle.toml"
    path.write_text("[bottles.dev]")
    os.chown(path, 12345, -1)
    with pytest.raises(ManifestError, match="belongs to user id 12345") as caught:
        find_manifest(tmp_path)
    assert caught.value.problems[0].hint.endswith(f"--manifest {path}")
    assert load_manifest(path).bottles == {"dev": Bottle()}
