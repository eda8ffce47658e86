"""What is mounted over the work folder, and that it holds in a real bottle."""

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import claude_bottle
from claude_bottle.workfolder.protect import Protection, masked_sockets, plan_protection

from .conftest import Git, InBottle, new_repository

PLANT = "printf '#!/bin/sh\\ntouch {mark}\\n' > {hooks}/post-checkout && chmod +x {hooks}/post-checkout"


def plan(workdir: Path, manifest: Path | None = None) -> dict[str, str]:
    """The plan by path relative to the work folder."""
    return {os.path.relpath(path, workdir): kind for path, kind in plan_protection(workdir, manifest)}


def notices(workdir: Path, manifest: Path | None = None) -> str:
    lines: list[str] = []
    plan_protection(workdir, manifest, lines.append)
    return "\n".join(lines)


RENAME = "python3 -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])'"  # mv would copy and delete instead


def attack(work: Path, hooks: str) -> str:
    """Every way known to get a file into the hooks folder: plainly, or with a folder moved out of the way."""
    plant = PLANT.format(mark=work / "owned", hooks=hooks)
    ways = [plant, f"rm -rf {hooks}; mkdir -p {hooks}; {plant}"]
    for depth in range(1, len(hooks.split("/")) + 1):
        top = "/".join(hooks.split("/")[:depth])
        ways.append(f"{RENAME} {top} moved{depth} && cp -r moved{depth} {top} && {plant}")
    return "\n".join(f"( {way} )" for way in ways)


class TestPlan:
    def test_a_repository(self, work: Path) -> None:
        assert plan(work) == {".git": "pin", ".git/hooks": "read-only"}

    def test_no_repository(self, tmp_path: Path) -> None:
        assert plan(tmp_path) == {}

    def test_missing_hooks_folder_is_covered(self, work: Path) -> None:
        for sample in (work / ".git/hooks").iterdir():
            sample.unlink()
        (work / ".git/hooks").rmdir()
        assert plan(work) == {".git": "pin", ".git/hooks": "empty"}

    def test_a_bare_repository(self, tmp_path: Path, git: Git) -> None:
        git(tmp_path, "init", "--quiet", "--bare", "bare.git")
        assert plan(tmp_path / "bare.git") == {"hooks": "read-only"}

    def test_nested_repositories_and_submodules_in_submodules(self, work: Path, tmp_path: Path, git: Git) -> None:
        for name in ("inner", "outer"):
            new_repository(git, tmp_path / name)
        git(tmp_path / "outer", "submodule", "--quiet", "add", str(tmp_path / "inner"), "deep")
        git(tmp_path / "outer", "commit", "--quiet", "--message", "submodule")
        git(work, "submodule", "--quiet", "add", str(tmp_path / "outer"), "a/b")
        git(work, "submodule", "--quiet", "update", "--init", "--recursive")
        (work / "dir").mkdir()
        new_repository(git, work / "dir/nested")
        planned = plan(work)
        for hooks in ("dir/nested/.git/hooks", ".git/modules/a/b/hooks", ".git/modules/a/b/modules/deep/hooks"):
            assert planned[hooks] == "read-only"
            for parent in list(Path(hooks).parents)[:-1]:
                assert planned[str(parent)] == "pin"
        assert list(planned) == sorted(planned, key=lambda path: path.split("/"))

    def test_more_repositories_than_the_limit_are_named(self, tmp_path: Path) -> None:
        for number in range(70):
            (tmp_path / f"r{number:02}/.git/hooks").mkdir(parents=True)
        assert sum(kind == "read-only" for kind in plan(tmp_path).values()) == 64
        assert "hooks of 6 more repositories" in notices(tmp_path)

    @pytest.mark.parametrize(("value", "path"), [(".githooks", ".githooks"), (".husky/_", ".husky"), ("a/../b", "b")])
    def test_configured_hooks_folder(self, work: Path, git: Git, value: str, path: str) -> None:
        (work / value).mkdir(parents=True)
        (work / path).mkdir(exist_ok=True)
        git(work, "config", "core.hooksPath", value)
        assert plan(work)[path] == "read-only"

    @pytest.mark.parametrize("value", ["/", "/etc", "..", "../..", "~/.ssh", "/nonexistent"])
    def test_configured_hooks_folder_outside_is_not_mounted(self, work: Path, git: Git, value: str) -> None:
        git(work, "config", "core.hooksPath", value)
        assert plan(work) == {".git": "pin", ".git/hooks": "read-only"}

    def test_configured_hooks_folder_that_is_the_work_folder(self, work: Path, git: Git) -> None:
        git(work, "config", "core.hooksPath", ".")
        assert set(plan(work)) == {".git", ".git/hooks"}
        assert "cannot be read-only" in notices(work)

    def test_missing_configured_folder_is_covered_at_its_first_missing_parent(self, work: Path, git: Git) -> None:
        git(work, "config", "core.hooksPath", "x/y/z")
        assert plan(work)["x"] == "empty"

    def test_symlinked_hooks_folder(self, work: Path) -> None:
        (work / "tools").mkdir()
        os.rename(work / ".git/hooks", work / "tools/hooks")
        (work / ".git/hooks").symlink_to("../tools/hooks")
        assert plan(work) == {"tools": "pin", "tools/hooks": "read-only"}
        assert ".git/hooks is reached through a symlink" in notices(work)

    @pytest.mark.parametrize("value", ["loop/x", "file/x", "loop"])
    def test_hooks_folder_that_leads_nowhere(self, work: Path, git: Git, value: str) -> None:
        (work / "loop").symlink_to("loop")
        git(work, "config", "core.hooksPath", value)
        assert plan(work) == {".git": "pin", ".git/hooks": "read-only"}
        assert "leads nowhere" in notices(work)

    def test_symlinks_out_of_the_folder_are_not_mounted(self, work: Path, tmp_path: Path) -> None:
        os.rename(work / ".git", tmp_path / "elsewhere")
        (work / ".git").symlink_to(tmp_path / "elsewhere")
        assert plan(work) == {}

    def test_manifest(self, work: Path, tmp_path: Path) -> None:
        (work / "conf").mkdir()
        (work / "conf/claude-bottle.toml").touch()
        planned = plan(work, work / "conf/claude-bottle.toml")
        assert planned["conf"] == "pin"
        assert planned["conf/claude-bottle.toml"] == "read-only"
        assert plan(work, tmp_path / "claude-bottle.toml") == plan(work)

    def test_claude_bottles_own_code(self) -> None:
        package = Path(claude_bottle.__file__).parent
        planned = dict(plan_protection(package.parent, None))
        assert planned[package] == "read-only"
        assert f"{package} is read-only inside" in notices(package.parent)

    def test_part_of_a_checkout(self, work: Path) -> None:
        (work / "part").mkdir()
        assert plan(work / "part") == {}
        assert f"the repository is {work}" in notices(work / "part")


