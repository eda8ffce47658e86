"""System calls that lead out, or into parts of the kernel where others found a way; some by other conventions too."""

from tests.support.probes.probe import ROOT, Probe


def _kernel() -> tuple[Probe, ...]:
    def call(name: str, *arguments: str, needs: str = "") -> Probe:
        shown = " ".join(arguments)
        return Probe(f"call: {name} {shown}".rstrip(), f"use {name}", "kernel.call", (name, *arguments), "", needs)

    return (
        *(
            Probe(f"user namespace: {way}", "become root of a namespace", "kernel.new_user_namespace", (way,))
            for way in ("unshare", "clone", "clone with garbage", "clone3")
        ),
        call("unshare", "0x40000000"),
        Probe("mount", "mount", "kernel.text_call", ("mount", "none", "{work}/point", "tmpfs", "#0", "#0")),
        Probe("chroot", "change the root", "kernel.text_call", ("chroot", "/")),
        Probe("fsopen", "mount by the newer calls", "kernel.hidden_file_system", ("tmpfs",)),
        Probe("open_tree", "clone mounts", "kernel.text_call", ("open_tree", "#-100", "/", "#1")),
        Probe("setns", "enter a namespace", "kernel.own_namespace", ("net",)),
        call("mount_setattr", "-1", "&", "0", "0", "0"),
        call("move_mount", "-1", "&", "-1", "&", "0"),
        call("keyctl", "0", "-4", "0"),
        Probe("add_key", "use key rings", "kernel.text_call", ("add_key", "user", "canary", "x", "#1", "#-2")),
        Probe("request_key", "use key rings", "kernel.text_call", ("request_key", "user", "canary", "#0", "#0")),
        call("userfaultfd", "1", needs="CONFIG_USERFAULTFD"),
        call("io_uring_setup", "1", "&", needs="CONFIG_IO_URING and sysctl kernel.io_uring_disabled=0"),
        Probe("perf_event_open", "watch the processor", "kernel.perf", needs="sysctl kernel.perf_event_paranoid=2"),
        Probe("bpf", "load programs into the kernel", "kernel.bpf_map", needs=ROOT),
        call("kexec_load", "0", "0", "0", "0xffff", needs=f"{ROOT}; CONFIG_KEXEC"),
        call("kexec_file_load", "-1", "-1", "0", "0", "0xffff", needs=f"{ROOT}; CONFIG_KEXEC_FILE"),
        call("init_module", "0", "0", "0", needs=f"{ROOT}; CONFIG_MODULES"),
        call("finit_module", "-1", "0", "0", needs=f"{ROOT}; CONFIG_MODULES"),
        call("open_by_handle_at", "-1", "&", "0", needs=ROOT),
        call("reboot", "0", "0", "0", needs=ROOT),
        call("swapon", "0", "0", needs=ROOT),
        call("syslog", "10", "0", "0", needs=ROOT),
        call("fanotify_init", "0x200", "0", needs="CONFIG_FANOTIFY"),
        call("kcmp", "0", "0", "99", needs="CONFIG_KCMP"),
        *(call("ioctl", "0", request, "&") for request in ("0x5412", "+0x5412", "0x541c", "+0x541c", "0x5423")),
        Probe("socket families", "use other networks", "kernel.families", ("0", "1", "2", "10", "16")),
        call("socket", "17", "3", "0"),
        call("socket", "+17", "3", "0"),
        call("socket", "2", "10", "0"),
        call("socket", "40", "1", "0", needs="modprobe vsock"),
        call("socket", "+40", "1", "0", needs="modprobe vsock"),
        call("socket", "38", "5", "0", needs="modprobe af_alg"),
        call("socketpair", "30", "1", "0", "&", needs="modprobe tipc"),
        call("socket", "2", "1", "132", needs="modprobe sctp"),
        call("socket", "16", "3", "12", needs="CONFIG_NETFILTER_NETLINK"),
        call("socket", "16", "3", "16", needs="generic netlink"),
        *_other_ways("getpid"),
        *_other_ways("unshare", hex(0x10000000)),
        *_other_ways("socket", "17", "3", "0"),
        *_other_ways("keyctl", "0", "-4", "0"),
        *_other_ways("userfaultfd", "1"),
    )


def _other_ways(name: str, *arguments: str) -> tuple[Probe, ...]:
    words = (name, *arguments)
    compat, x32 = "CONFIG_IA32_EMULATION", "CONFIG_X86_X32_ABI and boot option syscall.x32=y"
    return (
        Probe(f"int 0x80: {name}", "call the way 32-bit programs do", "kernel.through_int_80", words, "", compat),
        Probe(f"x32: {name}", "call by x32 numbers", "kernel.through_x32", words, "", x32),
    )


CALLS = _kernel()
