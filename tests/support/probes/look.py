"""Ways to see and change the host's files and processes."""

from tests.support.probes.probe import ROOT, TOKEN, Probe


def _files() -> tuple[Probe, ...]:
    secret = "{secret}"
    shown = (
        ("~/.ssh", "{home}/.ssh/id_other"),
        ("~/.ssh/config", "{home}/.ssh/config"),
        ("credentials", "{home}/.aws/credentials"),
        ("history", "{home}/.bash_history"),
        ("/tmp", "{tmp_file}"),
        ("/dev/shm", "{shm_file}"),
        ("beside the work folder", "{beside}"),
        ("/run", "/run/canary"),
        ("runtime folder", "{runtime}/canary"),
        ("audit logs", "{state}/other/audit.jsonl"),
        ("/etc/shadow", "/etc/shadow"),
        ("host keys", "/etc/ssh/ssh_host_ed25519_key"),
        ("TLS keys", "/etc/ssl/private/canary.key"),
        ("sudoers", "/etc/sudoers.d/canary"),
        ("/var/lib", "/var/lib/canary"),
        ("/root", "/root/canary"),
        ("/boot", "/boot/canary"),
        ("/srv", "/srv/canary"),
        ("/mnt", "/mnt/canary"),
        ("symlink in the work folder", "{work}/link-to-secret"),
    )
    written = (
        ("home", "{home}/written"),
        ("/tmp", "{tmp}/written"),
        ("/var/tmp", "{var_tmp}/written"),
        ("/dev/shm", "{shm}-written"),
        ("runtime folder", "{runtime}/written"),
        ("beside the work folder", "{root}/written"),
        ("state folder", "{state}/written"),
        ("mounted folder", "{mount}/written"),
        ("/etc", "/etc/ssh/written"),
        ("/usr", "/usr/src/written"),
        ("/opt", "/opt/written"),
        ("symlink in the work folder", "{work}/link-to-folder/through-link"),
        ("~/.ssh", "{home}/.ssh/authorized_keys"),
    )
    return (
        *(Probe(f"read: {name}", "read what is not shown", "files.read", (path, secret)) for name, path in shown),
        *(
            Probe(f"write: {name}", "write outside the work folder", "files.write", (path, "{token}"), f"file {path}")
            for name, path in written
        ),
        Probe("append", "change a file of the home folder", "files.append", ("{profile}", *TOKEN), "file {profile}"),
        Probe("remove", "remove a mounted file", "files.remove", ("{mount}/removable",)),
        Probe("mode", "change the mode of a mounted file", "files.mode", ("{mount}/file",)),
        Probe("hard link", "link a file into the work folder", "files.link", ("{beside}", "{work}/linked", secret)),
        Probe("list /sys", "see the machine's devices", "files.listing", ("/sys", "class")),
        Probe("list the home", "see names in the home folder", "files.listing", ("{home}", ".aws")),
        Probe("write: /", "write to the root folder", "files.write", ("/written", "{token}"), "", ROOT),
        Probe("inherited folder", "use a folder left open", "files.inherited_folder", ("{beside}", secret)),
        Probe("descriptors", "have other descriptors than the streams", "files.other_descriptors"),
        Probe("sysctl", "change any kernel setting", "files.sysctl", needs=ROOT),
        Probe("core_pattern", "name a program for crashes", "files.open_for_writing", (CORE_PATTERN,), "", ROOT),
        Probe("sysrq", "reboot", "files.open_for_writing", ("/proc/sysrq-trigger",), "", f"{ROOT}; CONFIG_MAGIC_SYSRQ"),
        Probe("kernel memory", "read where the kernel's memory is", "files.open_for_reading", KPAGES, "", ROOT),
        Probe("kernel log", "read the kernel's log", "files.open_for_reading", ("/dev/kmsg",), "", "/dev/kmsg"),
        Probe("block device", "make a disk's device", "files.node", ("S_IFBLK", "7", "0", "{work}/node"), "", ROOT),
        Probe("memory device", "make a device of memory", "files.node", ("S_IFCHR", "1", "1", "{work}/mem"), "", ROOT),
        Probe("mode of a device", "take a device from everyone", "files.same_mode", ("/dev/null",), "", ROOT),
        Probe("devices", "find other devices than the harmless ones", "files.devices"),
    )


CORE_PATTERN = "/proc/sys/kernel/core_pattern"
KPAGES = ("/proc/kpageflags",)


def _processes() -> tuple[Probe, ...]:
    pid, secret = "{pid}", "{secret}"
    of = "processes."
    return (
        Probe("command lines", "see what others run", f"{of}find", ("cmdline", "{cmdline}")),
        Probe("environments", "see what others know", f"{of}find", ("environ", secret)),
        Probe("own environment", "see the caller's variables", f"{of}environment", ("CANARY_SECRET",)),
        Probe("how many", "see other processes at all", f"{of}count", ("4",)),
        Probe("signal", "signal a process outside", f"{of}send", (pid, "{signal}"), "signals"),
        Probe("ptrace", "debug a process outside", f"{of}trace", (pid, "{cmdline}")),
        Probe("memory", "read another's memory", f"{of}memory", (pid, "{address}", secret)),
        Probe("memory file", "read another's memory", f"{of}memory_file", (pid, "{address}", secret)),
        Probe("descriptor", "open another's open file", f"{of}descriptor", (pid, "{descriptor}", secret)),
        Probe("pidfd_getfd", "take another's open file", f"{of}take_descriptor", (pid, "{descriptor}", secret)),
        Probe("root of a process", "see the host's files", f"{of}root", (pid, "{beside}", secret)),
        Probe("root of any process", "see the host's files", f"{of}roots", ("{beside}", secret)),
        Probe("capabilities", "have or get a capability", f"{of}capabilities"),
        Probe("new privileges", "gain privileges by executing", f"{of}new_privileges"),
        Probe("unfiltered process", "use a process without filter", f"{of}unfiltered"),
        Probe("hard limit", "raise a limit", f"{of}more_files", needs=f"{ROOT} with CAP_SYS_RESOURCE"),
        Probe("priority", "come before others", f"{of}priority", needs=ROOT),
        Probe(
            "out of memory", "be spared when memory runs out", f"{of}immortal", needs=f"{ROOT} with CAP_SYS_RESOURCE"
        ),
        Probe("host name", "learn the machine's name", f"{of}host_name", ("{hostname}",)),
    )


FILES = _files()
PROCESSES = _processes()
