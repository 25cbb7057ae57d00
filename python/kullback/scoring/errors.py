"""The three ways a scoring run can be refused, one class each.

Every message is one sentence that says what was expected and what was found; the command line prints it as it is.
"""

from __future__ import annotations

__all__ = ["InputError", "OutputError", "UsageError", "reason_of"]


class UsageError(ValueError):
    """An option has a value that no input could make right (command line: exit status 2)."""


class InputError(ValueError):
    """An input file is missing, unreadable, foreign, or does not fit the others (exit status 1)."""


class OutputError(OSError):
    """The output directory cannot be written, or belongs to another run (exit status 1)."""


def reason_of(error: BaseException) -> str:
    """Return what an exception of another library says, as one line that is not too long: it may quote the file."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"
