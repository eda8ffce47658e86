"""Single values: what passes, what is refused, and that the hint shows the way."""

from typing import Any

import pytest

from .conftest import KEY, Load, Mistakes, blob, ed25519

RSA = "ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1", b"\0" + b"\x80" * 256)
SMALL_RSA = "ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1", b"\x7f" * 127)
ECDSA = "ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp256", b"\4" + bytes(64))
SK = "sk-ssh-ed25519@openssh.com " + blob(b"sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:")
DSA = "ssh-dss " + blob(b"ssh-dss", b"\1", b"\1", b"\1", b"\1")


def entry(**keys: Any) -> dict[str, Any]:
    return {"Host": "forge", "Hostname": "git.example.com", "KnownHostKey": [KEY], **keys}


def bottle(**keys: Any) -> dict[str, Any]:
    return {"bottles": {"dev": keys}}


@pytest.mark.parametrize(
    ("key", "value", "what", "hint"),
    [
        ("Port", 0, "0 is not a TCP port", "from 1 to 65535"),
        ("Port", 70000, "70000 is not a TCP port", "from 1 to 65535"),
        ("Port", -1, "-1 is not a TCP port", "from 1 to 65535"),
        ("Port", True, "true is not a whole number", "from 1 to 65535"),
        ("Port", "22", "'22' is not a whole number", "without quotes"),
        ("Port", 22.0, "22.0 is not a whole number", "from 1 to 65535"),
        ("Port", None, "null is not a whole number", "from 1"),
        ("Host", 7, "7 is not text", '"forge"'),
        ("Host", "localhost", "means the bottle itself", "another alias"),
        ("Host", "*.example.com", "pattern characters", "own"),
        ("Host", "a,b", "pattern characters", "own"),
        ("Host", "!a", "pattern characters", "own"),
        ("Host", "a?", "pattern characters", "own"),
        ("Host", "a b", "is not an alias", "letters"),
        ("Host", 'a"b', "is not an alias", "letters"),
        ("Host", "a#b", "is not an alias", "letters"),
        ("Host", "-oProxyCommand=x", "is not an alias", "letters"),
        ("Host", "%h", "is not an alias", "letters"),
        ("Host", "", "is not an alias", "letters"),
        ("Host", "a\nb", "is not an alias", "letters"),
        ("Host", "192.0.2.1", "cannot stand for git.example.com", "name"),
        ("Hostname", "-oProxyCommand=x", "is not a host name or IP literal", "use a name"),
        ("Hostname", "a;b", "is not a host name or IP literal", "use a name"),
        ("Hostname", "a b", "is not a host name or IP literal", "use a name"),
        ("Hostname", "$(id)", "is not a host name or IP literal", "use a name"),
        ("Hostname", "a\0", "is not a host name or IP literal", "use a name"),
        ("Hostname", "bücher.example", "is not a host name or IP literal", "xn--bcher-kva.example"),
        ("Hostname", "x" * 5000, "...' is not a host name", "use a name"),
        ("Hostname", "localhost", "means the bottle itself", "127.0.0.1"),
        ("Hostname", "127.1.0.1", "is an address that the bottle gives to declared hosts", "127.0.0.1"),
        ("Hostname", ["a"], "a list is not text", '"git.example.com"'),
        ("User", "", "'' is not a login name", "letters"),
        ("User", "-l", "'-l' is not a login name", "letters"),
        ("User", "a b", "is not a login name", "letters"),
        ("User", "a\n", "is not a login name", "letters"),
        ("User", "a'b", "is not a login name", "letters"),
        ("User", "ü", "is not a login name", "letters"),
        ("max_connections", 0, "0 is not a number of connections", "from 1"),
        ("max_connections", False, "false is not a whole number", "from 1"),
        ("idle_timeout_s", 0, "0 is not a time limit", "above 0"),
        ("idle_timeout_s", -0.5, "-0.5 is not a time limit", "above 0"),
        ("idle_timeout_s", float("nan"), "nan is not a time limit", "above 0"),
        ("connect_timeout_s", float("inf"), "inf is not a time limit", "up to 31536000"),
        ("connect_timeout_s", True, "true is not a number", "above 0"),
        ("connect_timeout_s", "5", "'5' is not a number", "above 0"),
        ("upload_limit_bytes", 1 << 63, "is not a number of bytes", "from 1"),
        ("download_limit_bytes", 1.5, "1.5 is not a whole number", "from 1"),
        ("IdentityFile", "", "the path is empty", "leave the key out"),
        ("IdentityFile", "a\0b", "contains a control character", "leave it out"),
        ("IdentityFile", "~root/key", "another user's home", "~/"),
        ("IdentityFile", 3, "a whole number is not a path", "in quotes"),
        ("KnownHostKey", KEY, "is not a list", "write a list"),
        ("KnownHostKey", [], "the list is empty", "write a list"),
    ],
)
def test_bad_values_of_an_entry(entry_mistakes: Mistakes, key: str, value: Any, what: str, hint: str) -> None:
    [(path, found, shown)] = entry_mistakes(entry(**{key: value}))
    assert path == f"[0].{key}"
    assert what in found
    assert hint in shown


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("", "is not a host key", "ssh-ed25519 AAAA"),
        ("ssh-ed25519", "is not a host key", "ssh-ed25519 AAAA"),
        ("ssh-ed25519 AAAA...", "is not base64", "known_hosts"),
        ("ssh-ed25519 AAAA", "damaged", "whole line"),
        (KEY[:-8], "damaged", "whole line"),
        (KEY.replace("ssh-ed25519", "ssh-rsa"), "damaged or not of that type", "whole line"),
        (f"git.example.com {KEY}", "'git.example.com' stands before the key type", "ssh-ed25519 AAAA"),
        (f"@revoked {KEY}", "revoked", "leave it out"),
        (f"@other {KEY}", "'@other' is not a marker", "@cert-authority"),
        (f"@cert-authority *.example.com {KEY}", "'*.example.com' stands before", "ssh-ed25519 AAAA"),
        (f"{KEY}\n{KEY}", "is not", "ssh-ed25519 AAAA"),
        (DSA, "'ssh-dss' is not a host key type", "ed25519"),
        (SMALL_RSA, "1015 bits", "ed25519"),
        (RSA.replace("ssh-rsa", "rsa-sha2-512", 1), "'rsa-sha2-512' is not a host key type", "ssh-rsa"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "is not a host key type", "@cert-authority"),
        ("ssh-foo AAAA", "'ssh-foo' is not a host key type", "ssh knows ssh-ed25519"),
    ],
)
def test_bad_host_keys(entry_mistakes: Mistakes, line: str, what: str, hint: str) -> None:
    [(path, found, shown)] = entry_mistakes(entry(KnownHostKey=[KEY, line]))
    assert path == "[0].KnownHostKey[1]"
    assert what in found
    assert hint in shown


