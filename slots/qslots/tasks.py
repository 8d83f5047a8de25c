"""``@task``, and what it makes of a function: something to call, to enqueue, and to find again in a slot."""

import datetime
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Never, ParamSpec, Protocol, TypeVar, overload

import msgspec

from . import durability, given, results, traces, tracing
from .cascades import Children
from .client import current, in_test, override
from .errors import ArgumentsError, CannotKeep, DuplicateTask, HandlerError, NoResult, TaskTooLarge, UsageError
from .handlers import REGISTRY, Call, Handler, declare
from .ids import new_ids
from .outcomes import Outcome, micros
from .queries import Owner
from .records import COMPRESS_FROM, PLAIN, formed, header, trace, traced
from .running import Running, Work, here
from .servers import parted
from .units import duration, moment

_P = ParamSpec("_P")
_R = TypeVar("_R")
_A_TRIP = 1000
_DELAY_INSTEAD = "delay='1h'"
_ELSEWHERE = {"countdown": "delay", "eta": "at", "task_id": "id"}  # what other systems call it
ON_DUPLICATE = ("refuse", "ignore", "replace", "rearm")


class Task(msgspec.Struct, eq=False):
    """One unit of work. ``enqueue`` returns one with ``id`` and ``queue``; a pack handler gets them with arguments."""

    id: str
    queue: str
    handler: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    retries: int = 0
    failures: int = 0
    crashes: int = 0
    put_at: float | None = None
    owner: Owner | None = None
    record: bytes = b""  # as it is stored, where it was taken
    outcome: Outcome | None = None  # what the pack's handler has said of it

    @property
    def traceparent(self) -> str | None:
        """The trace that it was put in, as the W3C writes it; None if it was put in none."""
        return traces.text(trace(self.record))

    def retry(self, delay: str | float | None = None, why: str = "") -> None:
        """This task of the pack is to run again after ``delay``, or its handler's backoff; no failure is counted."""
        where = f"task {self.id}: retry"
        waits = None if delay is None else micros(duration(delay, f"{where}: delay"))
        self.outcome = Outcome("retry", given.text(why, f"{where}: why"), delay=waits)

    def postpone(self, at: float | datetime.datetime | None = None, *, delay: str | float | None = None) -> None:
        """This task of the pack is not for now: ``at`` is Unix time or a datetime, ``delay`` counts from now; without
        either it waits as long as after a first failure.
        """
        where = f"task {self.id}: postpone"
        if at is not None and delay is not None:
            raise UsageError(f"{where}: give a point in time, or delay='1h', and not both")
        self.outcome = Outcome(
            "postpone",
            at=None if at is None else micros(moment(at, f"{where}: at", "postpone(delay='1h')")),
            delay=None if delay is None else micros(duration(delay, f"{where}: delay")),
        )

    def bury(self, why: str) -> None:
        """This task of the pack can never succeed."""
        self.outcome = Outcome("bury", given.text(why, f"task {self.id}: bury: why"))

    def result(self, timeout: str | float | None = None) -> Any:
        """What the task has returned, once it is done; waits up to ``timeout`` (5, "5s"), or for ever.

        TaskFailed: it is buried. ResultTimeout: not done in time. NoResult: its handler keeps none (``keep_result``).
        """
        seconds = given.patience(timeout, f"task {self.id}: result")
        known = REGISTRY.handlers.get(self.handler)
        if known is not None and known.options.keep_result is None:
            raise NoResult(f"task {self.id}: handler {self.handler} keeps no results: @task(keep_result='10m')")
        kept = here().kept
        if kept is not None and kept.has(self.id):
            raise UsageError(
                f"task {self.id}: it has not been sent yet: with_settlement sends it when the task that runs has "
                "succeeded: ask for its result elsewhere, or enqueue it without"
            )
        home = results.home(current(), self.queue, self.id)
        outlook = "it goes on"
        if in_test():
            seconds, outlook = seconds or 0.0, "in a test drain() runs it"  # nobody would end a wait without an end
        return results.wait(home, self.queue, self.id, seconds, keeps=known is not None, outlook=outlook)

    def __repr__(self) -> str:
        return f"Task({self.handler} {self.id} in {self.queue})"


