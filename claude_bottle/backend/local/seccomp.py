"""The system calls a bottle may not make, compiled by libseccomp.

A deny list: agents run compilers, debuggers and whole language runtimes, so everything is allowed that reaches nothing
outside the bottle. What is refused is either a way to a network that namespaces do not cover (AF_VSOCK), a way to new
privileges inside (user namespaces, mounts), a kernel interface with a record of escapes, or input into a terminal.

libseccomp is called directly: the Python bindings on PyPI cost 17 ms to import, these few calls cost one. It knows
every architecture and kills what comes through a foreign one (32-bit calls on a 64-bit kernel).
"""

import ctypes
import errno
import os

from claude_bottle.errors import BackendError

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
MASKED_EQ = 7
LOW_32_BITS = 0xFFFFFFFF
CLONE_NEWUSER = 0x10000000

ALLOWED_FAMILIES = frozenset({0, 1, 2, 10, 16})
"""AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (getifaddrs needs it; its namespace is the bottle's own)"""

HIGHEST_FAMILY = 63
"""above the kernel's AF_MAX (46), so that families of later kernels are refused too"""

REFUSED = {
    errno.EPERM: (
        # namespaces and mounts: nothing inside needs to build a second sandbox
        "setns mount umount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick "
        "mount_setattr chroot "
        # key rings are not namespaced
        "keyctl add_key request_key "
        # kernel interfaces with a long record of privilege escalation
        "bpf perf_event_open userfaultfd kexec_load kexec_file_load init_module finit_module delete_module "
        "io_uring_setup io_uring_enter io_uring_register "
        # the machine's own state
        "swapon swapoff reboot acct quotactl quotactl_fd syslog settimeofday clock_settime clock_adjtime adjtimex "
        "sethostname setdomainname open_by_handle_at lookup_dcookie nfsservctl vhangup iopl ioperm "
        "fanotify_init move_pages migrate_pages mbind set_mempolicy kcmp"
    ).split(),
    # ENOSYS makes the C library fall back to clone, whose flags a filter can see; clone3's are in memory
    errno.ENOSYS: ["clone3"],
}

NETLINK = 16
NETLINK_PROTOCOLS = frozenset({0, 4, 15})
"""addresses and routes, sockets, device events; the others lead to parts of the kernel that nothing inside needs"""

HIGHEST_NETLINK = 31
"""MAX_LINKS - 1"""

STREAM_PROTOCOLS = (33, 115, 132, 136)
"""DCCP, L2TP, SCTP, UDP-Lite: asking for one loads its module into the kernel, and nothing inside could use it"""

SOCK_PACKET = 10
"""the old way to ask for AF_PACKET"""

SOCK_TYPE_MASK = 0xF
"""the type of a socket without its flags"""

TERMINAL_INPUT = (0x5412, 0x541C, 0x5423)
"""TIOCSTI, TIOCLINUX and TIOCSETD: put bytes into, or change the discipline of, a terminal"""


class _Argument(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise BackendError(
            "libseccomp.so.2 is not installed", where="local backend", hint="apt-get install libseccomp2"
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Argument),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


class _Filter:
    """One libseccomp filter context; allows what no rule refuses."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.seccomp_init(ALLOW)

    def refuse(self, error: int, call: str, *arguments: _Argument) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number == -1:  # __NR_SCMP_ERROR: a call that this libseccomp does not know by name
            return
        array = (_Argument * len(arguments))(*arguments)
        code = self._library.seccomp_rule_add_array(self._context, ERRNO | error, number, len(arguments), array)
        # EDOM: the call does not exist on this architecture, so there is nothing to refuse
        if code not in (0, -errno.EDOM):
            raise BackendError(f"seccomp rule for {call} failed: {os.strerror(-code)}")

    def refuse_when(self, error: int, call: str, *conditions: tuple[int, int, int]) -> None:
        """Refuse a call when each (argument, value, mask) holds."""
        # the kernel reads these arguments as 32-bit numbers: a rule that compared all 64 bits could be stepped over
        # with garbage in the upper half (CVE-2019-7303)
        arguments = [_Argument(argument, MASKED_EQ, mask, value) for argument, value, mask in conditions]
        self.refuse(error, call, *arguments)

    def export(self) -> int:
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        code = self._library.seccomp_export_bpf(self._context, fd)
        self._library.seccomp_release(self._context)
        if code != 0:
            raise BackendError(f"seccomp filter cannot be compiled: {os.strerror(-code)}")
        os.lseek(fd, 0, os.SEEK_SET)
        return fd


def compile_filter() -> int:
    """Return a descriptor of the compiled filter (an array of struct sock_filter), positioned at its start.

    Raises:
        BackendError: libseccomp is missing or refuses a rule.

    Source: seccomp(2), seccomp_export_bpf(3).
    """
    rules = _Filter()
    for error, calls in REFUSED.items():
        for call in calls:
            rules.refuse(error, call)
    for call in ("clone", "unshare"):
        rules.refuse_when(errno.EPERM, call, (0, CLONE_NEWUSER, CLONE_NEWUSER))
    for request in TERMINAL_INPUT:
        rules.refuse_when(errno.EPERM, "ioctl", (1, request, LOW_32_BITS))
    _refuse_sockets(rules)
    return rules.export()


def _refuse_sockets(rules: _Filter) -> None:
    """Refuse every address family, type and protocol that is not allowed."""
    for family in range(HIGHEST_FAMILY + 1):
        if family not in ALLOWED_FAMILIES:
            for call in ("socket", "socketpair"):
                rules.refuse_when(errno.EAFNOSUPPORT, call, (0, family, LOW_32_BITS))
    rules.refuse_when(errno.EAFNOSUPPORT, "socket", (1, SOCK_PACKET, SOCK_TYPE_MASK))
    for protocol in range(HIGHEST_NETLINK + 1):
        if protocol not in NETLINK_PROTOCOLS:
            conditions = ((0, NETLINK, LOW_32_BITS), (2, protocol, LOW_32_BITS))
            rules.refuse_when(errno.EPROTONOSUPPORT, "socket", *conditions)
    for protocol in STREAM_PROTOCOLS:
        rules.refuse_when(errno.EPROTONOSUPPORT, "socket", (2, protocol, LOW_32_BITS))