@pytest.mark.parametrize("key", [KEY, RSA, ECDSA, SK, f"@cert-authority {KEY}"])
def test_host_keys_are_stored_without_comment(load: Load, key: str) -> None:
    for line in (key, f"{key} a comment", f"  {key.replace(' ', chr(9))}\n"):
        assert load({"bottles": {"dev": {"ssh": [entry(KnownHostKey=[line])]}}}).bottles["dev"].ssh[0].KnownHostKey == (
            key,
        )


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("[2001:DB8::1]", "2001:db8::1"),
        ("::1", "::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("Git.Example.Com", "Git.Example.Com"),
    ],
)
def test_host_names_have_one_form(load: Load, given: str, stored: str) -> None:
    manifest = load(bottle(ssh=[entry(Hostname=given), {"Host": given, "KnownHostKey": [KEY]}]))
    assert [each.Hostname for each in manifest.bottles["dev"].ssh] == [stored, stored]


@pytest.mark.parametrize("user", ["git", "first.last", "a_b-c+d", "user@corp.example", "_x", "0"])
def test_login_names(load: Load, user: str) -> None:
    assert load(bottle(ssh=[entry(User=user)])).bottles["dev"].ssh[0].User == user


@pytest.mark.parametrize(
    ("memory", "stored"),
    [("2GiB", 2 << 30), ("512 MiB", 512 << 20), ("16384kib", 16 << 20), (16 << 20, 16 << 20), ("16777216B", 16 << 20)],
)
def test_sizes(load: Load, memory: Any, stored: int) -> None:
    assert load(bottle(resources={"memory": memory})).bottles["dev"].resources.memory_bytes == stored


