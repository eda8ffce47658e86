"""A bottle starts, passes the program's exit status through, and leaves nothing."""

from tests.support.bottle import World


def test_the_programs_exit_status_is_the_commands(world: World) -> None:
    assert world.sh("exit 7").returncode == 7


def test_a_signal_is_128_and_its_number(world: World) -> None:
    assert world.sh("kill -TERM $$").returncode == 128 + 15


def test_a_missing_program_is_127(world: World) -> None:
    done = world.run("no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr


def test_a_program_that_cannot_be_executed_is_126(world: World) -> None:
    assert world.run("/etc/passwd").returncode == 126


def test_the_work_folder_is_at_the_same_path_and_writable(world: World) -> None:
    done = world.sh("pwd; echo inside > file")
    assert done.stdout == f"{world.work}\n"
    assert (world.work / "file").read_text() == "inside\n"


def test_nothing_of_a_run_stays_but_its_audit_log(world: World) -> None:
    assert world.run("true").returncode == 0
    assert sorted(path.name for path in (world.state / "dev").iterdir()) == ["audit.jsonl"]
    assert [path for path in world.runtime.rglob("*") if path.name != "claude-bottle"] == []
    assert [record["event"] for record in world.audit()] == ["launch", "stop"]


def test_two_bottles_of_one_name_get_names_of_their_own(world: World) -> None:
    first = world.start("sleep", "60")
    try:
        while world.cli("ps").stdout.count("running") < 1:
            assert first.poll() is None
        assert world.sh("echo $CLAUDE_BOTTLE").stdout == "dev-2\n"
    finally:
        first.terminate()
        assert first.wait(20) == 128 + 15
        first.communicate()


def test_mounts_are_read_only_unless_writable(world: World) -> None:
    for name in ("seen", "shared"):
        (world.root / name).mkdir()
        (world.root / name / "file").write_text(f"{name}\n")
    world.bottle["mounts"] = [
        {"source": str(world.root / "seen"), "target": "/mnt/seen"},
        {"source": str(world.root / "shared"), "target": "/mnt/shared", "writable": True},
    ]
    done = world.sh("cat /mnt/*/file; echo more >> /mnt/shared/file; echo more >> /mnt/seen/file")
    assert done.stdout == "seen\nshared\n"
    assert "Read-only file system" in done.stderr
    assert (world.root / "shared/file").read_text() == "shared\nmore\n"
    assert (world.root / "seen/file").read_text() == "seen\n"


def test_a_mount_where_none_can_be_made_is_a_clear_error(world: World) -> None:
    world.bottle["mounts"] = [{"source": str(world.work), "target": "/opt/no/such/place"}]
    done = world.run("true")
    assert done.returncode == 2
    assert "bottles.dev.mounts[0].target" in done.stderr


def test_nothing_of_the_callers_environment_goes_in_that_is_not_named(world: World) -> None:
    world.environ |= {"SECRET_TOKEN": "s3cret", "API_KEY": "given"}
    world.bottle |= {"pass_env": ["API_KEY"], "env": {"EDITOR": "vim"}}
    inside = dict(line.split("=", 1) for line in world.run("env").stdout.splitlines())
    assert "SECRET_TOKEN" in world.outside("env").stdout
    assert "SECRET_TOKEN" not in inside
    assert (inside["API_KEY"], inside["EDITOR"], inside["TERM"]) == ("given", "vim", "xterm-256color")
    assert "s3cret" not in world.sh("cat /proc/*/environ | tr '\\0' '\\n'").stdout
