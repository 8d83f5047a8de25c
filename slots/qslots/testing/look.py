"""What is in the queues of a testing server, with arguments as their handler gets them, and in words for people."""

import datetime
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ..errors import ArgumentsError
from ..handlers import REGISTRY
from ..inspector import Found, Inspector
from ..queries import TaskInfo, arguments_of, described
from ..queueserver import QueueServer
from ..records import body, head
from ..states import TaskState

WAITING = (TaskState.NEW, TaskState.ENQUEUED, TaskState.RETRIABLE_FAILURE)
_LONGEST = 80  # characters of one argument


def living(server: QueueServer, queue: str, place: str) -> Iterator[TaskInfo]:
    """All tasks of a queue that are not done, in no order."""
    inspector, seen = Inspector(server, queue), set[str]()
    for ids in inspector.every_id():
        now, found = inspector.get(
            [task for task in ids if task not in seen]
        )  # what is gone through by SCAN may repeat
        seen.update(ids)
        yield from (_described(each, queue, place, now) for each in found if each is not None)


def _described(found: Found, queue: str, place: str, now: float) -> TaskInfo:
    args, kwargs = arguments(found.record)
    return msgspec.structs.replace(described(found, queue, place, now), args=args, kwargs=kwargs)


def arguments(record: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a task was put with, of the types that its handler asks for; by position where they can be."""
    try:
        args, named = arguments_of(record)
        known = REGISTRY.handlers.get(head(record).handler)
    except ValueError:
        return (), {}
    if known is None or known.arguments.takes_pack:
        return args, named
    try:
        values = known.arguments.decode(body(record))
    except ArgumentsError:
        return args, named
    typed = {name: getattr(values, name) for name in named}
    first = list(itertools.takewhile(typed.__contains__, known.arguments.positional))
    return tuple(typed.pop(name) for name in first), typed


def written(handler: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A call as one would write it."""
    words = [*map(_short, args), *(f"{name}={_short(value)}" for name, value in kwargs.items())]
    return f"{handler}({', '.join(words)})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def listed(tasks: list[TaskInfo], now: float) -> str:
    """Tasks, one a line: queue, call, when it is due, what befell it."""
    return "".join(
        f"\n  {task.queue}: {written(task.handler, task.args, task.kwargs)} {told(task, now)}" for task in tasks
    )


def told(task: TaskInfo, now: float) -> str:
    """How a task stands."""
    words = [task.state.value if task.due_at is None else due(task.due_at - now), f"id {task.id}"]
    if task.collection:
        words.append(f"collection {task.collection}")
    counts = {"retries": task.retries, "failures": task.failures}
    words += [f"{name} {count}" for name, count in counts.items() if count]
    if task.last_error:
        words.append(task.last_error.splitlines()[-1])
    return ", ".join(words)


def due(seconds: float) -> str:
    """When something is due, seconds from now."""
    return "due now" if seconds <= 0 else f"due in {span(seconds)}"


def span(seconds: float) -> str:
    """0:10:00; exact below a minute."""
    return f"{round(seconds, 3):g} s" if seconds < 60 else str(datetime.timedelta(seconds=round(seconds)))
