"""What the contract tests leave out: hand-built upstreams, and how `prepare` writes."""

import errno
import os
import resource
import signal
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.errors import PlanError
from claude_bottle.manifest.hostname import check_hostname
from claude_bottle.manifest.model import Bottle, SSHEntry
from claude_bottle.ssh_gate import (
    ENTRYPOINT_NAME,
    SSHGate,
    SSHGatePlan,
    SSHGateUpstream,
    ssh_gate_render_entrypoint,
    ssh_gate_upstreams_for_bottle,
)

BOTTLE = Bottle(ssh=(SSHEntry("forge", "git.example.com"),))
HOSTILE = ["a b", "a\nb", "$(id)", "a'b", 'a"b', "a,fork", "a:22", "-x", "", "[::1]", "::1%lo;id", "127.1", 7, None]


class Gate(SSHGate):
    def start(self, plan: SSHGatePlan) -> str:
        return ""

    def stop(self, target: str) -> None:
        pass


class TestHandBuilt:
    @pytest.mark.parametrize("host", HOSTILE)
    def test_render_refuses_a_host_that_does_not_belong_into_a_script(self, host: str) -> None:
        upstreams = (SSHGateUpstream(30000, "good.example.com", 22, "a"), SSHGateUpstream(30001, host, 22, "b"))
        with pytest.raises(PlanError) as caught:
            ssh_gate_render_entrypoint(upstreams)
        assert caught.value.where == "ssh[1].Hostname"

    @pytest.mark.parametrize("host", HOSTILE[:4] + HOSTILE[5:8])
    def test_upstreams_refuse_the_same(self, host: str) -> None:
        with pytest.raises(PlanError) as caught:
            ssh_gate_upstreams_for_bottle(Bottle(ssh=(SSHEntry("a", host),)))
        assert caught.value.where == "ssh[0].Hostname"

    @pytest.mark.parametrize("port", [0, 65536, -1, "22", "22 &id", None, True, 22.0])
    def test_both_refuse_a_port_that_is_none(self, port: int) -> None:
        with pytest.raises(PlanError) as caught:
            ssh_gate_upstreams_for_bottle(Bottle(ssh=(SSHEntry("a", "a.example.com", port),)))
        assert caught.value.where == "ssh[0].Port"
        with pytest.raises(PlanError):
            ssh_gate_render_entrypoint([SSHGateUpstream(30000, "a.example.com", port, "a")])
        with pytest.raises(PlanError):
            ssh_gate_render_entrypoint([SSHGateUpstream(port, "a.example.com", 22, "a")])

    def test_render_refuses_one_listen_port_twice(self) -> None:
        upstream = SSHGateUpstream(30000, "a.example.com", 22, "a")
        with pytest.raises(PlanError, match=r"ssh\[1\].*30000"):
            ssh_gate_render_entrypoint([upstream, upstream])

    def test_the_alias_reaches_no_script(self) -> None:
        assert "evil" not in ssh_gate_render_entrypoint([SSHGateUpstream(30000, "a.example.com", 22, "evil\n$(id)")])

    @given(st.text())
    def test_any_text_is_refused_or_one_word_of_the_script(self, host: str) -> None:
        upstreams = [SSHGateUpstream(30000, host, 22, "a")]
        if check_hostname(host) is not None:
            with pytest.raises(PlanError):
                ssh_gate_render_entrypoint(upstreams)
            return
        lines = ssh_gate_render_entrypoint(upstreams).splitlines()
        assert len(lines) == 4
        assert lines[2].split()[2] in (f"TCP:{host}:22", f"TCP6:[{host}]:22")


class TestWriting:
    @pytest.mark.parametrize(("before", "after"), [(0o400, 0o400), (0o600, 0o600), (0o644, 0o600), (0o777, 0o600)])
    def test_an_existing_mode_is_never_widened(self, tmp_path: Path, before: int, after: int) -> None:
        script = tmp_path / ENTRYPOINT_NAME
        script.write_text("old")
        script.chmod(before)
        Gate().prepare(BOTTLE, "dev", tmp_path)
        assert stat.S_IMODE(script.stat().st_mode) == after
        assert script.read_text() == ssh_gate_render_entrypoint(ssh_gate_upstreams_for_bottle(BOTTLE))

    @pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
    def test_the_mode_does_not_depend_on_the_umask(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            Gate().prepare(BOTTLE, "dev", tmp_path)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / ENTRYPOINT_NAME).stat().st_mode) == 0o600

    def test_a_planted_symlink_is_replaced_not_followed(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_text("mine")
        victim.chmod(0o644)
        script = tmp_path / ENTRYPOINT_NAME
        script.symlink_to(victim)
        Gate().prepare(BOTTLE, "dev", tmp_path)
        assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("mine", 0o644)
        assert not script.is_symlink()
        assert stat.S_IMODE(script.stat().st_mode) == 0o600

    def test_a_symlink_at_the_temporary_name_is_not_followed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_text("mine")
        monkeypatch.setattr(os, "urandom", lambda size: b"\0" * size)
        planted = tmp_path / f".{ENTRYPOINT_NAME}.{'00' * 8}"
        planted.symlink_to(victim)
        with pytest.raises(FileExistsError):
            Gate().prepare(BOTTLE, "dev", tmp_path)
        assert victim.read_text() == "mine"
        assert planted.is_symlink()

    @pytest.mark.parametrize(("room", "failing"), [(os, "write"), (os, "fchmod"), (Path, "replace")])
    def test_an_error_leaves_the_old_script_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: object, failing: str
    ) -> None:
        script = tmp_path / ENTRYPOINT_NAME
        script.write_text("old")

        def fail(*_arguments: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(room, failing, fail)
        with pytest.raises(OSError, match="No space left"):
            Gate().prepare(BOTTLE, "dev", tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [ENTRYPOINT_NAME]
        assert script.read_text() == "old"

    def test_a_full_disk_leaves_nothing(self) -> None:
        """On a real file that takes no byte: a process limit on file size stands for the full disk."""
        with tempfile.TemporaryDirectory() as folder:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
            try:
                with pytest.raises(OSError, match="File too large"):
                    Gate().prepare(BOTTLE, "dev", Path(folder))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                signal.signal(signal.SIGXFSZ, handler)
            assert os.listdir(folder) == []

    def test_short_writes_are_continued(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
        plan = Gate().prepare(BOTTLE, "dev", tmp_path)
        monkeypatch.undo()
        assert plan.entrypoint_script.read_text() == ssh_gate_render_entrypoint(plan.upstreams)

    def test_a_bottle_that_cannot_be_planned_writes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(PlanError):
            Gate().prepare(Bottle(ssh=(SSHEntry("a", "a b"),)), "dev", tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_stage_folder_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Gate().prepare(BOTTLE, "dev", tmp_path / "none")
