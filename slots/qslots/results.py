"""What a finished task has returned: kept by its slot under a key of its own, waited for by whoever enqueued it.

Waiting does not poll: the end of a task is published on a channel of the key's name. A message lost in a failover is
made good by a look every few seconds.
"""

import time
from typing import Any

import msgspec

from .connection import translated
from .errors import NoResult, QueueServerDown, ResultTimeout, TaskFailed
from .inspector import Inspector
from .outcomes import spoken
from .queries import Finished
from .queueserver import Kept, QueueServer
from .servers import QueueServers

LARGEST = 1 << 20  # bytes: results live in the memory of the queue server
_LOOK_AGAIN = 3.0  # seconds without a message after which a waiter looks all the same
_finished = msgspec.msgpack.Decoder(Finished).decode


def kept(task: str, handler: str, holder: str, value: object, seconds: float) -> Kept:
    """What is to be stored of a task that has returned ``value``; of a value that cannot be, the reason."""
    said = Finished(handler, time.time(), holder, value)
    try:
        stored, why = msgspec.msgpack.encode(said), ""
        if len(stored) > LARGEST:
            why = f"{len(stored):,} bytes, {LARGEST:,} are allowed: store the data elsewhere and return where"
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        why = spoken(error)
    if not why:
        return Kept(task, stored, seconds)
    why = f"its result, {type(value).__name__}, cannot be stored: {why}"
    return Kept(task, msgspec.msgpack.encode(Finished(handler, said.at, holder, error=why)), seconds, why)


def look(server: QueueServer, queue: str, task: str) -> Finished | None:
    """What is kept of a task, or None."""
    with translated(server.url):
        raw: Any = server.redis.get(server.keys_of(queue).result(task))
    return _finished(raw) if raw else None


def home(servers: QueueServers, queue: str, task: str) -> QueueServer:
    """The server that has a task or its result; the queue's first if none has. QueueServerDown: one may."""
    places = [servers[place] for place in servers.places(queue)]
    down: QueueServerDown | None = None
    for server in places if len(places) > 1 else ():
        try:
            _, [found] = Inspector(server, queue).get([task])
            if found is not None or look(server, queue, task) is not None:
                return server
        except QueueServerDown as error:
            down = error
    if down is not None:
        raise down
    return places[0]


def wait(
    server: QueueServer, queue: str, task: str, timeout: float | None, *, keeps: bool = False, outlook: str
) -> Any:
    """The value that the task has returned, once it has. TaskFailed: it is buried. NoResult: nothing is kept of it.

    ResultTimeout after ``timeout`` seconds; None waits for ever. ``keeps``: its handler is known to keep results.
    ``outlook``: what becomes of a task that is not finished.
    """
    until = None if timeout is None else time.monotonic() + timeout
    channel = server.keys_of(queue).result(task)
    client: Any = server.redis
    with client.pubsub(ignore_subscribe_messages=True) as ears:
        with translated(server.url):
            ears.subscribe(channel)
        while True:
            value, is_over = _looked(server, queue, task, keeps)
            if is_over:
                return value
            left = _LOOK_AGAIN if until is None else until - time.monotonic()
            if left <= 0:
                raise ResultTimeout(f"task {task} of queue {queue} is not finished after {timeout:g} s: {outlook}")
            with translated(server.url):  # nothing else: a time-out of ours is not one of the server
                ears.get_message(timeout=min(left, _LOOK_AGAIN))


def _looked(server: QueueServer, queue: str, task: str, keeps: bool) -> tuple[Any, bool]:
    """(value, True) if the task is done, (None, False) while it lives."""
    _, [found] = Inspector(server, queue).get([task])
    if found is not None and found.place != "buried":
        return None, False
    if found is not None:
        why = (found.fate.error.splitlines() or [""])[-1]
        raise TaskFailed(f"task {task} of queue {queue} is buried: {why}", found.fate.error)
    done = look(server, queue, task)
    if done is None:
        why = "it was deleted, or its result has expired"
        if not keeps:
            why += ", or its handler keeps none, see keep_result"
        raise NoResult(f"task {task} of queue {queue} is gone and nothing is kept of it: {why}")
    if done.error:
        raise NoResult(f"task {task} of queue {queue} is done, but {done.error}")
    return done.value, True
