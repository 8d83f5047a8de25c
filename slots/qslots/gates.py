"""Closing and opening the gates of a queue on all servers that it lives on.

Each change has a version. A server that was away while a gate was closed has an older one: ``level`` gives it what the
newest has, before its tasks count.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from . import given
from .connection import translated, understood
from .counts import why_closed
from .errors import QueueServerDown, UsageError
from .inspector import Inspector
from .keys import check_name
from .queueserver import QueueServer
from .servers import QueueServers

log = logging.getLogger("qslots")
_R = TypeVar("_R")


def name(queue: str, collection: str | None, handler: str | None) -> str:
    """How a gate is called: of the queue, or of one of its collections or handlers."""
    if collection is not None and handler is not None:
        raise UsageError(f"queue {queue}: name a collection or a handler, not both")
    if collection is not None:
        return f"collection:{given.collection(collection, f'queue {queue}')}"
    return "queue:" if handler is None else f"handler:{check_name(handler, f'queue {queue}: the handler')}"


def close(servers: QueueServers, queue: str, gate: str) -> None:
    """Pauses on every server of the queue that answers."""
    _everywhere(servers, queue, lambda inspector, version: inspector.pause(gate, version))


def park(server: QueueServer, queue: str, handler: str, why: str) -> bool:
    """Closes the gate of a handler on one server, with the reason; False if it is closed, by hand or so, already.

    Only a resume opens it: slots of old and new code run side by side, so none can know that what did not fit now does.
    """
    remedy = f"once the code fits: qslots queue resume {queue} --handler {handler}"
    return Inspector(server, queue).pause(name(queue, None, handler), why=f"{why}; {remedy}")


def open_again(servers: QueueServers, queue: str, gate: str) -> int:
    """Resumes on every server of the queue that answers; returns how many parked tasks came back."""
    return sum(_everywhere(servers, queue, lambda inspector, version: inspector.resume(gate, version)))


def _everywhere(servers: QueueServers, queue: str, change: Callable[[Inspector, int], _R]) -> list[_R]:
    """The change on all servers under one version. QueueServerDown if none answers; one that is away is told later."""
    places = servers.places(queue)
    if len(places) == 1:
        return [change(Inspector(servers[places[0]], queue), 0)]
    closed, down = _read(servers, queue)
    if down is not None and not closed:
        raise down
    if down is not None:
        log.warning(
            "queue %s is changed on %s, and elsewhere once it answers again: %s", queue, ", ".join(closed), down
        )
    version = 1 + max(known.version for known in closed.values())
    return [change(Inspector(servers[place], queue), version) for place in closed]


def level(servers: QueueServers, queue: str) -> None:
    """Gives servers that have missed a change the gates of the newest."""
    closed, _ = _read(servers, queue)
    if not closed:
        return
    newest = max(closed.values(), key=lambda known: known.version)
    for place, known in closed.items():
        if known.version < newest.version:
            inspector = Inspector(servers[place], queue)
            for gate in newest.reasons.keys() - known.reasons.keys():
                inspector.pause(gate, newest.version, why=newest.reasons[gate])
            for gate in known.reasons.keys() - newest.reasons.keys():
                inspector.resume(gate, newest.version)
            with translated(inspector.server.url):  # they may be equal by now, and still be counted from another change
                inspector.server.redis.hset(inspector.server.keys_of(queue).part("gates"), "version", newest.version)
            log.info("queue %s: the gates on %s are brought up to date", queue, place)


class _Closed(NamedTuple):
    """The gates that are closed on a server, since which change."""

    version: int
    reasons: dict[str, str]


def _read(servers: QueueServers, queue: str) -> tuple[dict[str, _Closed], QueueServerDown | None]:
    """The closed gates on each server that answers, and the fault of one that does not."""
    closed: dict[str, _Closed] = {}
    down = None
    for place in servers.places(queue):
        server = servers[place]
        try:
            with translated(server.url):
                found: Any = server.redis.hgetall(server.keys_of(queue).part("gates"))
        except QueueServerDown as error:
            down = error
        else:
            with understood(server.url, f"the gates of queue {queue}"):
                closed[place] = _closed(found)
    return closed, down


def _closed(gates: Mapping[bytes, bytes]) -> _Closed:
    """What the fields say; a drop is over by itself, and a gate that is being opened counts as open."""
    reasons = {
        gate.decode(): why_closed(said)
        for gate, said in gates.items()
        if said.startswith(b"paused") and not gate.startswith((b"drop:", b"version"))
    }
    return _Closed(int(gates.get(b"version", b"0")), reasons)
