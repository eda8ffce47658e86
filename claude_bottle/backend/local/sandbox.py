"""The bubblewrap command line of a bottle: what it sees of the host, and what it does not.

Pure but for looking at which system folders exist. Order is meaning: bubblewrap carries the operations out one after
the other, so covers come before what they must not cover, and the root is made read-only last.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from claude_bottle.errors import UsageError
from claude_bottle.manifest import Mount
from claude_bottle.plan import AGENT_SOCKET, BottlePlan
from claude_bottle.workfolder.protect import Protection

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store")
"""programs and libraries, seen read-only"""

SYSTEM_FILES = tuple(
    f"/etc/{name}"
    for name in (
        "alternatives bash.bashrc bash_completion.d ca-certificates ca-certificates.conf debian_version default/locale "
        "environment.d fonts gitconfig gtk-3.0 host.conf inputrc java-11-openjdk java-17-openjdk java-21-openjdk "
        "java-25-openjdk ld.so.cache ld.so.conf ld.so.conf.d locale.alias locale.conf locale.gen localtime lsb-release "
        "magic magic.mime mailcap manpath.config mime.types nanorc networks npmrc nvim openssl os-release perl php "
        "pki/ca-trust pki/tls/cert.pem pki/tls/certs pki/tls/openssl.cnf profile profile.d protocols python3 "
        "python3.11 python3.12 python3.13 python3.14 R redhat-release rpc services shells skel ssl/cert.pem ssl/certs "
        "ssl/openssl.cnf terminfo timezone vim xdg zsh"
    ).split()
)
"""configuration of programs, seen read-only; a list, because /etc also holds host keys, tokens and people's names.
Folders are bound; files are copied, because bubblewrap reads the whole mount table for every bind it makes: copies make
a start a quarter shorter.
"""

ROOT_READS_ONLY = "acpi asound bus driver dynamic_debug fs irq mtrr pressure scsi sys sysrq-trigger".split()
"""in /proc, writable for user id 0 whatever its capabilities; a core_pattern in sys names a program the kernel runs"""

ROOT_SEES_NOT = (
    "kcore key-users keys kmsg kpagecgroup kpagecount kpageflags pagetypeinfo slabinfo timer_list vmallocinfo".split()
)
"""in /proc, readable for user id 0: addresses and contents of the kernel's memory"""

SHELL = ("/bin/sh", "-c", 'exec "$@"', "claude-bottle")
"""starts the program as a shell would, so that a missing one is exit status 127 and one not executable 126"""


BUILT_FD = 3
"""descriptor on which the shell before the program says that the bottle is built"""

RELEASE_FD = 4
"""descriptor on which that shell then waits for a line; its end ends the bottle"""


def runner(terminal: int | None) -> tuple[str, ...]:
    """Return the words before the program itself: they wait for the release, in a session of the program's own.

    What is typed on the terminal (standard stream `terminal`, if one is) then reaches the program and what it starts:
    bubblewrap is in no group that Ctrl-C would end. setsid takes only standard input, so another stream takes its
    place for that moment.
    """
    wait = f"echo >&{BUILT_FD}; read -r _ <&{RELEASE_FD} || exit 1; exec {BUILT_FD}>&- {RELEASE_FD}<&-"
    setsid = "/usr/bin/setsid"
    if terminal is None or terminal == 0:
        start = (setsid,) if terminal is None else (setsid, "-c")
        return (*start, "/bin/sh", "-c", f'{wait}; exec "$@"', "claude-bottle")
    first = f'exec {setsid} -c "$@" 5<&0 <&{terminal}'
    return ("/bin/sh", "-c", first, "claude-bottle", "/bin/sh", "-c", f'{wait}; exec "$@" <&5 5<&-', "claude-bottle")


def bwrap_arguments(
    plan: BottlePlan,
    *,
    protections: Sequence[Protection],
    agent_socket: Path | None,
    file_fds: Mapping[PurePosixPath, int],
    seccomp_fd: int,
    info_fd: int,
    block_fd: int,
    terminal: int | None,
) -> tuple[str, ...]:
    """Return bubblewrap's arguments; the descriptors are numbers in bubblewrap's own table.

    `file_fds` has the content of every file that is not bound, the copies of the system's among them; `agent_socket` is
    the filtered agent socket on the host; `terminal` is the program's first standard stream that is a terminal.
    """
    return (
        *_namespaces(plan.slug),
        *_system_view(),
        *_private_folders(plan),
        *(_from_root() if plan.caller.uid == 0 else ()),
        *_files(file_fds),
        *(("--ro-bind", str(agent_socket), str(AGENT_SOCKET)) if agent_socket else ()),
        *_mounts(plan),
        *_protections(protections),
        *("--remount-ro", "/"),
        *("--chdir", str(plan.workdir)),
        *("--seccomp", str(seccomp_fd), "--info-fd", str(info_fd), "--block-fd", str(block_fd)),
        "--new-session",
        "--",
        *runner(terminal),
        *_with_loader_variables(plan.env),
        *plan.command,
    )


