"""Entry point of the command ``kullback``: runs it and turns every failure into one sentence and an exit status.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 a condition of ``--fail-if`` is met, 130 interrupted. `click` and `rich`
are imported only here, behind a check, as the library itself does not need them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .errors import UsageError

__all__ = ["main"]

_EXTRA = "kullback[score]"
_NEEDED = ("click", "rich", "pyarrow")


def _fail(message: object, status: int) -> NoReturn:
    sentence = " ".join(str(message).split())
    sys.stdout.flush()
    print(f"kullback: {sentence}", file=sys.stderr)
    raise SystemExit(status)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of those of the process.

    Raises
    ------
    SystemExit
        Always, with the exit status.
    """
    try:
        raise SystemExit(_run(list(sys.argv[1:] if arguments is None else arguments)))
    except KeyboardInterrupt as error:
        kept = "interrupted; finished parts are kept, and the same command continues where this one stopped"
        _fail(error if error.args else kept, 130)
    except BrokenPipeError:
        # The reader of our output has gone; say nothing, and keep Python from flushing into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        if "pip install" in str(error):  # who needed it has said so
            _fail(error, 1)
        if (error.name or "").partition(".")[0] not in _NEEDED:
            _fail(f"a module is missing: {error}", 1)
        _fail(f"this command needs the package {error.name}; install it with: pip install '{_EXTRA}'", 1)
    except MemoryError:
        _fail("not enough memory; a smaller --memory may help", 1)
    except (OSError, ValueError) as error:
        _fail(error, 2 if isinstance(error, UsageError) else 1)
    except Exception as error:
        if os.environ.get("KULLBACK_TRACEBACK"):
            raise
        _fail(f"internal error, {type(error).__name__}: {error} (set KULLBACK_TRACEBACK=1 to see where)", 1)


def _run(arguments: list[str]) -> int:
    """Run the command and return its exit status; errors of usage end here."""
    import click
    from click.shell_completion import shell_complete

    from .commands import COMPLETION_VARIABLE, kullback

    if instruction := os.environ.get(COMPLETION_VARIABLE):
        return shell_complete(kullback, {}, "kullback", COMPLETION_VARIABLE, instruction)
    try:
        # Not kullback.main(): it would print a line of its own for an interruption.
        with kullback.make_context("kullback", arguments) as context:
            kullback.invoke(context)
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "kullback"
        _fail(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    return 0