NAMES = st.sampled_from([".git", "hooks", "config", "modules", "HEAD", "objects", "refs", "commondir", "a", "b"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
TARGETS = PATHS | st.sampled_from([".", "..", "/", "/etc", "../outside", "loop"])
ITEMS = st.tuples(st.sampled_from(["folder", "link", "text"]), PATHS, TARGETS)


@settings(max_examples=60, deadline=None)
@given(items=st.lists(ITEMS, max_size=12), hooks_path=TARGETS)
def test_no_tree_leads_a_mount_astray(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, str, str]], hooks_path: str
) -> None:
    """Whatever an agent leaves: mounts stay inside, on real paths, parents first, pinned all the way."""
    root = tmp_path_factory.mktemp("tree")
    for kind, path, target in items:
        with contextlib.suppress(OSError):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                (root / path).mkdir()
            elif kind == "link":
                (root / path).symlink_to(target)
            else:
                text = f"[core]\nhooksPath = {hooks_path}\n" if path.endswith("config") else f"gitdir: {target}\n"
                (root / path).write_text(text)
    seen: dict[Path, str] = {}
    for mount, mount_kind in plan_protection(root, None):
        assert mount_kind != "writable"
        assert mount != root
        assert mount.is_relative_to(root)
        assert os.path.realpath(mount) == str(mount)
        assert mount.exists() or mount_kind == "empty"
        assert all(seen.get(above) == "pin" for above in mount.parents if above.is_relative_to(root) and above != root)
        seen[mount] = mount_kind


