"""``qslots task``: find tasks, look at them, change where they stand. The work is done by ``qslots.Queue``.

Where no queue is named a task is looked for in all of them; what changes a task never guesses between two of one id.
"""

import datetime
import itertools
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator

import click

from qslots import Queue, TaskInfo, TaskState, terminal
from qslots.connection import translated
from qslots.errors import Error, QueueServerDown
from qslots.servers import QueueServers
from qslots.units import duration, moment

from ..published import clock
from . import queueviews, tasktext
from .command import acting, as_document, complete_queue, json_option, tell

LATER = (TaskState.NEW, TaskState.RETRIABLE_FAILURE)
STATES: dict[str, tuple[TaskState, ...]] = {
    **{state.value: (state,) for state in TaskState if state is not TaskState.SUCCESS},  # what is done is deleted
    "active": (TaskState.ENQUEUED,),
    "later": LATER,
    "inactive": LATER,
    "parked": (TaskState.ENQUEUED, *LATER),
    "locked": (TaskState.CLAIMED, TaskState.PROCESSING),
    "running": (TaskState.PROCESSING,),
    "failed": (TaskState.RETRIABLE_FAILURE, TaskState.FATAL_FAILURE),
    "buried": (TaskState.FATAL_FAILURE,),
}
PARKED = {"parked": True, "active": False, "later": False, "inactive": False}  # as the columns of these names count


@click.group()
def task() -> None:
    """Find tasks, look at them, run, change or delete them."""


queue_option = click.option(
    "--queue", metavar="Q", shell_complete=complete_queue, help="Its queue; else all are searched."
)


@task.command()
@click.argument("task_id", metavar="ID")
@queue_option
@json_option
@acting
def show(servers: QueueServers, task_id: str, queue: str | None, as_json: bool) -> None:
    """Everything about one task."""
    info = _found(servers, task_id, queue)
    if as_json:
        click.echo(as_document(info))
    else:
        now = _now(servers)
        terminal.printed(lambda _: tasktext.table(info, now))


@task.command()
@click.option("--queue", metavar="Q", shell_complete=complete_queue, help="Only tasks of this queue.")
@click.option("--state", type=click.Choice(list(STATES), case_sensitive=False),
              help="Only tasks in this state, or in those that a column of `qslots queues` counts.")  # fmt: skip
@click.option("--collection", metavar="C", help="Only tasks of this collection.")
@click.option("--text", metavar="T", help="Only tasks that have this text in their arguments, as JSON.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")
@json_option
@acting
def find(
    servers: QueueServers, queue: str | None, state: str | None, collection: str | None, text: str | None,
    limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """List tasks, a line each."""
    states, parked = (STATES[state], PARKED.get(state)) if state else ((None,), None)

    def tasks(name: str) -> Iterator[TaskInfo]:
        try:
            for each in states:
                for info in Queue(name).find(state=each, collection=collection, text=text):
                    if parked in (None, info.parked):
                        yield info
        except QueueServerDown as error:
            if queue is not None:
                raise
            notes.append(f"not all of queue {name} is shown: {error}")

    names, notes = _searched(servers, queue)
    infos = itertools.islice(itertools.chain.from_iterable(map(tasks, names)), limit)
    now = _now(servers)
    for line in _document_lines(infos) if as_json else (tasktext.line(info, now) for info in infos):
        click.echo(line)
    for note in notes[:1]:
        tell(note)


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--at", metavar="TIME", help="Unix time, or such as 2031-05-01T08:00 (local) or …T08:00+02:00.")
@click.option("--in", "delay", metavar="DURATION", help="From now, such as 90s, 10m, 2h.")
@queue_option
@acting
def move(servers: QueueServers, task_id: str, at: str | None, delay: str | None, queue: str | None) -> None:
    """Change the time at which a task is due."""
    when = instant(at, delay, lambda: _now(servers))
    _check_queue(servers, queue)
    chosen = _queue_of(servers, task_id, queue)
    chosen.move(task_id, when)
    click.echo(f"task {task_id} of queue {chosen.name} is due {tasktext.moment(when)}")


@task.command()
@click.argument("ids", metavar="[ID]…", nargs=-1)
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="So many buried tasks of --queue, oldest first.")
@queue_option
@acting
def kick(servers: QueueServers, ids: tuple[str, ...], count: int | None, queue: str | None) -> None:
    """Let tasks run now that are buried or not due yet."""
    if bool(ids) == (count is not None) or (count is not None and queue is None):
        raise click.UsageError("give IDs, or --queue Q --count N")
    _check_queue(servers, queue)
    if count is not None and queue is not None:
        kicked = Queue(queue).kick(count=count)
        click.echo(f"queue {queue}: {kicked:,} of {count:,} kicked")
    else:
        _each(ids, lambda task_id: _queue_of(servers, task_id, queue).kick(task_id), "kicked")


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--why", metavar="W", default="buried by `qslots task bury`", show_default=True, help="Kept with it.")
@queue_option
@acting
def bury(servers: QueueServers, task_id: str, why: str, queue: str | None) -> None:
    """Put a task aside until it is kicked or deleted."""
    _check_queue(servers, queue)
    chosen = _queue_of(servers, task_id, queue)
    chosen.bury(task_id, why)
    click.echo(f"task {task_id} of queue {chosen.name} is buried")