def _namespaces(slug: str) -> Iterator[str]:
    yield from ("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--disable-userns", "--cap-drop", "ALL", "--die-with-parent")
    yield from ("--hostname", slug)


def is_for_loader(name: str) -> bool:
    """Tell whether a variable makes the dynamic loader read files of the program's own choice."""
    return name.startswith("LD_") or name == "GLIBC_TUNABLES"


def _with_loader_variables(env: Mapping[str, str]) -> tuple[str, ...]:
    """Words that set variables for the program alone.

    bubblewrap must not have them, or it would load an agent's library outside; nor the shell that waits for the
    release, or an agent would run before the work folder has been looked at.
    """
    settings = [f"{name}={value}" for name, value in env.items() if is_for_loader(name)]
    return ("/usr/bin/env", *settings, *SHELL) if settings else ()


def _system_view() -> Iterator[str]:
    for folder in SYSTEM_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), folder)
        elif path.is_dir():
            yield from ("--ro-bind", folder, folder)
    for name in SYSTEM_FILES:
        path = Path(name)
        if path.is_symlink() and not str(path.readlink()).startswith("/etc/"):
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)


def copied_files() -> Iterator[PurePosixPath]:
    """Yield the system's files that the bottle gets copies of, at the same path."""
    for name in SYSTEM_FILES:
        path = Path(name)
        if path.is_file() and (not path.is_symlink() or str(path.readlink()).startswith("/etc/")):
            yield PurePosixPath(name)


def _private_folders(plan: BottlePlan) -> Iterator[str]:
    """Fresh folders in memory; half of the memory limit, if any, bounds each of them.

    With all of it, a program that fills one would be killed, not told that the disk is full. The kernel's own default
    is half of the machine's memory (tmpfs(5)).
    """
    limit = plan.bottle.resources.memory_bytes
    size = ("--size", str(limit // 2)) if limit else ()
    yield from ("--proc", "/proc", "--dev", "/dev")
    for folder, mode in (("/tmp", "1777"), ("/var/tmp", "1777"), (str(plan.caller.home), "0700")):
        yield from (*size, "--perms", mode, "--tmpfs", folder)
    yield from (*size, "--perms", "1777", "--tmpfs", "/dev/shm")
    yield from (*size, "--perms", "0700", "--tmpfs", plan.env["XDG_RUNTIME_DIR"])


def _from_root() -> Iterator[str]:
    """Take away what the kernel gives to user id 0 by its number, without asking for a capability."""
    for name in ROOT_READS_ONLY:
        if Path("/proc", name).exists():
            yield from ("--ro-bind", f"/proc/{name}", f"/proc/{name}")
    for name in ROOT_SEES_NOT:
        if Path("/proc", name).exists():
            yield from ("--ro-bind", "/dev/null", f"/proc/{name}")


def _files(file_fds: Mapping[PurePosixPath, int]) -> Iterator[str]:
    for path, fd in file_fds.items():
        yield from ("--perms", "0644", "--file", str(fd), str(path))


def refuse_read_only_targets(plan: BottlePlan) -> None:
    """Refuse a mount where the system is seen read-only and has nothing yet: no place for it can be made.

    Raises:
        UsageError: with the mount's place in the manifest.
    """
    for index, mount in enumerate(plan.bottle.mounts):
        if not mount.target.exists() and any(mount.target.is_relative_to(folder) for folder in SYSTEM_FOLDERS):
            raise UsageError(
                f"{mount.target} does not exist, and cannot be made in a read-only system folder",
                where=f"{plan.rule_prefix}.mounts[{index}].target",
                hint="choose a target in the home folder, or below /mnt or /srv",
            )


def _mounts(plan: BottlePlan) -> Iterator[str]:
    """The work folder, behind the mounts around it and before all others: a mount may lie in it."""
    refuse_read_only_targets(plan)
    around = [mount for mount in plan.bottle.mounts if plan.workdir.is_relative_to(mount.target)]
    for mount in around:
        yield from _mount(mount)
    yield from ("--bind", str(plan.workdir), str(plan.workdir))
    for mount in plan.bottle.mounts:
        if mount not in around:
            yield from _mount(mount)


def _mount(mount: Mount) -> tuple[str, str, str]:
    return "--bind" if mount.writable else "--ro-bind", str(mount.source), str(mount.target)


def _protections(protections: Sequence[Protection]) -> Iterator[str]:
    for item in protections:
        path = str(item.path)
        if item.kind in ("pin", "writable"):
            yield from ("--bind", path, path)
        elif item.kind == "read-only":
            yield from ("--ro-bind", path, path)
        elif item.path.is_dir() or not os.path.lexists(item.path):
            yield from ("--tmpfs", path, "--remount-ro", path)
        else:
            yield from ("--ro-bind", "/dev/null", path)
