"""How a reading command shows what it has read: once, again and again, as a table, as lines, as JSON.

With ``--json`` stdout carries one document and nothing else.
"""

import dataclasses
import functools
import time
import typing
from collections.abc import Callable

import click
from rich.console import RenderableType

from qslots import terminal
from qslots.connection import translated
from qslots.errors import QueueServerDown
from qslots.servers import QueueServers

from . import views
from .command import as_document, json_option, looked, of_a_fleet, opened

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
            terminal.printed(lambda width: self.table(servers, document, width))

    def _watch(self, servers: QueueServers) -> typing.NoReturn:
        """Picture after picture; a queue server that is away is waited for."""

        def look(draw: Callable[[typing.Any], _T]) -> _T | str:
            """Without the notes: they would tear the picture, and the command without --watch tells them."""
            try:
                with translated(servers.control.url):
                    return draw(self.view(servers).document)
            except QueueServerDown as error:
                return str(error)

        line = self.line and functools.partial(self.line, servers)
        terminal.watched(
            lambda width: look(lambda document: self.table(servers, document, width)),
            line and (lambda: f"{time.strftime('%H:%M:%S')} {look(line)}"),
        )
