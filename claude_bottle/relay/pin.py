"""What an ssh port accepts: a client that introduces itself as SSH 2. Pure."""

from __future__ import annotations

SSH_IDENTIFICATION = b"SSH-2.0-"
"""first bytes of every client. Source: RFC 4253 section 4.2; clients send nothing before it."""


def is_ssh(head: bytes) -> bool | None:
    """Whether a client that began with `head` speaks SSH; None when there is too little to tell."""
    if len(head) < len(SSH_IDENTIFICATION):
        return None if SSH_IDENTIFICATION.startswith(head) else False
    return head.startswith(SSH_IDENTIFICATION)
