"""Changes named after the bottle: every attack here really runs on the host, and is in the report."""

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.workfolder import snapshot as snapshot_module
from claude_bottle.workfolder.change import Change, render_changes
from claude_bottle.workfolder.snapshot import Snapshot, compare, take

from .conftest import Git, new_repository


def report(snapshot: Snapshot) -> list[str]:
    """One line per change: path, detail, what."""
    return [f"{c.shown}: {c.detail} ({c.what})" if c.detail else f"{c.shown} ({c.what})" for c in compare(snapshot)]


class Attack(NamedTuple):
    """What an agent leaves behind, and what the user then does on the host."""

    plant: Callable[[Path, Git], object]
    then: tuple[str, ...]
    where: str
    named: str
    before: Callable[[Path, Git], object] = lambda work, git: None


def config(*pairs: str) -> Callable[[Path, Git], None]:
    def plant(work: Path, git: Git) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            git(work, "config", key, value.format(mark=f"touch {work}/owned", path=work / "owned"))

    return plant


def script(path: Path, work: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {work}/owned\ncat\n")
    path.chmod(0o755)


def write(path: Path, text: str, work: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(mark=f"touch {work}/owned"))


def then(*steps: Callable[[Path, Git], object]) -> Callable[[Path, Git], None]:
    def run(work: Path, git: Git) -> None:
        for step in steps:
            step(work, git)

    return run


def plant_nested(name: str, git_dir: str = ".git") -> Callable[[Path, Git], None]:
    def plant(work: Path, git: Git) -> None:
        new_repository(git, work / name)
        config("core.fsmonitor", "{mark}; false")(work / name, lambda folder, *a: git(folder, *a))
        text = (work / name / ".git/config").read_text().replace(f"{work / name}/owned", f"{work}/owned")
        (work / name / ".git/config").write_text(text)
        if git_dir != ".git":
            os.rename(work / name / ".git", work / git_dir)
            (work / name / ".git").write_text(f"gitdir: {work / git_dir}\n")

    return plant


def plant_bare(work: Path, git: Git) -> None:
    git(work, "init", "--quiet", "--bare", "docs")
    text = f"[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\nfsmonitor = touch {work}/owned; false\n"
    (work / "docs/config").write_text(text)


def plant_bare_work_folder(work: Path, git: Git) -> None:
    """Without HEAD the `.git` folder is no repository to git, and the folder around it is asked."""
    for name in ("HEAD", "objects", "refs"):
        os.rename(work / ".git" / name, work / name)
    text = f"[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\nfsmonitor = touch {work}/owned; false\n"
    (work / "config").write_text(text)


def plant_common(work: Path, git: Git) -> None:
    """The repository's own git folder is made to take everything from another."""
    git(work, "clone", "--quiet", "--bare", ".", "data")
    text = f"[core]\nrepositoryformatversion = 0\nbare = false\nfsmonitor = touch {work}/owned; false\n"
    (work / "data/config").write_text(text)
    (work / ".git/commondir").write_text("../data\n")


def plant_rebase(work: Path, git: Git) -> None:
    head = git(work, "rev-parse", "HEAD").strip()
    for name, text in {
        "git-rebase-todo": "exec {mark}\n", "head-name": "refs/heads/main\n", "onto": head + "\n",
        "orig-head": head + "\n", "interactive": "", "end": "1\n", "msgnum": "0\n", "done": "",
    }.items():  # fmt: skip
        write(work / ".git/rebase-merge" / name, text, work)


def plant_symlinked_config(work: Path, git: Git) -> None:
    config("core.fsmonitor", "{mark}; false")(work, git)
    os.rename(work / ".git/config", work / "notes.txt")
    (work / ".git/config").symlink_to("../notes.txt")


def add_submodule(work: Path, git: Git) -> None:
    new_repository(git, work.parent / "inner")
    git(work, "submodule", "--quiet", "add", str(work.parent / "inner"), "sub")
    git(work, "commit", "--quiet", "--message", "submodule")


ATTACKS = {
    "fsmonitor": Attack(config("core.fsmonitor", "{mark}; false"), ("status",), ".", ".git/config: core.fsmonitor"),
    "hooks path": Attack(
        then(config("core.hooksPath", "doc"), lambda w, g: script(w / "doc/post-checkout", w)),
        ("checkout", "-q", "-b", "x"), ".", '.git/config: core.hookspath = "doc" (added)',
    ),
    "hook": Attack(
        lambda w, g: script(w / ".git/hooks/post-checkout", w), ("checkout", "-q", "-b", "x"), ".",
        ".git/hooks/post-checkout (added)",
    ),
    "hook made executable": Attack(
        lambda w, g: (w / ".git/hooks/post-checkout").chmod(0o755), ("checkout", "-q", "-b", "x"), ".",
        ".git/hooks/post-checkout (made executable)",
        before=then(lambda w, g: script(w / ".git/hooks/post-checkout", w),
                    lambda w, g: (w / ".git/hooks/post-checkout").chmod(0o644)),
    ),
    "include": Attack(
        then(config("include.path", "../m"), lambda w, g: write(w / "m", "[core]\nfsmonitor = {mark}; false\n", w)),
        ("status",), ".", '.git/config: include.path = "../m" (added)',
    ),
    "included file": Attack(
        lambda w, g: write(w / "more", "[core]\nfsmonitor = {mark}\n", w), ("status",), ".", "more: core.fsmonitor",
        before=then(config("include.path", "../more"), lambda w, g: write(w / "more", "", w)),
    ),
    "script that the configuration runs": Attack(
        lambda w, g: script(w / "tools/clean", w), ("add", "file2"), ".", "tools/clean (changed)",
        before=then(config("filter.f.clean", "sh tools/clean %f"), lambda w, g: write(w / "tools/clean", "cat\n", w),
                    lambda w, g: write(w / ".gitattributes", "* filter=f\n", w)),
    ),
    "filter": Attack(
        then(config("filter.f.clean", "{mark}; cat"), lambda w, g: write(w / ".gitattributes", "* filter=f\n", w)),
        ("add", "file2"), ".", ".git/config: filter.f.clean",
    ),
    "attributes": Attack(
        lambda w, g: write(w / ".git/info/attributes", "* filter=f\n", w), ("add", "file2"), ".",
        ".git/info/attributes (added)", before=config("filter.f.clean", "{mark}; cat"),
    ),
    "alias": Attack(config("alias.st", "!{mark}"), ("st",), ".", ".git/config: alias.st"),
    "ssh": Attack(
        config("core.sshCommand", "{mark}; false", "remote.o.url", "ssh://h/x"), ("fetch", "o"), ".",
        ".git/config: core.sshcommand",
    ),
    "ext": Attack(
        config("protocol.ext.allow", "always", "remote.o.url", "ext::touch {path}"), ("fetch", "o"), ".",
        ".git/config: remote.o.url",
    ),
    "external diff": Attack(
        then(config("diff.external", "{mark}; true"), lambda w, g: write(w / "file", "other", w)), ("diff",), ".",
        ".git/config: diff.external",
    ),
    "editor": Attack(
        config("core.editor", "{mark}; true"), ("commit", "--allow-empty", "--amend"), ".", ".git/config: core.editor"
    ),
    "worktree configuration": Attack(
        lambda w, g: write(w / ".git/config.worktree", "[core]\nfsmonitor = {mark}; false\n", w), ("status",), ".",
        ".git/config.worktree: core.fsmonitor", before=config("extensions.worktreeConfig", "true"),
    ),
    "new repository": Attack(plant_nested("deep"), ("status",), "deep", "deep/.git/config: core.fsmonitor"),
    "in node_modules": Attack(
        then(lambda w, g: (w / "node_modules").mkdir(), plant_nested("node_modules/p")), ("status",), "node_modules/p",
        "node_modules/p/.git/config: core.fsmonitor",
    ),
    "git folder elsewhere": Attack(plant_nested("deep", "data"), ("status",), "deep", "data: bare repository (added)"),
    "bare repository": Attack(plant_bare, ("status",), "docs", "docs: bare repository (added)"),
    "work folder as a bare repository": Attack(plant_bare_work_folder, ("status",), ".", ".: bare repository (added)"),
    "common folder": Attack(plant_common, ("status",), ".", '.git/commondir: "../data" (added)'),
    "rebase": Attack(plant_rebase, ("rebase", "--continue"), ".", ".git/rebase-merge/git-rebase-todo (added)"),
    "symlinked configuration": Attack(
        plant_symlinked_config, ("status",), ".", '.git/config: symlink to "../notes.txt" (changed)'
    ),
    "submodule": Attack(
        lambda w, g: config("core.fsmonitor", f"touch {w}/owned; false")(w / "sub", g), ("status",), ".",
        ".git/modules/sub/config: core.fsmonitor", before=add_submodule,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_runs_on_the_host_and_is_named(work: Path, git: Git, name: str) -> None:
    attack = ATTACKS[name]
    (work / "file2").write_text("text")
    attack.before(work, git)
    snapshot = take(work)
    attack.plant(work, git)
    found = report(snapshot)
    assert [line for line in found if line.startswith(attack.named)], found
    assert not (work / "owned").exists()
    with contextlib.suppress(subprocess.CalledProcessError):
        git(work / attack.where, *attack.then)
    assert (work / "owned").exists(), "the attack itself does not work: the test proves nothing"


def stash_and_rebase(work: Path, git: Git) -> None:
    (work / "file").write_text("new")
    for command in ("stash", "stash pop", "commit -qam x", "rebase -q HEAD~1"):
        git(work, *command.split())


def write_sources(work: Path, git: Git) -> None:
    script(work / "src/run.sh", work)
    write(work / "Makefile", "all:\n", work)


def rewrite_the_same(work: Path, git: Git) -> None:
    (work / ".envrc").unlink()
    (work / ".envrc").write_text("export A=1\n")


ORDINARY: dict[str, Callable[[Path, Git], object]] = {
    "commit and branch": lambda w, g: (g(w, "checkout", "-qb", "x"), g(w, "commit", "-q", "--allow-empty", "-m", "x")),
    "identity and tracking": config("user.name", "x", "branch.main.remote", "o", "branch.main.merge", "refs/heads/x"),
    "new remote": config("remote.fork.url", "forge:x/y", "remote.fork.fetch", "+refs/heads/*:refs/remotes/fork/*"),
    "clone": lambda w, g: g(w, "clone", "-q", ".", "copy"),
    "worktree": lambda w, g: g(w, "worktree", "add", "-q", "tree"),
    "garbage collection": lambda w, g: g(w, "gc", "-q"),
    "stash and rebase": stash_and_rebase,
    "sources": write_sources,
    "touch": lambda w, g: os.utime(w / ".envrc", (1, 1)),
    "rewrite with the same text": rewrite_the_same,
    "packages": lambda w, g: write(w / "node_modules/p/.npmrc", "x", w),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_work_is_not_reported(work: Path, git: Git, name: str) -> None:
    (work / ".envrc").write_text("export A=1\n")
    snapshot = take(work)
    ORDINARY[name](work, git)
    assert report(snapshot) == []


def test_a_submodule_that_the_agent_adds_is_named_by_its_address_only(work: Path, git: Git) -> None:
    snapshot = take(work)
    add_submodule(work, git)
    assert report(snapshot) == [".gitmodules (added)"]


class TestFiles:
    def test_added_changed_removed_replaced(self, work: Path) -> None:
        for name in (".envrc", ".npmrc", ".exrc", ".env"):
            (work / name).write_text("old")
        snapshot = take(work)
        (work / ".envrc").write_text("new")
        (work / ".npmrc").unlink()
        (work / ".exrc").unlink()
        (work / ".exrc").symlink_to("x\x1b[2J")
        (work / ".env").unlink()
        os.mkfifo(work / ".env")
        (work / ".vscode").mkdir()
        (work / ".vscode/tasks.json").write_text("{}")
        assert report(snapshot) == [
            ".env: not a readable file (changed)",
            ".envrc (changed)",
            '.exrc: symlink to "x\\x1b[2J" (changed)',
            ".npmrc (removed)",
            ".vscode/tasks.json (added)",
        ]
        old = {change.shown: change.before.text for change in compare(snapshot) if change.before}
        assert old == dict.fromkeys((".env", ".envrc", ".exrc", ".npmrc"), b"old")

    def test_a_folder_replaced_by_a_symlink(self, work: Path) -> None:
        (work / ".vscode").mkdir()
        (work / ".vscode/tasks.json").write_text("{}")
        snapshot = take(work)
        os.rename(work / ".vscode", work / "other")
        (work / ".vscode").symlink_to("other")
        assert report(snapshot) == ['.vscode: symlink to "other" (added)', ".vscode/tasks.json (removed)"]

    @pytest.mark.parametrize("size", [300_000, 9_000_000])
    def test_long_files_are_compared_and_not_kept(self, work: Path, size: int) -> None:
        (work / ".pnp.cjs").write_bytes(b"a" * size)
        snapshot = take(work)
        assert report(snapshot) == []
        with open(work / ".pnp.cjs", "r+b") as file:
            file.seek(size - 1)
            file.write(b"b")
        os.utime(work / ".pnp.cjs", (1, 1))
        (change,) = compare(snapshot)
        assert change.detail == "the text before was too long to keep"
        assert not change.restorable

    def test_path_folders(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (work / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{work}/bin:.:{os.environ['PATH']}")
        snapshot = take(work)
        script(work / "bin/ls", work)
        (change,) = compare(snapshot)
        assert (change.shown, change.what, change.why) == ("bin/ls", "added", "your PATH leads there")

    def test_folders_outside_are_compared_too(self, work: Path, git: Git) -> None:
        git(work, "worktree", "add", "-q", "../tree")
        snapshot = take(work.parent / "tree", [work / ".git"])
        config("core.fsmonitor", "x")(work, git)
        assert report(snapshot) == [f'{work}/.git/config: core.fsmonitor = "x" (added)']

    def test_configuration_that_git_cannot_read(self, work: Path) -> None:
        snapshot = take(work)
        (work / ".git/config").write_text("[core\n")
        assert report(snapshot) == [".git/config: git cannot read it as configuration (changed)"]

    def test_keys_changed_removed_and_added_beside_others(self, work: Path, git: Git) -> None:
        config("alias.a", "one", "alias.b", "two", "remote.origin.url", "forge:x")(work, git)
        snapshot = take(work)
        git(work, "config", "alias.a", "new\n\x1b]0;x\x07")
        git(work, "config", "--unset", "alias.b")
        git(work, "config", "remote.origin.url", "evil:x")
        git(work, "config", "--add", "include.path", "y")
        with open(work / ".git/config", "a") as file:
            file.write("[credential] helper\n")
        assert report(snapshot) == [
            '.git/config: alias.a = "new\\n\\x1b]0;x\\x07" (changed)',
            '.git/config: alias.b = "two" (removed)',
            ".git/config: credential.helper = true (added)",
            '.git/config: include.path = "y" (added)',
            '.git/config: remote.origin.url = "evil:x" (changed)',
        ]

    def test_a_pointer_out_of_the_folder(self, work: Path) -> None:
        snapshot = take(work)
        (work / "sub").mkdir()
        (work / "sub/.git").write_text("gitdir: /tmp/evil\n")
        assert report(snapshot) == ['sub/.git: "gitdir: /tmp/evil" (added)']

    def test_a_common_folder_outside(self, work: Path, tmp_path: Path) -> None:
        snapshot = take(work)
        (work / ".git/worktrees/x").mkdir(parents=True)
        (work / ".git/worktrees/x/HEAD").write_text("ref: refs/heads/main\n")
        (work / ".git/worktrees/x/commondir").write_text(f"{tmp_path}/evil\n")
        assert report(snapshot) == [f'.git/worktrees/x/commondir: "{tmp_path}/evil" (added)']

    def test_files_outside_that_the_configuration_names_are_not_watched(self, work: Path, git: Git) -> None:
        (work / "inside").touch()
        config("core.pager", f"{work.parent}/git-home/.gitconfig inside", "include.path", "/etc/hostname")(work, git)
        assert set(take(work).named) == {f"{work}/inside"}

    def test_set_user_id(self, work: Path) -> None:
        snapshot = take(work)
        (work / "sh").touch()
        (work / "sh").chmod(0o4755)
        assert report(snapshot) == ["sh (made set-user-ID or set-group-ID)"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything; run pytest as another user")
    def test_a_folder_shut_by_the_agent(self, work: Path) -> None:
        (work / "old").mkdir(mode=0)
        snapshot = take(work)
        (work / "dir").mkdir()
        (work / "dir/.envrc").touch()
        (work / "dir").chmod(0)
        assert report(snapshot) == ["dir (not readable)"]
        (work / "dir").chmod(0o700)

    def test_a_folder_filled_to_hide_something(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (work / "a/b").mkdir(parents=True)
        (work / "a/b/.envrc").write_text("old")
        (work / "a/b/.npmrc").write_text("old")
        snapshot = take(work)
        monkeypatch.setattr(snapshot_module, "LIMIT_AFTER_ENTRIES", 50)
        (work / "a/b/.envrc").write_text("new")
        for number in range(60):
            (work / f"{number}").touch()
        assert report(snapshot) == [
            ": more than 50 files and folders (not searched to the end)".replace(":", ".:", 1),
            "a/b/.envrc (changed)",
        ]

    def test_the_bound_on_kept_text_makes_no_changes(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (work / ".envrc").write_text("a" * 1000)
        with monkeypatch.context() as patched:
            patched.setattr(snapshot_module, "MAX_KEPT_BYTES", 100)
            bounded = take(work)
            assert bounded.look.entries[str(work / ".envrc")].text is None
            assert report(bounded) == []
        unbounded = take(work)
        for snapshot in (bounded, unbounded):
            assert report(snapshot) == []
        with monkeypatch.context() as patched:
            patched.setattr(snapshot_module, "MAX_KEPT_BYTES", 100)
            assert report(unbounded) == []
            (work / ".envrc").write_text("b" * 1000)
            assert report(unbounded) == [".envrc (changed)"]
            assert report(bounded) == [".envrc: the text before was too long to keep (changed)"]

    def test_more_watched_files_than_the_limit(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        snapshot = take(work)
        monkeypatch.setattr(snapshot_module, "MAX_FILES", 3)
        for number in range(5):
            (work / f"d{number}").mkdir()
            (work / f"d{number}/.envrc").touch()
        lines = report(snapshot)
        assert ".: more than 3 files that the host obeys (not searched to the end)" in lines


class TestReport:
    def test_lines(self, work: Path, git: Git) -> None:
        snapshot = take(work)
        config("core.fsmonitor", "!sh evil")(work, git)
        (work / ".envrc").touch()
        assert render_changes(compare(snapshot), "dev") == (
            "the bottle changed what your own tools run or obey in the work folder:\n"
            "  .envrc (added) - direnv runs it when you enter the folder, once allowed\n"
            '  .git/config: core.fsmonitor = "!sh evil" (added) - git runs it on every status\n'
            "put back what was there: claude-bottle restore dev\n"
        )

    def test_nothing(self) -> None:
        assert render_changes(()) == ""

    def test_many_of_a_kind_share_a_line(self, work: Path) -> None:
        snapshot = take(work)
        (work / ".husky").mkdir()
        for name in "abcde":
            (work / ".husky" / name).touch()
        lines = render_changes(compare(snapshot)).splitlines()
        assert lines[1] == "  .husky/: 5 files added, such as a, b, c - husky runs it as a git hook"
        assert len(lines) == 3

    def test_length_is_bounded(self) -> None:
        changes = [Change(Path(f"/w/{n}/.envrc"), f"{n}/.envrc", "added", "why") for n in range(1000)]
        lines = render_changes(changes).splitlines()
        assert len(lines) < 70
        assert "  ... and 940 more lines" in lines

    @settings(max_examples=25, deadline=None)
    @given(name=st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name))
    def test_no_name_reaches_the_terminal_raw(self, tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
        work = tmp_path_factory.mktemp("work")
        snapshot = take(work)
        folder = os.fsencode(work) + b"/" + name + b"x"
        os.mkdir(folder)
        os.symlink(name, folder + b"/.envrc")
        text = render_changes(compare(snapshot))
        assert text.count("\n") == 3
        assert text.replace("\n", "").isprintable()
