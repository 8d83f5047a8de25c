"""How a reading command shows what it has read: once, again and again, as a table, as lines, as JSON.

With ``--json`` stdout carries one document and nothing else. A table is never cut for a pipe.
"""

import dataclasses
import sys
import time
import typing
from collections.abc import Callable

import click
from rich.console import Console, RenderableType
from rich.live import Live

from qslots.connection import translated
from qslots.errors import QueueServerDown
from qslots.servers import QueueServers

from . import views
from .command import as_document, json_option, looked, of_a_fleet, opened

WATCH = 1.0  # s between two looks
UNLIMITED = 1000  # columns where the output is no terminal: numbers are never cut for a pipe
_T = typing.TypeVar("_T")


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """A command that prints what it has read, once or again and again."""
    watch = click.option("--watch", is_flag=True, help="Look again every second until ^C.")
    return watch(json_option(of_a_fleet(command)))


@dataclasses.dataclass(frozen=True, slots=True)
class Show:
    """One reading command: what it reads, how that is drawn, and its line where nothing can be redrawn."""

    view: Callable[[QueueServers], views.View]
    table: Callable[[QueueServers, typing.Any, int], RenderableType]  # servers, document, columns
    line: Callable[[QueueServers, typing.Any], str] | None = None

    def run(self, file: str | None, redis: str | None, *, as_json: bool, watch: bool) -> None:
        """Once, or until ^C."""
        if watch and as_json:
            raise click.UsageError("--watch and --json do not go together: call it with --json again and again")
        servers = opened(file, redis)
        if watch:
            self._watch(servers)
        document = looked(servers, self.view)
        if as_json:
            click.echo(as_document(document))
        else:
            printed(lambda width: self.table(servers, document, width))

    def _watch(self, servers: QueueServers) -> typing.NoReturn:
        """A live picture on a terminal, lines elsewhere; a queue server that is away is waited for."""
        if not sys.stdout.isatty():
            while True:
                self._print_again(servers)
                sys.stdout.flush()
                time.sleep(WATCH)
        console = _console()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_or_why(lambda: self._picture(servers, console.width)), refresh=True)
                time.sleep(WATCH)

    def _print_again(self, servers: QueueServers) -> None:
        if self.line is None:
            printed(lambda width: _or_why(lambda: self._picture(servers, width)))
        else:
            line = self.line
            click.echo(f"{time.strftime('%H:%M:%S')} {_or_why(lambda: line(servers, self._document(servers)))}")

    def _document(self, servers: QueueServers) -> typing.Any:
        """Without the notes: they would tear the picture, and the command without --watch tells them."""
        with translated(servers.control.url):
            return self.view(servers).document

    def _picture(self, servers: QueueServers, width: int) -> RenderableType:
        return self.table(servers, self._document(servers), width)


def _or_why(look: Callable[[], _T]) -> _T | str:
    try:
        return look()
    except QueueServerDown as error:
        return str(error)


def _console() -> Console:
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=UNLIMITED, highlight=False)


def printed(table: Callable[[int], RenderableType]) -> None:
    """Prints a table, given the columns there are."""
    console = _console()
    with console.capture() as capture:
        console.print(table(console.width))
    for line in capture.get().rstrip().splitlines():
        click.echo(line.rstrip(), color=True)
