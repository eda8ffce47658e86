"""System calls that lead out of a sandbox, or into parts of the kernel where others found a way.

A call counts as let through when it succeeds, and also when it fails for its own reasons: the arguments are such that
the kernel has nothing to do. Refused is EPERM, ENOSYS, EACCES, EAFNOSUPPORT or EPROTONOSUPPORT, or death by signal.
"""

import ctypes
import errno
import mmap
import os
import platform
import signal

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)

GARBAGE = 0x5EED << 32
"""bits above the 32 that the kernel reads of an int"""
CLONE_NEWUSER = 0x10000000
X32 = 0x40000000

NUMBERS = {
    "x86_64": {
        "socket": 41, "clone": 56, "ptrace": 101, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166,
        "swapon": 167, "reboot": 169, "sethostname": 170, "init_module": 175, "add_key": 248, "request_key": 249,
        "keyctl": 250, "unshare": 272, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "kcmp": 312,
        "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "kexec_load": 246, "ioctl": 16,
        "getpid": 39, "socketpair": 53, "syslog": 103, "quotactl": 179, "fanotify_init": 300, "iopl": 172,
    },
    "aarch64": {
        "socket": 198, "clone": 220, "ptrace": 117, "pivot_root": 41, "chroot": 51, "mount": 40, "umount2": 39,
        "swapon": 224, "reboot": 142, "sethostname": 161, "init_module": 105, "add_key": 217, "request_key": 218,
        "keyctl": 219, "unshare": 97, "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268, "kcmp": 272,
        "finit_module": 273, "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282, "kexec_load": 104, "ioctl": 29,
        "getpid": 172, "socketpair": 199, "syslog": 116, "quotactl": 60, "fanotify_init": 262,
    },
}  # fmt: skip
SHARED = {
    "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "clone3": 435, "mount_setattr": 442,
}  # fmt: skip
"""system calls by number; those made since 2019 have the same number everywhere"""

I386 = {
    "getpid": 20, "mount": 21, "ioctl": 54, "keyctl": 288, "unshare": 310, "perf_event_open": 336, "setns": 346,
    "bpf": 357, "socket": 359, "userfaultfd": 374, "io_uring_setup": 425, "fsopen": 430,
}  # fmt: skip

# push rbx; mov eax, edi; mov ebx, esi; xchg edx, ecx; int 0x80; pop rbx; ret
INT_80 = bytes.fromhex("53 89f8 89f3 87ca cd80 5b c3")


def number(name: str) -> int:
    return SHARED[name] if name in SHARED else NUMBERS[platform.machine()][name]


def value(word: str) -> int:
    return int(word, 0)


def outcome(result: int, code: int) -> str:
    """What a result means; raises where the call was refused."""
    if result >= 0:
        return f"returned {result}"
    if code in REFUSALS:
        raise OSError(code, os.strerror(code))
    return f"let through: {os.strerror(code)}"


def call(name: str, *arguments: str) -> str:
    """Make one system call with numbers as arguments; `&` is the address of zeroed memory, `+` adds garbage above."""
    space = ctypes.create_string_buffer(4096)
    words = [
        ctypes.addressof(space) if word == "&" else value(word.lstrip("+")) | (GARBAGE if word[0] == "+" else 0)
        for word in arguments
    ]
    result = LIBC.syscall(number(name), *(ctypes.c_ulong(word & 0xFFFFFFFFFFFFFFFF) for word in words))
    return outcome(result, ctypes.get_errno())


def text_call(name: str, *arguments: str) -> str:
    """Make one system call with texts as arguments; numbers begin with `#`."""
    words = [ctypes.c_ulong(value(word[1:])) if word.startswith("#") else word.encode() for word in arguments]
    result = LIBC.syscall(number(name), *words)
    return outcome(result, ctypes.get_errno())


def through_int_80(name: str, *arguments: str) -> str:
    """Make a system call the way 32-bit programs do."""
    if platform.machine() != "x86_64":
        raise LookupError("no such way on this machine")
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(INT_80)
    function = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    words = [value(word) for word in arguments] + [0] * 3
    result = function(I386[name], *words[:3])
    return outcome(result, -result if result < 0 else 0)


def through_x32(name: str, *arguments: str) -> str:
    """Make a system call by its x32 number."""
    if platform.machine() != "x86_64":
        raise LookupError("no such way on this machine")
    result = LIBC.syscall(X32 | number(name), *(ctypes.c_ulong(value(word)) for word in arguments))
    return outcome(result, ctypes.get_errno())


def new_user_namespace(way: str) -> str:
    """Make a user namespace by unshare, clone or clone3, also with garbage above the flags."""
    if way.startswith("unshare"):
        return call("unshare", hex(CLONE_NEWUSER))
    if way == "clone3":
        arguments = (ctypes.c_uint64 * 11)(CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD)
        result = LIBC.syscall(number("clone3"), ctypes.byref(arguments), ctypes.sizeof(arguments))
    else:
        garbage = GARBAGE if way == "clone with garbage" else 0
        flags = ctypes.c_ulong(garbage | CLONE_NEWUSER | signal.SIGCHLD)
        result = LIBC.syscall(number("clone"), flags, None, None, None, None)
    if result == 0:
        os._exit(0)
    return outcome(result, ctypes.get_errno())


def perf() -> str:
    """Count our own CPU time by perf_event_open."""
    attributes = bytearray(128)
    attributes[0:8] = (1).to_bytes(4, "little") + (128).to_bytes(4, "little")  # PERF_TYPE_SOFTWARE, size
    attributes[8] = 1  # PERF_COUNT_SW_TASK_CLOCK
    attributes[40] = 0b1100000  # exclude the kernel and the hypervisor
    space = (ctypes.c_char * 128).from_buffer(attributes)
    result = LIBC.syscall(number("perf_event_open"), space, 0, -1, ctypes.c_long(-1), 0)
    return outcome(result, ctypes.get_errno())


def bpf_map() -> str:
    """Make a BPF map."""
    attributes = (ctypes.c_uint32 * 32)(1, 4, 4, 1)
    result = LIBC.syscall(number("bpf"), 0, ctypes.byref(attributes), ctypes.sizeof(attributes))
    return outcome(result, ctypes.get_errno())


def families(*allowed: str) -> str:
    """Make a socket of any family that is not allowed."""
    made = []
    for family in range(64):
        for kind in (1, 2, 3, 5):
            result = LIBC.socket(family, kind, 0)
            if result >= 0:
                os.close(result)
                made.append(family)
                break
    others = [family for family in made if str(family) not in allowed]
    if not others:
        raise LookupError(f"only {made}")
    return str(others)


def own_namespace(kind: str) -> str:
    """Enter a namespace through its file; one's own is enough to ask for."""
    fd = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
    return call("setns", str(fd), "0")


def hidden_file_system(kind: str) -> str:
    """Open a new file system by the newer mount calls."""
    return text_call("fsopen", kind, "#0")
