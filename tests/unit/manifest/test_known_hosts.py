"""known_hosts as OpenSSH reads it: by example, and line by line against ssh-keygen."""

import base64
import hmac
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_bottle.manifest.known_hosts import FoundKeys, KnownHosts

from .conftest import blob, ed25519

KEYS = [ed25519(number) for number in range(4)]
DSA = "ssh-dss " + blob(b"ssh-dss", b"\1", b"\1", b"\1", b"\1")


def hashed(name: str, salt: bytes = bytes(range(20))) -> str:
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def find(text: str, host: str = "git.example.com", port: int = 22) -> tuple[str, ...]:
    return KnownHosts([("file", text.encode())]).find(host, port).keys


@pytest.mark.parametrize(
    "hosts",
    [
        "git.example.com",
        "GIT.Example.com",
        "other,git.example.com,192.0.2.1",
        "*.example.com",
        "g?t.*",
        "*",
        "*.example.com,!mail.example.com",
        "  git.example.com",
        hashed("git.example.com"),
    ],
)
def test_hosts_that_match(hosts: str) -> None:
    assert find(f"{hosts} {KEYS[0]} comment\n") == (KEYS[0],)
    assert find(f"{hosts}\t{KEYS[0]}\r\n") == (KEYS[0],)
    assert find(f"{hosts} {KEYS[0]}") == (KEYS[0],)


@pytest.mark.parametrize(
    "hosts",
    [
        "git.example.co",
        "example.com",
        "*.example.com,!git.example.com",
        "!git.example.com,*",
        "!other",
        "git?.example.com",
        "[git.example.com]:2222",
        "[git.example.com]:22",
        "#git.example.com",
        "@bogus git.example.com",
        "@revoked git.example.com",
        hashed("other.example.com"),
        hashed("git.example.com")[:-5] + "AAAA=",
        hashed("git.example.com").replace("|1|", "|2|"),
        "|1|x|y",
        "|1|" + "A" * 28,
        "||",
        "",
    ],
)
def test_hosts_that_do_not_match(hosts: str) -> None:
    assert find(f"{hosts} {KEYS[0]}\n") == ()


@pytest.mark.parametrize("key", ["ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 !", DSA, "1024 35 1234567890", ""])
def test_lines_that_ssh_cannot_read_are_skipped(key: str) -> None:
    assert find(f"git.example.com {key}\ngit.example.com {KEYS[1]}") == (KEYS[1],)


def test_ports_other_than_22_have_their_own_names() -> None:
    text = (
        f"[git.example.com]:2222 {KEYS[0]}\n{hashed('[git.example.com]:2223')} {KEYS[1]}\ngit.example.com {KEYS[2]}\n"
    )
    assert find(text, port=2222) == (KEYS[0],)
    assert find(text, port=2223) == (KEYS[1],)
    assert find(text, port=22) == (KEYS[2],)
    # As ssh: "checking without port identifier".
    assert find(text, port=2224) == (KEYS[2],)


def test_literals() -> None:
    text = f"192.0.2.1 {KEYS[0]}\n2001:db8::1 {KEYS[1]}\n[2001:db8::1]:2222 {KEYS[2]}\n"
    assert find(text, "192.0.2.1") == (KEYS[0],)
    assert find(text, "2001:db8::1") == (KEYS[1],)
    assert find(text, "2001:db8::1", 2222) == (KEYS[2],)


def test_markers() -> None:
    text = f"@cert-authority *.example.com {KEYS[0]} ca\ngit.example.com {KEYS[1]}\n@revoked * {KEYS[1]}\n"
    found = KnownHosts([("file", text.encode())]).find("git.example.com", 22)
    assert found == FoundKeys((f"@cert-authority {KEYS[0]}",), (KEYS[1],), ("file",))


def test_a_revoked_authority_is_not_returned() -> None:
    assert find(f"@revoked git.example.com {KEYS[0]}\n@cert-authority * {KEYS[0]}") == ()


def test_a_key_revoked_for_one_port_is_not_found_without_it() -> None:
    assert find(f"git.example.com {KEYS[0]}\n@revoked [git.example.com]:2222 {KEYS[0]}", port=2222) == ()


