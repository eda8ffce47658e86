"""The manifest: parse, validate, point at the exact key that is wrong.

Names are loaded at first use: who only checks a host name (`manifest.hostname`) does not pay for the whole room.
"""

TYPE_CHECKING = False  # as in typing, whose import would cost what this module saves
if TYPE_CHECKING:
    from claude_bottle.manifest.load import find_manifest, load_manifest
    from claude_bottle.manifest.model import Agent, Bottle, Manifest, Mount, Resources, SSHEntry

__all__ = ["Agent", "Bottle", "Manifest", "Mount", "Resources", "SSHEntry", "find_manifest", "load_manifest"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from claude_bottle.manifest import load, model

    return getattr(load if name.endswith("_manifest") else model, name)
