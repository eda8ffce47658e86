"""The audit log: one JSON object per line, append-only, outside the bottle.

Rule 1: a record is written before the act it allows; whoever cannot write must not act.
Rule 2: a line is whole or is not counted: one `write` call for all records of a moment, and after a write that was
cut short the next one starts on a new line.
Rule 3: no value can break a line or forge one: everything that is not printable ASCII is escaped.

The backend writes `launch` and `stop`, the gate everything between; both append to the same file. Only builtins are
imported: the gate starts in milliseconds and writes thousands of records a second.
"""

from __future__ import annotations

import errno
import os
import stat
import time

try:
    from _json import encode_basestring_ascii
except ImportError:  # an interpreter without CPython's accelerator
    from json.encoder import encode_basestring_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

quoted: Callable[[str], str] = encode_basestring_ascii
"""text as JSON, in printable ASCII"""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: a pipe in the log's place is refused instead of waited for; it means nothing to a regular file."""


class AuditError(OSError):
    """The audit log cannot be opened or written: nothing that needs a record may happen."""


def render(event: str, fields: Mapping[str, object]) -> str:
    """One record as JSON text, without time and bottle, which `AuditLog.write` puts in front.

    Raises:
        TypeError: a value that is not text, a number, a truth value, None, or a sequence or mapping of these.
    """
    return f'"event": {quoted(event)}{"".join([f", {quoted(name)}: {_text(fields[name])}" for name in fields])}}}'


def _text(value: object) -> str:
    """`value` as JSON."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join([_text(item) for item in value])}]"
    if isinstance(value, dict):
        return f"{{{', '.join([f'{quoted(name)}: {_text(item)}' for name, item in value.items()])}}}"
    raise TypeError(f"not an audit value: {value!r}")


class AuditLog:
    """An open audit log of one bottle."""

    def __init__(self, path: str | os.PathLike[str], bottle: str) -> None:
        """Open `path` for appending, made with mode 0600 when missing.

        Raises:
            AuditError: it cannot be opened, is a symbolic link, or is not a regular file.
        """
        self.path = os.fspath(path)
        self._head = f'", "bottle": {quoted(bottle)}, '
        self._millisecond = 0
        """of the last record, in which the file was seen to have a name"""
        self._stamp = ""
        """a record's text up to that millisecond"""
        self._torn = False
        try:
            self._fd = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            raise self._error(error.errno or errno.EIO) from error
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise AuditError(errno.EINVAL, "not a regular file", self.path)

    def write(self, *records: Mapping[str, object] | str) -> None:
        """Append `records`, all with the present time, in one system call.

        A record is a mapping whose first key is `event`, or the text that `render` made of one.

        Raises:
            AuditError: not all of it is in the file, or the file has been deleted.
        """
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._look()
            self._stamp = _stamp(millisecond) + self._head
            self._millisecond = millisecond
        head = self._stamp
        lines = [head + (record if isinstance(record, str) else _rendered(record)) for record in records]
        data = "\n".join(lines).encode("ascii") + b"\n"
        if self._torn:
            data = b"\n" + data
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise self._error(error.errno or errno.EIO) from error
        self._torn = 0 < written < len(data) or (self._torn and not written)
        if written < len(data):
            raise AuditError(errno.ENOSPC, "no room for a whole record", self.path)

    def close(self) -> None:
        """Close the file; again is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        """Raise when the file has been deleted: nobody would ever read what is written to it."""
        try:
            links = os.fstat(self._fd).st_nlink
        except OSError as error:
            raise self._error(error.errno or errno.EIO) from error
        if not links:
            raise AuditError(errno.ENOENT, "the file has been deleted", self.path)

    def _error(self, number: int) -> AuditError:
        return AuditError(number, os.strerror(number), self.path)


def _rendered(record: Mapping[str, object]) -> str:
    """`render` for a mapping whose first key is `event`."""
    fields = dict(record)
    return render(str(fields.pop("event")), fields)


def _stamp(millisecond: int) -> str:
    """The head of a record up to its time. Source: RFC 3339."""
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millisecond // 1000))
    return f'{{"time": "{second}.{millisecond % 1000:03d}Z'