def current_task() -> Task | None:
    """The task that runs here, made anew at each call; None outside of tasks, and in a handler that has a whole pack.

    It is known in what a coroutine has started by asyncio too (``gather``, ``to_thread``), not in its own threads.
    """
    running = here()
    found: Task | None = running.work.task(running.position) if running.work is not None and running.parent else None
    return found


class Using(Generic[_P]):
    """How the next ``enqueue`` of a handler is to be done."""

    __slots__ = ("_collection", "_handler", "_id", "_on_duplicate", "_trace", "_when", "_with_settlement")

    def __init__(
        self, handler: Handler, delay: str | float | None = None, at: float | datetime.datetime | None = None,
        id: str | None = None, collection: str | None = None, on_duplicate: str = "refuse",  # noqa: A002
        *, with_settlement: bool = False, traceparent: str | None = None,
    ) -> None:  # fmt: skip
        where = f"task {handler.name}"
        if delay is not None and at is not None:
            raise UsageError(f"{where}: give delay or at, not both")
        if on_duplicate not in ON_DUPLICATE:
            raise UsageError(f"{where}: on_duplicate is {on_duplicate!r}: write one of {', '.join(ON_DUPLICATE)}")
        self._handler = handler
        self._id = None if id is None else given.new_id(id, where)
        self._on_duplicate = on_duplicate
        self._when = _when(where, delay, at)
        self._collection = "" if collection is None else given.collection(collection, where, least=0)
        self._with_settlement = given.switch(with_settlement, f"{where}: with_settlement")
        self._trace = b"" if traceparent is None else traces.parse(traceparent, f"{where}: traceparent")
        if id is not None:
            self._check_own_ids(where)

    def _check_own_ids(self, where: str) -> None:
        if self._with_settlement and self._on_duplicate != "ignore":
            raise UsageError(
                f"{where}: nobody is there to be told of a duplicate when with_settlement puts it: an id of your own "
                "takes on_duplicate='ignore' then"
            )

    def enqueue(self, *args: _P.args, **kwargs: _P.kwargs) -> Task:
        """Puts one task into the queue; returns when the queue server has it.

        ArgumentsError: the arguments do not fit. DuplicateTask: the id is in the queue. QueueServerDown: no answer.
        """
        return self._put([(args, kwargs)], None if self._id is None else [self._id])[0]

    def enqueue_many(
        self, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]], *, ids: Sequence[str] | None = None
    ) -> list[Task]:
        """Puts a task for each tuple of positional (or mapping of named) arguments, a round trip a thousand."""
        where = f"task {self._handler.name}"
        if isinstance(calls, (str, bytes, Mapping)) or not isinstance(calls, Iterable):
            raise ArgumentsError(f"{where}: enqueue a list of calls, each a tuple or a mapping, not {calls!r}")
        pairs = [_call(call, where) for call in calls]
        if self._id is not None and len(pairs) > 1:
            raise UsageError(f"{where}: one id cannot name {len(pairs)} tasks")
        own = [self._id] if self._id is not None else given.new_ids(ids, where)
        if own is not None:
            self._check_own_ids(where)
            if len(own) != len(pairs):
                raise UsageError(f"{where}: {len(own)} ids for {len(pairs)} tasks")
        done: list[Task] = []
        for start in range(0, len(pairs), _A_TRIP):
            end = start + _A_TRIP
            done += self._put(pairs[start:end], None if own is None else own[start:end], many=True)
        return done

    def _put(self, calls: list[Call], own: Sequence[str] | None, *, many: bool = False) -> list[Task]:
        handler, running = self._handler, here()
        head = header(handler.name, handler.arguments.signature, self._collection)
        bodies = self._bodies(calls, REGISTRY.queue(handler.queue, override(handler.queue)).max_size)
        parent = running.parent
        if own is not None:
            ids = list(own)
        else:
            ids = new_ids(len(calls)) if parent is None else running.child_ids(parent, [head + body for body in bodies])
        if tracing.is_on():
            with tracing.sending(handler.queue, ids, self._trace, many=many) as trace_of_span:
                head = traced(head, self._trace or trace_of_span or running.trace())
                self._send(running, head, ids, bodies, own=own is not None)
        else:
            head = traced(head, self._trace or running.trace())
            self._send(running, head, ids, bodies, own=own is not None)
        record = bytes(8) + head
        return [
            Task(id_, handler.queue, handler.name, args, dict(kwargs) if kwargs else {}, record=record)
            for id_, (args, kwargs) in zip(ids, calls, strict=True)
        ]

    def _send(self, running: Running, head: bytes, ids: list[str], bodies: list[bytes], *, own: bool) -> None:
        """Puts tasks now, or has them kept for the settlement of the task that runs."""
        handler, derived = self._handler, not own and running.parent is not None
        if self._with_settlement and running.parent is not None and running.work is not None:
            self._check_place(running.work, ids if own else ())
            return running.keep(Children(handler.queue, handler.name, head, ids, bodies, self._when))
        promised = REGISTRY.queue(handler.queue, override(handler.queue)).durability
        try:
            current().put(
                handler.queue, handler.name, head, ids, bodies, when=self._when, own_ids=derived or own,
                on_duplicate="ignore" if derived else self._on_duplicate, durability=durability.parse(promised),
            )  # fmt: skip
        except CannotKeep as error:
            raise CannotKeep(f"{error}; {_said_where(handler.queue)}") from None
        except DuplicateTask as error:
            raise DuplicateTask(
                f"task {error} is in queue {handler.queue} already, or was a moment ago: choose another id, or "
                "on_duplicate='ignore', 'replace' or 'rearm'"
            ) from None

    def _check_place(self, work: Work, own: Sequence[str]) -> None:
        """UsageError unless these tasks can be put where the one that runs is settled."""
        servers, queue, (parent, server) = current(), self._handler.queue, parted(work.source)
        places = servers.places(queue)
        homes = {servers.home(queue, task_id) for task_id in own}  # where duplicates of ids of one's own meet
        settled = {place for place in places if servers.urls[place] == work.url}
        if not settled or homes - settled:
            lives = (
                f"{min(own)} of {queue} belongs on {min(homes - settled)}" if settled else f"{queue} is on {places[0]}"
            )
            raise UsageError(
                f"task {self._handler.name}: with_settlement takes one queue server for both: queue {parent} is "
                f"settled on {server}, {lives}"
            )

    def _bodies(self, calls: list[Call], most: int) -> list[bytes]:
        """The arguments as they are stored. ArgumentsError, TaskTooLarge."""
        handler = self._handler
        try:
            bodies = handler.arguments.bodies(calls)
        except ArgumentsError as error:
            raise handler.misfit(error) from None
        largest = max(map(len, bodies), default=0)
        if largest < COMPRESS_FROM <= most:
            return [PLAIN + body for body in bodies]
        check_size(handler, largest, most)
        return [formed(each) for each in bodies]


