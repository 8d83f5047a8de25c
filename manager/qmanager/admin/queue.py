"""``qslots queue``: look at one queue, hold it back, let it go, empty it. The work is done by ``qslots.Queue``."""

import functools
import sys
from collections.abc import Iterable

import click
from rich.console import Console
from rich.progress import Progress

from qslots import Queue
from qslots.connection import translated
from qslots.errors import Error, QueueServerError
from qslots.inspector import Inspector
from qslots.reports import QueueStats
from qslots.servers import QueueServers
from qslots.units import counted

from . import periodicviews, queueviews, tables
from .command import acting, complete_collection, complete_handler, complete_queue, tell
from .show import Show, reading


@click.group()
def queue() -> None:
    """Look at one queue, pause, resume or empty it."""


name_argument = click.argument("name", shell_complete=complete_queue)
collection_option = click.option(
    "--collection", metavar="C", shell_complete=complete_collection, help="Only the tasks of this collection."
)
handler_option = click.option(
    "--handler", metavar="H", shell_complete=complete_handler, help="Only the tasks of this handler."
)


@queue.command()
@name_argument
@reading
def show(name: str, file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """Everything about one queue, and why it has its slots."""
    view = functools.partial(periodicviews.queue_view, name=name)
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
    chosen = _existing(servers, name, handler)
    chosen.pause(collection, handler=handler)
    click.echo(f"{what} is paused")


@queue.command()
@name_argument
@collection_option
@handler_option
@acting
def resume(servers: QueueServers, name: str, collection: str | None, handler: str | None) -> None:
    """Let a queue, collection or handler go on."""
    what = _part(name, collection, handler)
    back = _existing(servers, name, handler).resume(collection, handler=handler)
    stats = _counts(servers, name)
    shut = [gate_in_words(gate) for gate in stats.gates if not gate.startswith("drop:")] if stats else []
    click.echo(
        f"{what} goes on"
        + (f", {counted(back, 'task')} brought back" if back else "")
        + (f"; still paused: {', '.join(shut)}" if shut else "")
    )


@queue.command()
@name_argument
@collection_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@acting
def drop(servers: QueueServers, name: str, collection: str | None, yes: bool) -> None:
    """Delete all tasks that a queue holds now.

    Tasks that run just now finish, but are not put back; those that are put in later stay.
    """
    what = _part(name, collection, None)
    chosen = _existing(servers, name)
    held = _counts(servers, name)
    if not yes:
        _ask(what, held.tasks if held and collection is None else None)
    dropped, failed = _drop(servers, chosen.name, collection or "", held.tasks if held else 0)
    done = [place for place in servers.places(name) if place not in failed]
    if not done and not dropped:
        raise Error(f"{what}: nothing was dropped: {failed.popitem()[1]}")
    on = f" on {', '.join(done)}" if failed and done else ""
    click.echo(f"{what}: {counted(dropped, 'task')} dropped{on}")
    for place, error in failed.items():
        tell(f"{what}: not dropped on {place}, do it again when it answers: {error}")
    if failed:
        sys.exit(1)


def _drop(
    servers: QueueServers, queue: str, collection: str, total: int
) -> tuple[int, dict[str, QueueServerError]]:  # fmt: skip
    """How many were dropped, and the servers on which it could not be done, or not to the end."""
    seen, dropped, failed = 0, 0, dict[str, QueueServerError]()
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        line = bar.add_task(f"dropping tasks of queue {queue}", total=total)
        for place in servers.places(queue):
            try:
                for looked, gone in Inspector(servers[place], queue).drop(collection):
                    seen, dropped = seen + looked, dropped + gone
                    bar.update(line, completed=seen, total=max(seen, total))
            except QueueServerError as error:
                failed[place] = error
    return dropped, failed


def _existing(servers: QueueServers, name: str, handler: str | None = None) -> Queue:
    """The queue. Error if it is not there, or if it has no such handler."""
    with translated(servers.control.url):
        queue = Queue(queueviews.existing(servers, name))
        if handler is not None:
            seen = queueviews.handlers_of(servers, name)
            known = {*seen.document, *queueviews.closed(servers, name, "handler")}
            if handler not in known and not seen.notes:
                raise Error(f"queue {name} has no handler {handler}: " + _known_handlers(known))
    return queue


def _counts(servers: QueueServers, name: str) -> QueueStats | None:
    """What its servers that answer count; None if it never had a task there."""
    with translated(servers.control.url):
        stats: QueueStats | None = queueviews.queue_counts(servers, name).document
    return stats


def _known_handlers(known: Iterable[str]) -> str:
    return f"its handlers are {', '.join(names)}" if (names := sorted(known)) else "none of it is known yet"


def gate_in_words(gate: str) -> str:
    """What a closed gate holds back. Pure."""
    kind, _, name = gate.partition(":")
    return f"{kind} {name}" if name else "the whole queue"


def _part(queue: str, collection: str | None, handler: str | None) -> str:
    if collection is not None and handler is not None:
        raise click.UsageError("--collection and --handler do not go together: do one after the other")
    if collection == "":
        raise click.UsageError("--collection is empty: name one, or leave it out to mean the whole queue")
    if collection is not None:
        return f"collection {collection} of queue {queue}"
    return f"queue {queue}" if handler is None else f"handler {handler} of queue {queue}"


def _ask(what: str, tasks: int | None) -> None:
    """Error unless the answer is yes."""
    many = "all tasks" if tasks is None else counted(tasks, "task")
    try:
        answer = click.confirm(f"drop {many} of {what} for good?", err=True)
    except click.Abort:  # nobody answers: the line of the question is still open
        click.echo(err=True)
        answer = False
    if not answer:
        raise Error(f"{what}: nothing was dropped; answer y, or give --yes where nobody can")
