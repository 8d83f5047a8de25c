"""What all commands of ``qslots`` have in common: their options, their errors, their way to the queue servers.

Exit codes: 0 ok, 1 error, 2 usage, 130 after ^C, 141 when the reader of our output has gone. An error is one line on
stderr, never a traceback.
"""

import functools
import os
import sys
import typing
from collections.abc import Callable

import click
import msgspec

from qslots import settings
from qslots.client import connect_listed, found
from qslots.connection import KINDS, translated
from qslots.errors import Error
from qslots.servers import QueueServers

from . import queueviews, views

BROKEN_PIPE = 141  # 128 + SIGPIPE, as the shell shows it for any other program
TAB_PATIENCE = 1.0  # s that a Tab may take
_P = typing.ParamSpec("_P")

file_option = click.option("-c", "file", metavar="FILE", type=click.Path(), help="The settings file.")
redis_option = click.option("--redis", metavar="URL", help=f"The (first) queue server: {KINDS}.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def quiet(command: Callable[_P, None]) -> Callable[_P, None]:
    """Errors in one line, ^C and a broken pipe without a word."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except Error as error:
            tell(str(error))
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
            sys.exit(BROKEN_PIPE)

    return run


def of_a_fleet(command: Callable[..., None]) -> Callable[..., None]:
    """A command that talks to a queue server: -c and --redis."""
    return file_option(redis_option(quiet(command)))


def acting(command: Callable[..., None]) -> Callable[..., None]:
    """A command that works through ``qslots.Queue``: it and we use the same queue servers."""

    @functools.wraps(command)
    def run(file: str | None, redis: str | None, **rest: typing.Any) -> None:
        command(servers=connect_listed(found(settings.read(file, os.environ, redis=redis))), **rest)

    return of_a_fleet(run)


def tell(note: str) -> None:
    """One line on stderr."""
    click.echo(f"qslots: {note}", err=True)


def opened(file: str | None, redis: str | None) -> QueueServers:
    """The queue servers of a command line; the first one answers."""
    servers = QueueServers.listed(found(settings.read(file, os.environ, redis=redis)), name="admin")
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
    """What Tab makes of the beginning of a queue's name; nothing if nobody answers at once."""
    try:
        chosen = settings.read(ctx.params.get("file"), os.environ, redis=ctx.params.get("redis"))
        servers = QueueServers.listed(found(chosen), name="admin", timeout=TAB_PATIENCE)
        names = queueviews.queue_names(servers).document
    except Error:
        return []
    return [name for name in names if name.startswith(incomplete)]
