"""The demo's transcript: what is printed, and whether each act behaved as promised. Colours on a terminal only."""

from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from claude_bottle.demo.acts import Act

BOLD, DIM, RED, GREEN = "1", "2", "31", "32"
WIDTH = 36
"""columns of an act"""


class Transcript:
    """Prints line by line."""

    def __init__(self, out: TextIO, environ: Mapping[str, str]) -> None:
        """Colours need a terminal and are off with NO_COLOR (no-color.org); marks need an encoding that has them."""
        self._out = out
        self._colours = out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._yes, self._no = ("✓", "✗") if _can_print(out, "✓✗") else ("ok", "no")

    def introduce(self, manifest: str) -> None:
        """Tell what is there."""
        self._line("Two throwaway SSH servers run on this machine, forge and prod. The user's key opens both.")
        self._line("The manifest declares one of them:")
        self._line()
        for line in manifest.rstrip().split("\n"):
            self._line(f"    {line}".rstrip())

    def command(self, text: str) -> None:
        """Tell which command runs."""
        self._line()
        self._line(f"$ {text}", BOLD)

    def head(self, text: str, column: str = "") -> None:
        """Begin a group; `column` heads the marks at the right of the acts."""
        self._line()
        self._line(f"{text:<{WIDTH + 4}}  {column}".rstrip())

    def allowed(self, act: Act, status: int, printed: str) -> bool:
        """Tell about an act that has to work; return whether it did."""
        effect = act.effect(printed) if status == 0 else ""
        if effect:
            self._act(self._yes, GREEN, act.shown, effect)
        else:
            self._act("!", RED, act.shown, f"DID NOT WORK (exit status {status})")
            self._quote(printed)
        return bool(effect)

    def refused(self, act: Act, outside: bool, status: int, printed: str) -> bool:
        """Tell about an act that has to be refused; return whether it was, and works `outside` a bottle."""
        works = f"{self._yes} works"
        if outside and status != 0:
            self._act(self._no, RED, act.shown, f"{works}   {act.why}")
        elif not outside:
            self._act("!", RED, act.shown, "PROVES NOTHING: it does not work without a bottle either")
        else:
            self._act("!", RED, act.shown, f"{works}   WAS NOT REFUSED")
        self._quote(printed)
        return outside and status != 0

    def log(self, command: str, text: str) -> None:
        """Show the audit log."""
        self.command(command)
        for line in text.splitlines():
            self._line(f"  {line}")

    def end(self, as_promised: bool, duration_s: float, kept: Path | None) -> None:
        """Sum up."""
        self._line()
        verdict = "Everything behaved as promised." if as_promised else "NOT everything behaved as promised."
        left = f"Kept for a look: {kept}" if kept else "Nothing of it is left on this machine."
        self._line(f"{verdict} {left} ({duration_s:.1f} s)", BOLD if as_promised else RED)

    def _act(self, mark: str, colour: str, shown: str, what: str) -> None:
        self._line(f"  {self._paint(mark, colour)} {shown:<{WIDTH}}  {what}")

    def _quote(self, printed: str) -> None:
        """Show the last line that a program printed: its reason."""
        lines = printed.strip().splitlines()
        if lines:
            self._line(f"      {lines[-1]}", DIM)

    def _line(self, text: str = "", colour: str = "") -> None:
        print(self._paint(text, colour), file=self._out, flush=True)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text


def _can_print(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
