"""Interactive programs in a bottle: keys, window size, job control, colours, and a terminal that is left as it was."""

import grp
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.local.consoles import END_OF_INPUT, INTERRUPT, QUIT, SUSPEND, Console
from tests.support.bottle import World
from tests.support.sshd import SSHServer

BASH = ("bash", "--norc", "--noediting", "-i")
PROMPT = "ready> "
FAR_PROMPT = "far> "

# Programs write with os.write: print in a signal handler may interrupt another print.
COUNT_INTERRUPTS = """
import os, signal, sys
seen = []
def interrupted(*_):
    seen.append(1)
    os.write(1, b"interrupt %d\\n" % len(seen))
signal.signal(signal.SIGINT, interrupted)
os.write(1, b"up\\n")
sys.stdin.readline()
sys.exit(10 + len(seen))
"""

SHOW_SIZES = """
import os, signal
def show(*_):
    size = os.get_terminal_size()
    os.write(1, b"%dx%d." % (size.lines, size.columns))
signal.signal(signal.SIGWINCH, show)
show()
while True:
    signal.pause()
"""

TELL_PLACE = """
import os, time
place = ""
while True:
    now = "in front" if os.tcgetpgrp(0) == os.getpgrp() else "behind"
    if now != place:
        place = now
        print(place, flush=True)
    time.sleep(0.01)
"""

HEED_HANG_UP = """
import os, signal, sys
def heed(*_):
    open("said", "w").write("hung up")
    sys.exit(0)
signal.signal(signal.SIGHUP, heed)
os.write(1, b"up\\n")
while True:
    signal.pause()
"""

STARTER = "sh -c 'echo up; exec sleep 600'; echo not interrupted"

Start = Callable[..., Console]


@pytest.fixture
def console(world: World) -> Iterator[Console]:
    world.bottle["env"] = {"PS1": PROMPT}
    with Console(world) as console:
        yield console


@pytest.fixture
def running(world: World, console: Console) -> Iterator[None]:
    """Bottle `dev` runs until the test ends."""
    bottle = world.start("sh", "-c", "echo up; exec sleep 600")
    assert bottle.stdout is not None
    assert bottle.stdout.readline() == "up\n"
    yield
    bottle.terminate()
    bottle.communicate()


@pytest.fixture(params=["run", "exec"])
def start(request: pytest.FixtureRequest, console: Console) -> Start:
    """Start a program on the console, as the bottle's own or as one more."""
    if request.param == "run":
        return console.run
    request.getfixturevalue("running")
    return console.exec


@pytest.fixture
def remote_terminals() -> None:
    """An sshd of an ordinary user gives out terminals only where new ones belong to the group it wants them to have."""
    master, slave = os.openpty()
    group = os.fstat(slave).st_gid
    for fd in (master, slave):
        os.close(fd)
    if os.geteuid() != 0 and group != grp.getgrnam("tty").gr_gid:
        pytest.skip("sshd needs terminals of group tty; as root: mount -o remount,gid=5,mode=620 /dev/pts")


class TestKeys:
    def test_ctrl_c_reaches_the_program_once_and_ends_nothing_else(self, console: Console, start: Start) -> None:
        start("python3", "-c", COUNT_INTERRUPTS)
        console.expect("up")
        for count in (1, 2):
            console.press(INTERRUPT)
            console.expect(f"interrupt {count}\r\n")
        console.press("\n")
        assert console.wait() == 12

    def test_ctrl_c_ends_a_program_and_what_it_started(self, console: Console, start: Start) -> None:
        start("sh", "-c", STARTER)
        console.expect("up")
        console.press(INTERRUPT)
        assert "not interrupted" not in console.rest()
        assert console.process.returncode == 128 + signal.SIGINT

    def test_ctrl_backslash_is_sigquit(self, console: Console, start: Start) -> None:
        start("sh", "-c", "ulimit -c 0; echo up; exec sleep 600")
        console.expect("up")
        console.press(QUIT)
        assert console.wait() == 128 + signal.SIGQUIT

    def test_ctrl_d_is_the_end_of_input(self, console: Console, start: Start) -> None:
        start("cat")
        console.press("typed\n")
        console.expect("typed\r\ntyped\r\n")
        console.press(END_OF_INPUT)
        assert console.wait() == 0

    def test_every_key_passes_in_raw_mode(self, console: Console, start: Start) -> None:
        keys = bytes(range(256))
        start("sh", "-c", "stty raw -echo; echo up; head -c 256 | sha256sum")
        console.expect("up")
        os.write(console.keyboard, keys)
        assert console.expect("([0-9a-f]{64})") == hashlib.sha256(keys).hexdigest()

    def test_a_large_paste_arrives_whole(self, console: Console, start: Start) -> None:
        lines = "".join(f"line {number} of what was pasted\n" for number in range(5000))
        start("sh", "-c", "stty -echo; echo up; exec sha256sum")
        console.expect("up")
        console.press(lines + END_OF_INPUT)
        assert console.expect("([0-9a-f]{64})") == hashlib.sha256(lines.encode()).hexdigest()