def check_size(handler: Handler, largest: int, most: int) -> None:
    """TaskTooLarge if this many bytes of arguments are more than the handler's queue allows."""
    if largest > most:
        raise TaskTooLarge(
            f"task {handler.name} (queue {handler.queue}): {largest:,} bytes of arguments, {most:,} are allowed: "
            "store the data elsewhere and pass where, or raise max_size of the queue"
        )


class TaskFunction(Generic[_P, _R]):
    """A function that can also be enqueued. Called plainly it runs here and now, as before."""

    def __init__(self, function: Callable[_P, _R], handler: Handler) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.handler = handler
        self._plainly: Using[_P] = Using(handler)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.handler.name} of queue {self.handler.queue}>"

    def using(
        self, *, delay: str | float | None = None, at: float | datetime.datetime | None = None, id: str | None = None,  # noqa: A002
        collection: str | None = None, on_duplicate: str = "refuse", with_settlement: bool = False,
        traceparent: str | None = None, **unknown: Never,
    ) -> Using[_P]:  # fmt: skip
        """``delay`` ("10m", seconds) or ``at`` (Unix time, datetime); ``id`` of your own; ``on_duplicate``;
        ``with_settlement``: not before the task that runs has succeeded; ``traceparent``: the trace that it belongs to.
        """
        for name in unknown:
            hint = given.meant(name, TaskFunction.using.__kwdefaults__ or (), _ELSEWHERE)
            raise UsageError(f"task {self.handler.name}: using does not know {name!r}: {hint}")
        return Using(
            self.handler, delay, at, id, collection, on_duplicate, with_settlement=with_settlement,
            traceparent=traceparent,
        )  # fmt: skip

    def enqueue(self, *args: _P.args, **kwargs: _P.kwargs) -> Task:
        """Puts one task into the queue: see ``Using.enqueue``. A pack handler's tasks take any arguments."""
        return self._plainly.enqueue(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]]) -> list[Task]:
        """Puts many tasks: see ``Using.enqueue_many``."""
        return self._plainly.enqueue_many(calls)


