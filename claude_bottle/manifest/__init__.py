"""The manifest: parse, validate, point at the exact key that is wrong."""

from claude_bottle.manifest.model import Agent, Bottle, Manifest, Mount, Resources, SSHEntry

__all__ = ["Agent", "Bottle", "Manifest", "Mount", "Resources", "SSHEntry"]
