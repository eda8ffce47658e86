"""The gate's hand on the audit log.

Rule 1: what a record allows happens only after `must` said it is written.
Rule 2: what merely tells what happened (`later`) is written at the end of the batch, with the others of it.
Rule 3: a log that cannot be written stops new connections, not the gate; it is tried again at each of them.
"""

from __future__ import annotations

import errno

from claude_bottle.audit import AuditError, AuditLog, render

_MOST_KEPT = 10_000
"""records kept for a log that cannot be written; the oldest stay, the others are counted in a `lost` record"""


class Journal:
    """The audit log and what has not been written to it yet."""

    def __init__(self, path: str, bottle: str) -> None:
        self._path = path
        self._bottle = bottle
        self._log: AuditLog | None = None
        self._kept: list[str] = []
        self._lost = 0
        self.problem = ""
        """why the log cannot be written; empty when it can, or has not been tried"""
        self._write()

    def must(self, *records: str) -> bool:
        """Write `records` now; whether they are in the log."""
        return self._write(*records)

    def later(self, record: str) -> None:
        """Write `record` when the batch ends."""
        if len(self._kept) < _MOST_KEPT:
            self._kept.append(record)
        else:
            self._lost += 1

    def flush(self) -> None:
        """Write what waits, unless the log failed already: then it waits for the next connection's attempt."""
        if self._kept and not self.problem:
            self._write()

    def close(self) -> None:
        """Write what waits, whatever happened before."""
        self._write()

    def _write(self, *records: str) -> bool:
        """Append what was kept, then `records`; a log that was deleted is begun anew."""
        try:
            try:
                self._append(records)
            except AuditError as error:
                if error.errno != errno.ENOENT or self._log is None:
                    raise
                self._log.close()
                self._log = None
                self._append(records)
        except AuditError as error:
            self.problem = f"audit log cannot be written: {str(error.strerror).lower()}"
            return False
        self.problem = ""
        return True

    def _append(self, records: tuple[str, ...]) -> None:
        if self._log is None:
            self._log = AuditLog(self._path, self._bottle)
        if self._lost:
            self._kept.append(render("lost", {"records": self._lost}))
            self._lost = 0
        if self._kept or records:
            self._log.write(*self._kept, *records)
            self._kept.clear()
