"""What all commands of ``qslots`` have in common: their options, their errors, their way to the queue servers.

Those of ``qmanager`` take options from here too.

Exit codes: 0 ok, 1 error, 2 usage, and those of ``qslots.program``. An error is one line on stderr, never a traceback.
"""

import functools
import logging
import os
import sys
import typing
from collections.abc import Callable

import click
import msgspec

from qslots import settings
from qslots.client import connect_listed, found
from qslots.connection import KINDS, translated
from qslots.errors import Error, SettingsError
from qslots.servers import QueueServers
from qslots.settings import LEFT_BY_UP, Settings

from . import queueviews, views

TAB_PATIENCE = 1.0  # s that a Tab may take
_P = typing.ParamSpec("_P")

file_option = click.option(
    "-c", "file", metavar="FILE", type=click.Path(), help="The settings file; QSLOTS_CONFIG by default."
)
redis_option = click.option("--redis", metavar="URL", help=f"The (first) queue server: {KINDS}.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def quiet(command: Callable[_P, None]) -> Callable[_P, None]:
    """Errors in one line."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Error as error:
            tell(str(error))
            sys.exit(1)

    return run


def of_a_fleet(command: Callable[..., None]) -> Callable[..., None]:
    """A command that talks to a queue server: -c and --redis."""
    return file_option(redis_option(quiet(command)))


def acting(command: Callable[..., None]) -> Callable[..., None]:
    """A command that works through ``qslots.Queue``: it and we use the same queue servers."""

    @functools.wraps(command)
    def run(file: str | None, redis: str | None, **rest: typing.Any) -> None:
        logging.getLogger("qslots").handlers = [Told(tell)]
        command(servers=connect_listed(named(file, redis)), **rest)

    return of_a_fleet(run)


class Told(logging.Handler):
    """What is logged while a command works is a note of the command."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


def named(file: str | None, redis: str | None) -> Settings:
    """Settings that name a queue server; SettingsError with what a command line can do about it."""
    chosen = settings.read(file, os.environ, redis=redis)
    if not chosen.queue_servers and not LEFT_BY_UP.exists():
        raise SettingsError(
            "no queue server: give --redis URL, set QSLOTS_REDIS, give -c FILE (or set QSLOTS_CONFIG) with one listed "
            "under queue_servers, or start one here with `qslots up`"
        )
    return found(chosen)


def tell(note: str) -> None:
    """One line on stderr."""
    click.echo(f"qslots: {note}", err=True)


def opened(file: str | None, redis: str | None) -> QueueServers:
    """The queue servers of a command line; the first one answers."""
    servers = QueueServers.listed(named(file, redis), name="admin")
    servers.control.version()
    return servers


def looked(servers: QueueServers, view: Callable[[QueueServers], views.View]) -> typing.Any:
    """The view's document; its notes go to stderr."""
    with translated(servers.control.url):
        seen = view(servers)
    for note in seen.notes:
        tell(note)
    return seen.document


def as_document(document: object) -> str:
    """JSON for people and programs: indented, names as they are, what JSON does not know as a text."""
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=repr), indent=2).decode()


def complete_queue(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What Tab makes of the beginning of a queue's name."""
    return _completed(ctx, incomplete, queueviews.every_queue)


def complete_server(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What Tab makes of the beginning of a server's name."""
    return _completed(ctx, incomplete, lambda servers: [row["name"] for row in views.servers_view(servers).document])


def complete_handler(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The handlers of the queue that the line names."""
    return _completed(ctx, incomplete, lambda servers: queueviews.handlers_of(servers, _queue_in(ctx)).document)


def complete_collection(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The paused collections of the queue that the line names; all that it has are written nowhere."""
    return _completed(ctx, incomplete, lambda servers: queueviews.closed(servers, _queue_in(ctx), "collection"))


def _queue_in(ctx: click.Context) -> str:
    """The queue of an unfinished line. click leaves it among the rest if the last word is an option without a value."""
    name: str | None = ctx.params.get("name") or next(iter(ctx.args), None)
    if name is None:
        raise Error("no queue is named yet")
    return name


def _completed(ctx: click.Context, incomplete: str, names: Callable[[QueueServers], list[str]]) -> list[str]:
    """Nothing if nobody answers at once, or if the line does not name yet what is asked for."""
    try:
        servers = QueueServers.listed(
            named(ctx.params.get("file"), ctx.params.get("redis")), name="admin", timeout=TAB_PATIENCE
        )
        with translated(servers.control.url):
            return [name for name in names(servers) if name.startswith(incomplete)]
    except Error:
        return []
