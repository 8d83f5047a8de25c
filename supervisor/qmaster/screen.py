"""What the commands show on a terminal, or print where there is none. It asks a master nothing but its status.

Imported by the commands that need it alone: a master is started by one that shows nothing, and is smaller without.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click
from rich.console import Console, RenderableType
from rich.live import Live

from qslots.errors import Error

from . import statustext

WATCH = 1.0  # seconds from one picture to the next
UNLIMITED = 1000  # columns where the output is no terminal: nothing is cut for a pipe
Ask = Callable[[], dict[str, Any]]  # the status of the master; Error


@contextlib.contextmanager
def progress(ask: Ask) -> Iterator[Callable[[], None] | None]:
    """In this block something is waited for: what is yielded is to be called meanwhile. None without a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield None
        return
    with console.status("asked") as shown:

        def look() -> None:
            try:
                shown.update(statustext.progress(ask()))
            except Error:  # whoever waits hears of it
                shown.update("it is ending")

        yield look


def show(status: dict[str, Any]) -> None:
    """A status, once."""
    _print(_console(), statustext.status_text(status))


def watch(ask: Ask) -> NoReturn:
    """A live picture on a terminal, one after the other elsewhere; a master that is away is waited for."""
    console = _console()

    def picture() -> RenderableType:
        try:
            return statustext.status_text(ask())
        except Error as error:
            return str(error)

    if not console.is_terminal:
        while True:
            _print(console, picture())
            sys.stdout.flush()
            time.sleep(WATCH)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(), refresh=True)
            time.sleep(WATCH)


def _console() -> Console:
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=UNLIMITED, highlight=False)


def _print(console: Console, text: RenderableType) -> None:
    with console.capture() as capture:
        console.print(text)
    for line in capture.get().rstrip().splitlines():
        click.echo(line.rstrip(), color=True)
