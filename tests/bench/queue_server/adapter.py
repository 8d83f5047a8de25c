"""The one place that knows how qslots is called: should a signature change, it changes here.

Besides the calls themselves it hands out requests ready to be sent, for drivers of many connections: they are recorded
from the library's own operations, so that no key or argument is spelled out twice.
"""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

import qslots
from qslots.ids import new_ids
from qslots.queueserver import QueueServer
from qslots.records import formed, header

TTL = 60.0
StoredTask = tuple[str, bytes]  # id, body

_holders = itertools.count()


@qslots.task(queue="public")
def thumbnail(path: str) -> None:
    """The handler of all benchmarks: a small typical record, never run."""


def made(count: int) -> list[StoredTask]:
    """That many new tasks as the queue server's client takes them."""
    body = thumbnail.handler.arguments.body
    return [(id_, formed(body((f"photos/{id_}.jpg",), {}))) for id_ in new_ids(count)]


def ids_of(tasks: Sequence[StoredTask]) -> list[str]:
    """The ids of such tasks."""
    return [task[0] for task in tasks]


def records_of(tasks: Sequence[StoredTask]) -> list[bytes]:
    """Their records; the server stamps eight bytes before each."""
    return [bytes(8) + _head() + body for _, body in tasks]


def _head() -> bytes:
    handler = thumbnail.handler
    return header(handler.name, handler.arguments.signature)


def _put(server: QueueServer, queue: str, tasks: Sequence[StoredTask]) -> None:
    server.put(queue, thumbnail.handler.name, _head(), ids_of(tasks), [body for _, body in tasks])


def enqueue() -> None:
    """One task through the public client. ``public_client`` comes first."""
    thumbnail.enqueue("photos/0001.jpg")


def enqueue_many(count: int) -> None:
    """That many in one call through the public client."""
    thumbnail.enqueue_many([("photos/0001.jpg",)] * count)


def public_client(url: str) -> None:
    """Names the queue server that ``enqueue`` goes to."""
    qslots.connect(url)


class Client:
    """One connection that puts and exchanges."""

    def __init__(self, url: str) -> None:
        self._server = QueueServer(url, name="bench", single=True)
        self.version = self._server.version()

    @property
    def redis(self) -> redis.Redis:
        """The redis-py client below, for the bare commands and for INFO."""
        return self._server.redis

    def put(self, queue: str, tasks: Sequence[StoredTask]) -> None:
        """Stores new tasks in one round trip."""
        _put(self._server, queue, tasks)

    def stored(self, queue: str) -> int:
        """How many tasks a queue has, those in packs too."""
        found = self._server.stats([queue])[0]
        return found.active + found.inactive + found.locked

    def drop(self, queue: str) -> None:
        """Forgets all of a queue."""
        client = self._server.redis
        client.unlink(*client.scan_iter(f"{self._server.keys_of(queue).base}*", count=1000))

    def consumer(self, queue: str) -> "Consumer":
        """A new holder of this connection."""
        return Consumer(self._server, queue)


class Consumer:
    """A slot without a handler: settles the pack before and takes the next."""

    def __init__(self, server: QueueServer, queue: str) -> None:
        self._server = server
        self._queue = queue
        self._holder = _holder()
        self._seq = 0
        self._held: int | None = None

    def exchange(self, most: int) -> int:
        """How many tasks it got; 0 if there are none. With ``most`` 0 it only settles."""
        self._seq += 1
        answer = self._server.exchange(
            self._queue, self._holder, self._seq, settle=self._held, want={thumbnail.handler.name: most}, ttl=TTL
        )
        self._held = self._seq if answer.pack else None
        return len(answer.pack.ids) if answer.pack else 0

    def holds(self, pack: bool) -> None:
        """Whether the last exchange brought a pack, where its answer was read elsewhere."""
        self._held = self._seq if pack else None


def _holder() -> str:
    return f"bench/{next(_holders)}/{os.getpid()}.{time.monotonic_ns()}"


class _Recorded(Exception):
    """Carries the words of a request out of the library before it is sent; nothing has failed."""

    def __init__(self, words: tuple[Any, ...]) -> None:
        super().__init__()
        self.words = words


class _Nowhere:
    """Stands where a client has its connections, and raises what it is to send."""

    def calls(self, *commands: tuple[Any, ...], wait: float = 0.0) -> list[Any]:  # noqa: ARG002
        """Raises the first command."""
        raise _Recorded(commands[0])


class Recorder(QueueServer):
    """A client that raises what it would send; each is a producer of its own."""

    def __init__(self, version: tuple[int, ...]) -> None:
        super().__init__("unix:///never-connected", name="bench", single=True)
        self._version = version
        self._link = _Nowhere()  # type: ignore[assignment]


def _recorded(call: Callable[[], object]) -> tuple[Any, ...]:
    try:
        call()
    except _Recorded as request:
        return request.words
    raise AssertionError("an operation that sends nothing")


class ProducerRequests:
    """The requests of one producer, each of new tasks."""

    def __init__(self, version: tuple[int, ...], queue: str, tasks: int) -> None:
        self._server = Recorder(version)
        self._queue = queue
        self._tasks = tasks

    def next(self) -> tuple[Any, ...]:
        """The words of the next put."""
        return _recorded(lambda: _put(self._server, self._queue, made(self._tasks)))


class ConsumerRequests:
    """The requests of one holder."""

    def __init__(self, version: tuple[int, ...], queue: str, most: int) -> None:
        self._consumer = Consumer(Recorder(version), queue)
        self._most = most

    def next(self, *, holds: bool) -> tuple[Any, ...]:
        """The words of the next exchange; ``holds``: the answer before it had a pack, which this one settles."""
        self._consumer.holds(holds)
        return _recorded(lambda: self._consumer.exchange(self._most))


def taken(reply: list[Any]) -> int:
    """How many tasks the raw reply of an exchange holds."""
    return len(reply[4]) if reply[0] else 0


def tokens(queue: str) -> str:
    """The list that consumers wait on when they got nothing."""
    return QueueServer("unix:///never-connected", name="bench", single=True).keys_of(queue).wake
