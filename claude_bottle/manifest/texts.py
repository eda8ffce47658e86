"""Checks of single texts. Each answers what is wrong and a hint, or None.

Rule 1: an accepted text means the same in the manifest, in ssh_config, in a shell and on a command line.
"""

import re

from claude_bottle.manifest.hostname import check_hostname, is_host_name, is_ip_literal
from claude_bottle.manifest.reading import show

RESERVED_HOSTS = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
"""names that mean the bottle itself inside the bottle"""

OWN_NETWORKS = ("127.1.", "127.2.")
"""loopback networks whose addresses stand for declared destinations inside"""

RESERVED_VARIABLES = {
    "HOME": "the bottle has its own home, at the same path",
    "SSH_AGENT_PID": "the agent's process is not visible inside",
    "SSH_AUTH_SOCK": "the bottle sets it to its own filtered socket",
}
"""environment variables whose value the bottle decides, with the reason"""

NAME_PATTERN = "[a-z0-9][a-z0-9_-]{0,31}"
VARIABLE_PATTERN = "[A-Za-z_][A-Za-z0-9_]*"
USER_PATTERN = "[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}"
NETWORK_PATTERN = "[0-9a-fA-F:.]+(?:/[0-9]{1,3})?"
HOST_PATTERN = r"[A-Za-z0-9_:\[][A-Za-z0-9_.:\]-]*"

_PATTERN_CHARACTERS = "*?!,"
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_name(text: str) -> tuple[str, str] | None:
    """Name of a bottle or agent; every file, process and socket of a bottle is named after it."""
    if re.fullmatch(NAME_PATTERN, text):
        return None
    slug = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:32]
    rule = "use 1 to 32 lower-case letters, digits, '-' and '_', beginning with a letter or digit"
    return f"{show(text)} is not a name", rule + (f', such as "{slug}"' if slug else "")


def check_alias(text: str) -> tuple[str, str] | None:
    """What the agent types; shaped like a host name, so that it may stand in ssh_config, known_hosts and /etc/hosts."""
    if text.lower() in RESERVED_HOSTS:
        return f"{text!r} means the bottle itself", "choose another alias"
    if is_host_name(text) or is_ip_literal(text):
        return check_hostname(text)
    if any(character in text for character in _PATTERN_CHARACTERS):
        return f"{show(text)} contains pattern characters of ssh_config", "declare each host by an entry of its own"
    return (
        f"{show(text)} is not an alias",
        "use letters, digits, '.', '-' and '_', such as \"forge\" or \"git.example.com\"",
    )


def check_destination(text: str) -> tuple[str, str] | None:
    """Where an entry leads."""
    if text.lower().rstrip(".") in RESERVED_HOSTS:
        return f"{text!r} means the bottle itself inside the bottle", 'write "127.0.0.1" for a service of this machine'
    if is_ip_literal(text) and text.startswith(OWN_NETWORKS):
        return f"{text!r} is an address that the bottle gives to declared hosts", "use another one, such as 127.0.0.1"
    return check_hostname(text)


def check_user(text: str) -> tuple[str, str] | None:
    """Login name; a conservative set that no shell, ssh_config line or command line reads otherwise."""
    if re.fullmatch(USER_PATTERN, text):
        return None
    return (
        f"{show(text)} is not a login name",
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
        return f"{show(text)} holds a value too", f'write the name "{name}" alone; a value belongs into env'
    if "*" in text or "?" in text:
        return f"{show(text)} is a pattern", "name each variable"
    return f"{show(text)} is not the name of a variable", "use letters, digits and '_', not beginning with a digit"


def check_argument(text: str) -> tuple[str, str] | None:
    """Argument of a command or value of a variable: what execve(2) can carry."""
    if "\0" in text:
        return "the text contains a NUL character, which no program can receive", "leave it out"
    if _SURROGATE.search(text):
        return "the text contains half a character (a lone surrogate)", "write the whole character"
    return None


def check_network(text: str) -> tuple[str, str] | None:
    """Network in CIDR form, in the one spelling that `canonical_network` gives."""
    import ipaddress

    form = 'write it as "10.0.0.0/8" or "fd00::/8", or as one address'
    if not re.fullmatch(NETWORK_PATTERN, text):
        return f"{show(text)} is not a network", form
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{show(text)} is not a network", form
    if network.prefixlen == 0:
        return (
            f"{text!r} is every address, which would switch the address guard off",
            "name the networks that are meant",
        )
    if text != str(network):
        return f"{text!r} has host bits set", f'write "{network}" for the network'
    return None


def canonical_network(text: str) -> str:
    """`10.0.0.5` becomes `10.0.0.5/32`; what is no network stays as it is."""
    import ipaddress

    try:
        return str(ipaddress.ip_network(text)) if re.fullmatch(NETWORK_PATTERN, text) else text
    except ValueError:
        return text
