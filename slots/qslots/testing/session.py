"""``Queues``: what a test sees and does in its block. It holds nothing: all is on the queue server."""

import datetime
from typing import Any

from .. import given
from ..errors import UsageError
from ..handlers import REGISTRY
from ..keys import check_name
from ..queries import TaskInfo
from ..queues import Queue
from ..servers import QueueServers
from ..states import TaskState
from ..tasks import Task, TaskFunction, Using
from ..units import duration, moment
from .clock import Clock
from .drain import Drain, Ran
from .hand import Hand
from .look import WAITING, listed, living
from .wanted import Wanted

PLACE = "testing"  # the name of the only queue server
Of = str | Queue | TaskFunction[..., Any] | None  # a queue, a handler, or all


class Queues:
    """The queues of a testing server."""

    def __init__(self, servers: QueueServers, hand: Hand) -> None:
        self._servers = servers
        self._hand = hand
        self._server = servers[PLACE]
        self._clock = Clock(self._server)
        self._draining = False

    @property
    def url(self) -> str:
        """Of the queue server, for processes that the test starts; the moved clock is not theirs."""
        return self._servers.urls[PLACE]

    # Looking

    def enqueued(self, of: Of = None) -> list[TaskInfo]:
        """The tasks that wait, of a queue, of a handler, or all: due or not, in the order of their time."""
        waiting = [task for task in self._living(of) if task.state in WAITING]
        return sorted(waiting, key=lambda task: (task.due_at or 0.0, task.id))

    def buried(self, of: Of = None) -> list[TaskInfo]:
        """The tasks that are buried, in the order of their ids; ``last_error`` says why."""
        buried = [task for task in self._living(of) if task.state is TaskState.FATAL_FAILURE]
        return sorted(buried, key=lambda task: task.id)

    def get(self, task: str | Task | TaskInfo) -> TaskInfo | None:
        """All that is known of a task, in whichever queue: living, or done where its handler keeps results."""
        wanted = task if isinstance(task, str) else task.id
        for found in self._living(None):
            if found.id == wanted:
                return found
        return next((done for queue in self._server.queue_names() if (done := Queue(queue).get(wanted))), None)

    def _living(self, of: Of) -> list[TaskInfo]:
        queue, handler = self._parts(of)
        names = self._server.queue_names() if queue is None else [queue]
        found = [task for name in names for task in living(self._server, name, PLACE)]
        return [task for task in found if handler in (None, task.handler)]

    # Running

    def drain(self, queue: Of = None, *, raises: bool = True, limit: int = 10_000) -> list[Ran]:
        """Runs here what is due, of a queue, of a handler, or all, until nothing is; returns what ran, in order.

        What a handler raises is settled as in a slot, and then raised here; what has not begun stays in the queue. With
        ``raises=False`` all goes on, and the error is found in ``Ran.error``. ``Retry``, ``Postpone`` and ``Bury`` are
        no errors. DrainLimit: more than ``limit`` tasks were due.
        """
        __tracebackhide__ = True
        if self._draining:
            raise UsageError("drain: a handler calls it while drain runs that handler: only the test may drain")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise UsageError(f"drain: limit is {limit!r}: write a number of tasks, 1 or more")
        wanted = self._parts(queue)
        drain = Drain(self._server, PLACE, self._hand, limit=limit, raises=raises)
        self._draining = True
        try:
            drain.run(*wanted)
        finally:
            self._draining = False
        if drain.error is not None:
            raise drain.error
        return drain.ran

    # The clock

    @property
    def now(self) -> float:
        """The queue server's time, Unix time in seconds."""
        return self._clock.now()

    def advance(self, by: str | float) -> None:
        """Moves the clock ahead ("10m", seconds): what is due by then is due; results that expire by then are gone."""
        self._clock.advance(duration(by, "advance"))

    def freeze(self, at: float | datetime.datetime | None = None) -> None:
        """Stops the clock, now or at a point in time; from then on only ``advance`` moves it."""
        self._clock.stand(self.now if at is None else moment(at, "freeze: at", "advance('1h')"))

    # Claims

    def assert_enqueued(self, handler: TaskFunction[..., Any] | Using[...], /, *args: Any, **kwargs: Any) -> TaskInfo:
        """A task of this handler waits; with these arguments, if any are given. Returns the first that does.

        ``handler.using(delay="10m", at=…, id=…, collection=…)`` asks for that too; a delay counts from when the task
        was put, or from now.
        """
        __tracebackhide__ = True
        wanted = Wanted(handler, args, kwargs)
        waiting, now = self.enqueued(), self.now
        found = next((task for task in waiting if wanted.fits(task, now)), None)
        if found is None:
            there = f"what waits:{listed(waiting, now)}" if waiting else "nothing waits"
            buried = self.buried(wanted.handler.queue)
            raise AssertionError(
                f"no task {wanted} is enqueued; {there}" + (f"\nand buried:{listed(buried, now)}" if buried else "")
            )
        return found

    def assert_not_enqueued(self, handler: TaskFunction[..., Any] | Using[...], /, *args: Any, **kwargs: Any) -> None:
        """No such task waits: see ``assert_enqueued``."""
        __tracebackhide__ = True
        wanted, now = Wanted(handler, args, kwargs), self.now
        found = [task for task in self.enqueued() if wanted.fits(task, now)]
        if found:
            raise AssertionError(f"{wanted} is enqueued:{listed(found, now)}")

    def assert_nothing_enqueued(self, of: Of = None) -> None:
        """Nothing waits, of a queue, of a handler, or at all."""
        __tracebackhide__ = True
        if waiting := self.enqueued(of):
            raise AssertionError(f"something is enqueued:{listed(waiting, self.now)}")

    # Naming

    def _parts(self, of: Of) -> tuple[str | None, str | None]:
        """The names of queue and handler that are meant. UsageError: a text that is most likely misspelt."""
        if isinstance(of, TaskFunction):
            return of.handler.queue, of.handler.name
        if of is None or isinstance(of, Queue):
            return of.name if of else None, None
        name = check_name(of, "queue")
        known = sorted({each.queue for each in REGISTRY.handlers.values()} | {*self._server.queue_names()})
        if name not in known:
            raise UsageError(
                f"no handler here serves queue {name}: {given.meant(name, known)} One of others is Queue({name!r})"
            )
        return name, None
