"""Checks of single texts. Each answers what is wrong and a hint, or None.

Rule 1: an accepted text means the same in the manifest, in ssh_config, in a shell and on a command line.
"""

import re

from claude_bottle.manifest.hostname import check_hostname, is_host_name, is_ip_literal

RESERVED_HOSTS = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
"""names that mean the bottle itself inside the bottle"""

RESERVED_VARIABLES = {
    "HOME": "the bottle has its own home, at the same path",
    "SSH_AGENT_PID": "the agent's process is not visible inside",
    "SSH_AUTH_SOCK": "the bottle sets it to its own filtered socket",
}
"""environment variables whose value the bottle decides, with the reason"""

NAME_PATTERN = "[a-z0-9][a-z0-9_-]{0,31}"
VARIABLE_PATTERN = "[A-Za-z_][A-Za-z0-9_]*"
USER_PATTERN = "[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}"
NETWORK_PATTERN = "^[0-9a-fA-F:.]+(/[0-9]+)?$"
HOST_PATTERN = r"[A-Za-z0-9_:\[][A-Za-z0-9_.:\]-]*"

_PATTERN_CHARACTERS = "*?!,"
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_name(text: str) -> tuple[str, str] | None:
    """Name of a bottle or agent; every file, process and socket of a bottle is named after it."""
    if re.fullmatch(NAME_PATTERN, text):
        return None
    slug = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:32]
    rule = "use 1 to 32 lower-case letters, digits, '-' and '_', beginning with a letter or digit"
    return f"{text[:80]!r} is not a name", rule + (f', such as "{slug}"' if slug else "")


def check_alias(text: str) -> tuple[str, str] | None:
    """What the agent types; shaped like a host name, so that it may stand in ssh_config, known_hosts and /etc/hosts."""
    if text.lower() in RESERVED_HOSTS:
        return f"{text!r} means the bottle itself", "choose another alias"
    if is_host_name(text) or is_ip_literal(text):
        return check_hostname(text)
    if any(character in text for character in _PATTERN_CHARACTERS):
        return f"{text!r} contains pattern characters of ssh_config", "declare each host by an entry of its own"
    return (
        f"{text!r} is not an alias",
        "use letters, digits, '.', '-' and '_', such as \"forge\" or \"git.example.com\"",
    )


def check_destination(text: str) -> tuple[str, str] | None:
    """Where an entry leads."""
    if text.lower().rstrip(".") in RESERVED_HOSTS:
        return f"{text!r} means the bottle itself inside the bottle", 'write "127.0.0.1" for a service of this machine'
    return check_hostname(text)


def check_user(text: str) -> tuple[str, str] | None:
    """Login name; a conservative set that no shell, ssh_config line or command line reads otherwise."""
    if re.fullmatch(USER_PATTERN, text):
        return None
    return (
        f"{text[:80]!r} is not a login name",
        "use letters, digits and _ . @ + -, beginning with a letter, digit or _",
    )


def check_variable(text: str) -> tuple[str, str] | None:
    """Name of an environment variable that a manifest may set or pass."""
    if text in RESERVED_VARIABLES:
        return f"{text} cannot be set from the manifest", f"leave it out: {RESERVED_VARIABLES[text]}"
    if re.fullmatch(VARIABLE_PATTERN, text):
        return None
    name, equals, _ = text.partition("=")
    if equals and re.fullmatch(VARIABLE_PATTERN, name):
        return f"{text[:80]!r} holds a value too", f'write the name "{name}" alone; a value belongs into env'
    if "*" in text or "?" in text:
        return f"{text[:80]!r} is a pattern", "name each variable"
    return f"{text[:80]!r} is not the name of a variable", "use letters, digits and '_', not beginning with a digit"


def check_argument(text: str) -> tuple[str, str] | None:
    """Argument of a command or value of a variable: what execve(2) can carry."""
    if "\0" in text:
        return "the text contains a NUL character, which no program can receive", "leave it out"
    if _SURROGATE.search(text):
        return "the text contains half a character (a lone surrogate)", "write the whole character"
    return None


def check_network(text: str) -> tuple[str, str] | None:
    """Network in CIDR form, or one address."""
    import ipaddress

    form = 'write it as "10.0.0.0/8" or "fd00::/8", or as one address'
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text[:80]!r} is not a network", form
    if "%" in text:
        return f"{text[:80]!r} has a zone", form
    # A netmask after the slash ("10.0.0.0/255.0.0.0") would be a second spelling of the same network.
    if "/" in text and not text.rpartition("/")[2].isdigit():
        return f"{text[:80]!r} is not in CIDR form", f'write "{loose}"'
    if loose.prefixlen == 0:
        return (
            f"{text!r} is every address there is, which would switch the address guard off",
            "name the networks that are meant",
        )
    if "/" in text and text.rpartition("/")[0] != str(loose.network_address):
        same = ipaddress.ip_address(text.rpartition("/")[0]) == loose.network_address
        return None if same else (f"{text!r} has host bits set", f'write "{loose}" for the network')
    return None


def canonical_network(text: str) -> str:
    """`10.0.0.5` becomes `10.0.0.5/32`; what is no network stays as it is."""
    import ipaddress

    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        return text
