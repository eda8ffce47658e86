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