def test_several_files_keep_their_order() -> None:
    first = f"git.example.com {KEYS[0]}\ngit.example.com {KEYS[0]}\n"
    second = f"* {KEYS[1]}\n{hashed('git.example.com')} {KEYS[0]}\n"
    found = KnownHosts([("one", first.encode()), ("two", second.encode())]).find("git.example.com", 22)
    assert found == FoundKeys((KEYS[0], KEYS[1]), (), ("one", "two"))


NAMES = ["a.example", "b.example", "ab.example", "192.0.2.1", "2001:db8::1"]
PORTS = [22, 2222]
host_patterns = st.lists(
    st.sampled_from(
        [
            *NAMES,
            "[a.example]:2222",
            "[2001:db8::1]:2222",
            "*.example",
            "?.example",
            "!a.example",
            "*",
            "[*]:2222",
            "A.example",
        ]
    ),
    min_size=1,
    max_size=3,
).map(",".join)
lines = st.one_of(
    st.tuples(
        st.sampled_from(["", "", "", "", "@cert-authority ", "@revoked ", "@bogus ", " ", "\t", "#"]),
        host_patterns,
        st.sampled_from([*KEYS, *KEYS, "ssh-ed25519 AAAA", "ssh-ed25519", "ssh-foo AAAA"]),
        st.sampled_from(["", "", " comment", "\r"]),
    ).map(lambda parts: f"{parts[0]}{parts[1]} {parts[2]}{parts[3]}"),
    st.sampled_from(["", "# comment", "junk", "@revoked"]),
)


def ssh_keygen_finds(file: Path, name: str) -> list[int]:
    """Numbers of the lines that ssh-keygen -F reports for a name."""
    printed = subprocess.run(["ssh-keygen", "-F", name, "-f", str(file)], capture_output=True, text=True, check=False)
    return [int(number) for number in re.findall(r"^# Host .* found: line (\d+)", printed.stdout, re.MULTILINE)]


def expected(file: Path, name: str, port: int) -> tuple[set[str], set[str]]:
    """Keys and revoked keys, by ssh-keygen's word on which lines match."""
    content = file.read_text().split("\n")
    names = [name] if port == 22 else [f"[{name}]:{port}", name]
    entries = [[content[number - 1].split() for number in ssh_keygen_finds(file, each)] for each in names]
    # ssh-keygen -F prints lines whose key ssh could not read; ssh itself skips them.
    entries = [[words for words in found if any(key in " ".join(words) for key in KEYS)] for found in entries]
    revoked = {" ".join(words[2:4]) for found in entries for words in found if words[0] == "@revoked"}
    for found in entries:
        keys = {" ".join(words[1:3]) for words in found if not words[0].startswith("@")}
        authorities = {" ".join(words[2:4]) for words in found if words[0] == "@cert-authority"}
        good = (keys - revoked) | {f"@cert-authority {key}" for key in authorities - revoked}
        if good:
            return good, revoked
    return set(), revoked


@pytest.mark.parametrize("hash_names", [False, True])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(lines, min_size=1, max_size=12).map("\n".join))
def test_ssh_keygen_agrees(tmp_path: Path, hash_names: bool, content: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(content.encode() + b"\n")
    if hash_names:
        subprocess.run(["ssh-keygen", "-H", "-f", str(file)], capture_output=True, check=False)
    known = KnownHosts([("file", file.read_bytes())])
    for name, port in [("a.example", 22), ("a.example", 2222), ("b.example", 22), ("2001:db8::1", 2222)]:
        found = known.find(name, port)
        assert (set(found.keys), set(found.revoked)) == expected(file, name, port)


@given(st.binary())
def test_junk_is_skipped(content: bytes) -> None:
    assert KnownHosts([("file", content)]).find("git.example.com", 2222) == FoundKeys()


@given(
    st.lists(st.sampled_from(["|1|", "|", "@revoked", "@", " ", "\t", "*", "!", ",", KEYS[0], "AAAA", "\r", "\0", "é"]))
)
def test_pieces_never_raise(pieces: list[str]) -> None:
    found = KnownHosts([("file", "".join(pieces).encode())]).find("git.example.com", 22)
    assert set(found.keys) <= {KEYS[0], f"@cert-authority {KEYS[0]}"}
