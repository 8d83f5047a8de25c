"""What our three programs have in common: how they end when nobody wants to hear more. Commands need not think of it.

Exit codes: 130 after ^C, 141 when the reader of what we print has gone (``| head``), as the shell shows them for any
other program, both without a word; 1 and a line where what we print cannot be written, as on a full disk.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + the signal's number
UNWRITTEN = (errno.ENOSPC, errno.EDQUOT)


class Program(click.Group):
    """The group of all commands of a program."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Prints too, if help is asked for."""
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that has no ▼ is no reason to fail
        with _ending(args[0]):
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """One command."""
        with _ending(ctx.info_name):
            found = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return found


@contextlib.contextmanager
def _ending(program: str | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _forget_output()
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        if error.errno not in UNWRITTEN or error.filename is not None:
            raise
        _forget_output()
        click.echo(f"{program}: the output cannot be written: {error.strerror}", err=True)
        sys.exit(1)


def _forget_output() -> None:
    """What is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
