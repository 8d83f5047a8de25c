"""What the commands show of a master. It asks the master nothing but its status.

Imported by the commands that need it alone: a master is started by one that shows nothing, and is smaller without.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rich.console import Console, RenderableType

from qslots import terminal
from qslots.errors import Error

from . import statustext

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
    terminal.printed(lambda _: statustext.status_text(status))


def watch(ask: Ask) -> NoReturn:
    """Status after status; a master that is away is waited for."""

    def picture(_: int) -> RenderableType:
        try:
            return statustext.status_text(ask())
        except Error as error:
            return str(error)

    terminal.watched(picture)
