"""The transcript tells a kept promise from a broken one, and uses colours and marks only where they can be shown."""

import io

import pytest

from claude_bottle.demo.acts import Act
from claude_bottle.demo.transcript import Transcript

REFUSED = Act(shown="ssh prod", script="", why="not in the manifest")


def allowed(effect: str) -> Act:
    return Act(shown="scp", script="", effect=lambda printed: effect)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Latin(Terminal):
    encoding = "latin-1"


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def test_an_act_that_works_and_has_its_effect_is_as_promised(out: io.StringIO) -> None:
    assert Transcript(out, {}).allowed(allowed("it is there"), 0, "")
    assert "it is there" in out.getvalue()


@pytest.mark.parametrize(("effect", "status"), [("", 0), ("it is there", 1)])
def test_without_effect_or_with_an_error_it_is_not(effect: str, status: int, out: io.StringIO) -> None:
    assert not Transcript(out, {}).allowed(allowed(effect), status, "first\nno such file\n")
    assert "DID NOT WORK" in out.getvalue()
    assert out.getvalue().endswith("      no such file\n")


def test_an_act_that_works_outside_and_fails_inside_is_refused(out: io.StringIO) -> None:
    assert Transcript(out, {}).refused(REFUSED, True, 255, "Connection refused\n")
    assert "not in the manifest" in out.getvalue()
    assert "Connection refused" in out.getvalue()


def test_a_refusal_of_what_never_works_proves_nothing(out: io.StringIO) -> None:
    assert not Transcript(out, {}).refused(REFUSED, False, 255, "")
    assert "PROVES NOTHING" in out.getvalue()


def test_what_works_inside_is_not_refused(out: io.StringIO) -> None:
    assert not Transcript(out, {}).refused(REFUSED, True, 0, "")
    assert "WAS NOT REFUSED" in out.getvalue()


def end(out: io.StringIO, **environ: str) -> str:
    transcript = Transcript(out, environ)
    transcript.refused(REFUSED, True, 1, "")
    transcript.end(True, 1.0, None)
    return out.getvalue()


def test_colours_on_a_terminal() -> None:
    assert "\x1b[" in end(Terminal(), TERM="xterm")


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_when_they_are_not_wanted(environ: dict[str, str]) -> None:
    assert "\x1b" not in end(Terminal(), **environ)


def test_no_colours_in_a_file(out: io.StringIO) -> None:
    assert "\x1b" not in end(out, TERM="xterm")


def test_an_encoding_without_check_marks_gets_words() -> None:
    shown = end(Latin())
    assert "✗" not in shown
    assert "ok works" in shown
    shown.encode("latin-1")
