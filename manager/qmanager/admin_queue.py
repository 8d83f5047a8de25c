"""``qslots queue``: look at one queue, hold it back, let it go, empty it. The work is done by ``qslots.Queue``."""

import functools

import click
from rich.console import Console
from rich.progress import Progress

from qslots import Queue
from qslots.connection import translated
from qslots.errors import Error
from qslots.servers import QueueServers

from . import queueviews, tables
from .command import acting, complete_queue
from .show import Show, reading


@click.group()
def queue() -> None:
    """Look at one queue, pause, resume or empty it."""


name_argument = click.argument("name", shell_complete=complete_queue)
collection_option = click.option("--collection", metavar="C", help="Only the tasks of this collection.")
handler_option = click.option("--handler", metavar="H", help="Only the tasks of this handler.")


@queue.command()
@name_argument
@reading
def show(name: str, file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """Everything about one queue, and why it has its slots."""
    view = functools.partial(queueviews.queue_view, name=name)
    Show(view, lambda _, document, __: tables.queue_table(document)).run(file, redis, as_json=as_json, watch=watch)


@queue.command()
@name_argument
@collection_option
@handler_option
@acting
def pause(servers: QueueServers, name: str, collection: str | None, handler: str | None) -> None:
    """Begin no more tasks of a queue until it is resumed.

    Tasks that run finish, and tasks may still be put in.
    """
    what = _part(name, collection, handler)
    _existing(servers, name).pause(collection, handler=handler)
    click.echo(f"{what} is paused")


@queue.command()
@name_argument
@collection_option
@handler_option
@acting
def resume(servers: QueueServers, name: str, collection: str | None, handler: str | None) -> None:
    """Let a queue, collection or handler go on."""
    what = _part(name, collection, handler)
    back = _existing(servers, name).resume(collection, handler=handler)
    click.echo(f"{what} goes on" + (f", {_tasks(back)} brought back" if back else ""))


@queue.command()
@name_argument
@collection_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@acting
def drop(servers: QueueServers, name: str, collection: str | None, yes: bool) -> None:
    """Delete all tasks that a queue holds now.

    Tasks that run just now finish, but are not put back; those that are put in later stay.
    """
    chosen = _existing(servers, name)
    what = _part(name, collection, None)
    if not yes:
        _ask(chosen, what, whole=collection is None)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(f"dropping {what}", total=None)
        dropped = chosen.drop(
            collection, progress=lambda seen, total: bar.update(line, completed=seen, total=max(seen, total))
        )
    click.echo(f"{what}: {_tasks(dropped)} dropped")


def _existing(servers: QueueServers, name: str) -> Queue:
    with translated(servers.control.url):
        return Queue(queueviews.existing(servers, name))


def _part(queue: str, collection: str | None, handler: str | None) -> str:
    if collection is not None and handler is not None:
        raise click.UsageError("--collection and --handler do not go together: do one after the other")
    if collection is not None:
        return f"collection {collection} of queue {queue}"
    return f"queue {queue}" if handler is None else f"handler {handler} of queue {queue}"


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"


def _ask(queue: Queue, what: str, *, whole: bool) -> None:
    """Error unless the answer is yes."""
    stats = queue.stats()
    held = stats.active + stats.inactive + stats.parked + stats.locked + stats.buried
    many = _tasks(held) if whole else "all tasks"
    try:
        answer = click.confirm(f"drop {many} of {what} for good?", err=True)
    except click.Abort:  # nobody answers: the line of the question is still open
        click.echo(err=True)
        answer = False
    if not answer:
        raise Error(f"{what}: nothing was dropped; answer y, or give --yes where nobody can")