class TestOutside:
    """Work folders whose repository lies elsewhere."""

    @pytest.fixture
    def tree(self, work: Path, git: Git) -> Path:
        git(work, "worktree", "add", "--quiet", "../tree")
        return work.parent / "tree"

    def test_linked_worktree(self, work: Path, tree: Path) -> None:
        assert plan(tree) == {"../work/.git": "writable", "../work/.git/hooks": "read-only", ".git": "read-only"}
        assert notices(tree) == ""

    def test_configured_hooks_folder_counts_in_each_worktree(self, work: Path, tree: Path, git: Git) -> None:
        git(work, "config", "core.hooksPath", ".githooks")
        (tree / ".githooks").mkdir()
        assert plan(tree)[".githooks"] == "read-only"

    def test_worktree_inside_its_bare_repository(self, tmp_path: Path, work: Path, git: Git) -> None:
        git(tmp_path, "clone", "--quiet", "--bare", str(work), "bare")
        git(tmp_path / "bare", "worktree", "add", "--quiet", "main", "main")
        planned = plan_protection(tmp_path / "bare/main", None)
        assert planned == (
            Protection(tmp_path / "bare", "writable"),
            Protection(tmp_path / "bare/hooks", "read-only"),
            Protection(tmp_path / "bare/main", "pin"),
            Protection(tmp_path / "bare/main/.git", "read-only"),
        )

    def test_submodule(self, work: Path, tmp_path: Path, git: Git) -> None:
        new_repository(git, tmp_path / "inner")
        git(work, "submodule", "--quiet", "add", str(tmp_path / "inner"), "sub")
        git_dir = "../.git/modules/sub"
        assert plan(work / "sub") == {git_dir: "writable", f"{git_dir}/hooks": "read-only", ".git": "read-only"}

    def test_git_works_inside_a_linked_worktree(self, work: Path, tree: Path, git: Git, in_bottle: InBottle) -> None:
        script = "echo more >> file && git -c user.name=t -c user.email=t@x commit -qam inside"
        done = in_bottle(tree, plan_protection(tree, None), script)
        assert (done.returncode, done.stderr) == (0, "")
        assert "inside" in git(work, "log", "--oneline", "tree")
        attacked = in_bottle(tree, plan_protection(tree, None), f"touch {work}/.git/hooks/x {work}/x")
        assert attacked.stderr.count("Read-only file system") == 2

    @pytest.mark.parametrize("target", ["{home}", "/", "{home}/.ssh", "/etc", "{other}/.git", "{forged}"])
    def test_a_hostile_pointer_binds_nothing(self, tmp_path: Path, work: Path, git: Git, target: str) -> None:
        """An agent in an earlier run may write anything into the work folder, `.git` included."""
        home, other, forged = tmp_path / "home", tmp_path / "other", work / "forged"
        (home / ".ssh").mkdir(parents=True)
        new_repository(git, other)
        forge_worktree(forged, work, commondir=str(other / ".git"))
        os.rename(work / ".git", work / "git")
        (work / ".git").write_text("gitdir: " + target.format(home=home, other=other, forged=forged) + "\n")
        lines: list[str] = []
        planned = plan_protection(work, None, lines.append, home=home)
        assert [path for path, kind in planned if kind == "writable"] == []
        assert target == "{forged}" or "does not work inside" in lines[0]

    def test_anothers_worktree_is_not_bound(self, tree: Path, work: Path) -> None:
        """Its back pointer names the other folder."""
        thief = work.parent / "thief"
        thief.mkdir()
        (thief / ".git").write_text((tree / ".git").read_text())
        assert plan(thief) == {}
        assert "does not name this folder back" in notices(thief)

    def test_anothers_repository_as_common_folder_is_not_bound(self, work: Path, tree: Path, git: Git) -> None:
        """An agent in this worktree could write its git folder, and with it the name of the common one."""
        new_repository(git, work.parent / "other")
        (work / ".git/worktrees/tree/commondir").write_text(f"{work.parent}/other/.git\n")
        assert plan(tree) == {}

    def test_anothers_submodule_is_not_bound(self, work: Path, tmp_path: Path, git: Git) -> None:
        new_repository(git, tmp_path / "inner")
        git(work, "submodule", "--quiet", "add", str(tmp_path / "inner"), "sub")
        (tmp_path / "thief").mkdir()
        (tmp_path / "thief/.git").write_text(f"gitdir: {work}/.git/modules/sub\n")
        assert plan(tmp_path / "thief") == {}

    @pytest.mark.parametrize("part", ["HEAD", "objects", "refs"])
    def test_an_incomplete_or_symlinked_repository_is_not_bound(self, work: Path, tree: Path, part: str) -> None:
        os.rename(work / ".git" / part, work / part)
        assert plan(tree) == {}
        (work / ".git" / part).symlink_to(work / part)
        assert plan(tree) == {}

    def test_a_repository_that_holds_the_home_folder_is_not_bound(self, work: Path, tree: Path) -> None:
        (work / ".git/home").mkdir()
        assert plan_protection(tree, None, home=work / ".git/home") == ()

    @pytest.mark.parametrize("text", [b"", b"gitdir: ", b"gitdir: \0", b"\xff" * 70000, b"gitdir: /\xff\n"])
    def test_a_broken_pointer(self, tmp_path: Path, text: bytes) -> None:
        (tmp_path / ".git").write_bytes(text)
        assert plan(tmp_path) == {}


def forge_worktree(folder: Path, workdir: Path, commondir: str) -> None:
    folder.mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "gitdir").write_text(f"{workdir}/.git\n")
    (folder / "commondir").write_text(f"{commondir}\n")


