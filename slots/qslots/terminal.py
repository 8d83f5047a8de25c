"""How our programs show a picture to people: on a terminal in colours and redrawn, elsewhere as plain lines, never cut.

Imported by commands alone, when they show something: whatever forks is smaller without.
"""

import sys
import time
from collections.abc import Callable
from typing import NoReturn

import click
from rich.console import Console, RenderableType
from rich.live import Live

WATCH = 1.0  # s from one picture to the next
UNLIMITED = 1000  # columns where the output is no terminal: numbers are never cut for a pipe
Picture = Callable[[int], RenderableType]  # given the columns there are


def printed(picture: Picture) -> None:
    """A picture, once."""
    console = _console()
    with console.capture() as capture:
        console.print(picture(console.width))
    for line in capture.get().rstrip().splitlines():
        click.echo(line.rstrip(), color=True)


def watched(picture: Picture, line: Callable[[], str] | None = None) -> NoReturn:
    """A live picture until ^C; where nothing can be redrawn one after the other, or a ``line`` each."""
    if not sys.stdout.isatty():
        while True:
            if line is None:
                printed(picture)
            else:
                click.echo(line())
            sys.stdout.flush()
            time.sleep(WATCH)
    console = _console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(console.width), refresh=True)
            time.sleep(WATCH)


def _console() -> Console:
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=UNLIMITED, highlight=False)
