"""A queue by its name: for those who look at it, change single tasks, pause it, drop it, or take from it ad hoc.

A spread queue is one queue here: look-ups ask all its servers, gates are closed on all of them.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from . import foreign, gates, results
from .client import current
from .consumer import Consumer
from .errors import Error, QueueServerDown, UnknownTask
from .handlers import LARGEST_BATCH
from .inspector import Inspector
from .keys import check_name
from .outcomes import micros
from .queries import TaskInfo, finished
from .reports import QueueStats, merged
from .states import TaskState
from .tasks import Task, Using
from .units import moment
from .whereabouts import Whereabouts

_R = TypeVar("_R")
Progress = Callable[[int, int], None]


class Queue:
    """A named channel of tasks. It exists as soon as a task is put into it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = check_name(name, "queue")

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    # Putting and taking

    def put_many(
        self, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]], *, handler: str | None = None,
        ids: Sequence[str] | None = None, delay: str | float | None = None, at: float | datetime.datetime | None = None,
        collection: str | None = None, on_duplicate: str = "refuse",
    ) -> list[Task]:  # fmt: skip
        """Puts a task for each tuple of positional (or mapping of named) arguments, a round trip a thousand.

        ``handler`` need not be known in this process; then it is the queue's own name unless it is given, arguments
        are named, and whether they fit is only seen in the slot.
        """
        using = Using(foreign.handler(self.name, handler), delay, at, None, collection, on_duplicate)
        return using.enqueue_many(calls, ids=ids)

    def take(self, count: int = 1, *, timeout: float = 0.0) -> Consumer:
        """``with queue.take(10) as tasks``: up to so many tasks, locked while the block runs, settled when it ends.

        Waits up to ``timeout`` seconds for the first. A task is done unless ``task.retry``, ``postpone`` or ``bury``
        was called; if the block raises, the others fail (a single one) or go back (several).
        """
        if not 1 <= count <= LARGEST_BATCH:
            raise Error(f"queue {self.name}: take 1 to {LARGEST_BATCH:,} tasks, not {count}")
        return Consumer(current(), self.name, count, timeout)

    # Looking

    def stats(self) -> QueueStats:
        """Counts per state, age of the oldest active task (seconds) and cumulative counters, of all its servers."""
        servers = current()
        return merged([servers[place].stats([self.name])[0] for place in servers.places(self.name)])

    def get(self, id: str) -> TaskInfo | None:  # noqa: A002
        """All that is known of a task: living, or finished where its handler keeps results; else None.

        QueueServerDown: nobody who answers has it, but one that does not may.
        """
        down: QueueServerDown | None = None
        for place in current().places(self.name):
            try:
                info = self._info(place, id)
            except QueueServerDown as error:
                down = error
                continue
            if info is not None:
                return info
        if down is not None:
            raise down
        return None

    def _info(self, place: str, task: str) -> TaskInfo | None:
        server = current()[place]
        now, [found] = Inspector(server, self.name).get([task])
        if found is not None:
            whereabouts = Whereabouts(current(), place, self.name)
            return whereabouts.described(now, [found])[0]
        done = results.look(server, self.name, task)
        return finished(task, self.name, place, done) if done else None

    def find(
        self, *, state: TaskState | None = None, collection: str | None = None, text: str | None = None,
        limit: int | None = None,
    ) -> Iterator[TaskInfo]:  # fmt: skip
        """Living tasks that are in this state and collection and have this text in their arguments (as JSON).

        Read page by page while you iterate. Those that wait come in the order of their time, handler by handler.
        """
        given = 0
        for place in current().places(self.name):
            for info in Whereabouts(current(), place, self.name).of_state(state):
                if limit is not None and given >= limit:
                    return
                if collection in (None, info.collection) and (text is None or text in info.arguments()):
                    given += 1
                    yield info

    # Changing single tasks

    def move(self, id: str, at: float | datetime.datetime) -> None:  # noqa: A002
        """Another activation time (Unix time or a datetime; past ones too) for a task that no slot has."""
        try:
            when = f"{micros(moment(at)):.0f}"
        except ValueError as error:
            raise Error(f"queue {self.name}: {error}") from None
        self._where_it_is(lambda inspector: inspector.move(id, when))

    def update(self, id: str, *args: Any, **kwargs: Any) -> None:  # noqa: A002
        """Other arguments for a task that no slot has; checked if its handler is known in this process."""
        self._where_it_is(lambda inspector: foreign.update(inspector, id, args, kwargs))

    def delete(self, id: str) -> None:  # noqa: A002
        """Takes a task out of the queue; one that a slot has goes when its run is over, whatever comes of it."""
        self._where_it_is(lambda inspector: inspector.delete(id))

    def bury(self, id: str, why: str = "") -> None:  # noqa: A002
        """Puts a task aside, with a reason, until it is kicked."""
        self._where_it_is(lambda inspector: inspector.bury(id, why or "buried by hand"))

    def kick(self, id: str | None = None, *, count: int | None = None) -> int:  # noqa: A002
        """Brings a buried task back to work (or one whose time has not come), or ``count`` buried ones."""
        if (id is None) == (count is None):
            raise Error(f"queue {self.name}: kick either one task by its id or a count of buried ones")
        if id is not None:
            self._where_it_is(lambda inspector: inspector.move(id, ""))
            return 1
        left = count or 0
        for place in current().places(self.name):
            left -= self._inspector(place).kick(left)
        return (count or 0) - left

    def _inspector(self, place: str) -> Inspector:
        return Inspector(current()[place], self.name)

    def _where_it_is(self, operation: Callable[[Inspector], _R]) -> _R:
        """On the server that has the task. If it is on none, a server that does not answer may have it."""
        unknown: Error | None = None
        for place in current().places(self.name):
            try:
                return operation(self._inspector(place))
            except UnknownTask as error:
                unknown = unknown or error
            except QueueServerDown as error:
                unknown = error
        assert unknown is not None
        raise unknown

    # Gates

    def pause(self, collection: str | None = None, *, handler: str | None = None) -> None:
        """No task of the queue, the collection or the handler begins until ``resume``; what runs goes on."""
        gates.close(current(), self.name, gates.name(self.name, collection, handler))

    def resume(self, collection: str | None = None, *, handler: str | None = None) -> int:
        """Opens the gate; returns how many tasks of a collection came back to their places."""
        return gates.open_again(current(), self.name, gates.name(self.name, collection, handler))

    def drop(self, collection: str | None = None, *, progress: Progress | None = None) -> int:
        """Discards all tasks of the queue, or of a collection, that were put until now; returns how many.

        Those that slots have run to their end, but nothing brings them back. ``progress(seen, total)`` is called on the
        way; if this process ends half-way, slots discard the rest as they meet it.
        """
        total, seen, dropped = self.stats().tasks, 0, 0
        for place in current().places(self.name):
            for looked, gone in self._inspector(place).drop(collection or ""):
                seen, dropped = seen + looked, dropped + gone
                if progress is not None:
                    progress(min(seen, total), total)
        return dropped