@pytest.mark.parametrize(
    ("keys", "path", "what", "hint"),
    [
        ({"resources": {"memory": "2GB"}}, "resources.memory", "'2GB' is not a size", '"2GiB"'),
        ({"resources": {"memory": "lots"}}, "resources.memory", "is not a size", '"2GiB"'),
        ({"resources": {"memory": "-1GiB"}}, "resources.memory", "is not a size", '"2GiB"'),
        ({"resources": {"memory": "9999999TiB"}}, "resources.memory", "is not a size", '"2GiB"'),
        ({"resources": {"memory": 2}}, "resources.memory", "2 is not a size", "at least 16777216"),
        ({"resources": {"memory": True}}, "resources.memory", "true is not a size", '"2GiB"'),
        ({"resources": {"pids": 1}}, "resources.pids", "1 is not a number of processes", "from 16"),
        ({"resources": 3}, "resources", "a whole number stands where a table is meant", "memory, pids"),
        ({"env": {"A-B": "x"}}, "env.A-B", "'A-B' is not the name of a variable", "letters"),
        ({"env": {"": "x"}}, "env.''", "'' is not the name of a variable", "letters"),
        ({"env": {"A=B": "x"}}, "env.'A=B'", "'A=B' holds a value too", '"A"'),
        ({"env": {"A": 1}}, "env.A", "1 is not text", "in quotes"),
        ({"env": {"A": "x\0y"}}, "env.A", "NUL", "leave it out"),
        ({"env": {"A": "\ud800"}}, "env.A", "half a character", "whole"),
        ({"env": {"SSH_AUTH_SOCK": "/x"}}, "env.SSH_AUTH_SOCK", "cannot be set", "filtered socket"),
        ({"env": {"HOME": "/x"}}, "env.HOME", "cannot be set", "own home"),
        ({"env": ["A"]}, "env", "a list is not a table", "EDITOR"),
        ({"pass_env": ["SSH_AUTH_SOCK"]}, "pass_env[0]", "cannot be set", "filtered socket"),
        ({"pass_env": ["AWS_*"]}, "pass_env[0]", "is a pattern", "each"),
        ({"pass_env": ["A=b"]}, "pass_env[0]", "holds a value too", '"A"'),
        ({"pass_env": ["A", "A"]}, "pass_env[1]", "'A' is listed twice", "leave one out"),
        ({"pass_env": "A"}, "pass_env", "'A' is not a list", '["ANTHROPIC_API_KEY"]'),
        ({"pass_env": ["A"], "env": {"A": "b"}}, "pass_env[0]", "A is set in env as well", "leave it out"),
        ({"allow_addresses": ["10.0.0.1/8"]}, "allow_addresses[0]", "host bits", '"10.0.0.0/8"'),
        ({"allow_addresses": ["fd00::1/8"]}, "allow_addresses[0]", "host bits", '"fd00::/8"'),
        ({"allow_addresses": ["10.0.0.0/255.0.0.0"]}, "allow_addresses[0]", "is not a network", "10.0.0.0/8"),
        ({"allow_addresses": ["0.0.0.0/0"]}, "allow_addresses[0]", "every address", "name the networks"),
        ({"allow_addresses": ["::/0"]}, "allow_addresses[0]", "every address", "name the networks"),
        ({"allow_addresses": ["git.example.com"]}, "allow_addresses[0]", "is not a network", "10.0.0.0/8"),
        ({"allow_addresses": ["10.0.0.0/33"]}, "allow_addresses[0]", "is not a network", "10.0.0.0/8"),
        ({"allow_addresses": ["10.0.0.5", "10.0.0.5/32"]}, "allow_addresses[1]", "listed twice", "leave one out"),
        ({"mounts": [{"source": "~/.gitconfig"}]}, "mounts[0].target", "the key is missing", "add target"),
        ({"mounts": [{"source": "~/.gitconfig", "target": "x"}]}, "mounts[0].target", "not an absolute path", '"/"'),
        ({"mounts": [{"source": "~/.gitconfig", "target": "~/../x"}]}, "mounts[0].target", "contains '..'", "/x"),
        (
            {"mounts": [{"source": "~/.gitconfig", "target": "/x", "writable": 1}]},
            "mounts[0].writable",
            "1 is not true",
            "true",
        ),
        ({"mounts": {"source": "a"}}, "mounts", "a table is not a list", "[[bottles.NAME.mounts]]"),
        ({"ssh": {"Host": "a"}}, "ssh", "a table is not a list", "[[bottles.NAME.ssh]]"),
        ({"ssh": ["forge"]}, "ssh[0]", "text stands where a table is meant", "Host, Hostname"),
        ({"ssh": [{}]}, "ssh[0].Host", "the key is missing", 'add Host = "forge"'),
    ],
)
def test_bad_values_of_a_bottle(mistakes: Mistakes, keys: dict[str, Any], path: str, what: str, hint: str) -> None:
    [(where, found, shown)] = mistakes(bottle(**keys))
    assert where == f"bottles.dev.{path}"
    assert what in found
    assert hint in shown


