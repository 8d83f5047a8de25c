"""The ticks of periodic handlers on one queue server: what is remembered of each handler, and how the next are stored.

One script does both at once, and only if what is remembered is still what the caller has read; so a tick is stored
once, whoever asks and however often.
"""

import functools
from collections.abc import Sequence
from typing import Any

import msgspec

from . import keys
from .periodic import Place, Step, Ticks, tick_id, words
from .queueserver import QueueServer
from .records import formed, header
from .reports import UNDECODABLE, Periodic

_NO_ARGUMENTS = msgspec.msgpack.encode({})  # fits every handler that needs none, one of packs too
_encode = msgspec.msgpack.Encoder().encode


class Seen(msgspec.Struct, frozen=True):
    """What was read of a handler: as it stands there, and what it means; None if there is nothing to be read."""

    raw: bytes
    ticks: Ticks | None


_decode = msgspec.msgpack.Decoder(Ticks).decode


def read(server: QueueServer, places: Sequence[Place]) -> tuple[float, list[Seen]]:
    """The server's time in seconds, and what it remembers of these handlers."""
    commands = [("HGET", server.keys_of(queue).ticks, handler) for queue, handler in places]
    clock, *stored = server.link.calls(("TIME",), *commands)
    return int(clock[0]) + int(clock[1]) / 1e6, [_seen(raw) for raw in stored]


def _seen(raw: bytes | None) -> Seen:
    try:
        return Seen(raw or b"", _decode(raw) if raw else None)
    except UNDECODABLE:
        return Seen(raw or b"", None)


def store(server: QueueServer, place: Place, periodic: Periodic, seen: Seen, step: Step) -> bool:
    """Does the step; False, and nothing is done, if something else is remembered by now."""
    queue, handler = place
    vector, known = server.keys_of(queue), seen.ticks or Ticks(0, 0, 0, 0, "", ())
    named = functools.partial(_named, handler)
    args: list[Any] = [
        queue, handler, seen.raw, words(periodic), known.last, known.missed + step.missed, known.dropped, step.begin,
        step.upto, tick_id(handler, known.last), "" if periodic.overlap else "alone",
        "" if periodic.catch_up == "all" else "newest", "withdraw" if step.withdraw else "",
        header(handler, periodic.signature) + formed(_NO_ARGUMENTS), named(known.waiting), named(step.instants),
    ]  # fmt: skip
    names = [*vector.vector, vector.ticks, keys.QUEUES, vector.schedule(handler)]
    return bool(server.run("queue", "tick", names, args))


def _named(handler: str, instants: Sequence[int]) -> bytes:
    return _encode([(instant, tick_id(handler, instant)) for instant in instants])
