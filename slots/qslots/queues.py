"""A queue by its name: for those who look at it, change single tasks, pause it, drop it, or take from it ad hoc.

A spread queue is one queue here: look-ups ask all its servers, gates are closed on all of them.
"""

import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from . import foreign, gates, given, results
from .client import current
from .consumer import Consumer
from .errors import Error, QueueServerDown, UnknownTask, UsageError
from .inspector import Inspector
from .keys import check_name
from .options import LARGEST_BATCH
from .outcomes import micros
from .queries import TaskInfo, finished
from .reports import QueueStats, merged
from .states import TaskState
from .tasks import Task, Using
from .units import duration, moment
from .whereabouts import Whereabouts

_R = TypeVar("_R")
Named = str | Task | TaskInfo  # a task by its id, or as it was got
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
        using: Using[...] = Using(foreign.handler(self.name, handler), delay, at, None, collection, on_duplicate)
        return using.enqueue_many(calls, ids=ids)

    def take(self, count: int = 1, *, timeout: str | float = 0.0) -> Consumer:
        """``with queue.take(10) as tasks``: up to so many tasks, locked while the block runs, settled when it ends.

        Waits up to ``timeout`` (5, "5s") for the first. A task is done unless ``task.retry``, ``postpone`` or ``bury``
        was called; if the block raises, the others fail (a single one) or go back (several).
        """
        wanted = given.count(count, f"queue {self.name}: take: count", 1, LARGEST_BATCH)
        return Consumer(current(), self.name, wanted, duration(timeout, f"queue {self.name}: take: timeout"))

    # Looking

    def stats(self) -> QueueStats:
        """Counts per state, age of the oldest active task (seconds) and cumulative counters, of all its servers."""
        servers = current()
        return merged([servers[place].stats([self.name])[0] for place in servers.places(self.name)])

    def get(self, id: Named) -> TaskInfo | None:  # noqa: A002
        """All that is known of a task: living, or finished where its handler keeps results; else None.

        QueueServerDown: nobody who answers has it, but one that does not may.
        """
        task = self._id(id)
        down: QueueServerDown | None = None
        for place in current().places(self.name):
            try:
                info = self._info(place, task)
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
        self, *, state: TaskState | str | None = None, collection: str | None = None, text: str | None = None,
        limit: int | None = None,
    ) -> Iterator[TaskInfo]:  # fmt: skip
        """Living tasks that are in this state and collection and have this text in their arguments (as JSON).

        Read page by page while you iterate. Those that wait come in the order of their time, handler by handler.
        """
        where = f"queue {self.name}: find"
        wanted = given.state(state, where)
        if collection is not None:
            given.collection(collection, where, least=0)
        if text is not None:
            given.text(text, f"{where}: text")
        most = None if limit is None else given.count(limit, f"{where}: limit")
        fitting = (
            info
            for info in self._of_state(wanted)
            if collection in (None, info.collection) and (text is None or text in info.arguments())
        )
        return itertools.islice(fitting, most)

    def _of_state(self, state: TaskState | None) -> Iterator[TaskInfo]:
        for place in current().places(self.name):
            yield from Whereabouts(current(), place, self.name).of_state(state)

    # Changing single tasks

    def move(self, id: Named, at: float | datetime.datetime) -> None:  # noqa: A002
        """Another activation time (Unix time or a datetime; past ones too) for a task that no slot has."""
        task = self._id(id)
        when = f"{micros(moment(at, f'queue {self.name}: at', 'time.time() + 3600')):.0f}"
        self._where_it_is(lambda inspector: inspector.move(task, when))

    def update(self, id: Named, /, *args: Any, **kwargs: Any) -> None:  # noqa: A002
        """Changes the arguments that are given of a task that no slot has; all others stay.

        ArgumentsError: they do not fit its handler, or the task has no argument of that name. Without the handler in
        this process only names can be given, and whether the values fit is only seen in the slot.
        """
        task = self._id(id)
        if not args and not kwargs:
            raise UsageError(f"queue {self.name}: update: nothing is given to change: name arguments, such as size=5")
        self._where_it_is(lambda inspector: foreign.update(inspector, task, args, kwargs))

    def delete(self, id: Named) -> None:  # noqa: A002
        """Takes a task out of the queue; one that a slot has goes when its run is over, whatever comes of it."""
        task = self._id(id)
        self._where_it_is(lambda inspector: inspector.delete(task))

    def bury(self, id: Named, why: str = "") -> None:  # noqa: A002
        """Puts a task aside, with a reason, until it is kicked."""
        task, reason = self._id(id), given.text(why, f"queue {self.name}: bury: why") or "buried by hand"
        self._where_it_is(lambda inspector: inspector.bury(task, reason))

    def kick(self, id: Named | None = None, *, count: int | None = None) -> int:  # noqa: A002
        """Brings a buried task back to work (or one whose time has not come), or ``count`` buried ones."""
        if (id is None) == (count is None):
            raise UsageError(f"queue {self.name}: kick either one task by its id or a count of buried ones")
        if id is not None:
            task = self._id(id)
            self._where_it_is(lambda inspector: inspector.move(task, ""))
            return 1
        left = wanted = given.count(count, f"queue {self.name}: kick: count")
        for place in current().places(self.name):
            left -= self._inspector(place).kick(left)
        return wanted - left

    def _id(self, named: Named) -> str:
        """The id of a task; UsageError if it cannot be one of this queue."""
        if isinstance(named, (Task, TaskInfo)):
            if named.queue != self.name:
                raise UsageError(
                    f"queue {self.name}: task {named.id} is of queue {named.queue}: use Queue({named.queue!r})"
                )
            return named.id
        return given.task_id(named, f"queue {self.name}")

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
        if collection is not None:
            given.collection(collection, f"queue {self.name}")
        if progress is not None and not callable(progress):
            raise UsageError(f"queue {self.name}: drop: progress is {progress!r}: write a function of two numbers")
        total, seen, dropped = self.stats().tasks, 0, 0
        for place in current().places(self.name):
            for looked, gone in self._inspector(place).drop(collection or ""):
                seen, dropped = seen + looked, dropped + gone
                if progress is not None:
                    progress(min(seen, total), total)
        return dropped