@task.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@queue_option
@acting
def delete(servers: QueueServers, ids: tuple[str, ...], queue: str | None) -> None:
    """Delete tasks.

    One that runs just now finishes, and nothing brings it back.
    """
    _check_queue(servers, queue)
    _each(ids, lambda task_id: _queue_of(servers, task_id, queue).delete(task_id), "deleted")


@task.command()
@click.argument("task_id", metavar="ID")
@click.argument("changes", metavar="KEY=VALUE…", nargs=-1, required=True)
@queue_option
@acting
def update(servers: QueueServers, task_id: str, changes: tuple[str, ...], queue: str | None) -> None:
    """Change named arguments of a task; others stay.

    A VALUE is JSON: size=64, 'photo="a.jpg"', 'tags=["x"]'.
    """
    new = arguments(changes)
    info = _found(servers, task_id, queue)
    Queue(info.queue).update(task_id, **new)
    click.echo(f"task {task_id} of queue {info.queue} has {', '.join(new)} changed")


def instant(at: str | None, delay: str | None, now: Callable[[], float]) -> float:
    """Unix time from ``--at`` or ``--in``. UsageError: both, neither, or not a time."""
    if (at is None) == (delay is None):
        raise click.UsageError("give --at TIME or --in DURATION")
    try:
        if delay is not None:
            return duration(delay, "--in") + now()
        return moment(_time(at or ""), "--at")
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _time(text: str) -> float | datetime.datetime:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ValueError(f"--at is {text!r}: write Unix time, or such as 2031-05-01T08:00 or …+02:00") from None


def arguments(changes: Iterable[str]) -> dict[str, object]:
    """``key=value`` texts as named arguments. Pure. UsageError with the form that is wanted."""
    found: dict[str, object] = {}
    for each in changes:
        key, equals, value = each.partition("=")
        if not equals or not key.isidentifier():
            raise click.UsageError(f"{each!r}: write the argument's name, = and a JSON value")
        try:
            found[key] = json.loads(value)
        except ValueError:
            raise click.UsageError(f"{each!r}: the value is not JSON; a text is written '{key}=\"…\"'") from None
    return found


def _now(servers: QueueServers) -> float:
    """Times of tasks are by the queue server's clock."""
    with translated(servers.control.url):
        return clock(servers.control)


def _searched(servers: QueueServers, queue: str | None) -> tuple[list[str], list[str]]:
    """The one queue that was named, else all that ever had a task; and a note for each server that is away."""
    with translated(servers.control.url):
        if queue is not None:
            return [queueviews.existing(servers, queue)], []
        seen = queueviews.queue_names(servers)
    return seen.document, list(seen.notes)


def _check_queue(servers: QueueServers, queue: str | None) -> None:
    """Error, with the nearest name, if a queue was named that is not there."""
    if queue is not None:
        _searched(servers, queue)


def _found(servers: QueueServers, task_id: str, queue: str | None) -> TaskInfo:
    """The task. Error: no queue has it, or several have one of this id, or who may have it does not answer."""
    names, notes = _searched(servers, queue)
    infos = []
    for name in names:
        try:
            info = Queue(name).get(task_id)
        except QueueServerDown as error:
            notes.append(str(error))
        else:
            infos += [info] if info is not None else []
    if not infos and notes:
        raise QueueServerDown(f"task {task_id} is not among those that can be seen: {notes[0]}")
    if not infos:
        where = f"queue {queue} has no such task" if queue else "no queue has it"
        raise Error(f"task {task_id}: {where}; it may be done, `qslots task find` lists those that are there")
    if len(infos) > 1:
        raise Error(
            f"task {task_id} is in queues {', '.join(info.queue for info in infos)}: say which one with --queue"
        )
    return infos[0]


def _queue_of(servers: QueueServers, task_id: str, queue: str | None) -> Queue:
    return Queue(queue if queue is not None else _found(servers, task_id, None).queue)


def _each(ids: Iterable[str], act: Callable[[str], object], done: str) -> None:
    """Goes through all ids; those that fail are told, one line each, and make it an error in the end."""
    good, bad = 0, 0
    for task_id in ids:
        try:
            act(task_id)
            good += 1
        except Error as error:
            tell(str(error))
            bad += 1
    click.echo(f"{good:,} {done}")
    if bad:
        sys.exit(1)


def _document_lines(infos: Iterable[TaskInfo]) -> Iterator[str]:
    """One JSON list, piece by piece: a million tasks need no memory here."""
    last = ""
    for info in infos:
        yield f"{last}," if last else "["
        last = textwrap.indent(as_document(info), "  ")
    yield f"{last}\n]" if last else "[]"
