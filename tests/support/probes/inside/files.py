"""Ways to read or change the host's files."""

import os
import stat

LONGEST = 1 << 20


def read(path: str, secret: str) -> str:
    """Read a file that holds the secret."""
    with open(path, "rb") as file:
        if secret.encode() not in file.read(LONGEST):
            raise LookupError("another file")
    return "read"


def listing(folder: str, name: str) -> str:
    """See a name in a folder."""
    if name not in os.listdir(folder):
        raise LookupError("not there")
    return "seen"


def write(path: str, token: str) -> str:
    """Make a file with the token in it; whoever started the probe looks for it outside."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(token)
    return "written"


def append(path: str, token: str) -> str:
    """Add the token to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"\n{token}\n")
    return "written"


def remove(path: str) -> str:
    """Remove a file."""
    os.unlink(path)
    return "removed"


def mode(path: str) -> str:
    """Let everyone read and write a file."""
    os.chmod(path, 0o666)  # noqa: S103 - it is what is tried
    return "changed"


def same_mode(path: str) -> str:
    """Set the mode that a file has already; who may do that may set any."""
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode))
    return "set"


def link(path: str, name: str, secret: str) -> str:
    """Give a file a second name where writing is allowed, and read it there."""
    os.link(path, name)
    return read(name, secret)


def open_for_writing(path: str) -> str:
    """Open a file of the kernel's for writing; nothing is written."""
    os.close(os.open(path, os.O_WRONLY))
    return "open"


def open_for_reading(path: str) -> str:
    """Open a file of the kernel's for reading."""
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    return "open"


NAMESPACED_FOLDERS = ("/proc/sys/net", "/proc/sys/user", "/proc/sys/fs/mqueue")
NAMESPACED = (
    "auto_msgmni msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced ns_last_pid pid_max hostname domainname"
).split()


def sysctl() -> str:
    """Open any of the machine's settings for writing; those of a namespace are its own."""
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            path = f"{folder}/{name}"
            if path.startswith(NAMESPACED_FOLDERS) or name in NAMESPACED:
                continue
            try:
                os.close(os.open(path, os.O_WRONLY))
            except OSError:
                continue
            return path
    raise PermissionError("none can be written")


def inherited_folder(path: str, secret: str) -> str:
    """Reach the host's files from a folder that was left open, by `..` where needed."""
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.stat(f"/proc/self/fd/{name}").st_mode
            if stat.S_ISDIR(mode) and "fd" not in os.readlink(f"/proc/self/fd/{name}"):
                return read(f"/proc/self/fd/{name}/../../../../../../../../../..{path}", secret)
        except OSError:
            continue
    raise LookupError("no folder is open")


def other_descriptors() -> str:
    """Find a descriptor beside the standard streams and the pipe that the probe itself answers through."""
    found = []
    for number in sorted(int(name) for name in os.listdir("/proc/self/fd")):
        try:
            found.append((number, os.readlink(f"/proc/self/fd/{number}")))
        except FileNotFoundError:  # the listing's own
            continue
    if [number for number, _ in found][:3] == [0, 1, 2] and len(found) == 4 and found[3][1].startswith("pipe:"):
        raise LookupError(f"only {found}")
    return str(found)


def node(kind: str, major: str, minor: str, path: str) -> str:
    """Make a device node."""
    os.mknod(path, getattr(stat, kind) | 0o600, os.makedev(int(major), int(minor)))
    os.unlink(path)
    return "made"


def devices() -> str:
    """Find a device beyond the harmless ones."""
    harmless = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)}
    found = []
    for name in os.listdir("/dev"):
        status = os.lstat(f"/dev/{name}")
        number = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if stat.S_ISBLK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and number not in harmless):
            found.append(name)
    if not found:
        raise LookupError("only harmless ones")
    return ", ".join(found)