class TestWindow:
    def test_a_program_sees_the_size_and_every_change(self, console: Console, start: Start) -> None:
        start("python3", "-c", SHOW_SIZES)
        console.expect("30x100\\.")
        for rows, columns in ((50, 132), (10, 20)):
            console.resize(rows, columns)
            console.expect(f"{rows}x{columns}\\.")

    @pytest.mark.usefixtures("remote_terminals")
    def test_a_remote_program_sees_the_size_and_every_change(
        self, console: Console, forge: SSHServer, tmp_path: Path
    ) -> None:
        script = tmp_path / "sizes.py"
        script.write_text(SHOW_SIZES)
        console.run("ssh", "-t", "forge", f"python3 {script}")
        console.expect("30x100\\.")
        console.resize(50, 132)
        console.expect("50x132\\.")


class TestJobControl:
    def test_jobs_stop_go_on_in_both_places_and_end(self, world: World, console: Console, start: Start) -> None:
        (world.work / "place.py").write_text(TELL_PLACE)
        start(*BASH)
        greeting = console.before(PROMPT)
        assert "job control" not in greeting
        assert "process group" not in greeting
        console.press("python3 place.py\n")
        console.expect("in front")
        console.press(SUSPEND)
        console.expect("Stopped +python3 place.py")
        console.press("bg\n")
        console.expect("behind")
        console.press("jobs\n")
        console.expect("Running +python3 place.py")
        console.press("fg\n")
        console.expect("in front")
        console.press(INTERRUPT)
        console.expect(PROMPT)
        console.press("echo status=$?; exit 4\n")
        console.expect("status=130\r\n")
        assert console.wait() == 4


class TestScreen:
    def test_all_three_streams_are_terminals_and_term_is_the_callers(self, console: Console, start: Start) -> None:
        start("sh", "-c", "test -t 0 && test -t 1 && test -t 2 && tty -s && echo TERM=$TERM. && echo x > /dev/tty")
        console.expect("TERM=xterm-256color\\.\r\nx\r\n")
        assert console.wait() == 0

    def test_programs_show_colours(self, world: World, console: Console) -> None:
        (world.work / "folder").mkdir()
        console.run("ls", "--color=auto")
        console.expect("\x1b\\[[0-9;]*mfolder")

    def test_a_lot_of_output_comes_whole_and_in_order(self, console: Console, start: Start) -> None:
        start("seq", "100000", "300000")
        assert console.rest().split() == [str(number) for number in range(100000, 300001)]

    def test_the_last_words_of_a_program_are_shown(self, console: Console, start: Start) -> None:
        start("python3", "-c", "import os; os.write(1, b'x' * 3000 + b'end'); os._exit(3)")
        assert console.rest() == "x" * 3000 + "end"
        assert console.process.returncode == 3


