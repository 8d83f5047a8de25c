"""What the library says of one task to those who ask: ``TaskInfo``, put together from what a queue server has. Pure."""

import json
from typing import Any

import msgspec

from . import traces
from .handlers import PackBody
from .inspector import Found
from .records import body, head, trace
from .states import TaskState


class Owner(msgspec.Struct, frozen=True):
    """Who has a locked task; ``slot`` is None for a process that took it by ``Queue.take``."""

    server: str
    slot: int | None


class Finished(msgspec.Struct, array_like=True):
    """What is kept of a finished task under its result's key. Times in seconds."""

    handler: str
    at: float
    holder: str
    value: Any = None
    error: str = ""  # why the value could not be stored


class TaskInfo(msgspec.Struct, frozen=True):
    """All that is known of a task. Times are seconds of the queue server's clock (Unix time)."""

    id: str
    queue: str
    handler: str
    collection: str
    state: TaskState
    put_at: float | None
    due_at: float | None
    locked: bool = False
    owner: Owner | None = None
    retries: int = 0
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    last_error: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    afterwards: str = ""  # what was said of a locked task: gone, rearm or replace, when its run is over
    parked: bool = False  # its collection is paused
    result: Any = None
    finished_at: float | None = None
    server: str = ""  # the queue server that has it
    traceparent: str | None = None  # of the trace that it was put in

    def arguments(self) -> str:
        """The arguments as JSON text, which ``find`` looks through."""
        return _json(self.kwargs) if not self.args else f"{_json(self.args)} {_json(self.kwargs)}"


def _json(value: object) -> str:
    """JSON text, or Python's own where a key of a mapping is not for JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except TypeError:
        return str(value)


def described(
    found: Found, queue: str, server: str, now: float, holder: str = "", *, running: bool = False
) -> TaskInfo:
    """A living task. ``holder``: of the lock that has it, if it is known."""
    try:
        said = head(found.record)
        args, kwargs = arguments_of(found.record)
        handler, collection, put_at, why = said.handler, said.collection, said.put_time, found.fate.error
    except ValueError as error:
        args, kwargs, handler, collection, put_at, why = (), {}, "", "", None, found.fate.error or str(error)
    return TaskInfo(
        id=found.id, queue=queue, handler=handler, collection=collection, state=state_of(found, now, running=running),
        put_at=put_at, due_at=found.at if found.place in ("scheduled", "parked") else None,
        locked=found.place == "locked", owner=owner_of(holder) if holder else None, retries=found.fate.retries,
        failures=found.fate.failures, crashes=found.fate.crashes, losses=found.fate.losses, last_error=why, args=args,
        kwargs=kwargs, afterwards=found.wish, parked=found.place == "parked", server=server,
        traceparent=traces.text(trace(found.record)),
    )  # fmt: skip


def state_of(found: Found, now: float, *, running: bool = False) -> TaskState:
    """The state of a living task."""
    match found.place:
        case "buried":
            return TaskState.FATAL_FAILURE
        case "locked":
            return TaskState.PROCESSING if running else TaskState.CLAIMED
    if found.at <= now:
        return TaskState.ENQUEUED
    return TaskState.RETRIABLE_FAILURE if found.fate.retries else TaskState.NEW


def finished(task: str, queue: str, server: str, kept: Finished) -> TaskInfo:
    """A task that is done and whose result is kept."""
    return TaskInfo(
        id=task, queue=queue, handler=kept.handler, collection="", state=TaskState.SUCCESS, put_at=None, due_at=None,
        owner=owner_of(kept.holder), last_error=kept.error, result=kept.value, finished_at=kept.at, server=server,
    )  # fmt: skip


def arguments_of(record: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a stored record, without asking whether they fit its handler. ValueError if unreadable."""
    try:
        stored = msgspec.msgpack.decode(body(record))
        if isinstance(stored, dict):
            return (), {str(name): value for name, value in stored.items()}
        pack = msgspec.convert(stored, PackBody)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a task record whose arguments cannot be read: {error}") from None
    return pack.args, pack.kwargs


def owner_of(holder: str) -> Owner:
    """Server and slot of a holder's name, ``server/index/incarnation`` (see qmaster), or ``host/take/…``."""
    server, _, rest = holder.partition("/")
    index = rest.partition("/")[0]
    return Owner(server, int(index) if index.isdecimal() else None)
