"""The operations of one queue server, each one script, each safe to repeat. It knows nothing of handlers or slots.

Times go in and come out in seconds; scripts speak µs. Every error is one of ``qslots.errors``.
"""

import functools
import os
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import redis

from . import keys
from .connection import open_redis, supported, translated
from .errors import QueueServerDown
from .keys import QueueKeys
from .outcomes import Outcome
from .records import Fate, decode_fate
from .reports import QueueStats
from .scripts import Argument, Script, script

PACK_BYTES = 4 << 20
_FLAGS_SINCE = (7,)


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


class _Producer(threading.local):
    """Each thread counts its own requests, so that the last one of a producer is the only one in doubt."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.pid = os.getpid()
        self.name = secrets.token_hex(8)
        self.request = 0

    def next_request(self) -> int:
        """The number of a new request. A forked process is another producer than its parent."""
        if self.pid != os.getpid():
            self.begin()
        self.request += 1
        return self.request


class QueueServer:
    """A client of one queue server. Threads may share it unless it is ``single`` (one connection for one thread)."""

    def __init__(self, url: str, *, name: str, timeout: float = 5.0, single: bool = False) -> None:
        self.url = url
        self._single = single
        self._open = functools.partial(open_redis, url, name=name, timeout=timeout, single=single)
        # A single connection is opened at its first use, so that who owns it can go on trying where it is used.
        self._redis = None if single else self._open()
        self._version: tuple[int, ...] | None = None
        self._producer = _Producer()
        self._keys: dict[str, QueueKeys] = {}

    @property
    def redis(self) -> redis.Redis:
        """The client below. QueueServerDown if a single connection cannot be opened."""
        if self._redis is None:
            self._redis = self._open()
        return self._redis

    def version(self) -> tuple[int, ...]:
        """The server's version; QueueServerError if it is too old, QueueServerDown if there is no answer."""
        if self._version is None:
            self._version = supported(self.redis, self.url)
        return self._version

    def close(self) -> None:
        """Closes all connections; the next operation opens new ones, from scratch."""
        if self._redis is not None:
            self._redis.close()
            self._redis = None if self._single else self._redis

    def keys_of(self, queue: str) -> QueueKeys:
        """The keys of a queue."""
        if queue not in self._keys:
            self._keys[queue] = QueueKeys(queue)
        return self._keys[queue]

    def run(self, place: str, name: str, vector: Sequence[str], args: Sequence[Any]) -> Any:
        """The reply of ``lua/<place>/<name>.lua``."""
        operation = script(place, name, self.version() >= _FLAGS_SINCE)
        with translated(self.url):
            return operation.run(self.redis, vector, args)

    def put(
        self, queue: str, handler: str, tasks: Sequence[tuple[str, str, bytes]], *, on_duplicate: str = "refuse",
        own_ids: bool = False,
    ) -> int:  # fmt: skip
        """Stores tasks (id, when, record without its stamp; when is "", "+µs" or "µs"); returns how many were stored.

        A lost reply is asked for once more under the same request number; so the call either succeeded or raised.
        DuplicateTask: nothing was stored.
        """
        vector = self.keys_of(queue)
        request = self._producer.next_request()
        names = [*vector.vector, vector.schedule(handler), vector.producer(self._producer.name), keys.QUEUES]
        flat: list[Argument] = [part for task in tasks for part in task]
        try:
            return int(self.run("queue", "put", names, [queue, handler, request, on_duplicate, int(own_ids), *flat]))
        except QueueServerDown:
            return int(self.run("queue", "put", names, [queue, handler, request, on_duplicate, 1, *flat]))

    def exchange(
        self, queue: str, holder: str, seq: int, *, settle: int | None, want: Mapping[str, int], ttl: float,
        busy: float = 0.0, wait: float = 3.0,
    ) -> Exchange:  # fmt: skip
        """Settles pack ``settle`` of ``holder`` as done and takes the next: at most ``want[handler]`` tasks of one.

        With ``want`` of zeros it only settles. HolderDead: the slot must end. The same ``seq`` gives the same pack.
        """
        vector = self.keys_of(queue)
        names = [*vector.vector, *map(vector.schedule, want)]
        previous = "" if settle is None else settle
        args = [
            holder,
            seq,
            previous,
            _us(ttl),
            _us(busy),
            _us(wait),
            PACK_BYTES,
            int(any(want.values())),
            *want.values(),
        ]
        reply = self.run("queue", "exchange", names, args)
        if not reply[0]:
            return Exchange(None, reply[2] / 1e6, bool(reply[1]))
        _, gone, expiry, handler, ids, records, fates, due = reply
        known = [decode_fate(fate) if fate else None for fate in fates or [None] * len(ids)]
        pack = Pack(handler.decode(), ids, records, known, int(expiry) / 1e6, int(due) / 1e6)
        return Exchange(pack, 0.0, bool(gone))

    def settle(self, queue: str, holder: str, seq: int, handler: str, outcomes: Mapping[int, Outcome]) -> bool:
        """Says how single tasks (by position, from 1) of a living slot's pack ended; False if the lock is gone."""
        return self._settle(queue, [handler], [holder, seq, _packed(outcomes), b"", "keep", "", ""])

    def settle_dead(
        self, queue: str, holder: str, *, held: int | None, asked: int, outcomes: Mapping[int, Outcome], marks: bytes,
        rest: str = "back", why: str = "",
    ) -> bool:  # fmt: skip
        """Ends all that a dead slot left in a queue, and refuses whatever of it may still be under way."""
        with translated(self.url):
            handlers = self.handlers(queue)
        previous = "" if held is None else held
        return self._settle(queue, handlers, [holder, previous, _packed(outcomes), marks, rest, why, asked])

    def _settle(self, queue: str, handlers: Sequence[str], args: Sequence[Any]) -> bool:
        vector = self.keys_of(queue)
        return bool(self.run("queue", "settle", [*vector.vector, *map(vector.schedule, handlers)], args))

    def release(
        self, queue: str, holder: str, *, held: int | None, marks: bytes, busy: float = 0.0, leave: bool = True
    ) -> bool:
        """Hands back what a slot has not begun; with ``leave`` nothing of this holder is obeyed afterwards."""
        vector = self.keys_of(queue)
        names = [*vector.vector, *map(vector.schedule, self.handlers(queue))]
        previous = "" if held is None else held
        return bool(self.run("queue", "release", names, [holder, previous, marks, _us(busy), int(leave)]))

    def extend(self, queue: str, ttl: float, locks: Sequence[str]) -> list[str]:
        """Gives locks (``holder:seq``) a full ttl again; returns those that are gone."""
        gone = self.run("queue", "extend", self.keys_of(queue).vector, [_us(ttl), *locks])
        return [lock.decode() for lock in gone]

    def due(self, handlers: Mapping[str, Sequence[str]]) -> set[str]:
        """Which of these queues (with their handlers) have a task whose time has come."""
        places = [(queue, name) for queue, names in handlers.items() for name in names]
        found = self.run("control", "due", [self.keys_of(queue).schedule(name) for queue, name in places], [])
        return {places[place - 1][0] for place in found}

    def unwait(self, holder: str, handlers: Mapping[str, Sequence[str]]) -> None:
        """This slot waits in these queues (with their handlers) no more; others are rung in its place."""
        operation = script("queue", "unwait", self.version() >= _FLAGS_SINCE)
        with translated(self.url):
            self._pipelined(operation, [(self._named(queue, names), [holder]) for queue, names in handlers.items()])

    def _named(self, queue: str, handlers: Iterable[str]) -> list[str]:
        vector = self.keys_of(queue)
        return [*vector.vector, *map(vector.schedule, handlers)]

    def _pipelined(self, operation: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """The replies of one script called several times in one round trip."""
        with self.redis.pipeline(transaction=False) as line:
            for names, args in calls:
                line.evalsha(operation.digest, len(names), *names, *args)
            try:
                replies: list[Any] = line.execute()
            except redis.exceptions.NoScriptError:
                self.redis.script_load(operation.text)
                return self._pipelined(operation, calls)
        return replies

    def queue_names(self) -> list[str]:
        """All queues that ever had a task, sorted."""
        with translated(self.url):
            members: Any = self.redis.smembers(keys.QUEUES)
        return sorted(name.decode() for name in members)

    def handlers(self, queue: str) -> list[str]:
        """The handlers that ever had a task in this queue, sorted."""
        with translated(self.url):
            members: Any = self.redis.smembers(self.keys_of(queue).handlers)
        return sorted(name.decode() for name in members)

    def stats(self, queues: Sequence[str]) -> list[QueueStats]:
        """The counts of these queues, in two round trips for all."""
        operation = script("queue", "stats", self.version() >= _FLAGS_SINCE)
        with translated(self.url):
            with self.redis.pipeline(transaction=False) as line:
                for queue in queues:
                    line.smembers(self.keys_of(queue).handlers)
                handlers: list[set[bytes]] = line.execute()
            known = zip(queues, handlers, strict=True)
            calls: list[tuple[list[str], list[str]]] = [
                (self._named(queue, (name.decode() for name in names)), []) for queue, names in known
            ]
            replies = self._pipelined(operation, calls)
        return [_stats_of(queue, reply) for queue, reply in zip(queues, replies, strict=True)]


def _stats_of(queue: str, reply: list[Any]) -> QueueStats:
    counters = {name.decode(): int(value) for name, value in zip(reply[6][::2], reply[6][1::2], strict=True)}
    busy = counters.pop("busy", 0) / 1e6
    known = {name: counters[name] for name in counters if name in QueueStats.__struct_fields__}
    now, active, inactive, locked, buried, oldest = (int(value) for value in reply[:6])
    return QueueStats(queue, now / 1e6, active, inactive, locked, buried, oldest / 1e6, busy=busy, **known)


def _packed(outcomes: Mapping[int, Outcome]) -> bytes:
    return msgspec.msgpack.encode(outcomes)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def lock_name(holder: str, seq: int) -> str:
    """The name of the pack that ``holder`` asked for as number ``seq``."""
    return f"{holder}:{seq}"