class TestHolds:
    """The attack succeeds without the mounts and fails with them."""

    @pytest.mark.parametrize("protected", [True, False])
    @pytest.mark.parametrize("hooks", [".git/hooks", "dir/nested/.git/hooks"])
    def test_planted_hook(self, work: Path, git: Git, in_bottle: InBottle, hooks: str, protected: bool) -> None:
        (work / "dir").mkdir()
        new_repository(git, work / "dir/nested")
        in_bottle(work, plan_protection(work, None) if protected else (), attack(work, hooks))
        git((work / hooks).parent.parent, "checkout", "--quiet", "-b", "topic")
        assert (work / "owned").exists() is not protected

    def test_pins_are_what_stops_the_rename(self, work: Path, git: Git, in_bottle: InBottle) -> None:
        only_hooks = [each for each in plan_protection(work, None) if each.kind == "read-only"]
        in_bottle(work, only_hooks, attack(work, ".git/hooks"))
        git(work, "checkout", "--quiet", "-b", "one")
        assert (work / "owned").exists()

    def test_missing_hooks_folder(self, work: Path, git: Git, in_bottle: InBottle) -> None:
        git(work, "config", "core.hooksPath", "conf/hooks")
        for mounts, owned in ((plan_protection(work, None), False), ((), True)):
            in_bottle(work, mounts, "mkdir -p conf/hooks; " + attack(work, "conf/hooks"))
            git(work, "checkout", "--quiet", "-b", f"branch-{owned}")
            assert (work / "owned").exists() is owned

    def test_git_still_works(self, work: Path, in_bottle: InBottle) -> None:
        script = """set -e; git config user.name t; git config user.email t@x; echo 2 > file; git commit -qam second
        git checkout -qb topic; git stash list; git gc -q; git worktree add -q wt; git clone -q . copy"""
        done = in_bottle(work, plan_protection(work, None), script)
        assert (done.returncode, done.stderr) == (0, "")

    def test_manifest_cannot_be_widened(self, work: Path, in_bottle: InBottle) -> None:
        manifest = work / "claude-bottle.toml"
        manifest.write_text("narrow")
        script = "echo wide > claude-bottle.toml; mv claude-bottle.toml x; rm -f claude-bottle.toml"
        in_bottle(work, plan_protection(work, manifest), script)
        assert manifest.read_text() == "narrow"


class TestSockets:
    CONNECT = "python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])' "

    def test_a_live_socket_is_covered_and_a_stale_one_left(self, work: Path, in_bottle: InBottle) -> None:
        (work / "run").mkdir()
        with listening(work / "run/live"), listening(work / "run/stale") as gone:
            gone.close()
            planned = plan(work)
            assert planned["run/live"] == "empty"
            assert "run/stale" not in planned
            connect = self.CONNECT + "run/live"
            assert in_bottle(work, (), connect).returncode == 0
            assert in_bottle(work, plan_protection(work, None), connect).returncode != 0
            moved = f"mv run r2; mv r2/live x; ln r2/live y; {self.CONNECT} r2/live"
            assert in_bottle(work, plan_protection(work, None), moved).returncode != 0

    def test_asking_leaves_no_trace_on_the_server(self, work: Path) -> None:
        with listening(work / "live") as server:
            assert plan(work)["live"] == "empty"
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()

    def test_bound_by_a_relative_path_and_not_listening_yet(self, work: Path) -> None:
        script = "import os,socket; s=socket.socket(socket.AF_UNIX); s.bind('r'); os.write(1,b'x'); os.read(0,1)"
        with subprocess.Popen(
            ("python3", "-c", script), cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as server:
            assert server.stdout is not None
            assert server.stdout.read(1) == b"x"
            assert plan(work)["r"] == "empty"
            server.communicate(b"x", timeout=10)
        assert "r" not in plan(work)

    def test_datagram_and_a_path_longer_than_an_address(self, work: Path) -> None:
        deep = work / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            folder = os.open(deep, os.O_PATH)
            server.bind(f"/proc/self/fd/{folder}/s")
            os.close(folder)
            assert plan(work)[str((deep / "s").relative_to(work))] == "empty"

    def test_a_socket_in_a_read_only_hooks_folder(self, work: Path) -> None:
        with listening(work / ".git/hooks/s"):
            assert plan(work)[".git/hooks/s"] == "empty"

    def test_mounted_folder(self, tmp_path: Path) -> None:
        with listening(tmp_path / "s"):
            assert masked_sockets(tmp_path, Path("/inside")) == (Protection(Path("/inside/s"), "empty"),)


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)
    return server
