"""The operations of one queue server, each one script, each safe to repeat. It knows nothing of handlers or slots.

Times go in and come out in seconds; scripts speak µs. Every error is one of ``qslots.errors``.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import redis

from . import keys
from .cascades import NO_CASCADE, Cascade, add, settled
from .connection import Link, open_redis, supported, understood
from .counts import stats_of
from .durability import FAST, Command, Durability, check_reply, fit_for_tasks, promise
from .errors import CannotKeep, QueueServerDown, QueueServerError
from .keys import QueueKeys
from .outcomes import Outcome
from .producer import Producer, insist, is_worth_another
from .records import Fate, decode_fate
from .reports import QueueStats
from .scripts import Script, Scripts, script

PACK_BYTES = 4 << 20
_FLAGS_SINCE = (7,)
RATE_AS_IT_IS = -1.0  # for ``exchange``: of a process that does not know what is declared
_LOOKS = 5  # times that names are looked up anew before an UNNAMED key is a fault
_R = TypeVar("_R")
_encode = msgspec.msgpack.Encoder().encode


class Pack(msgspec.Struct):
    """Tasks taken in one go, locked as one record. All lists have one entry a task, in order."""

    handler: str
    ids: list[bytes]
    records: list[bytes]
    fates: list[Fate | None]
    expiry: float  # the server's clock, seconds
    first_due: float  # activation time of the first task, seconds


class Exchange(msgspec.Struct):
    """The answer of ``exchange``: a pack, or how long to wait. ``gone``: the pack to settle was taken away before."""

    pack: Pack | None
    wait: float
    gone: bool


class Kept(msgspec.Struct, frozen=True):
    """What is kept of a finished task, and for how long."""

    task: str
    result: bytes
    seconds: float
    missing: str = ""  # why the value is not in it


class Known(msgspec.Struct, frozen=True):
    """What was last seen of a queue: its handlers, and the collections that are paused or being resumed."""

    handlers: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()


_NOTHING = Known()


class QueueServer:
    """A client of one queue server. Threads may share it unless it is ``single`` (one connection for one thread)."""

    def __init__(
        self, url: str, *, name: str, timeout: float = 5.0, single: bool = False, scripts: Scripts = script
    ) -> None:
        self.url = url
        self._scripts = scripts
        self._single = single
        self._open = partial(open_redis, url, name=name, timeout=timeout, single=single)
        # A single connection is opened at its first use, so that who owns it can go on trying where it is used.
        self._redis = None if single else self._open()
        self._link: Link | None = None
        self.timeout = timeout
        self._promises: dict[Durability, Command | None] = {}
        self._version: tuple[int, ...] | None = None
        self._producer = Producer()
        self._keys: dict[str, QueueKeys] = {}
        self._known: dict[str, Known] = {}

    @property
    def redis(self) -> redis.Redis:
        """The client below. QueueServerDown if a single connection cannot be opened."""
        if self._redis is None:
            self._redis = self._open()
        return self._redis

    def version(self) -> tuple[int, ...]:
        """The server's version; QueueServerError if it is too old, QueueServerDown if there is no answer."""
        if self._version is None:
            self._version = supported(self.link, self.url)
        return self._version

    @property
    def link(self) -> Link:
        """Round trips. QueueServerDown if a single connection cannot be opened."""
        if self._link is None:
            self._link = Link(self.redis, self.url)
        return self._link

    def close(self) -> None:
        """Closes all connections; the next operation opens new ones, from scratch."""
        if self._link is not None:
            self._link.close()
        if self._redis is not None:
            connection: Any = self._redis.connection
            if connection is not None:  # a single one, which is none of the pool's
                connection.disconnect()
            self._redis.close()
        if self._single:
            self._redis = self._link = None

    def keys_of(self, queue: str) -> QueueKeys:
        """The keys of a queue."""
        if queue not in self._keys:
            self._keys[queue] = QueueKeys(queue)
        return self._keys[queue]

    def run(self, place: str, name: str, vector: Sequence[str], args: Sequence[Any]) -> Any:
        """The reply of ``lua/<place>/<name>.lua``."""
        operation = self._script(place, name)
        return operation.run(self.link, operation.command(vector, args))[0]

    def prepare(self, place: str, name: str) -> None:
        """Reads a script, for processes that are forked from this one. QueueServerError as of any operation."""
        self._script(place, name)

    def _script(self, place: str, name: str) -> Script:
        return self._scripts(place, name, self.version() >= _FLAGS_SINCE)

    def check(self) -> None:
        """QueueServerError if this server is too old, or may lose tasks by its settings."""
        self.version()
        fit_for_tasks(self.link, self.url)

    def promise(self, queue: str, durability: Durability) -> Command | None:
        """What is sent behind a put that asks for this; CannotKeep, which names the queue, if this server cannot."""
        if durability not in self._promises:
            try:
                self._promises[durability] = promise(self.link, self.url, durability)
            except CannotKeep as error:
                raise CannotKeep(f"queue {queue}: {error}") from None
        return self._promises[durability]

    def put(
        self, queue: str, handler: str, head: bytes, ids: Sequence[str], bodies: Sequence[bytes], *,
        when: str | Sequence[str] = "", on_duplicate: str = "refuse", own_ids: bool = False,
        durability: Durability = FAST,
    ) -> int:  # fmt: skip
        """Stores tasks of one handler; ``head`` is their records' header.

        ``when`` is "" (now), "+µs" (from now) or "µs" (at), one for all or one each. Returns how many were stored or
        changed. A lost reply is asked for again under the same request number, within the time-out: the call either
        succeeded or raised. DuplicateTask: nothing was stored. NotDurable: all was, but that is not proven.
        """
        vector = self.keys_of(queue)
        request = self._producer.next_request()  # first: in a forked child it changes the producer's name
        names = [*vector.vector, vector.producer(self._producer.name), keys.QUEUES, vector.schedule(handler)]
        args: list[Any] = [
            queue, handler, request, on_duplicate, int(own_ids),
            when if isinstance(when, str) else _encode(when), head, _encode(ids),
            _encode([len(body) for body in bodies]), b"".join(bodies),
        ]  # fmt: skip
        until = time.monotonic() + self.timeout
        behind = None if durability is FAST else self.promise(queue, durability)

        def attempt(seconds: float) -> int:
            gated = self._known.get(queue, _NOTHING).collections
            return self._put([*names, *map(vector.parked, gated)], args, durability, behind, seconds)

        try:
            return self._named(queue, lambda: attempt(self.timeout / 2))
        except QueueServerDown as error:
            self._promises.clear()  # the next primary may be set otherwise
            if not is_worth_another(error, self.url):
                raise
            first = error
        args[4] = 1  # what may have been stored is no duplicate: the request number tells
        return self._named(queue, lambda: insist(attempt, first, until))

    def _put(
        self, names: list[str], args: list[Any], durability: Durability, behind: Command | None, seconds: float
    ) -> int:
        """One attempt that waits so long for the answer, and for the proof behind it as long as that may take."""
        operation = self._script("queue", "put")
        commands = [operation.command(names, args), *([behind] if behind else [])]
        stored, *proof = operation.run(self.link, *commands, wait=seconds + durability.timeout - self.timeout)
        if behind is not None:
            check_reply(durability, proof[0], self.url)
        return int(stored)

    def known(self, queue: str) -> Known:
        """Looks up the handlers and the gated collections of a queue, and remembers them."""
        return self._learn(queue, *self.link.calls(*_asked(self.keys_of(queue))))

    def _learn(self, queue: str, handlers: Iterable[bytes], gates: Iterable[bytes]) -> Known:
        with understood(self.url, f"the handlers and gates of queue {queue}"):
            found = self._known[queue] = _known(handlers, gates)
        return found

    def _named(self, queue: str, operation: Callable[[], _R]) -> _R:
        """Repeats what was refused because a key was not named, with the names looked up anew."""
        for _ in range(_LOOKS):
            try:
                return operation()
            except QueueServerError as error:
                if error.code != "UNNAMED":
                    raise
            self.known(queue)
        return operation()

    def inside(self, queue: str, name: str, args: Sequence[Any], *, slots: bool = False, extra: str = "") -> Any:
        """The reply of a script that may touch every schedule and parking place of a queue.

        ``slots``: it wants the slots' vector. ``extra``: a collection whose parking place it needs in any case.
        """
        vector = self.keys_of(queue)

        def run() -> Any:
            names = self.every_place(queue, slots=slots)
            if extra and vector.parked(extra) not in names:
                names.append(vector.parked(extra))
            return self.run("queue", name, names, args)

        return self._named(queue, run)

    def every_place(self, queue: str, *, slots: bool = False) -> list[str]:
        """The vector of a queue, then all schedules and parking places last seen."""
        vector, known = self.keys_of(queue), self._known.get(queue) or self.known(queue)
        places = [*map(vector.schedule, known.handlers), *map(vector.parked, known.collections)]
        return [*(vector.slots_vector if slots else vector.vector), *places]

    def exchange(
        self, queue: str, holder: str, seq: int, *, settle: int | None, want: Mapping[str, int], ttl: float,
        busy: float = 0.0, wait: float = 3.0, rate: float | None = None, window: float = 0.0,
    ) -> Exchange:  # fmt: skip
        """Settles pack ``settle`` of ``holder`` as done and takes the next: at most ``want[handler]`` tasks of one.

        With ``want`` of zeros it only settles. ``rate``: tasks a second that may begin in the whole queue; ``window``:
        seconds that the ids of finished tasks stay known. HolderDead: the slot must end. The same ``seq`` gives the
        same pack.
        """
        vector = self.keys_of(queue)
        names = [*vector.slots_vector, *map(vector.schedule, want)]
        args = [
            holder, seq, "" if settle is None else settle, _us(ttl), _us(busy), _us(wait), PACK_BYTES,
            int(any(want.values())), "" if rate is None else rate, _us(window), *want.values(),
        ]  # fmt: skip

        def ask() -> Any:
            gated = self._known.get(queue, _NOTHING).collections
            return self.run("queue", "exchange", [*names, *map(vector.parked, gated)] if gated else names, args)

        reply = self._named(queue, ask)
        if not reply[0]:
            return Exchange(None, reply[2] / 1e6, bool(reply[1]))
        _, gone, expiry, handler, ids, records, fates, due = reply
        known = [decode_fate(fate) if fate else None for fate in fates]
        pack = Pack(handler.decode(), ids, records, known or [None] * len(ids), int(expiry) / 1e6, int(due) / 1e6)
        return Exchange(pack, 0.0, bool(gone))

    def settle(
        self, queue: str, holder: str, seq: int, outcomes: Mapping[int, Outcome], *, marks: bytes = b"",
        window: float = 0.0, results: Mapping[int, Kept] | None = None, busy: float = 0.0,
        cascade: Cascade = NO_CASCADE,
    ) -> bool:  # fmt: skip
        """Says how single tasks (by position, from 1) of a living slot's pack ended; False if the lock is gone.

        ``marks``: one byte a position, 1 is done; ``results``: position -> what is to be kept of a task that is done;
        ``busy``: seconds that handlers ran, counted if any task has ended by this; ``cascade``: position -> what a task
        that is done leaves behind, put by the same script: both or neither. If that is refused, it is told as not done.
        """
        vector = self.keys_of(queue)

        def say(ends: Mapping[int, Outcome], left: Cascade) -> bool:
            names = self.every_place(queue, slots=True)
            args = [holder, seq, _encode(ends), marks, "keep", "", "", _us(window), b"", _us(busy)]
            args += [b"", b""] if left else []
            places = {}
            for position, kept in (results or {}).items():
                names.append(vector.result(kept.task))
                args.append(kept.result)
                places[position] = (len(names), len(args), round(kept.seconds * 1e3), bool(kept.missing))
            args[8] = _encode(places)
            if left:
                args[10], args[11] = add(names, args, left, self.keys_of)
            return bool(self.run("queue", "cascade" if left else "settle", names, args))

        return settled(lambda ends, left: self._named(queue, lambda: say(ends, left)), outcomes, cascade)

    def settle_dead(
        self, queue: str, holder: str, *, held: int | None, asked: int, outcomes: Mapping[int, Outcome], marks: bytes,
        rest: str = "back", why: str = "", busy: float = 0.0,
    ) -> bool:  # fmt: skip
        """Ends all that a dead slot left in a queue, and refuses whatever of it may still be under way.

        ``busy``: seconds that handlers ran in the pack that it held, and that were not told before.
        """
        previous = "" if held is None else held
        args = [holder, previous, _encode(outcomes), marks, rest, why, asked, 0, _encode({}), _us(busy)]
        return bool(self.inside(queue, "settle", args, slots=True))

    def release(
        self, queue: str, holder: str, *, held: int | None, marks: bytes, busy: float = 0.0, leave: bool = True,
        window: float = 0.0,
    ) -> bool:  # fmt: skip
        """Hands back what a slot has not begun; with ``leave`` nothing of this holder is obeyed afterwards."""
        previous = "" if held is None else held
        args = [holder, previous, marks, _us(busy), int(leave), _us(window)]
        return bool(self.inside(queue, "release", args, slots=True))

    def reclaim(self, queue: str, ttl: float) -> int:
        """Takes back what expired locks hold; returns the number of tasks. At most some 1,000 go at once."""
        return int(self.inside(queue, "reclaim", [_us(ttl)], slots=True))

    def extend(self, queue: str, ttl: float, locks: Sequence[str]) -> list[str]:
        """Gives locks (``holder:seq``) a full ttl again; returns those that are gone."""
        gone = self.run("queue", "extend", self.keys_of(queue).slots_vector, [_us(ttl), *locks])
        return [lock.decode() for lock in gone]

    def due(self, handlers: Mapping[str, Sequence[str]]) -> set[str]:
        """Which of these queues (with their handlers) have a task that may be taken now."""
        operation = self._script("queue", "due")
        places = [(self.keys_of(queue), names) for queue, names in handlers.items()]
        calls = [operation.command([*place.vector, *map(place.schedule, names)], []) for place, names in places]
        found = operation.run(self.link, *calls)
        return {queue for queue, has in zip(handlers, found, strict=True) if has}

    def unwait(self, holder: str, handlers: Mapping[str, Sequence[str]]) -> None:
        """This slot waits in these queues (with their handlers) no more; others are rung in its place."""
        operation = self._script("queue", "unwait")
        places = [(self.keys_of(queue), names) for queue, names in handlers.items()]
        calls = [operation.command([*place.vector, *map(place.schedule, names)], [holder]) for place, names in places]
        operation.run(self.link, *calls)

    def queue_names(self) -> list[str]:
        """All queues that ever had a task, sorted; a name that is none of ours shows its bytes and hides no other."""
        return sorted(name.decode(errors="backslashreplace") for name in self.link.call("SMEMBERS", keys.QUEUES))

    def handlers(self, queue: str) -> list[str]:
        """The handlers that ever had a task in this queue, sorted."""
        return list(self.known(queue).handlers)

    def stats(self, queues: Sequence[str]) -> list[QueueStats]:
        """The counts of these queues, in two round trips for all."""
        if not queues:
            return []
        parts = [self.keys_of(queue) for queue in queues]
        found = self.link.calls(*itertools.chain.from_iterable(map(_asked, parts)))
        for queue, handlers, gates in zip(queues, found[::2], found[1::2], strict=True):
            self._learn(queue, handlers, gates)
        operation = self._script("queue", "stats")
        calls = [operation.command(self.every_place(queue, slots=True), []) for queue in queues]
        replies = operation.run(self.link, *calls)
        with understood(self.url, "the counts"):
            return [stats_of(queue, reply) for queue, reply in zip(queues, replies, strict=True)]


def _asked(vector: QueueKeys) -> list[tuple[str, str]]:
    """Commands whose answers ``_known`` takes."""
    return [("SMEMBERS", vector.part("handlers")), ("HKEYS", vector.part("gates"))]


def _known(handlers: Iterable[bytes], gates: Iterable[bytes]) -> Known:
    named = [gate.decode() for gate in gates if gate.startswith(b"collection:")]
    return Known(
        tuple(sorted(name.decode() for name in handlers)), tuple(sorted(gate.partition(":")[2] for gate in named))
    )


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def lock_name(holder: str, seq: int) -> str:
    """The name of the pack that ``holder`` asked for as number ``seq``."""
    return f"{holder}:{seq}"
