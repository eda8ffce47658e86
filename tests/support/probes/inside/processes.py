"""Ways to see, change or become something through another process."""

import ctypes
import os
import resource
import signal
from collections.abc import Iterator

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
LONGEST = 1 << 20


def pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def texts(kind: str) -> Iterator[str]:
    """`cmdline`, `environ` ... of every process that shows it."""
    for pid in pids():
        try:
            with open(f"/proc/{pid}/{kind}", "rb") as file:
                yield file.read(LONGEST).decode(errors="replace")
        except OSError:
            continue


def find(kind: str, word: str) -> str:
    """Find a word in the command line or environment of any process."""
    if any(word in text for text in texts(kind)):
        return "found"
    raise LookupError("nowhere")


def environment(name: str) -> str:
    """Find a variable in our own environment."""
    return os.environ[name]


def send(pid: str, number: str) -> str:
    """Send a signal to a process; it notes that it came."""
    os.kill(int(pid), int(number))
    return "sent"


def trace(pid: str, word: str) -> str:
    """Attach to a process as a debugger; the word in its command line tells that it is the one outside."""
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        if word not in file.read():
            raise LookupError("another process")
    if LIBC.ptrace(PTRACE_SEIZE, int(pid), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return "attached"


class Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def memory(pid: str, address: str, secret: str) -> str:
    """Read the secret out of a process's memory."""
    buffer = ctypes.create_string_buffer(len(secret))
    ours, theirs = Span(ctypes.addressof(buffer), len(secret)), Span(int(address), len(secret))
    if LIBC.process_vm_readv(int(pid), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return same(buffer.value.decode(), secret)


def memory_file(pid: str, address: str, secret: str) -> str:
    """The same through /proc."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(int(address))
        return same(file.read(len(secret)).decode(), secret)


def same(text: str, secret: str) -> str:
    if text != secret:
        raise LookupError("another process")
    return "read"


def descriptor(pid: str, number: str, secret: str) -> str:
    """Read a deleted file that only a descriptor of another process leads to."""
    with open(f"/proc/{pid}/fd/{number}", encoding="utf-8") as file:
        return same(file.read(len(secret)), secret)


def take_descriptor(pid: str, number: str, secret: str) -> str:
    """The same by pidfd_getfd."""
    process = os.pidfd_open(int(pid))
    taken = LIBC.syscall(438, process, int(number), 0)
    if taken < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return same(os.pread(taken, len(secret), 0).decode(), secret)


def root(pid: str, path: str, secret: str) -> str:
    """Read the host's file through the root folder of a process."""
    with open(f"/proc/{pid}/root{path}", encoding="utf-8") as file:
        return same(file.read(len(secret)), secret)


def roots(path: str, secret: str) -> str:
    """The same through any process's root or working folder."""
    for pid in pids():
        for way in (f"/proc/{pid}/root{path}", f"/proc/{pid}/cwd/../../../../../../../../..{path}"):
            try:
                with open(way, encoding="utf-8") as file:
                    return same(file.read(len(secret)), secret)
            except (OSError, LookupError):
                continue
    raise LookupError("through none")


def capabilities() -> str:
    """Have a capability, or a set to get one from."""
    with open("/proc/self/status", encoding="ascii") as lines:
        sets = {line[:6]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
    if not any(sets.values()):
        raise LookupError("none")
    return str(sets)


def new_privileges() -> str:
    """Find a process that may gain privileges by executing a file."""
    return without("NoNewPrivs")


def unfiltered() -> str:
    """Find a process whose system calls are not filtered; whoever traces it, calls freely."""
    return without("Seccomp")


def without(field: str) -> str:
    for text in texts("status"):
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        if lines[field].strip() == "0":
            return lines["Name"].strip()
    raise LookupError("none")


def count(most: str) -> str:
    """See more processes than a bottle of ours has."""
    if len(pids()) <= int(most):
        raise LookupError(f"{len(pids())} processes")
    return f"{len(pids())} processes"


def more_files() -> str:
    """Raise a hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    return "raised"


def priority() -> str:
    """Come before others."""
    os.setpriority(os.PRIO_PROCESS, 0, -1)
    return "raised"


def immortal() -> str:
    """Be spared when memory runs out."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-500")
    return "spared"


def host_name(name: str) -> str:
    """Learn the machine's name."""
    return same(os.uname().nodename, name)


def signal_all(number: str) -> str:
    """Send a signal to every process that may be signalled."""
    signal.signal(int(number), signal.SIG_IGN)
    os.kill(-1, int(number))
    return "sent"
