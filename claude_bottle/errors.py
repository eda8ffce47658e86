"""Every error a user can see: what is wrong, where, and the next step.

One class per cause, one exit code per class; the command line prints them and nothing else decides an exit status.
"""


class BottleError(Exception):
    """Root of all expected errors.

    `what` is lower case with no full stop and shows the bad value; `where` is a file, key path or command; `hint` is
    the next step, ready to be copied where it is a command.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.what = what
        self.where = where
        self.hint = hint


class UsageError(BottleError):
    """Bad input: command line, manifest or a name that does not exist."""

    exit_code = 2


class ManifestError(UsageError):
    """Every mistake found in one manifest, in file order."""

    def __init__(self, problems: "tuple[BottleError, ...]") -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class PlanError(UsageError):
    """A valid manifest that cannot become a bottle, such as more entries than ports."""


class BackendError(BottleError):
    """The machine cannot run the bottle: a missing program, a forbidden namespace, a step that failed."""

    exit_code = 3


class IdentityError(BottleError):
    """A declared key cannot be used: wrong passphrase, no terminal to ask on, not a private key."""

    exit_code = 4
