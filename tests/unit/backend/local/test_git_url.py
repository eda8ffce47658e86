"""git URLs: which lead over SSH, and where to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.local.git_url import Target, parse_git_url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("git@git.example.com:group/project.git", Target("git.example.com", None, "git")),
        ("forge:project", Target("forge")),
        ("[git.example.com:2222]:project", Target("git.example.com", 2222)),
        ("git@[git.example.com:2222]:project", Target("git.example.com", 2222, "git")),
        ("git@[2001:db8::1]:project", Target("2001:db8::1", None, "git")),
        ("ssh://git.example.com/project", Target("git.example.com")),
        ("ssh://git@git.example.com:2222/project", Target("git.example.com", 2222, "git")),
        ("ssh://git:secret@git.example.com/project", Target("git.example.com", None, "git")),
        ("git+ssh://git.example.com/project", Target("git.example.com")),
        ("SSH://git.example.com:/project", Target("git.example.com")),
        ("ssh://[2001:DB8::1]:2222/project", Target("2001:db8::1", 2222)),
        ("user@corp@host:project", Target("host", None, "user@corp")),
        ("https://git.example.com/project", None),
        ("git://git.example.com/project", None),
        ("file:///srv/project", None),
        ("/srv/project", None),
        ("../project", None),
        ("./a:b", None),
        ("ext::sh -c x", None),
        ("ssh:///project", None),
        (":project", None),
        ("", None),
    ],
)
def test_git_urls(url: str, target: Target | None) -> None:
    assert parse_git_url(url) == target


@given(st.one_of(st.text(), st.text(alphabet="a@:/[]1.-").map("ssh://{}".format)))
def test_any_text_is_an_url_or_not(url: str) -> None:
    target = parse_git_url(url)
    assert target is None or target.host
