"""The command line as a person meets it: help, errors with a next step, choosing what to run, plan, completion."""

import json
import os
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from claude_bottle.cli.main import VERBS, build_parser
from tests.support.bottle import CLI, World
from tests.support.sshd import SSHServer, make_key

SECRET = "sk-very-secret-value"


def complain(done: "subprocess.CompletedProcess[str]", *, status: int = 2) -> tuple[list[str], list[str]]:
    """Check the form of a failure and return its errors and hints."""
    assert done.returncode == status, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(re.match("claude-bottle: (error|hint): .*[^.]$", line) for line in lines), lines
    errors = [line.removeprefix("claude-bottle: error: ") for line in lines if ": error: " in line]
    hints = [line.removeprefix("claude-bottle: hint: ") for line in lines if ": hint: " in line]
    assert errors
    return errors, hints


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder with what changes when it is written."""
    status = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
    return {str(path): (facts.st_ino, facts.st_mtime_ns, facts.st_mode) for path, facts in status.items()}


class TestHelp:
    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_explains_itself_by_example(self, world: World, verb: str) -> None:
        done = world.cli(verb, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: claude-bottle {verb}")
        assert re.search(f"\nexample:\n  .*claude-bottle {verb}", done.stdout)

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_example_is_a_command_that_exists(self, verb: str) -> None:
        for line in import_module(f"claude_bottle.cli.{verb}").EXAMPLE.splitlines():
            words = shlex.split(re.split(r"[|)]", line.partition("claude-bottle ")[2])[0])
            arguments = build_parser().parse_args(words[: words.index("--")] if "--" in words else words)
            assert arguments.verb == verb

    def test_the_whole_lists_every_verb_and_exit_status(self, world: World) -> None:
        done = world.cli("--help")
        assert done.returncode == 0
        assert all(re.search(f"^    {verb}\\s", done.stdout, re.MULTILINE) for verb in VERBS)
        assert "exit status" in done.stdout

    @pytest.mark.parametrize("words", [(), ("fly",), ("run", "--fly"), ("exec",), ("logs", "a", "b")])
    def test_what_cannot_be_parsed_is_bad_input(self, world: World, words: tuple[str, ...]) -> None:
        done = world.cli(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: claude-bottle")
        assert ": error: " in done.stderr


class TestManifest:
    @pytest.mark.parametrize("words", [("run",), ("run", "--", "true"), ("plan",), ("check",)])
    def test_without_one_init_is_the_next_step(self, world: World, words: tuple[str, ...]) -> None:
        errors, hints = complain(world.cli(*words))
        assert errors == [f"{world.work}: no claude-bottle.toml in this folder or above"]
        assert hints == ["write one: claude-bottle init"]

    def test_the_nearest_upward_is_used(self, world: World) -> None:
        folder = world.work / "deep/er"
        folder.mkdir(parents=True)
        (world.root / "claude-bottle.toml").write_text('[bottles.far]\n[agents.a]\nbottle="far"\ncommand=["true"]\n')
        (world.work / "claude-bottle.toml").write_text('[bottles.near]\n[agents.a]\nbottle="near"\ncommand=["true"]\n')
        done = world.cli("check", cwd=folder)
        assert done.stdout == f"{world.work}/claude-bottle.toml: ok (1 bottles, 1 agents, 0 SSH hosts)\n"

    def test_one_that_is_named_must_be_there(self, world: World) -> None:
        errors, _ = complain(world.cli("run", "--manifest", "nothing.toml", "--", "true"))
        assert "nothing.toml" in errors[0]

    def test_every_mistake_is_told_at_once_with_its_place(self, world: World) -> None:
        (world.work / "claude-bottle.toml").write_text(
            '[bottles.dev]\nenvv = {}\n[[bottles.dev.ssh]]\nHost = "forge"\nPort = 70000\nHostname = "-oProxy=x"\n'
            '[agents.fixer]\nbottle = "devv"\ncommand = "claude"\n'
        )
        for words in (("check",), ("run",), ("plan",)):
            errors, hints = complain(world.cli(*words))
            assert len(errors) >= 5
            places = ("bottles.dev.envv", "bottles.dev.ssh[0].Port", "bottles.dev.ssh[0].Hostname", "agents.fixer")
            assert all(any(f"claude-bottle.toml: {place}" in error for error in errors) for place in places), errors
            assert any("env" in hint for hint in hints)


class TestChoice:
    def run(self, world: World, *words: str) -> "subprocess.CompletedProcess[str]":
        world.write()
        text = json.loads(world.manifest.read_text())
        text["bottles"]["other"] = {"env": {"WHICH": "other"}}
        text["bottles"]["dev"]["env"] = {"WHICH": "dev"}
        world.manifest.write_text(json.dumps(text))
        return world.cli("run", "--manifest", str(world.manifest), *words)

    @pytest.fixture(autouse=True)
    def agents(self, world: World) -> None:
        show = ["sh", "-c", "echo $WHICH $CLAUDE_BOTTLE $0", "own"]
        world.agents = {"fixer": {"bottle": "dev", "command": show}, "tester": {"bottle": "other", "command": show}}

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("fixer",), "dev fixer own"),
            (("tester",), "other tester own"),
            (("tester", "--bottle", "other"), "other tester own"),
            (("tester", "--", "sh", "-c", "echo $WHICH $CLAUDE_BOTTLE"), "other tester"),
            (("--bottle", "other", "--", "sh", "-c", "echo $WHICH $CLAUDE_BOTTLE"), "other other"),
            (("fixer", "--", "printf", "%s ", "--", "-x", "--help", "--"), "-- -x --help --"),
        ],
    )
    def test_agent_bottle_and_command(self, world: World, words: tuple[str, ...], said: str) -> None:
        done = self.run(world, *words)
        assert (done.stdout.strip(), done.stderr) == (said, "")

    @pytest.mark.parametrize(
        ("words", "error", "hint"),
        [
            ((), "which agent? the manifest has fixer, tester", "name one: run AGENT"),
            (("--", "true"), "which bottle? the manifest has dev, other", "name one: run --bottle NAME -- COMMAND"),
            (("fixerr",), "no agent named fixerr", "did you mean fixer?"),
            (("nobody",), "no agent named nobody", "the manifest has fixer, tester"),
            (("--bottle", "dve", "--", "true"), "no bottle named dve", "did you mean dev?"),
            (("--bottle", "dev"), "no command to run", "name an agent of the manifest, or add: -- COMMAND"),
            (("fixer", "--bottle", "other"), "agent fixer runs in bottle dev, not in other", "leave out --bottle"),
        ],
    )
    def test_what_is_unclear_is_asked(self, world: World, words: tuple[str, ...], error: str, hint: str) -> None:
        errors, hints = complain(self.run(world, *words))
        assert errors[0].endswith(error)
        assert hints[0].startswith(hint)

    def test_the_only_agent_needs_no_name(self, world: World) -> None:
        del world.agents["tester"]
        assert self.run(world).stdout == "dev fixer own\n"


class TestWorkdir:
    def test_another_folder_is_the_work_folder(self, world: World) -> None:
        other = world.root / "other"
        other.mkdir()
        script = "pwd; touch made; cd / && ls " + shlex.quote(str(world.work))
        done = world.cli("run", "--workdir", "../other", "--manifest", str(world.write()), "--", "sh", "-c", script)
        assert done.stdout == f"{other}\n"
        assert (other / "made").exists()
        assert done.returncode == 2, "the caller's folder is not there"

    def test_a_link_leads_to_the_real_folder(self, world: World) -> None:
        (world.root / "link").symlink_to(world.work)
        done = world.cli("run", "--workdir", "../link", "--manifest", str(world.write()), "--", "pwd")
        assert done.stdout == f"{world.work}\n"

    @pytest.mark.parametrize("folder", ["missing", "file", "/", "/etc", "~", "~/.ssh"])
    def test_some_folders_are_none(self, world: World, folder: str) -> None:
        (world.work / "file").write_text("")
        path = folder.replace("~", str(world.home))
        errors, hints = complain(
            world.cli("run", "--workdir", path, "--manifest", str(world.write()), "--", "touch", "made")
        )
        assert path in errors[0]
        assert hints


class TestPlan:
    @pytest.fixture(autouse=True)
    def declared(self, world: World, server: SSHServer) -> None:
        world.declare(server, key=make_key(world.root / "locked", passphrase="secret"))
        world.declare(server, Host="other")
        world.bottle |= {"pass_env": ["TOKEN"], "env": {"EDITOR": "vim"}}
        world.environ["TOKEN"] = SECRET
        world.agents["fixer"] = {"bottle": "dev", "command": ["claude", "--flag"]}

    def plan(self, world: World, *words: str) -> "subprocess.CompletedProcess[str]":
        return world.cli("plan", "--manifest", str(world.write()), *words)

    def test_json_is_the_whole_plan(self, world: World, server: SSHServer) -> None:
        facts = json.loads(self.plan(world, "fixer", "--json").stdout)
        assert facts["command"] == ["claude", "--flag"]
        assert (facts["slug"], facts["agent"], facts["bottle"]) == ("fixer", "fixer", "dev")
        assert (facts["workdir"], facts["manifest"]) == (str(world.work), str(world.manifest))
        assert facts["env"]["EDITOR"] == "vim"
        assert [host["listen_port"] for host in facts["ssh"]] == [30000, 30001]
        assert facts["ssh"][0]["listens"] == ["127.0.0.1:30000", f"127.0.0.1:{server.port}"]
        assert facts["gate"]["entries"][0]["port"] == server.port
        assert facts["bwrap"][-2:] == ["claude", "--flag"]
        assert "--unshare-net" in facts["bwrap"]

    def test_text_shows_the_same_to_people(self, world: World, server: SSHServer) -> None:
        shown = self.plan(world, "fixer").stdout
        assert f"forge: 127.0.0.1:30000, 127.0.0.1:{server.port} -> 127.0.0.1:{server.port} (1 host key; signs" in shown
        assert "/etc/ssh/ssh_config:" in shown
        assert "EDITOR=vim" in shown

    @pytest.mark.parametrize("words", [(), ("--json",)])
    def test_values_that_are_passed_are_not_shown(self, world: World, words: tuple[str, ...]) -> None:
        done = self.plan(world, *words)
        assert done.returncode == 0
        assert "TOKEN" in done.stdout
        assert SECRET not in done.stdout + done.stderr

    @pytest.mark.parametrize("words", [(), ("--json",)])
    def test_nothing_is_touched_and_nothing_asked(self, world: World, words: tuple[str, ...]) -> None:
        world.write()
        before = tree(world.root)
        assert world.cli("plan", "--manifest", str(world.manifest), *words).returncode == 0
        assert tree(world.root) == before

    def test_a_run_does_what_was_planned(self, world: World) -> None:
        world.entries.pop(0)
        facts = json.loads(self.plan(world, "--json", "--", "true").stdout)
        names = [name for name in facts["files"] if name.startswith("/etc/")]
        assert "/etc/ssh/ssh_config" in names
        inside = world.run("cat", *names).stdout
        assert inside == "".join(facts["files"][name] for name in names)
        env = dict(line.split("=", 1) for line in world.run("env").stdout.splitlines())
        assert {name: env[name] for name in facts["env"] if name != "TOKEN"} == {
            name: value for name, value in facts["env"].items() if name != "TOKEN"
        }
        assert set(env) - set(facts["env"]) <= {"PWD", "SHLVL", "_", "OLDPWD"}


class TestState:
    def test_it_is_where_xdg_says(self, world: World) -> None:
        world.environ["XDG_STATE_HOME"] = str(world.root / "elsewhere")
        assert world.run("true").returncode == 0
        assert (world.root / "elsewhere/claude-bottle/dev/audit.jsonl").exists()
        assert not world.state.exists()

    def test_nobody_else_can_look(self, world: World) -> None:
        world.run("true")
        assert world.state.stat().st_mode & 0o777 == 0o700
        assert (world.state / "dev").stat().st_mode & 0o777 == 0o700
        assert (world.state / "dev/audit.jsonl").stat().st_mode & 0o777 == 0o600


class TestCompletion:
    COMPLETE = """
        set -eu
        command_not_found_handle() { echo "not found: $*" >&2; return 127; }
        eval "$(cat "$1")"
        shift
        function=$(complete -p claude-bottle | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        "$function" claude-bottle "${@: -1}" "${@: -2:1}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """

    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            (("claude-bottle", "ru"), {"run"}),
            (("claude-bottle", "s"), {"stop"}),
            (("claude-bottle", ""), set(VERBS)),
            (("claude-bottle", "run", "--de"), {"--detach"}),
            (("claude-bottle", "completion", "b"), {"bash"}),
        ],
    )
    def test_bash_completes_verbs_and_options(self, world: World, words: tuple[str, ...], wanted: set[str]) -> None:
        script = world.root / "completion"
        script.write_text(world.cli("completion", "bash").stdout)
        done = world.outside("bash", "--norc", "-c", self.COMPLETE, "bash", str(script), *words)
        assert done.stderr == ""
        assert wanted <= set(done.stdout.split())
        assert all(word.startswith(words[-1]) for word in done.stdout.split())

    @pytest.mark.parametrize("shell", ["zsh", "tcsh"])
    def test_other_shells_have_one_too(self, world: World, shell: str) -> None:
        done = world.cli("completion", shell)
        assert done.returncode == 0
        assert "claude-bottle" in done.stdout


def test_output_that_nobody_reads_is_no_crash(world: World) -> None:
    """As in `claude-bottle plan | head -1`."""
    argv = ["sh", "-c", '"$@" | true; echo done', "sh", *CLI, "plan", "--manifest", str(world.write()), "--", "true"]
    done = subprocess.run(argv, cwd=world.work, env=world.env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_two_folders_of_one_name_do_not_share_their_bottles_work(world: World) -> None:
    """The state goes by the agent's name; what is written goes by the folder."""
    folders = [world.root / name / "project" for name in ("a", "b")]
    for folder in folders:
        folder.mkdir(parents=True)
        assert world.run("sh", "-c", "pwd > where", cwd=folder).returncode == 0
    assert [(folder / "where").read_text().strip() for folder in folders] == [os.fspath(folder) for folder in folders]
