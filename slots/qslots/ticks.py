"""The ticks of periodic handlers on one queue server: what is remembered of each handler, and how the next are stored.

One script does both at once, and only if what is remembered is still what the caller has read; so a tick is stored
once, whoever asks and however often.
"""

import functools
from collections.abc import Sequence
from typing import Any

import msgspec

from . import keys
from .periodic import tick_id, words
from .queueserver import QueueServer
from .records import formed, header
from .reports import Periodic

Place = tuple[str, str]  # queue, handler
_NO_ARGUMENTS = msgspec.msgpack.encode({})
_encode = msgspec.msgpack.Encoder().encode


class Ticks(msgspec.Struct, frozen=True, array_like=True):
    """What a queue server remembers of a periodic handler. Instants are seconds since the epoch."""

    cursor: int  # up to this instant all has been said
    last: int  # the newest tick whose time has come; 0 for none
    missed: int  # ticks that were never stored, or made room for the next one before anybody took them
    dropped: int  # ticks whose predecessor was alive
    schedule: str  # in words
    waiting: tuple[int, ...]  # ticks that are stored, and wait for their time or, the newest of them, for somebody

    def due(self, now: float) -> list[int]:
        """Those of the waiting whose time has come."""
        return [instant for instant in self.waiting if instant <= now]

    def newest(self, now: float) -> int:
        """The newest tick whose time has come; 0 for none."""
        return max(self.last, *self.due(now), 0)


class Seen(msgspec.Struct, frozen=True):
    """What was read of a handler: as it stands there, and what it means; None if there is nothing to be read."""

    raw: bytes
    ticks: Ticks | None


class Step(msgspec.Struct, frozen=True):
    """What is to be done for one handler."""

    begin: int  # nothing is to be stored up to here
    upto: int  # all is said up to here
    instants: tuple[int, ...] = ()
    missed: int = 0
    withdraw: bool = False  # whether those that wait for their time are to go


_decode = msgspec.msgpack.Decoder(Ticks).decode


def read(server: QueueServer, places: Sequence[Place]) -> tuple[float, list[Seen]]:
    """The server's time in seconds, and what it remembers of these handlers."""
    commands = [("HGET", server.keys_of(queue).ticks, handler) for queue, handler in places]
    clock, *stored = server.link.calls(("TIME",), *commands)
    return int(clock[0]) + int(clock[1]) / 1e6, [_seen(raw) for raw in stored]


def _seen(raw: bytes | None) -> Seen:
    try:
        return Seen(raw or b"", _decode(raw) if raw else None)
    except msgspec.MsgspecError:
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