class Decorator(Protocol):
    """``@task(…)`` for a type checker: the tasks of a pack handler take any arguments, others those of the function."""

    @overload
    def __call__(self, function: Callable[[list[Task]], _R], /) -> TaskFunction[..., _R]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> TaskFunction[_P, _R]: ...


@overload
def task(function: Callable[[list[Task]], _R], /) -> TaskFunction[..., _R]: ...
@overload
def task(function: Callable[_P, _R], /) -> TaskFunction[_P, _R]: ...
@overload
def task(*, queue: str | None = None, name: str | None = None, **options: Any) -> Decorator: ...


def task(
    function: Callable[..., Any] | None = None, /, *, queue: str | None = None, name: str | None = None, **options: Any
) -> Any:
    """Makes a handler of a function. Options of the queue: priority (1 to 100), min_slots, max_slots, target_delay,
    lock, memory, rate ("10/s"), durability, dedupe_window, max_size; of the handler: batch, time_limit, max_failures,
    max_crashes, backoff ("5s..15m"), never_retry, keep_result ("10m"); of one that runs by itself:
    every ("10m") or cron ("0 3 * * *") with tz, and catch_up ("once", "skip", "all"), overlap.

    HandlerError: the name is used twice, or an option or a parameter cannot be served.
    """

    def made(function: Callable[..., Any]) -> TaskFunction[..., Any]:
        if not callable(function):
            raise HandlerError(f"@task({function!r}): it takes a function; the queue's name is @task(queue='NAME')")
        handler, of_queue = declare(function, name, queue, options, Task)
        REGISTRY.add(handler, of_queue)
        return TaskFunction(function, handler)

    return made if function is None else made(function)


def _call(call: tuple[Any, ...] | Mapping[str, Any], where: str) -> Call:
    """Positional and named arguments of one of many calls; the common form first, asking an ABC is slow."""
    if type(call) is tuple:
        return call, {}
    if isinstance(call, Mapping):
        return (), {given.text(name, f"{where}: the name of an argument"): value for name, value in call.items()}
    if isinstance(call, (str, bytes)) or not isinstance(call, Iterable):
        raise ArgumentsError(
            f"{where}: each of many calls is a tuple of its arguments: write ({call!r},) instead of {call!r}"
        )
    return tuple(call), {}


def _said_where(queue: str) -> str:
    """Where the durability of a queue is said, in words."""
    settings = override(queue)
    if settings is not None and settings.durability is not None:
        return f"it is said in queues.{queue}.durability of the settings"
    return f"it is said at {REGISTRY.said_where(queue, 'durability')}"


def _when(where: str, delay: str | float | None, at: float | datetime.datetime | None) -> str:
    if delay is not None:
        return f"+{micros(duration(delay, f'{where}: delay')):.0f}"
    if at is None:
        return ""
    return f"{micros(moment(at, f'{where}: at', _DELAY_INSTEAD)):.0f}"
