"""The documentation says what the code does: links, commands, manifests, generated parts, audit events."""

import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from claude_bottle import errors
from claude_bottle.cli.main import VERBS, build_parser
from claude_bottle.manifest import load_manifest
from tests.support.sshd import make_key

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted(ROOT.glob("docs/adr/*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PROGRAM = "claude-bottle"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, text in FENCE.findall(page.read_text()):
        if language in languages:
            yield text


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen = {ROOT / "README.md"}
    queue = [ROOT / "README.md"]
    for page in queue:
        for link in LINK.findall(prose(page)):
            target = (page.parent / link.partition("#")[0]).resolve()
            pages = target.glob("*.md") if target.is_dir() else [target]
            new = [each for each in pages if each.suffix == ".md" and each.exists() and each not in seen]
            seen.update(new)
            queue += new
    assert set(PAGES) <= seen


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every claude-bottle command that a page shows."""
    lines = list(itertools.chain.from_iterable(text.splitlines() for text in blocks(page, "sh")))
    lines += [line[2:] for text in blocks(page, "console") for line in text.splitlines() if line.startswith("$ ")]
    lines += [span for span in re.findall(r"`([^`]+)`", prose(page)) if span.startswith(f"{PROGRAM} ")]
    for line in lines:
        for inner in re.findall(r"\$\(([^)]*)\)", line):
            lines.append(inner)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        for is_operator, words in itertools.groupby(lexer, lambda word: set(word) <= set("|&;<>()")):
            command = list(words)
            if not is_operator and command[0] == PROGRAM:
                yield command[1:]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_shown_is_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page):
        own = words[: words.index("--")] if "--" in words else words
        status: object = 0
        try:
            build_parser().parse_args(own)
        except SystemExit as ended:
            status = ended.code
        assert status == 0, f"{' '.join(words)}: {capsys.readouterr().err}"


def test_the_pages_show_commands() -> None:
    shown = {words[0] for page in PAGES for words in commands(page) if words}
    assert shown >= set(VERBS)


def test_every_verb_has_its_section() -> None:
    assert set(VERBS) <= anchors(ROOT / "docs/command-line.md")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with what the manifests in the documentation name."""
    home = tmp_path / "home"
    key = make_key(home / ".ssh")
    (home / ".ssh/known_hosts").write_text(f"git.example.com {key.public}\n")
    (home / ".gitconfig").touch()
    (home / ".local/share/claude").mkdir(parents=True)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return home


@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page, "toml"))], ids=name_of)
def test_every_manifest_shown_is_right(page: Path, home: Path, tmp_path: Path) -> None:
    for text in blocks(page, "toml"):
        file = tmp_path / "claude-bottle.toml"
        file.write_text(text)
        load_manifest(file, home=home)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["manifest.md", "command-line.md"])
def test_generated_parts_are_fresh(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert generator().render(text) == text, "run: python docs/generate.py --write"


def subclasses(root: type[errors.BottleError]) -> Iterator[type[errors.BottleError]]:
    for each in root.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_exit_status_of_an_error_is_listed() -> None:
    text = (ROOT / "docs/command-line.md").read_text()
    listed = {int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert {1, *(each.exit_code for each in subclasses(errors.BottleError))} <= listed


def test_every_audit_event_is_described() -> None:
    written = set()
    for file in (ROOT / "claude_bottle").rglob("*.py"):
        written |= set(re.findall(r"""(?:"event": "|\brender\("|_audit\(")([a-z-]+)\"""", file.read_text()))
    described = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/audit-log.md").read_text(), re.MULTILINE)
    assert written == set(described) - {"time", "bottle", "event"}


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_parts(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.name[:4]}: ")
    parts = [text.index(part) for part in ("\nStatus: ", "\n## Context", "\n## Decision", "\n## Given up")]
    assert parts == sorted(parts)


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [page.name[:4] for page in DECISIONS]
    assert len(numbers) == len(set(numbers))
