"""Host names and IP literals: what passes is harmless in a shell, a config file and a command line."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.manifest.hostname import canonical_host, check_hostname, is_host_name, is_ip_literal

ALLOWED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:")


NAMES = [
    *("a", "git.example.com", "GIT.Example.COM", "my_host.lan", "xn--bcher-kva.example"),
    *("3com.example", "1e100", "0x7f.example", "1.2.3.example"),
]
REFUSED = [
    *("", ".", "-a", "a-", "a..b", ".a", "a.", "a b", "a\n", "1.2.3.4\n", "a\0"),
    *("a;b", "a$(b)", "a`b`", "a|b", "a&b", "a/b", "a'b", "a:22", "user@host"),
    *("127.1", "1.2.3", "2130706433", "0x7f.1", "0x", "0X7F000001", "01.2.3.4", "1.2.3.256", "1.2.3.4.5", "a.1"),
    *("[::1]", "fe80::1%eth0", "::1%1", ":::", "1::2::3"),
    *("bücher.example", "\uff12", "a" * 64, "a." * 127 + "ab"),
]


@pytest.mark.parametrize("name", [*NAMES, "a" * 63, ".".join(["a" * 49] * 5)])
def test_names_pass(name: str) -> None:
    assert is_host_name(name)
    assert not is_ip_literal(name)
    assert check_hostname(name) is None


@pytest.mark.parametrize("literal", ["1.2.3.4", "127.0.0.1", "255.0.0.1", "::1", "2001:db8::1", "fd00::a:b"])
def test_literals_pass(literal: str) -> None:
    assert is_ip_literal(literal)
    assert not is_host_name(literal)
    assert check_hostname(literal) is None


@pytest.mark.parametrize("text", REFUSED)
def test_everything_else_is_refused(text: str) -> None:
    assert not is_host_name(text)
    assert not is_ip_literal(text)
    what, hint = check_hostname(text) or ("", "")
    assert what.startswith(repr(text)[:70])
    assert hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("bücher.example", '"xn--bcher-kva.example"'),
        ("git.example.com.", '"git.example.com"'),
        ("git.example.com:2222", "Port = 2222"),
        ("git@git.example.com", 'User = "git"'),
        ("127.1", "four decimal numbers"),
        ("fe80::1%eth0", "zone"),
        ("::ffff:1.2.3.4", '"1.2.3.4"'),
        ("fe80::1", "global address"),
        ("0.0.0.0", "one host"),
        ("::", "one host"),
        ("224.0.0.1", "one host"),
        ("255.255.255.255", "one host"),
    ],
)
def test_hint_shows_the_way(text: str, hint: str) -> None:
    problem = check_hostname(text)
    assert problem is not None
    assert hint in problem[1]


def test_ipv6_has_one_form() -> None:
    assert canonical_host("[2001:DB8:0::1]") == "2001:db8::1"
    assert canonical_host("0::1") == "::1"
    assert canonical_host("Git.Example.com") == "Git.Example.com"
    assert canonical_host("[git.example.com]") == "[git.example.com]"


@given(st.one_of(st.text(), st.text(alphabet="aZ09._-: $;%[]\n\0/x"), st.from_regex(r"[0-9a-fx.:%]{1,12}")))
def test_no_hostile_text_passes(text: str) -> None:
    if is_host_name(text) or is_ip_literal(text) or check_hostname(text) is None:
        assert set(text) <= ALLOWED
        assert not text.startswith("-")


@given(
    st.one_of(st.text(alphabet="0123456789abcdefxX.", max_size=16), st.from_regex(r"[0-9x]{1,6}(\.[0-9x]{1,4}){0,3}"))
)
def test_a_name_is_never_an_address_to_the_c_library(text: str) -> None:
    if not is_host_name(text):
        return
    with pytest.raises(OSError, match="illegal IP address"):
        socket.inet_aton(text)


@given(st.ip_addresses(v=6).map(str))
def test_every_ipv6_address_is_a_literal(text: str) -> None:
    assert is_ip_literal(text)
    assert canonical_host(f"[{text.upper()}]") == canonical_host(text)