class TestPipes:
    def test_input_from_a_pipe_output_on_the_terminal(self, console: Console, start: Start, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(b"one\ntwo\n")
        with (tmp_path / "data").open("rb") as data:
            start("sh", "-c", "! test -t 0 && test -t 1 && test -t 2 && cat", stdin=data)
        assert console.rest() == "one\r\ntwo\r\n"
        assert console.process.returncode == 0

    def test_input_from_the_terminal_output_into_a_pipe(self, console: Console, start: Start) -> None:
        start("sh", "-c", "test -t 0 && ! test -t 1 && test -t 2 && echo up >&2 && cat", stdout=subprocess.PIPE)
        console.expect("up")
        console.press("typed\n" + END_OF_INPUT)
        assert console.process.stdout is not None
        assert console.process.stdout.read() == b"typed\n"
        console.process.stdout.close()
        assert console.rest() == "\r\ntyped\r\n"
        assert console.process.returncode == 0

    def test_errors_alone_on_the_terminal(self, console: Console, start: Start) -> None:
        start(
            "sh",
            "-c",
            "! test -t 0 && ! test -t 1 && test -t 2 && echo out && echo err >&2",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert console.process.stdout is not None
        assert console.process.stdout.read() == b"out\n"
        console.process.stdout.close()
        assert console.rest() == "err\r\n"
        assert console.process.returncode == 0

    def test_ctrl_c_works_with_input_from_a_pipe(self, console: Console, start: Start) -> None:
        start("sh", "-c", STARTER, stdin=subprocess.DEVNULL)
        console.expect("up")
        console.press(INTERRUPT)
        assert "not interrupted" not in console.rest()
        assert console.process.returncode == 128 + signal.SIGINT

    def test_other_programs_of_a_pipeline_have_the_screen_as_ever(self, console: Console, start: Start) -> None:
        """No staircase: the terminal still adds carriage returns."""
        before = console.settings
        start("sh", "-c", "echo three >&2; echo one; echo two; read line", pipe_to="sort -r")
        console.expect("three\r\n")
        assert console.settings == before
        console.press("\n")
        assert console.rest() == "\r\ntwo\r\none\r\n"

    def test_ctrl_c_ends_the_whole_pipeline(self, console: Console, start: Start) -> None:
        start("sh", "-c", "echo up >&2; exec sleep 600", pipe_to="sh -c 'cat; sleep 600'")
        console.expect("up")
        console.press(INTERRUPT)
        assert console.wait() == -signal.SIGINT

    def test_a_password_for_another_program_of_a_pipeline_stays_outside(
        self, world: World, console: Console, start: Start
    ) -> None:
        asking = "stty -echo; echo password?; read answer; stty echo; echo answer=$answer"
        start("sh", "-c", "exec > typed; echo up >&2; exec cat", pipe_to=f"sh -c '{asking}' <$0 >$0")
        console.expect("up|password")
        console.expect("up|password")
        console.press("secret\n")
        console.expect("answer=secret")
        console.press(INTERRUPT)
        console.wait()
        assert (world.work / "typed").read_text() == ""


class TestRestoring:
    def test_the_terminal_is_as_before_when_a_program_leaves_it_raw(self, console: Console, start: Start) -> None:
        before = console.settings
        start("sh", "-c", "stty raw -echo; echo up; read key")
        console.expect("up")
        assert console.settings != before
        console.press("\n")
        console.wait()
        assert console.settings == before

    def test_the_terminal_is_as_before_when_the_bottle_is_stopped(self, world: World, console: Console) -> None:
        before = console.settings
        console.run("sh", "-c", "stty raw -echo; echo up; exec sleep 600")
        console.expect("up")
        stopping = world.cli("stop", "dev")
        assert stopping.returncode == 0, stopping.stderr
        assert console.wait() == 128 + signal.SIGTERM
        assert console.settings == before

    def test_the_terminal_is_as_before_when_bubblewrap_is_killed(self, world: World, console: Console) -> None:
        before = console.settings
        console.run("sh", "-c", "echo up; exec sleep 600")
        console.expect("up")
        record = json.loads((world.state / "dev/state.json").read_text())
        os.kill(record["processes"]["monitor"][0], signal.SIGKILL)
        assert console.wait() == 128 + signal.SIGKILL
        assert console.settings == before

    def test_closing_the_window_ends_the_bottle(self, world: World, console: Console) -> None:
        console.run("python3", "-c", HEED_HANG_UP)
        console.expect("up")
        console.hang_up()
        console.process.wait(20)
        assert (world.work / "said").read_text() == "hung up"
        assert world.cli("ps", "--json").stdout == "[]\n"


@pytest.mark.usefixtures("remote_terminals")
class TestRemoteTerminal:
    def test_a_remote_shell_has_jobs_ctrl_c_and_an_exit_status(
        self, console: Console, forge: SSHServer, tmp_path: Path
    ) -> None:
        script = tmp_path / "place.py"
        script.write_text(TELL_PLACE)
        console.run("ssh", "-t", "forge", " ".join(BASH))
        console.press('PS1="f""ar> "\n')
        console.expect(FAR_PROMPT)
        console.press("test -t 0 && echo TERM=$TERM.\n")
        console.expect("TERM=xterm-256color\\.\r\n")
        console.press(f"python3 {script}\n")
        console.expect("in front")
        console.press(SUSPEND)
        console.expect("Stopped +python3")
        console.press("bg\n")
        console.expect("behind")
        console.press("fg\n")
        console.expect("in front")
        console.press(INTERRUPT)
        console.expect(FAR_PROMPT)
        console.press("echo status=$?; exit 6\n")
        console.expect("status=130\r\n")
        assert console.wait() == 6

    def test_ssh_itself_stops_and_goes_on(self, console: Console, forge: SSHServer) -> None:
        console.run(*BASH)
        console.expect(PROMPT)
        console.press("ssh -t forge 'echo u\"p\"; read word; echo got=$word'\n")
        console.expect("up\r\n")
        console.press("~" + SUSPEND)
        console.expect("Stopped")
        console.press("fg\n")
        console.expect("ssh -t forge")
        console.press("word\n")
        console.expect("got=word")