def test_a_date_is_named_as_such(mistakes: Mistakes) -> None:
    [(where, found, _)] = mistakes("[bottles.dev]\nenv = { A = 2024-01-01 }")
    assert (where, found) == ("bottles.dev.env.A", "a date or time is not text")


@pytest.mark.parametrize(
    ("data", "path", "what", "hint"),
    [
        ({}, "bottles", "the key is missing", "[bottles.NAME]"),
        ({"bottles": {}}, "bottles", "the table is empty", "[bottles.NAME]"),
        ({"bottles": []}, "bottles", "a list is not a table", "[bottles.NAME]"),
        ({"bottles": {"Dev": {}}}, "bottles.Dev", "'Dev' is not a name", 'such as "dev"'),
        ({"bottles": {"a b": {}}}, "bottles.'a b'", "'a b' is not a name", 'such as "a-b"'),
        ({"bottles": {"../x": {}}}, "bottles.'../x'", "is not a name", 'such as "x"'),
        ({"bottles": {"x" * 33: {}}}, "bottles." + "x" * 33, "is not a name", "1 to 32"),
        ({"bottles": {"dev": 1}}, "bottles.dev", "a whole number stands where a table is meant", "ssh, env"),
    ],
)
def test_bad_values_at_the_top(mistakes: Mistakes, data: dict[str, Any], path: str, what: str, hint: str) -> None:
    [(where, found, shown)] = mistakes(data)
    assert where == path
    assert what in found
    assert hint in shown


@pytest.mark.parametrize(
    ("agent", "path", "what", "hint"),
    [
        ({"bottle": "dve", "command": ["x"]}, ".bottle", "there is no bottle 'dve'", 'did you mean "dev"?'),
        ({"bottle": "zz", "command": ["x"]}, ".bottle", "there is no bottle 'zz'", "declared are: dev"),
        ({"bottle": "dev"}, ".command", "the key is missing", 'add command = ["claude"]'),
        ({"command": ["x"]}, ".bottle", "the key is missing", 'add bottle = "dev"'),
        ({"bottle": "dev", "command": []}, ".command", "the list is empty", "write a list"),
        ({"bottle": "dev", "command": [""]}, ".command[0]", "the program's name is empty", "write it"),
        ({"bottle": "dev", "command": "claude -p"}, ".command", "'claude -p' is not a list", '["claude", "-p"]'),
        ({"bottle": "dev", "command": ["x", "\0"]}, ".command[1]", "NUL", "leave it out"),
    ],
)
def test_bad_agents(mistakes: Mistakes, agent: dict[str, Any], path: str, what: str, hint: str) -> None:
    [(where, found, shown)] = mistakes({"bottles": {"dev": {}}, "agents": {"fixer": agent}})
    assert where == f"agents.fixer{path}"
    assert what in found
    assert hint in shown


def test_agents_have_names_too(mistakes: Mistakes) -> None:
    [(where, found, _)] = mistakes({"bottles": {"dev": {}}, "agents": {"A": {"bottle": "dev", "command": ["x"]}}})
    assert (where, found) == ("agents.A", "'A' is not a name")


def test_numbers_too_long_to_print_are_described(mistakes: Mistakes) -> None:
    number = "0x1" + "0" * 5000
    found = mistakes(f'[[bottles.dev.ssh]]\nHost = "git.example.com"\nPort = {number}\nidle_timeout_s = {number}')
    assert [what for _, what, _ in found] == [
        "a whole number of 20001 bits is not a TCP port",
        "a whole number of 20001 bits is not a time limit",
    ]


def test_as_many_entries_as_ports(load: Load, mistakes: Mistakes) -> None:
    entries = [{"Host": f"h{number}", "KnownHostKey": [ed25519(number)]} for number in range(2769)]
    assert len(load(bottle(ssh=entries[:-1])).bottles["dev"].ssh) == 2768
    [(path, what, hint)] = mistakes(bottle(ssh=entries))
    assert (path, what) == ("bottles.dev.ssh", "2769 entries, but 2768 fit")
    assert "30000 to 32767" in hint
