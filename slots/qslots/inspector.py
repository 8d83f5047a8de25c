"""What an operator asks of one queue on one queue server: look at tasks, change them, close and open gates.

Each change is one script; it names the task and the remedy when it is refused. No call blocks the server, however long
the queue: what goes over all tasks goes page by page.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from .connection import translated, understood
from .errors import QueueServerError, TaskLocked, UnknownTask
from .outcomes import cut
from .queueserver import QueueServer
from .records import Fate, decode_fate

PAGE = 100  # tasks
_SMALLEST_PAGE, _LARGEST_PAGE = 10, 1000
_PAGE_BYTES = 4 << 20  # of records that one page of a drop may copy inside the server


class Found(msgspec.Struct, frozen=True):
    """A living task as its queue server has it."""

    id: str
    record: bytes
    place: str  # scheduled, parked, buried or locked
    at: float  # activation time, or when it was buried; seconds
    fate: Fate
    wish: str  # what was said of it while it was locked: gone, rearm, replace or ""


class Inspector:
    """One queue on one server. UnknownTask: it is not here. TaskLocked: a slot has it."""

    def __init__(self, server: QueueServer, queue: str) -> None:
        self.server = server
        self.queue = queue
        self._keys = server.keys_of(queue)

    def get(self, ids: Sequence[str]) -> tuple[float, list[Found | None]]:
        """The server's time in seconds, and these tasks, None for each that is not there."""
        now, *found = self.server.inside(self.queue, "get", ids)
        with understood(self.server.url, f"a task of queue {self.queue}"):
            return int(now) / 1e6, [_found(raw) if raw else None for raw in found]

    def every_id(self) -> Iterator[list[str]]:
        """The ids of all living tasks, in pages, in no order."""
        return self._pages(self._keys.part("tasks"))

    def scheduled(self) -> Iterator[list[str]]:
        """The ids of tasks that wait, in pages; those of each handler in the order of their time."""
        self.server.known(self.queue)  # handlers and gates may have come since
        for key in self.server.every_place(self.queue)[len(self._keys.vector) :]:
            yield from self._pages(key)

    def buried(self) -> Iterator[list[str]]:
        """The ids of buried tasks, in pages, the longest buried first."""
        return self._pages(self._keys.part("buried"))

    def locked(self) -> Iterator[dict[str, tuple[str, int]]]:
        """id -> (the lock that holds it, tasks in that pack), in pages."""
        cursor = 0
        while True:
            with translated(self.server.url):
                page: Any = self.server.redis.hscan(self._keys.part("packs"), cursor, count=10)
            cursor, packs = page
            for lock, packed in packs.items():
                with understood(self.server.url, f"a pack of queue {self.queue}"):
                    ids = [task for task in _pack(packed)[1] if task]
                    found = {task: (lock.decode(), len(ids)) for task in ids}
                yield found
            if not cursor:
                return

    def _pages(self, index: str) -> Iterator[list[str]]:
        cursor = b""
        while True:
            cursor, ids = self.server.run("queue", "find", [index], [cursor, PAGE])
            if ids:
                yield [task.decode(errors="replace") for task in ids]
            if not cursor:
                return

    def move(self, task: str, when: str) -> None:
        """Another activation time: "" (now), "+µs" or "µs". A buried task begins anew."""
        self._change("move", task, [task, when])

    def update(self, task: str, record: bytes, read: bytes = b"") -> None:
        """Another record (without its stamp) of the same handler and collection; only if ``read`` is still there."""
        made_from = hashlib.sha1(read, usedforsecurity=False).hexdigest() if read else ""
        self._change("update", task, [task, record, made_from])

    def delete(self, task: str) -> bool:
        """Takes it out of the queue; False if a slot has it: then it goes when its run is over."""
        return bool(self._change("delete", task, [task]) == b"deleted")

    def bury(self, task: str, why: str) -> None:
        """Puts it aside until it is kicked."""
        self._change("bury", task, [task, cut(why)])

    def kick(self, count: int) -> int:
        """Brings back up to so many buried tasks, the longest buried first; returns how many."""
        kicked = 0
        while count > 0:
            page = min(count, _LARGEST_PAGE)
            looked, back = self.server.inside(self.queue, "kick", [page])
            kicked += back
            count -= looked
            if looked < page:
                break
        return kicked

    def pause(self, gate: str, version: int = 0, *, why: str = "") -> bool:
        """Closes a gate: ``queue:``, ``handler:NAME`` or ``collection:NAME``. True if it was open.

        With a reason (of a handler's gate only) one that is closed stays as it is, without it a reason goes.
        """
        closed, _ = self._gate("pause", gate, version, *([cut(why)] if why else []))
        return bool(closed)

    def resume(self, gate: str, version: int = 0) -> int:
        """Opens it; returns how many parked tasks came back to their places."""
        moved, left = self._gate("resume", gate, version)
        total = moved
        while left and moved:
            moved, left = self._gate("resume", gate, version)
            total += moved
        return total

    def _gate(self, what: str, gate: str, version: int, *why: str) -> tuple[int, int]:
        collection = gate.removeprefix("collection:") if gate.startswith("collection:") else ""
        moved, left = self.server.inside(self.queue, "gate", [what, gate, version, *why], extra=collection)
        return moved, left

    def drop(self, collection: str) -> Iterator[tuple[int, int]]:
        """Discards what was put until now, page by page: (tasks looked at, discarded) of each page."""
        instant, cursor, size = b"", b"", PAGE
        while True:
            instant, cursor, looked, gone, copied = self.server.inside(
                self.queue, "drop", [collection, instant, cursor, size]
            )
            yield looked, gone
            if not cursor:
                return
            fitting = _PAGE_BYTES * looked // max(1, copied)
            size = max(_SMALLEST_PAGE, min(_LARGEST_PAGE, fitting))

    def _change(self, name: str, task: str, args: Sequence[Any]) -> Any:
        try:
            return self.server.inside(self.queue, name, args)
        except QueueServerError as error:
            if error.code == "UNKNOWN":
                raise UnknownTask(
                    f"no task {task} is in queue {self.queue}: it is done, deleted, or never was"
                ) from None
            if error.code == "LOCKED":
                raise TaskLocked(
                    f"task {task} of queue {self.queue} is in a slot just now: wait until its run is over, or "
                    "enqueue it with on_duplicate='rearm' or 'replace' to run it once more"
                ) from None
            if error.code == "UNREADABLE":
                raise QueueServerError(
                    f"the record of task {task} of queue {self.queue} cannot be read, nobody can run it: delete it"
                ) from None
            raise


_pack = msgspec.msgpack.Decoder(tuple[str, list[Any], Any]).decode


def _found(raw: list[Any]) -> Found:
    task, record, place, at, fate, wish = raw
    return Found(
        task.decode(errors="replace"), record, place.decode(), int(at) / 1e6, decode_fate(fate) if fate else Fate(),
        wish.decode() if wish else "",
    )  # fmt: skip
